"""Durability of a state: on a local disk by fsync, in a store by a copy beside the files.

Runs into a store are numbered, and the number is a fencing token. A run claims its number by creating a file that only
one process can create; a run that finds a greater number writes nothing more. So of two writers the later one wins.
A part is sealed in a copy of the state before its file exists: the next run, on whichever machine, knows every file.

The state and a database belong together. First the copy of the database is uploaded, under a new name, and then the
copy of the state with that name in it: the next run downloads the state, and the database that it names. At the end of
a run, its database is renamed to the name that readers know.
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
from agora_analytics.export.state.recovery_tables import DatabaseCopy
from agora_analytics.export.state.sqlite_store import REBUILD_HINT
from agora_analytics.export.state.staging import PartInfo
from agora_analytics.export.state.state_thread import StateThread

log = logging.getLogger("agora_analytics")

_MIN_INTERVAL: Final = 1.0
"""Least seconds between two copies of a state while no part is sealed."""

_INTERVAL_FACTOR: Final = 5
"""Least time between two copies, in multiples of the time that one takes."""

_DATABASE_INTERVAL_FACTOR: Final = 20
"""The same with a database, which is copied whole and grows."""

_MAX_FETCH_ATTEMPTS: Final = 3
"""Attempts to download the newest copy, if another run replaces it meanwhile."""

Paused = Callable[[], AbstractAsyncContextManager[Callable[[], Awaitable[Path]]]]
"""Pauses writing inside, and yields a function that copies the database."""


class StateSync(Protocol):
    """Makes a state durable."""

    async def check_not_superseded(self) -> None:
        """Raise `ExportError` if another run continues the export."""

    async def sync(self) -> None:
        """Make the state durable, before the parts that it seals become visible."""

    async def sync_if_due(self, paused: Paused) -> None:
        """Make the state durable if that was not done for a while."""

    async def sync_final(self, paused: Paused) -> None:
        """Make the state durable once everything is published."""


class LocalSync:
    """A state on a local disk: it survives its process by itself, and a power cut by fsync."""

    def __init__(self, state_thread: StateThread) -> None:
        self._state_thread = state_thread

    async def check_not_superseded(self) -> None:
        """Do nothing: the state is locked while a run lasts."""

    async def sync(self) -> None:
        """Fsync the state."""
        await self._state_thread.run(self._state_thread.state.sync)

    async def sync_if_due(self, paused: Paused) -> None:
        """Do nothing."""

    async def sync_final(self, paused: Paused) -> None:  # noqa: ARG002 - of a store
        """Fsync the state."""
        await self.sync()


class RemoteSync:
    """A state with a copy in a store; the one on this machine is its working copy."""

    def __init__(self, state_thread: StateThread, sink: Sink, path: Path, name: str) -> None:
        self._state_thread = state_thread
        self._sink = sink
        self._path = path
        self._database = path.with_name(DATABASE_FORMATS[name].file) if name in DATABASE_FORMATS else None
        self._run_number = 0
        self._has_begun = False
        self._is_final = False
        self._claim = ""
        self._token = b""
        self._next_sync = 0.0
        self._lock = asyncio.Lock()
        self._sequence = 0
        self._newest = ""

    # Downloading

    async def fetch(self, place: str, *, rebuild: bool) -> bool:
        """Replace the state by the copy in the store, unless it continues it; return whether it was replaced."""
        copy, wrong = await self._install_newest(_MAX_FETCH_ATTEMPTS)
        if copy is None:
            return False
        if not wrong:
            # The store may have been moved.
            await self._state_thread.change(lambda state: state.save_settings({"place": place}))
            return True
        if rebuild:
            return False
        raise ExportError(
            f"the state of the export, {copy.name} in {str(self._sink)!r}, is damaged: {wrong}",
            hint=f"Nothing was sent. Put it back, or export into another place; {REBUILD_HINT}.",
            kind="state",
        )

    async def _install_newest(self, tries: int) -> tuple[RemoteFile | None, str]:
        """Install the newest copy; return it, and what is wrong with it. None if there is none, or it is here.

        A run that is still active replaces copies and their databases. If the newest one cannot be read because it was
        replaced, the next one is installed.
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
        """Whether this machine's state equals or continues a copy, and has its database."""
        known = await self._state_thread.change(ExportState.remote_copy)
        return known == (copy.run, copy.mark) and (self._database is None or self._database.exists())

    async def _install_copy(self, copy: RemoteFile) -> str:
        """Replace this machine's state and database by a copy; return what is wrong if one of them is damaged.

        Raises an error if they cannot be downloaded: they may be intact.
        """
        path = self._path.with_name("state.copy")
        await self._state_thread.run_io(lambda: copies.download(self._sink, copy.name, path))
        try:
            await self._state_thread.run_io(lambda: copies.decompress(path))
            database = await self._state_thread.run(lambda: copies.check_copy(path))
        except copies.DAMAGE_ERRORS as error:
            return str(error)
        if database is not None and not await self._fetch_database(database):
            return f"its database {database.name} is gone or altered"
        await self._state_thread.run(lambda: self._state_thread.state.replace_from(path))
        await self._state_thread.change(lambda state: state.adopt_remote_copy(copy.run, copy.mark))
        return ""

    async def _fetch_database(self, database: DatabaseCopy) -> bool:
        """Download the database of a copy; return whether it was found."""
        path = self._database
        return path is None or await self._state_thread.run_io(
            lambda: copies.fetch_database(self._sink, database, path)
        )

    # Runs

    async def claim(self) -> None:
        """Claim the next run number.

        Earlier runs then upload no state that others download, and stop before their next part. A part that was sealed
        in a copy before the claim may be written by both, with the same rows.
        """
        # States count, too: the claim of the run that wrote one may be gone.
        run = 1 + max((one.run for one in await self._list_files("run", "state")), default=0)
        # Set before the file exists, so that a caller cancelled meanwhile still releases the claim.
        self._run_number, self._token = run, token_bytes(16)
        if not await self._state_thread.run_io(lambda: self._create_claim(_claim_name(run))):
            raise self._superseded_error()

    async def fetch_database(self) -> None:
        """Download the database of a finished run, unless it is here."""
        if path := self._database:
            info = await self._state_thread.change(ExportState.database)
            await self._state_thread.run_io(lambda: copies.fetch_closed_database(self._sink, info, path))

    async def begin_run(self) -> None:
        """Start the claimed run. Until then, nothing else in the store has changed."""
        self._has_begun = True
        if self._database is None:
            await self._upload_state(None)
        else:
            # Nothing has changed since the database was downloaded.
            self._next_sync = asyncio.get_running_loop().time() + _MIN_INTERVAL
        await self._delete_superseded()

    async def release_claim(self) -> None:
        """Delete the claim of a run that did not start: earlier runs continue."""
        if self._run_number and not self._has_begun:
            with suppress(Exception):
                await self._state_thread.run_io(lambda: self._remove_claim(_claim_name(self._run_number)))

    def _remove_claim(self, name: str) -> None:
        """Delete the file of a claim, unless another process created it."""
        if self._sink.read(name) == self._token:
            self._sink.remove(name)

    def _create_claim(self, name: str) -> bool:
        """Create the file of a claim. If a store lets two processes create it, at most one finds its token there."""
        try:
            self._sink.create(name, self._token)
        except FileExistsError:
            return False
        stat = self._sink.stat(name)  # before the token is read: a later overwrite changes the mark
        self._claim = stat.mark if stat else ""
        return self._sink.read(name) == self._token

    async def check_not_superseded(self) -> None:
        """Raise `ExportError` if another run has a greater number."""
        self._check_fencing_token(await self._list_files("run"))

    async def sync(self) -> None:
        """Upload a copy. With a database there is no need: readers see its parts at the end of the run."""
        if self._database is None:
            await self._sync_state()

    async def sync_if_due(self, paused: Paused) -> None:
        """Upload a copy if none was for a while: no other machine fetches again what is in it."""
        # Workers call this after each slice and each call: while one uploads, the others go on.
        if self._lock.locked() or asyncio.get_running_loop().time() < self._next_sync:
            return
        try:
            await (self._sync_state() if self._database is None else self._sync_database_and_state(paused))
        except ExportError:
            raise
        except Exception as error:  # noqa: BLE001 - of a store's library; the next copy may succeed
            self._next_sync = asyncio.get_running_loop().time() + _INTERVAL_FACTOR * _MIN_INTERVAL
            log.warning("export: the state could not be copied: %s", self._sink.scrub(error_text(error)))

    async def sync_final(self, paused: Paused) -> None:
        """Upload the last copy of a successful run, and publish its database."""
        await (self._sync_state() if self._database is None else self._publish_database(paused, self._database.name))
        self._is_final = True

    async def sync_after_failure(self, paused: Paused) -> None:
        """Upload a last copy after a failure. If that fails too, another machine fetches the rest again."""
        if self._has_begun and not self._is_final:
            with suppress(Exception):
                await (self._sync_state() if self._database is None else self._sync_database_and_state(paused))

    async def _sync_state(self) -> None:
        """Upload a copy, and check again that no other run has started before it was there."""
        async with self._upload():
            await self._upload_state(None)
            await self._delete_superseded()

    async def _sync_database_and_state(self, paused: Paused) -> DatabaseCopy:
        """Upload a copy of the database, and then one of the state."""
        async with self._upload():
            async with paused() as copied:
                file = await copied()
                database = await self._state_thread.run_io(lambda: self._describe_database(file))
                await self._state_thread.run(
                    lambda: copies.write_copy(self._state_thread.state, self._copy_path, database)
                )
            await self._state_thread.run_io(lambda: self._sink.put(file, database.name))
            await self._put_copy()
            await self._delete_superseded(database.name)
        return database

    async def _publish_database(self, paused: Paused, name: str) -> None:
        """Rename the database to the name that readers know. Until the state has that name, both are tried."""
        database = await self._sync_database_and_state(paused)
        async with self._upload():
            await self._state_thread.run_io(lambda: self._sink.move(database.name, name))
            stat = await self._state_thread.run_io(lambda: self._sink.stat(name))
            info = PartInfo(rows=0, bytes=database.bytes, sha256=database.sha256, mark=stat.mark if stat else "")
            await self._state_thread.change(lambda state: state.set_database(info))
            await self._upload_state(None)
            await self._delete_superseded()

    def _describe_database(self, file: Path) -> DatabaseCopy:
        """Return name, size and checksum of a new copy of the database."""
        return DatabaseCopy(self._new_name("database", file.suffix), file.stat().st_size, files.digest(file))

    def _new_name(self, kind: str, suffix: str) -> str:
        """Return a name that no file had before: while one is uploaded, the earlier one is complete."""
        self._sequence += 1
        return f"{FOLDER}/{kind}-{self._run_number:08d}-{self._sequence:08d}{suffix}"

    @asynccontextmanager
    async def _upload(self) -> AsyncIterator[None]:
        """Upload inside, one at a time, and schedule the next upload; raises `ExportError` if another run continues."""
        async with self._lock:
            started = asyncio.get_running_loop().time()
            await self.check_not_superseded()
            yield
            now = asyncio.get_running_loop().time()
            factor = _INTERVAL_FACTOR if self._database is None else _DATABASE_INTERVAL_FACTOR
            self._next_sync = now + max(_MIN_INTERVAL, factor * (now - started))

    def _check_fencing_token(self, runs: list[RemoteFile]) -> None:
        newest = max((one for one in runs if one.kind == "run"), default=None)
        # The mark, too: two processes may have written the same name, and the later content is there.
        if newest is None or (newest.run, newest.mark) != (self._run_number, self._claim):
            raise self._superseded_error()

    @property
    def _copy_path(self) -> Path:
        return self._path.with_name("state.copy")

    async def _upload_state(self, database: DatabaseCopy | None) -> None:
        await self._state_thread.run(lambda: copies.write_copy(self._state_thread.state, self._copy_path, database))
        await self._put_copy()

    async def _put_copy(self) -> None:
        """Upload the copy of the state that was written."""
        name = self._new_name("state", ".db.gz")
        await self._state_thread.run_io(lambda: self._sink.put(copies.compress(self._copy_path), name))
        stat = await self._state_thread.run_io(lambda: self._sink.stat(name))
        await self._state_thread.change(
            lambda state: state.set_remote_copy(self._run_number, stat.mark if stat else "")
        )
        self._newest = name

    async def _delete_superseded(self, kept_database: str = "") -> None:
        """Delete all files but the newest state, the claim of this run, and the `kept_database`.

        Files of an earlier run stay until there is a state of this run. Raises `ExportError` if another run has
        started, which may have downloaded what would be deleted.
        """
        files_there = await self._list_files("run", "state", "database")
        self._check_fencing_token(files_there)
        for one in files_there:
            kept = one.name in {_claim_name(self._run_number), self._newest, kept_database}
            if one.run <= self._run_number and not kept and (self._newest or one.kind == "run"):
                await self._state_thread.run_io(partial(self._sink.remove, one.name))

    async def _list_files(self, *kinds: str) -> list[RemoteFile]:
        return await self._state_thread.run_io(lambda: copies.list_files(self._sink, *kinds))

    def _superseded_error(self) -> ExportError:
        return ExportError(
            f"another run of the export into {str(self._sink)!r} has started, and continues it",
            hint="This run has ended. Run an export on one machine at a time.",
            kind="superseded",
        )


def _claim_name(run: int) -> str:
    """Return the name of the file that claims a run number."""
    return f"{FOLDER}/run-{run:08d}"
