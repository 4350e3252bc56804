"""The program of the writer process: it executes the commands of many exports, each in a thread of its own.

The main thread only reads commands and hands them on. So an export whose disk is slow, or whose database is locked,
delays no other. `writer_process.py` has the protocol.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread, current_thread
from time import monotonic
from typing import Any, Final

from agora_analytics._core.decoding import json
from agora_analytics.export.formats.base import FormatWriter
from agora_analytics.export.sinks import error_text
from agora_analytics.export.write.writer import WriterError, error_kind, open_in_process

log = logging.getLogger("agora_analytics")

_COMMANDS: Final = frozenset({"ready", "part_row_counts", "begin", "add", "end", "copy", "close"})
"""Commands to an open writer: its methods."""

_EXIT_TIMEOUT: Final = 30.0
"""Seconds after the end of the input that a write may still take: one to a disk that does not answer never ends."""

_UPDATED: Final = "was the library updated meanwhile?"
"""The process may run newer code than the parent, which loaded its own before."""


class _PandasBlocker:
    """Hides pandas, which pyarrow would import if it is installed: 0.2 s and tens of megabytes, for nothing."""

    def find_spec(self, name: str, _path: object = None, _target: object = None, /) -> None:
        """Refuse pandas, and leave all other names to the next finder."""
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


class _Replies:
    """Writes lines to the parent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = Lock()

    def write(self, document: object) -> None:
        """Write one line of JSON."""
        line = json.encode(document) + b"\n"
        # A long line is not written in one step, and other threads write lines, too.
        with self._lock, suppress(BrokenPipeError):  # the parent is gone, and the next command is none
            os.write(self._descriptor, line)


class _LogForwarder(logging.Handler):
    """Sends the library's log messages to the export whose thread logs them."""

    def __init__(self, replies: _Replies) -> None:
        super().__init__(logging.WARNING)
        self._replies = replies

    def emit(self, record: logging.LogRecord) -> None:
        """Write the message as a line of its own."""
        thread = current_thread()
        if isinstance(thread, _Channel):
            self._replies.write((thread.number, "log", record.getMessage(), "", ""))


class _Channel(Thread):
    """The writer of one export: a thread that executes its commands in their order."""

    def __init__(self, number: int, replies: _Replies) -> None:
        # A daemon, so that a crash of the main thread ends the process with all its locks.
        super().__init__(name=f"export-{number}", daemon=True)
        self.commands: SimpleQueue[tuple[str, Sequence[Any]] | None] = SimpleQueue()
        self.number = number
        self._replies = replies
        self._writer: FormatWriter | None = None
        self._error = self._kind = ""
        self._is_aborted = False

    def abort(self) -> None:
        """End a wait for a lock, and skip the commands that are still queued; called by the main thread."""
        self._is_aborted = True
        if self._writer is not None:
            self._writer.abort()

    def run(self) -> None:
        """Execute commands until the channel is closed."""
        while (command := self.commands.get()) is not None:
            name, arguments = command
            result = None
            try:
                result = self._execute(name, arguments)
            except Exception as error:  # noqa: BLE001 - whatever a format's library raises
                # Kept until the end: nobody waits for the reply to `add`, so that a later command reports its error.
                self._error, self._kind = error_text(error), error_kind(error)
            if name != "open":
                self._replies.write((self.number, name, result, self._error, self._kind))
            if name == "close":
                return

    def _execute(self, name: str, arguments: Sequence[Any]) -> Any:
        """Execute a command. After an error, only `close` is executed."""
        if name == "open":
            self._writer = open_in_process(arguments[0], *map(_path, arguments[1:]))
            return None
        if self._writer is None or (name != "close" and (self._error or self._is_aborted)):
            return None  # the first error is replied again
        if name not in _COMMANDS:
            raise WriterError(f"the writer process does not know the command {name!r}: {_UPDATED}")
        if name == "copy":
            arguments = [_path(arguments[0])]
        return getattr(self._writer, name)(*arguments)


def _path(argument: str) -> Path:
    try:
        return Path(os.fsdecode(bytes.fromhex(argument)))
    except ValueError:
        raise WriterError(f"the writer process cannot read a path: {_UPDATED}") from None


def serve() -> None:
    """Execute commands from stdin until it ends. This is the main function of the process."""
    sys.meta_path.insert(0, _PandasBlocker())
    commands, replies = sys.stdin.buffer, _Replies(os.dup(1))
    os.dup2(2, 1)  # what a library prints is no reply
    log.addHandler(_LogForwarder(replies))
    channels: dict[int, _Channel] = {}
    while (line := commands.readline()).endswith(b"\n"):
        number, command, *arguments = json.loads(line)
        if command == "add":
            arguments = [[commands.readline()[:-1] for _ in range(arguments[0])]]
        if command == "open":
            # Channels that were closed are kept until their threads have ended, which the end of the process waits for.
            channels = {other: channel for other, channel in channels.items() if channel.is_alive()}
            channels[number] = _Channel(number, replies)
            channels[number].start()
        if command == "abort":
            channels[number].abort()
        else:
            channels[number].commands.put((command, arguments))
    _end(list(channels.values()))


def _end(channels: Sequence[_Channel]) -> None:
    """End all channels: their exports have ended, or were killed, and write again what they did not see published."""
    for channel in channels:
        channel.abort()
        channel.commands.put(None)
    deadline = monotonic() + _EXIT_TIMEOUT
    for channel in channels:
        channel.join(max(deadline - monotonic(), 0))
        if channel.is_alive():
            os._exit(1)
