"""How a state outlasts its machine: in a folder on the disk itself, for a URL by a copy beside the files.

Runs into a URL are numbered. Who begins one claims its number by a file that only one can make, and a run that finds a
greater number than its own writes nothing more: of two writers the later one goes on. Parts are sealed in a copy of the
state before their files are there, so that whoever goes on, from whichever machine, knows every file.

A database and its state go together. The database is put first, under a name that nothing has, and then the copy of the
state that tells this name: whoever goes on takes the copy, and the database that it tells of. When a run ends, its
database is moved to where readers look for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import token_bytes
from typing import Final, Protocol

from agora_analytics._core import files
from agora_analytics.errors import ExportError
from agora_analytics.export.formats import DATABASES
from agora_analytics.export.sinks import Sink, said
from agora_analytics.export.state import copies
from agora_analytics.export.state.copies import FOLDER, Copy
from agora_analytics.export.state.found_parts import Held
from agora_analytics.export.state.progress import State
from agora_analytics.export.state.sqlite_store import REBUILD
from agora_analytics.export.state.staging import Facts
from agora_analytics.export.state.state_thread import Disk

log = logging.getLogger("agora_analytics")

_PAUSE: Final = 1.0
"""Seconds from one copy of a state to the next at the least, where no part is sealed."""

_SHARE: Final = 5
"""How many times as long as it takes to write a copy nobody writes another."""

_SHARE_OF_DATABASE: Final = 20
"""The same of a database, which is copied whole and grows."""

_TRIES: Final = 3
"""How often the newest copy is looked for at most, where another run replaces it while it is read."""

Still = Callable[[], AbstractAsyncContextManager[Callable[[], Awaitable[Path]]]]
"""Lets nothing be written inside, and gives what copies the database as it is then."""


class Keeper(Protocol):
    """Sees that a state outlasts what may happen."""

    async def check(self) -> None:
        """Raise `ExportError` where another run goes on instead."""

    async def keep(self) -> None:
        """Keep it, before anything is seen that it tells of."""

    async def keep_some(self, still: Still) -> None:
        """Keep it where that was not done for a while."""

    async def keep_end(self, still: Still) -> None:
        """Keep it once everything is in its place."""


class OnDisk:
    """A state on a local disk: it outlasts a process anyhow, and then a power cut too."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def check(self) -> None:
        """Do nothing: the state is locked for as long as a run goes on."""

    async def keep(self) -> None:
        """Bring it to the disk itself."""
        await self._disk.run(self._disk.state.sync)

    async def keep_some(self, still: Still) -> None:
        """Do nothing."""

    async def keep_end(self, still: Still) -> None:  # noqa: ARG002 - a URL has more to do
        """Bring it to the disk itself."""
        await self.keep()


class Beside:
    """A state whose copy is beside the files of a URL; that on this machine is to work with."""

    def __init__(self, disk: Disk, sink: Sink, path: Path, form: str) -> None:
        self._disk = disk
        self._sink = sink
        self._path = path
        self._database = path.with_name(DATABASES[form].file) if form in DATABASES else None
        self._run = 0
        self._begun = False
        self._left = False
        self._claim = ""
        self._token = b""
        self._due = 0.0
        self._busy = asyncio.Lock()
        self._count = 0
        self._newest = ""

    # What another machine left

    async def fetch(self, place: str, *, rebuild: bool) -> bool:
        """Take the copy for the state, unless this machine's is where it came from; return whether it was taken."""
        copy, wrong = await self._take_newest(_TRIES)
        if copy is None:
            return False
        if not wrong:
            await self._disk.change(lambda state: state.keep_settings({"place": place}))  # it may have been moved
            return True
        if rebuild:
            return False
        raise ExportError(
            f"the state of the export, {copy.name} in {str(self._sink)!r}, is damaged: {wrong}",
            hint=f"Nothing was sent. Put it back, or export into another place; {REBUILD}.",
            kind="state",
        )

    async def _take_newest(self, tries: int) -> tuple[Copy | None, str]:
        """Take the newest copy, and return it and what is wrong with it; None if there is none, or it is here.

        A run that is still going replaces copies, and each goes with a database: if the newest cannot be read because
        it was replaced, the one that replaced it is taken.
        """
        copy = max(await self._found("state"), default=None)
        if copy is None or await self._is_here(copy):
            return None, ""
        try:
            wrong = await self._take(copy)
        except Exception as error:
            if tries == 1 or not (isinstance(error, FileNotFoundError) or await self._is_replaced(copy)):
                raise
        else:
            if not wrong or tries == 1 or not await self._is_replaced(copy):
                return copy, wrong
        return await self._take_newest(tries - 1)

    async def _is_replaced(self, copy: Copy) -> bool:
        return copy not in await self._found("state")

    async def _is_here(self, copy: Copy) -> bool:
        """Whether this machine's state is where a copy came from, and the database that goes with it is here too."""
        shared = await self._disk.change(State.shared)
        return shared == (copy.run, copy.mark) and (self._database is None or self._database.exists())

    async def _take(self, copy: Copy) -> str:
        """Put a copy in the place of this machine's state, its database too; return what is wrong where one is damaged.

        What keeps them from being fetched is an error of its own: they may be intact.
        """
        beside = self._path.with_name("state.copy")
        await self._disk.run(lambda: copies.get(self._sink, copy.name, beside), aside=True)
        try:
            await self._disk.run(lambda: copies.unpack(beside), aside=True)
            held = await self._disk.run(lambda: copies.check(beside))
        except copies.DAMAGES as error:
            return str(error)
        if held is not None and not await self._fetched(held):
            return f"{held.name}, which goes with it, is gone or altered"
        await self._disk.run(lambda: self._disk.state.take_from(beside))
        await self._disk.change(lambda state: state.take_shared(copy.run, copy.mark))
        return ""

    async def _fetched(self, held: Held) -> bool:
        """Bring the database here that goes with a copy, if it is anywhere."""
        path = self._database
        return path is None or await self._disk.run(lambda: copies.fetch_held(self._sink, held, path), aside=True)

    # A run

    async def claim(self) -> None:
        """Claim a run.

        Those that began before write no copy of a state that others take, and end before the next part: one that was
        sealed in a copy that was there before the claim is written by both, with the same rows.
        """
        run = 1 + max((one.run for one in await self._found("run", "state")), default=0)
        # Known before the store has it: a caller that is cancelled meanwhile still gives the claim up.
        self._run, self._token = run, token_bytes(16)
        if not await self._disk.run(lambda: self._made(_claim_of(run)), aside=True):
            raise self._taken()

    async def fetch_closed(self) -> None:
        """Bring the database of a run that ended here, if the one here is another."""
        if path := self._database:
            facts = await self._disk.change(State.database)
            await self._disk.run(lambda: copies.fetch_closed(self._sink, facts, path), aside=True)

    async def begin(self) -> None:
        """Begin the run that was claimed, over the state as it is now; the store is as it was until then."""
        self._begun = True
        if self._database is None:
            await self._write(None)
        else:
            self._due = asyncio.get_running_loop().time() + _PAUSE
        await self._clean()

    async def withdraw(self) -> None:
        """Take the claim of a run back that was refused before it began: others go on as if it had not been."""
        if self._run and not self._begun:
            with suppress(Exception):
                await self._disk.run(lambda: self._give_up(_claim_of(self._run)), aside=True)

    def _give_up(self, name: str) -> None:
        """Remove the file that claims a run, unless another run made it."""
        if self._sink.read(name) == self._token:
            self._sink.remove(name)

    def _made(self, name: str) -> bool:
        """Make the file that claims a run; where a store lets two make it, both find that it is the other's."""
        try:
            self._sink.create(name, self._token)
        except FileExistsError:
            return False
        seen = self._sink.look(name)  # first: who makes it after this is found by its look
        self._claim = seen.mark if seen else ""
        return self._sink.read(name) == self._token

    async def check(self) -> None:
        """Raise `ExportError` where another run has begun."""
        self._insist(await self._found("run"))

    async def keep(self) -> None:
        """Write a copy; of a database's state none, since parts that are in it are seen when the run ends."""
        if self._database is None:
            await self._keep()

    async def keep_some(self, still: Still) -> None:
        """Write a copy where none was for a while: what came before it, no other machine asks for again."""
        if self._busy.locked() or asyncio.get_running_loop().time() < self._due:
            return
        try:
            await (self._keep() if self._database is None else self._keep_pair(still))
        except ExportError:
            raise
        except Exception as error:  # noqa: BLE001 - a store's library; the run goes on, and the next copy may succeed
            self._due = asyncio.get_running_loop().time() + _SHARE * _PAUSE
            log.warning("export: the state could not be copied: %s", self._sink.scrub(said(error)))

    async def keep_end(self, still: Still) -> None:
        """Write the last copy of a run that did all that it should; its database is seen then."""
        await (self._keep() if self._database is None else self._show(still, self._database.name))
        self._left = True

    async def leave(self, still: Still) -> None:
        """Write the last copy of a run that failed; where that fails too, another machine asks again for the rest."""
        if self._begun and not self._left:
            with suppress(Exception):
                await (self._keep() if self._database is None else self._keep_pair(still))

    async def _keep(self) -> None:
        """Write a copy, and only then go on: whoever began before it was there has not seen it."""
        async with self._writing():
            await self._write(None)
            await self._clean()

    async def _keep_pair(self, still: Still) -> Held:
        """Write a copy of the database, and then one of the state that goes with it."""
        async with self._writing():
            async with still() as copied:
                file = await copied()
                held = await self._disk.run(lambda: self._held(file), aside=True)
                await self._disk.run(lambda: copies.write(self._disk.state, self._copy, held))
            await self._disk.run(lambda: self._sink.put(file, held.name), aside=True)
            await self._put()
            await self._clean(held.name)
        return held

    async def _show(self, still: Still, name: str) -> None:
        """Move the database to where readers look for it; until the state tells so, it is found in both places."""
        held = await self._keep_pair(still)
        async with self._writing():
            await self._disk.run(lambda: self._sink.move(held.name, name), aside=True)
            seen = await self._disk.run(lambda: self._sink.look(name), aside=True)
            facts = Facts(rows=0, bytes=held.bytes, sha256=held.sha256, mark=seen.mark if seen else "")
            await self._disk.change(lambda state: state.keep_database(facts))
            await self._write(None)
            await self._clean()

    def _held(self, file: Path) -> Held:
        """Return what a copy of the database is to be called."""
        return Held(self._name("database", file.suffix), file.stat().st_size, files.digest(file))

    def _name(self, kind: str, suffix: str) -> str:
        """Return a name that no copy had before: while one is put, the one before is whole."""
        self._count += 1
        return f"{FOLDER}/{kind}-{self._run:08d}-{self._count:08d}{suffix}"

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Write beside the files, one at a time, and reckon when to do so again; raises where another run goes on."""
        async with self._busy:
            begun = asyncio.get_running_loop().time()
            await self.check()
            yield
            now = asyncio.get_running_loop().time()
            share = _SHARE if self._database is None else _SHARE_OF_DATABASE
            self._due = now + max(_PAUSE, share * (now - begun))

    def _insist(self, runs: list[Copy]) -> None:
        newest = max((one for one in runs if one.kind == "run"), default=None)
        if newest is None or (newest.run, newest.mark) != (self._run, self._claim):
            raise self._taken()

    @property
    def _copy(self) -> Path:
        return self._path.with_name("state.copy")

    async def _write(self, held: Held | None) -> None:
        await self._disk.run(lambda: copies.write(self._disk.state, self._copy, held))
        await self._put()

    async def _put(self) -> None:
        """Put the copy of the state that was written beside the files."""
        name = self._name("state", ".db.gz")
        await self._disk.run(lambda: self._sink.put(copies.packed(self._copy), name), aside=True)
        seen = await self._disk.run(lambda: self._sink.look(name), aside=True)
        await self._disk.change(lambda state: state.keep_shared(self._run, seen.mark if seen else ""))
        self._newest = name

    async def _clean(self, held: str = "") -> None:
        """Remove all but the newest state, the claim of this run, and the database that is `held`.

        What the state of an earlier run tells of stays until there is one of this run, which tells of another. Raises
        where another run has begun.
        """
        there = await self._found("run", "state", "database")
        self._insist(there)  # who goes on instead may have taken just what would be removed
        for one in there:
            kept = one.name in {_claim_of(self._run), self._newest, held}
            if one.run <= self._run and not kept and (self._newest or one.kind == "run"):
                await self._disk.run(partial(self._sink.remove, one.name), aside=True)

    async def _found(self, *kinds: str) -> list[Copy]:
        return await self._disk.run(lambda: copies.found(self._sink, *kinds), aside=True)

    def _taken(self) -> ExportError:
        return ExportError(
            f"another run of the export into {str(self._sink)!r} has begun, and goes on with it",
            hint="This one has ended. Let one machine at a time run it.",
            kind="running",
        )


def _claim_of(run: int) -> str:
    """Return the name of the file that claims a run."""
    return f"{FOLDER}/run-{run:08d}"
