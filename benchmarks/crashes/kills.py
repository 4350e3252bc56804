"""Exports that are killed repeatedly, at a time or an operation of the file system: both processes, or one of them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from benchmarks.crashes.exporter import Ended, Job, Machine
from benchmarks.crashes.rows import DATABASES, Found, Truth, compared, manifest_of, read, unlike_manifest

_IN_A_ROW: Final = 5
"""Kills before a run may end, and its result is checked."""

_KILLED: Final = -9

_YOUNG: Final = 1.0
_YOUNG_ELSEWHERE: Final = 3.0
"""Seconds before a kill whose responses may be lost: on a disk, and with a copy of the state at a URL."""


class Place(Protocol):
    """Where an export goes, for one machine or several that take turns."""

    options: dict[str, Any]
    to: str
    local: bool

    def fetched(self) -> Path:
        """Return a local folder with what is there."""

    def clear(self) -> None:
        """Remove everything there."""


@attrs.define
class Folder:
    """A local folder."""

    path: Path
    options: dict[str, Any] = attrs.field(factory=dict)
    local: bool = True

    @property
    def to(self) -> str:
        """The folder."""
        return str(self.path)

    def fetched(self) -> Path:
        """Return it."""
        return self.path

    def clear(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)


@attrs.define(kw_only=True)
class Seen:
    """The results of kills for a format; `broken` are the promises that were broken."""

    form: str
    kills: int = 0
    finished: int = 0
    found: Found = attrs.field(factory=Found)
    undisturbed: int = 0
    most: int = 0
    again: list[float] = attrs.field(factory=list)
    orphaned: float = 0.0
    broken: list[str] = attrs.field(factory=list)

    def row(self) -> str:
        """Return it as a line of the table."""
        found = self.found
        old = f"{max(self.again):.1f} s" if self.again else "-"
        per_kill = len(self.again) / max(self.kills, 1)
        return (
            f"{self.form:12} {self.kills:5} {self.finished:8} {found.true:8,} {found.found:8,} {found.doubled:7}"
            f" {found.lost:5} {found.strange:8} {self.undisturbed:11,} {self.most:9,} {per_kill:8.1f} {old:>7}"
            f" {self.orphaned:6.2f} s"
        )


HEAD: Final = (
    f"{'':12} kills finished     true    found doubled  lost  strange undisturbed requests  again/k  oldest  orphan"
)


@attrs.define
class Killing:
    """Kills exports of a format into a place, and checks what is there after one that may end."""

    form: str
    job: Job
    place: Place
    machines: list[Machine]
    truth: Truth
    seed: int
    seen: Seen = attrs.field(init=False)
    chance: random.Random = attrs.field(init=False)
    whole: Ended = attrs.field(init=False)
    turn: int = 0

    def __attrs_post_init__(self) -> None:
        self.seen = Seen(form=self.form)
        self.chance = random.Random(f"{self.seed} {self.form}")  # noqa: S311 - the same kills for the same seed

    async def run(self, kills: int) -> Seen:
        """Kill that many times, and return the results."""
        await self._undisturbed()
        while self.seen.kills < kills:
            await self._round(kills)
        self.seen.orphaned = max(one.orphaned for one in self.machines)
        for machine in self.machines:
            self.seen.broken += [f"a process is left: {line}" for line in machine.left]
        return self.seen

    async def _undisturbed(self) -> None:
        self._begin()
        self.whole = await self._machine().run(self.place.to, self.form, **self.place.options)
        self.seen.undisturbed = self.whole.requests
        self._look("undisturbed", self.whole)

    async def _round(self, kills: int) -> None:
        """Kill some runs, let one end, kill one that has nothing to do, and check once more."""
        self._begin()
        for number in range(min(_IN_A_ROW, kills - self.seen.kills)):
            # Less from kill to kill, as less is left to do.
            if await self._kill(self.whole.seconds * (1 - number / _IN_A_ROW)):
                break
        else:
            self._finished(await self._machine().run(self.place.to, self.form, **self.place.options))
        if self.seen.kills < kills and not await self._kill(min(self.whole.seconds, 3.0)):
            self._claims("killed in a run after the end")
            self._look(
                "after a kill at the end", await self._machine().run(self.place.to, self.form, **self.place.options)
            )

    def _finished(self, ended: Ended) -> None:
        made = len(self.job.counter.asked)
        # While calls are open, each run requests their lists.
        again = self.job.counter.again(but="/call/lists" if self.whole.report["unfinished"] else None)
        self.seen.most = max(self.seen.most, made)
        self.seen.again += again
        self._look("finished", ended)
        young = _YOUNG if self.place.local else _YOUNG_ELSEWHERE
        if max(again, default=0.0) > young and (self.place.local or self.form not in DATABASES):
            self._broken(f"repeated a request that was answered {max(again):.1f} s before a run was killed")

    async def _kill(self, seconds: float) -> bool:
        """Kill a run; returns whether it ended before."""
        # The parent alone twice as often: then two processes may write, which is the hardest case.
        who = self.chance.choice(["all", "parent", "parent", "writer"])
        die = None if who == "writer" or self.chance.random() < 0.5 else self._moment(who)  # noqa: PLR2004
        wait = self.chance.uniform(0.2, max(seconds, 0.5)) if die is None else 4 * seconds + 30
        given = {**self.place.options, "die": die}
        ended = await self._machine().killed(self.place.to, self.form, wait, who, **given)
        if ended.complete:
            self._finished(ended)
            return True
        self.seen.kills += 1
        if ended.code == _KILLED:
            self._claims(f"killed ({who}, {die or f'{wait:.1f} s'})")
        elif ended.report.get("kind") != "writer":
            self._broken(f"{who} was killed, and the run ended with {ended.code} {ended.report}")
        return False

    def _moment(self, who: str) -> dict[str, Any]:
        """Return the operation of the file system to kill at: any or a rename, before or after it."""
        of = self.chance.choice(["any", "os.rename"])
        most = self.whole.report["events"].get(of, 1)
        return {
            "of": of,
            "number": self.chance.randint(1, most),
            "after": self.chance.choice([True, False]),
            "all": who == "all",
        }

    def _claims(self, when: str) -> None:
        """Check that a manifest that says `complete` is right, at any moment."""
        folder = self.place.fetched()
        if not (folder / "manifest.json").exists() or not manifest_of(folder)["complete"]:
            return
        if not (found := compared(self.truth, read(folder))):
            self._broken(f"{when}: the manifest says complete, and there is {found}")

    def _look(self, when: str, ended: Ended) -> None:
        """Check that all rows are there once, and nothing else."""
        if not ended.complete:
            self._broken(f"{when}: {ended.code} {ended.report}")
            return
        folder = self.place.fetched()
        found = compared(self.truth, read(folder))
        self.seen.finished += 1
        if found.found != self.seen.found.found or not found:
            self.seen.found = found
        if not found:
            self._broken(f"{when}: {found}")
        if wrong := unlike_manifest(folder):
            self._broken(f"{when}: not what the manifest says: {wrong[:3]}")

    def _broken(self, what: str) -> None:
        self.seen.broken.append(f"{self.form} into {self.place.to}: {what}")

    def _begin(self) -> None:
        self.place.clear()
        self.job.counter.begin()

    def _machine(self) -> Machine:
        """Return the machine whose turn it is."""
        self.turn += 1
        return self.machines[self.turn % len(self.machines)]
