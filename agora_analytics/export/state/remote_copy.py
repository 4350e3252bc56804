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
from agora_analytics.export.formats import DATABASE_FORMATS
from agora_analytics.export.sinks import Sink, error_text
from agora_analytics.export.state import copies
from agora_analytics.export.state.copies import FOLDER, RemoteFile
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.found_parts import DatabaseCopy
from agora_analytics.export.state.sqlite_store import REBUILD_HINT
from agora_analytics.export.state.staging import PartInfo
from agora_analytics.export.state.state_thread import StateThread

log = logging.getLogger("agora_analytics")

_MIN_INTERVAL: Final = 1.0
"""Seconds from one copy of a state to the next at the least, where no part is sealed."""

_INTERVAL_FACTOR: Final = 5
"""How many times as long as it takes to write a copy nobody writes another."""

_DATABASE_INTERVAL_FACTOR: Final = 20
"""The same of a database, which is copied whole and grows."""

_MAX_FETCH_ATTEMPTS: Final = 3
"""How often the newest copy is looked for at most, where another run replaces it while it is read."""

Paused = Callable[[], AbstractAsyncContextManager[Callable[[], Awaitable[Path]]]]
"""Lets nothing be written inside, and gives what copies the database as it is then."""


class StateSync(Protocol):
    """Sees that a state outlasts what may happen."""

    async def check_not_superseded(self) -> None:
        """Raise `ExportError` where another run goes on instead."""

    async def sync(self) -> None:
        """Keep it, before anything is seen that it tells of."""

    async def sync_if_due(self, still: Paused) -> None:
        """Keep it where that was not done for a while."""

    async def sync_final(self, still: Paused) -> None:
        """Keep it once everything is in its place."""


class LocalSync:
    """A state on a local disk: it outlasts a process anyhow, and then a power cut too."""

    def __init__(self, disk: StateThread) -> None:
        self._state_thread = disk

    async def check_not_superseded(self) -> None:
        """Do nothing: the state is locked for as long as a run goes on."""

    async def sync(self) -> None:
        """Bring it to the disk itself."""
        await self._state_thread.run(self._state_thread.state.sync)

    async def sync_if_due(self, still: Paused) -> None:
        """Do nothing."""

    async def sync_final(self, still: Paused) -> None:  # noqa: ARG002 - a URL has more to do
        """Bring it to the disk itself."""
        await self.sync()


class RemoteSync:
    """A state whose copy is beside the files of a URL; that on this machine is to work with."""

    def __init__(self, disk: StateThread, sink: Sink, path: Path, form: str) -> None:
        self._state_thread = disk
        self._sink = sink
        self._path = path
        self._database = path.with_name(DATABASE_FORMATS[form].file) if form in DATABASE_FORMATS else None
        self._run_number = 0
        self._has_begun = False
        self._is_final = False
        self._claim = ""
        self._token = b""
        self._next_sync = 0.0
        self._lock = asyncio.Lock()
        self._sequence = 0
        self._newest = ""

    # What another machine left

    async def fetch(self, place: str, *, rebuild: bool) -> bool:
        """Take the copy for the state, unless this machine's is where it came from; return whether it was taken."""
        copy, wrong = await self._install_newest(_MAX_FETCH_ATTEMPTS)
        if copy is None:
            return False
        if not wrong:
            await self._state_thread.change(
                lambda state: state.save_settings({"place": place})
            )  # it may have been moved
            return True
        if rebuild:
            return False
        raise ExportError(
            f"the state of the export, {copy.name} in {str(self._sink)!r}, is damaged: {wrong}",
            hint=f"Nothing was sent. Put it back, or export into another place; {REBUILD_HINT}.",
            kind="state",
        )

    async def _install_newest(self, tries: int) -> tuple[RemoteFile | None, str]:
        """Take the newest copy, and return it and what is wrong with it; None if there is none, or it is here.

        A run that is still going replaces copies, and each goes with a database: if the newest cannot be read because
        it was replaced, the one that replaced it is taken.
        """
        copy = max(await self._list_files("state"), default=None)
        if copy is None or await self._is_current(copy):
            return None, ""
        try:
            wrong = await self._install_copy(copy)
        except Exception as error:
            if tries == 1 or not (isinstance(error, FileNotFoundError) or await self._is_replaced(copy)):
                raise
        else:
            if not wrong or tries == 1 or not await self._is_replaced(copy):
                return copy, wrong
        return await self._install_newest(tries - 1)

    async def _is_replaced(self, copy: RemoteFile) -> bool:
        return copy not in await self._list_files("state")

    async def _is_current(self, copy: RemoteFile) -> bool:
        """Whether this machine's state is where a copy came from, and the database that goes with it is here too."""
        shared = await self._state_thread.change(ExportState.remote_copy)
        return shared == (copy.run, copy.mark) and (self._database is None or self._database.exists())

    async def _install_copy(self, copy: RemoteFile) -> str:
        """Put a copy in the place of this machine's state, its database too; return what is wrong where one is damaged.

        What keeps them from being fetched is an error of its own: they may be intact.
        """
        beside = self._path.with_name("state.copy")
        await self._state_thread.run_io(lambda: copies.download(self._sink, copy.name, beside))
        try:
            await self._state_thread.run_io(lambda: copies.decompress(beside))
            held = await self._state_thread.run(lambda: copies.check_copy(beside))
        except copies.DAMAGE_ERRORS as error:
            return str(error)
        if held is not None and not await self._fetch_database(held):
            return f"{held.name}, which goes with it, is gone or altered"
        await self._state_thread.run(lambda: self._state_thread.state.replace_from(beside))
        await self._state_thread.change(lambda state: state.adopt_remote_copy(copy.run, copy.mark))
        return ""

    async def _fetch_database(self, held: DatabaseCopy) -> bool:
        """Bring the database here that goes with a copy, if it is anywhere."""
        path = self._database
        return path is None or await self._state_thread.run_io(lambda: copies.fetch_database(self._sink, held, path))

    # A run

    async def claim(self) -> None:
        """Claim a run.

        Those that began before write no copy of a state that others take, and end before the next part: one that was
        sealed in a copy that was there before the claim is written by both, with the same rows.
        """
        run = 1 + max((one.run for one in await self._list_files("run", "state")), default=0)
        # Known before the store has it: a caller that is cancelled meanwhile still gives the claim up.
        self._run_number, self._token = run, token_bytes(16)
        if not await self._state_thread.run_io(lambda: self._create_claim(_claim_name(run))):
            raise self._superseded_error()

    async def fetch_database(self) -> None:
        """Bring the database of a run that ended here, if the one here is another."""
        if path := self._database:
            facts = await self._state_thread.change(ExportState.database)
            await self._state_thread.run_io(lambda: copies.fetch_closed_database(self._sink, facts, path))

    async def begin_run(self) -> None:
        """Begin the run that was claimed, over the state as it is now; the store is as it was until then."""
        self._has_begun = True
        if self._database is None:
            await self._upload_state(None)
        else:
            self._next_sync = asyncio.get_running_loop().time() + _MIN_INTERVAL
        await self._delete_superseded()

    async def release_claim(self) -> None:
        """Take the claim of a run back that was refused before it began: others go on as if it had not been."""
        if self._run_number and not self._has_begun:
            with suppress(Exception):
                await self._state_thread.run_io(lambda: self._remove_claim(_claim_name(self._run_number)))

    def _remove_claim(self, name: str) -> None:
        """Remove the file that claims a run, unless another run made it."""
        if self._sink.read(name) == self._token:
            self._sink.remove(name)

    def _create_claim(self, name: str) -> bool:
        """Make the file that claims a run; where a store lets two make it, both find that it is the other's."""
        try:
            self._sink.create(name, self._token)
        except FileExistsError:
            return False
        seen = self._sink.stat(name)  # first: who makes it after this is found by its look
        self._claim = seen.mark if seen else ""
        return self._sink.read(name) == self._token

    async def check_not_superseded(self) -> None:
        """Raise `ExportError` where another run has begun."""
        self._check_fencing_token(await self._list_files("run"))

    async def sync(self) -> None:
        """Write a copy; of a database's state none, since parts that are in it are seen when the run ends."""
        if self._database is None:
            await self._sync_state()

    async def sync_if_due(self, still: Paused) -> None:
        """Write a copy where none was for a while: what came before it, no other machine asks for again."""
        if self._lock.locked() or asyncio.get_running_loop().time() < self._next_sync:
            return
        try:
            await (self._sync_state() if self._database is None else self._sync_database_and_state(still))
        except ExportError:
            raise
        except Exception as error:  # noqa: BLE001 - a store's library; the run goes on, and the next copy may succeed
            self._next_sync = asyncio.get_running_loop().time() + _INTERVAL_FACTOR * _MIN_INTERVAL
            log.warning("export: the state could not be copied: %s", self._sink.scrub(error_text(error)))

    async def sync_final(self, still: Paused) -> None:
        """Write the last copy of a run that did all that it should; its database is seen then."""
        await (self._sync_state() if self._database is None else self._publish_database(still, self._database.name))
        self._is_final = True

    async def sync_after_failure(self, still: Paused) -> None:
        """Write the last copy of a run that failed; where that fails too, another machine asks again for the rest."""
        if self._has_begun and not self._is_final:
            with suppress(Exception):
                await (self._sync_state() if self._database is None else self._sync_database_and_state(still))

    async def _sync_state(self) -> None:
        """Write a copy, and only then go on: whoever began before it was there has not seen it."""
        async with self._upload():
            await self._upload_state(None)
            await self._delete_superseded()

    async def _sync_database_and_state(self, still: Paused) -> DatabaseCopy:
        """Write a copy of the database, and then one of the state that goes with it."""
        async with self._upload():
            async with still() as copied:
                file = await copied()
                held = await self._state_thread.run_io(lambda: self._describe_database(file))
                await self._state_thread.run(lambda: copies.write_copy(self._state_thread.state, self._copy_path, held))
            await self._state_thread.run_io(lambda: self._sink.put(file, held.name))
            await self._put_copy()
            await self._delete_superseded(held.name)
        return held

    async def _publish_database(self, still: Paused, name: str) -> None:
        """Move the database to where readers look for it; until the state tells so, it is found in both places."""
        held = await self._sync_database_and_state(still)
        async with self._upload():
            await self._state_thread.run_io(lambda: self._sink.move(held.name, name))
            seen = await self._state_thread.run_io(lambda: self._sink.stat(name))
            facts = PartInfo(rows=0, bytes=held.bytes, sha256=held.sha256, mark=seen.mark if seen else "")
            await self._state_thread.change(lambda state: state.set_database(facts))
            await self._upload_state(None)
            await self._delete_superseded()

    def _describe_database(self, file: Path) -> DatabaseCopy:
        """Return what a copy of the database is to be called."""
        return DatabaseCopy(self._new_name("database", file.suffix), file.stat().st_size, files.digest(file))

    def _new_name(self, kind: str, suffix: str) -> str:
        """Return a name that no copy had before: while one is put, the one before is whole."""
        self._sequence += 1
        return f"{FOLDER}/{kind}-{self._run_number:08d}-{self._sequence:08d}{suffix}"

    @asynccontextmanager
    async def _upload(self) -> AsyncIterator[None]:
        """Write beside the files, one at a time, and reckon when to do so again; raises where another run goes on."""
        async with self._lock:
            begun = asyncio.get_running_loop().time()
            await self.check_not_superseded()
            yield
            now = asyncio.get_running_loop().time()
            share = _INTERVAL_FACTOR if self._database is None else _DATABASE_INTERVAL_FACTOR
            self._next_sync = now + max(_MIN_INTERVAL, share * (now - begun))

    def _check_fencing_token(self, runs: list[RemoteFile]) -> None:
        newest = max((one for one in runs if one.kind == "run"), default=None)
        if newest is None or (newest.run, newest.mark) != (self._run_number, self._claim):
            raise self._superseded_error()

    @property
    def _copy_path(self) -> Path:
        return self._path.with_name("state.copy")

    async def _upload_state(self, held: DatabaseCopy | None) -> None:
        await self._state_thread.run(lambda: copies.write_copy(self._state_thread.state, self._copy_path, held))
        await self._put_copy()

    async def _put_copy(self) -> None:
        """Put the copy of the state that was written beside the files."""
        name = self._new_name("state", ".db.gz")
        await self._state_thread.run_io(lambda: self._sink.put(copies.compress(self._copy_path), name))
        seen = await self._state_thread.run_io(lambda: self._sink.stat(name))
        await self._state_thread.change(
            lambda state: state.set_remote_copy(self._run_number, seen.mark if seen else "")
        )
        self._newest = name

    async def _delete_superseded(self, held: str = "") -> None:
        """Remove all but the newest state, the claim of this run, and the database that is `held`.

        What the state of an earlier run tells of stays until there is one of this run, which tells of another. Raises
        where another run has begun.
        """
        there = await self._list_files("run", "state", "database")
        self._check_fencing_token(there)  # who goes on instead may have taken just what would be removed
        for one in there:
            kept = one.name in {_claim_name(self._run_number), self._newest, held}
            if one.run <= self._run_number and not kept and (self._newest or one.kind == "run"):
                await self._state_thread.run_io(partial(self._sink.remove, one.name))

    async def _list_files(self, *kinds: str) -> list[RemoteFile]:
        return await self._state_thread.run_io(lambda: copies.list_files(self._sink, *kinds))

    def _superseded_error(self) -> ExportError:
        return ExportError(
            f"another run of the export into {str(self._sink)!r} has begun, and goes on with it",
            hint="This one has ended. Let one machine at a time run it.",
            kind="running",
        )


def _claim_name(run: int) -> str:
    """Return the name of the file that claims a run."""
    return f"{FOLDER}/run-{run:08d}"
