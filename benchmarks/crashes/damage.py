"""Exports whose state or files are damaged: refused before any request, and repaired as the error advises."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from benchmarks.crashes.exporter import Ended, Job, Machine
from benchmarks.crashes.rows import DATABASES, DATASETS, Found, Truth, compared, files_of, manifest_of, read

Harm = Callable[[Path], None]

_STATE: Final = Path(".agora-export", "state.db")
_PAGE: Final = 8_192
_HALF: Final = 40
"""Requests of a first run, which ends and writes a manifest, before a second one is killed."""


@attrs.frozen
class Damage:
    """A damage to an export; it is refused with one of the error `kinds`, unless it is `harmless`.

    `unreadable` damage leaves a file that a rebuild reports, and does not repair.
    """

    name: str
    do: Harm
    kinds: frozenset[str] = frozenset({"state"})
    harmless: bool = False
    unreadable: bool = False


def _removed(folder: Path) -> None:
    shutil.rmtree(folder / _STATE.parent)


def _emptied(folder: Path) -> None:
    (folder / _STATE).write_bytes(b"")


def _cut(size: Callable[[int], int], folder: Path) -> None:
    """Cut the state short, after its log was merged into it."""
    path = folder / _STATE
    _settled(path)
    held = path.read_bytes()
    path.write_bytes(held[: size(len(held))])


def _settled(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=DELETE")
    database.close()


def _version(number: int, folder: Path) -> None:
    database = sqlite3.connect(folder / _STATE)
    database.execute(f"PRAGMA user_version = {number}")
    database.close()


def _garbled(folder: Path) -> None:
    path = folder / _STATE
    _settled(path)
    held = bytearray(path.read_bytes())
    for start in range(_PAGE, len(held), 4 * _PAGE):
        held[start + 100 : start + 400] = b"\xa5" * 300
    path.write_bytes(held)


def _replaced(other: Path, folder: Path) -> None:
    """Replace the state by the closed one of another export; the log of the replaced one stays."""
    shutil.copyfile(other / _STATE, folder / _STATE)


def _without_log(folder: Path) -> None:
    for end in ("-wal", "-shm"):
        (folder / f"{_STATE}{end}").unlink(missing_ok=True)


def _cut_log(folder: Path) -> None:
    path = folder / f"{_STATE}-wal"
    if path.exists():
        held = path.read_bytes()
        path.write_bytes(held[: len(held) // 2 + 17])


def _missing(folder: Path) -> None:
    files_of(folder)[0].unlink()


def _altered(folder: Path) -> None:
    path = files_of(folder)[0]
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)


def _short(folder: Path) -> None:
    path = files_of(folder)[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _doubled(folder: Path) -> None:
    path = files_of(folder)[0]
    shutil.copyfile(path, path.with_name(f"part-00001 (copy){path.suffix}"))


def _strangers(folder: Path) -> None:
    path = files_of(folder)[0]
    path.with_name(f"part-99999{path.suffix}").write_bytes(b"mine")


def _anothers(other: Path, folder: Path) -> None:
    """Replace a file by one of another export."""
    shutil.copyfile(files_of(other)[0], files_of(folder)[0])


def damages(form: str, other: Path) -> list[Damage]:
    """Return the damages to an export of a format; `other` is an export of another selection."""
    places = {
        "1 byte": lambda _: 1,
        "half a header": lambda _: 50,
        "a header": lambda _: 100,
        "half a page": lambda _: _PAGE // 2,
        "a page": lambda _: _PAGE,
        "a page and a bit": lambda _: _PAGE + 100,
        "a quarter": lambda size: size // 4,
        "half": lambda size: size // 2,
        "whole pages": lambda size: size // _PAGE * 3 // 4 * _PAGE,
        "all but a page": lambda size: size - _PAGE,
        "all but a byte": lambda size: size - 1,
    }
    found = [
        Damage("state removed", _removed),
        Damage("state emptied", _emptied),
        *(Damage(f"state cut to {name}", partial(_cut, size)) for name, size in places.items()),
        Damage("state garbled", _garbled),
        Damage("state of a later version", partial(_version, 99)),
        Damage("state of an earlier version", partial(_version, 1)),
        Damage("state of another selection", partial(_replaced, other), frozenset({"settings", "state"})),
        Damage("log of the state removed", _without_log, harmless=True),
        Damage("log of the state cut", _cut_log, harmless=True),
        Damage("file missing", _missing),
        Damage("file altered", _altered, unreadable=True),
        Damage("file cut short", _short, unreadable=True),
        Damage("file of another export", partial(_anothers, other), unreadable=True),
    ]
    if form not in DATABASES:
        found += [Damage("file doubled", _doubled), Damage("file of a stranger", _strangers)]
    return found


@attrs.define(kw_only=True)
class DamageResults:
    """The results of all damages to an export of a format."""

    form: str
    state: str
    damages: int = 0
    refused: int = 0
    harmless: int = 0
    rebuilt: int = 0
    less: int = 0
    taken: int = 0
    elsewhere: int = 0
    back: int = 0
    broken: list[str] = attrs.field(factory=list)

    def row(self) -> str:
        """Return it as a line of the table."""
        counts = (self.damages, self.refused, self.harmless, self.taken, self.rebuilt, self.less)
        counts += (self.elsewhere, self.back)
        return f"{self.form:8} {self.state:8} " + " ".join(f"{count:9}" for count in counts)


HEAD: Final = f"{'':17} " + " ".join(
    f"{name:>9}" for name in ("damages", "refused", "went on", "taken", "rebuilt", "less", "elsewhere", "put back")
)


@attrs.define
class Damaging:
    """Damages copies of an export of a format, and follows the advice of the error."""

    form: str
    job: Job
    folder: Path
    truth: Truth
    finished: bool
    machine: Machine = attrs.field(init=False)
    results: DamageResults = attrs.field(init=False)
    harmed: Path = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.machine = Machine(self.folder / "home", self.job)
        self.results = DamageResults(form=self.form, state="finished" if self.finished else "killed")

    async def run(self) -> DamageResults:
        """Try all damages."""
        other = self.folder / "other"
        await self.machine.here(other, self.form, datasets=["sessions"])
        whole = self.folder / "whole"
        await self._made(whole)
        self.harmed = files_of(whole)[0].relative_to(whole)
        for damage in damages(self.form, other):
            await self._damaged(damage, whole)
        self.results.broken += [f"a process is left: {line}" for line in self.machine.left]
        return self.results

    async def _made(self, whole: Path) -> None:
        """Export everything, or a part in one run and more in a second one that is killed."""
        if self.finished:
            await self.machine.here(whole, self.form)
            return
        await self.machine.here(whole, self.form, max_requests=_HALF)
        if self.form in DATABASES:
            await self.machine.killed_at(whole, self.form, _HALF)
        else:
            die = {"of": "os.rename", "number": 2, "after": True, "all": True}
            await self.machine.run(whole, self.form, die=die)

    async def _damaged(self, damage: Damage, whole: Path) -> None:
        folder = self.folder / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        damage.do(folder)
        if _all(folder) == _all(whole):
            if not (damage.harmless and self.finished):  # which has no log
                self._broken(damage, "it changed nothing")
            return
        before = _held(folder)
        ended = await self.machine.here(folder, self.form)
        self.results.damages += 1
        if ended.complete and damage.harmless:
            self.results.harmless += 1
            self._is_truth(damage, "went on", folder)
            return
        self._refused(damage, "run again", ended, damage.kinds | ({"state"} if damage.harmless else set()))
        self.results.refused += 1
        if _held(folder) != before:
            self._broken(damage, "the refusal changed files")
        await self._rebuilt(damage, folder, ended)
        await self._put_back(damage, whole, folder)

    async def _rebuilt(self, damage: Damage, folder: Path, refusal: Ended) -> None:
        """Rebuild it; if that was advised without conditions, it has to work."""
        hint = refusal.report.get("hint", "")
        ended = await self.machine.here(folder, self.form, rebuild=True)
        if "kind" in ended.report and "Move them away" in ended.report["hint"]:
            _take_away(folder)
            ended = await self.machine.here(folder, self.form, rebuild=True)
            self.results.taken += 1
        if "kind" in ended.report:
            self._refused(damage, "rebuild", ended, damage.kinds)
            self.results.elsewhere += 1
            if "--rebuild" in hint and "if that lists" not in hint and "as far as" not in hint:
                self._broken(damage, f"a rebuild was advised, and refused: {ended.report}")
            if "another place" not in ended.report["hint"] or "--rebuild" in ended.report["hint"]:
                self._broken(damage, f"the advice does not help: {ended.report}")
        elif ended.complete:
            self.results.rebuilt += 1
            self._is_truth(damage, "rebuilt", folder)
        else:
            self._is_reported(damage, ended, folder)

    def _is_reported(self, damage: Damage, ended: Ended, folder: Path) -> None:
        """Check that missing rows are reported, and that none is there twice, as far as files can be read."""
        self.results.less += 1
        skipped = ended.report["skipped"]
        if not skipped:
            self._broken(damage, f"rebuilt, and reported {ended.report}")
        if damage.unreadable and self.form in DATABASES:
            return
        if damage.unreadable:
            (folder / self.harmed).unlink(missing_ok=True)
        found = self._found(folder)
        rows = sum(count for what, _, count in skipped if what in DATASETS)
        all_reported = found.lost == rows or damage.unreadable or any(what not in DATASETS for what, *_ in skipped)
        if found.doubled or found.strange or not all_reported:
            self._broken(damage, f"rebuilt, and reported {ended.report}: {found}")

    async def _put_back(self, damage: Damage, whole: Path, folder: Path) -> None:
        """Put back what was there before, and run the export again."""
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        ended = await self.machine.here(folder, self.form)
        if ended.complete:
            self.results.back += 1
            self._is_truth(damage, "put back", folder)
        else:
            self._broken(damage, f"put back: {ended.report}")

    def _refused(self, damage: Damage, when: str, ended: Ended, kinds: frozenset[str]) -> None:
        if ended.requests or ended.report.get("kind") not in kinds:
            self._broken(damage, f"{when}: {ended.requests} requests, {ended.code} {ended.report}")

    def _is_truth(self, damage: Damage, when: str, folder: Path) -> None:
        if not (found := self._found(folder)):
            self._broken(damage, f"{when}: {found}")

    def _found(self, folder: Path) -> Found:
        try:
            return compared(self.truth, read(folder))
        except Exception as error:  # noqa: BLE001 - whatever reads it
            self.results.broken.append(f"{self.form}, {self.results.state}: cannot be read: {error}")
            return compared(self.truth, {})

    def _broken(self, damage: Damage, what: str) -> None:
        self.results.broken.append(f"{self.form}, {self.results.state}, {damage.name}: {what}")


def _take_away(folder: Path) -> None:
    """Remove the files that the manifest does not list."""
    listed = {one["path"] for one in manifest_of(folder)["parts"]}
    for path in files_of(folder):
        if path.relative_to(folder).as_posix() not in listed:
            path.unlink()


def _held(folder: Path) -> dict[str, bytes]:
    """Return the content of all files except those of the state."""
    return {name: held for name, held in _all(folder).items() if _STATE.parent.name not in Path(name).parts}


def _all(folder: Path) -> dict[str, bytes]:
    """Return the content of all files."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
