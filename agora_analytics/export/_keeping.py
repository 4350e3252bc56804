"""How a state outlasts its machine: in a folder on the disk itself, for a URL by a copy beside the files.

Runs into a URL are numbered. Who begins one claims its number by a file that only one can make, and a run that finds a
greater number than its own writes nothing more: of two writers the later one goes on. Parts are sealed in a copy of the
state before their files are there, so that whoever goes on, from whichever machine, knows every file. A database is
whole at the end of a run alone, and only then is its state copied.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import shutil
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path
from secrets import token_bytes
from typing import Final, NamedTuple, Protocol

from agora_analytics import _files
from agora_analytics.errors import ExportError
from agora_analytics.export._disk import Disk
from agora_analytics.export._state import State
from agora_analytics.export._tables import DamagedError
from agora_analytics.export.formats import DATABASES
from agora_analytics.export.sinks import Sink

FOLDER: Final = ".agora-export"
"""The folder beside the files that has the state."""

_NAME: Final = re.compile(rf"{re.escape(FOLDER)}/(run|state)-(\d{{8}})(?:\.db\.gz)?")

_PAUSE: Final = 1.0
"""Seconds from one copy of a state to the next at the least, where no part is sealed."""

_SHARE: Final = 5
"""How many times as long as it takes to write a copy nobody writes another."""


class Keeper(Protocol):
    """Sees that a state outlasts what may happen."""

    async def keep(self) -> None:
        """Keep it, before anything is seen that it tells of."""

    async def keep_some(self) -> None:
        """Keep it where that was not done for a while."""

    async def keep_end(self) -> None:
        """Keep it once everything is in its place."""


class OnDisk:
    """A state on a local disk: it outlasts a process anyhow, and then a power cut too."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def keep(self) -> None:
        """Bring it to the disk itself."""
        await self._disk.run(self._disk.state.sync)

    async def keep_some(self) -> None:
        """Do nothing."""

    async def keep_end(self) -> None:
        """Bring it to the disk itself."""
        await self.keep()


class Copy(NamedTuple):
    """What is beside the files: the number of a run, the name, and what it looks like."""

    run: int
    name: str
    mark: str


class Beside:
    """A state whose copy is beside the files of a URL; that on this machine is to work with."""

    def __init__(self, disk: Disk, sink: Sink, path: Path, form: str) -> None:
        self._disk = disk
        self._sink = sink
        self._path = path
        self._database = DATABASES[form].file if form in DATABASES else None
        self._run = 0
        self._left = False
        self._claim = ""
        self._due = 0.0
        self._busy = asyncio.Lock()

    async def fetch(self, place: str, *, rebuild: bool) -> None:
        """Take the copy for the state, unless this machine's is where it came from."""
        copy = max((await self._found("state")), default=None)
        if copy is None or await self._disk.change(State.shared) == (copy.run, copy.mark):
            return
        try:
            await self._take(copy)
        except (OSError, EOFError, zlib.error, DamagedError) as error:
            wrong = str(error)
        else:
            await self._disk.change(lambda state: state.keep_settings({"place": place}))  # it may have been moved
            return
        if not rebuild:
            raise ExportError(
                f"the state of the export, {copy.name} in {str(self._sink)!r}, is damaged: {wrong}",
                advice="Nothing was sent. Put it back, or export into another place; rebuild=True (--rebuild) makes a"
                " state of manifest.json, if that lists all that is there.",
                kind="state",
            )

    async def _take(self, copy: Copy) -> None:
        """Put a copy in the place of this machine's state."""
        beside = self._path.with_name("state.copy")
        await self._disk.run(lambda: self._sink.get(copy.name, beside), aside=True)
        await self._disk.run(lambda: _unpack(beside), aside=True)
        await self._disk.run(lambda: _check(beside))
        await self._disk.open(lambda: self._replaced(beside))
        await self._disk.change(lambda state: state.keep_shared(copy.run, copy.mark))

    async def claim(self) -> None:
        """Begin a run: those that began before write nothing more."""
        before = [*await self._found("run"), *await self._found("state")]
        run = 1 + max((one.run for one in before), default=0)
        if not await self._disk.run(lambda: self._made(f"{FOLDER}/run-{run:08d}"), aside=True):
            raise self._taken()
        self._run = run
        await self._write()
        for one in before:
            await self._disk.run(partial(self._sink.remove, one.name), aside=True)
        await self._fetch_database()

    def _made(self, name: str) -> bool:
        """Make the file that claims a run; where a store lets two make it, both find that it is the other's."""
        mine = token_bytes(16)
        try:
            self._sink.create(name, mine)
        except FileExistsError:
            return False
        seen = self._sink.look(name)  # first: who makes it after this is found by its look
        self._claim = seen.mark if seen else ""
        return self._sink.read(name) == mine

    async def _fetch_database(self) -> None:
        """Bring a closed database to this machine, if the one here is another."""
        facts, name = await self._disk.change(State.database), self._database
        if name is None or facts is None:
            return
        path = self._path.with_name(name)

        def fetch() -> None:
            if not path.exists() or _files.digest(path) != facts.sha256:
                self._sink.get(name, path)

        await self._disk.run(fetch, aside=True)

    async def keep(self) -> None:
        """Write a copy; of a database's state none, since its rows are on this machine alone until the run ends."""
        if self._database is None:
            await self._keep()

    async def keep_some(self) -> None:
        """Write a copy where none was for a while: what came before it, no other machine asks for again."""
        if not self._busy.locked() and asyncio.get_running_loop().time() >= self._due:
            await self.keep()

    async def keep_end(self) -> None:
        """Write the last copy of a run that did all that it should."""
        await self._keep()
        self._left = True

    async def leave(self) -> None:
        """Write the last copy of a run that failed; where that fails too, another machine asks again for the rest."""
        if self._run and not self._left:
            with suppress(Exception):
                await self.keep()

    async def _keep(self) -> None:
        async with self._busy:
            newest = max(await self._found("run"), default=None)
            if newest is None or (newest.run, newest.mark) != (self._run, self._claim):
                raise self._taken()
            await self._write()

    async def _write(self) -> None:
        begun = asyncio.get_running_loop().time()
        name, beside = f"{FOLDER}/state-{self._run:08d}.db.gz", self._path.with_name("state.copy")
        await self._disk.run(lambda: self._disk.state.copy_to(beside))
        await self._disk.run(lambda: self._sink.put(_packed(beside), name), aside=True)
        seen = await self._disk.run(lambda: self._sink.look(name), aside=True)
        await self._disk.change(lambda state: state.keep_shared(self._run, seen.mark if seen else ""))
        now = asyncio.get_running_loop().time()
        self._due = now + max(_PAUSE, _SHARE * (now - begun))

    async def _found(self, kind: str) -> list[Copy]:
        files = await self._disk.run(lambda: self._sink.files(FOLDER), aside=True)
        found = [(_NAME.fullmatch(name), seen) for name, seen in files.items()]
        return [Copy(int(match[2]), match[0], seen.mark) for match, seen in found if match and match[1] == kind]

    def _replaced(self, beside: Path) -> State:
        """Put another state in the place of this machine's."""
        self._disk.state.close()
        for end in ("-wal", "-shm"):
            self._path.with_name(self._path.name + end).unlink(missing_ok=True)
        beside.replace(self._path)
        return State(self._path, str(self._sink))

    def _taken(self) -> ExportError:
        return ExportError(
            f"another run of the export into {str(self._sink)!r} has begun, and goes on with it",
            advice="This one has ended. Let one machine at a time run it.",
            kind="running",
        )


def _check(path: Path) -> None:
    """Raise `DamagedError` for a file that is no state of an export."""
    try:
        state = State(path, path.name)
    except ExportError as error:
        raise DamagedError(str(error.__cause__)) from None
    try:
        if not state.settings():
            raise DamagedError("it is empty")
    finally:
        state.close()


def _packed(path: Path) -> Path:
    """Compress a file, which is gone then."""
    packed = path.with_suffix(".gz")
    with (
        _files.opened(path, "rb") as file,
        _files.opened(packed, "wb") as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) as into,
    ):
        shutil.copyfileobj(file, into)
    path.unlink()
    return packed


def _unpack(path: Path) -> None:
    """Replace a compressed file by what it holds."""
    plain = path.with_suffix(".plain")
    with _files.opened(path, "rb") as raw, gzip.GzipFile("", "rb", 1, raw) as file, _files.opened(plain, "wb") as into:
        shutil.copyfileobj(file, into)
    plain.chmod(0o600)
    plain.replace(path)
