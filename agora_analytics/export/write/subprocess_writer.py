"""The writer of one export in the writer process, and what it does when that process dies.

The process may die of another export: of a library that crashes, or killed for its memory. Then the rows of the part
that was being written are still staged, and the export writes it again: first in a new process that all share, and if
that dies, too, in a process of its own. So an export ends with an error only if it is alone with the process that dies.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from agora_analytics.export.write.writer import RowWriter, WriterError, WriterRestartedError, open_in_process
from agora_analytics.export.write.writer_process import (
    Channel,
    WriterAbortedError,
    WriterDiedError,
    WriterProcess,
    shared,
)

_PYTHON_NAMES: Final = ("python", "pypy")

_MAX_SHARED_DEATHS: Final = 2
"""Deaths of a shared process, without a part written in between, after which an export gets a process of its own."""


def open_writer(name: str, folder: Path, scratch: Path) -> RowWriter:
    """Open a writer of a format: in the writer process if the running Python can be started again, else in this one.

    Raises `WriterError` if the process dies at once.
    """
    can_start = not getattr(sys, "frozen", False) and Path(sys.executable or "").name.lower().startswith(_PYTHON_NAMES)
    if can_start:
        try:
            return SubprocessWriter(name, folder, scratch)
        except WriterError:
            raise
        except OSError:  # this system starts no more processes
            pass
    return open_in_process(name, folder, scratch)


class SubprocessWriter:
    """Writes in the writer process; the interface is that of `RowWriter`."""

    def __init__(self, name: str, folder: Path, scratch: Path) -> None:
        self._arguments = (name, _path_argument(folder), _path_argument(scratch))
        self._deaths = 0
        self._is_aborted = False
        self._channel: Channel | None = None
        self._open()

    def ready(self) -> None:
        """Wait until everything is open; raises what failed while it was opened."""
        self._call_again("ready")

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return dataset, part id and rows of every part in a database."""
        return [(dataset, part, rows) for dataset, part, rows in self._call_again("part_row_counts")]

    def begin(self, dataset: str, part: int) -> None:
        """Begin a part, in place of one that was not ended."""
        self._call_again("begin", dataset, part)  # replied to: a wait for a lock is logged before rows are sent

    def add(self, payloads: Sequence[bytes]) -> None:
        """Add serialized rows; blocks while the process has not written earlier ones of this export."""
        try:
            self._opened().add(list(payloads))
        except WriterDiedError as error:
            self._count_death(error)

    def end(self) -> int:
        """Complete the part, and return its number of rows."""
        rows = int(self._call("end"))
        self._deaths = 0
        return rows

    def copy(self, path: Path) -> None:
        """Copy a database to `path`, between two parts."""
        self._call_again("copy", _path_argument(path))

    def close(self) -> None:
        """Release everything. A process that died meanwhile has nothing left to close: each part ended before."""
        channel, self._channel = self._channel, None
        if channel is not None:
            try:
                with suppress(WriterDiedError):
                    channel.call("close")
            finally:
                channel.close()

    def abort(self) -> None:
        """End what another thread waits for; the next writer rewrites the part that was not ended."""
        self._is_aborted = True
        if (channel := self._channel) is not None:
            channel.abort()

    def _open(self) -> None:
        if self._is_aborted:
            raise WriterAbortedError
        channel = shared.open_channel() if self._deaths < _MAX_SHARED_DEATHS else WriterProcess().first
        self._channel = channel
        with suppress(WriterDiedError):  # the next command finds out
            channel.send("open", *self._arguments)

    def _opened(self) -> Channel:
        if self._channel is None:
            raise WriterRestartedError("no part was begun since the export writer process died")
        return self._channel

    def _call(self, command: str, *arguments: object) -> Any:
        """Call the process; raises `WriterRestartedError` if it died and a new one may be started."""
        try:
            return self._opened().call(command, *arguments)
        except WriterDiedError as error:
            self._count_death(error)

    def _call_again(self, command: str, *arguments: object) -> Any:
        """Call the process, and a new one if it died: for commands that do not continue a part."""
        while True:
            try:
                if self._channel is None:
                    self._open()
                return self._call(command, *arguments)
            except WriterRestartedError:
                continue

    def _count_death(self, error: WriterDiedError) -> None:
        """Leave the process that died; raises `error` if it was this export's own, else `WriterRestartedError`."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        self._deaths += 1
        if self._deaths > _MAX_SHARED_DEATHS:
            raise error
        raise WriterRestartedError(str(error)) from None


def _path_argument(path: Path) -> str:
    """Return a path for a command: file names are bytes, and need not be text."""
    return os.fsencode(path.absolute()).hex()
