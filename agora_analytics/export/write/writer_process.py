"""The writer process as its parent sees it: one for all exports of this program, each with a channel of its own.

Encoding takes half as long as fetching, and all exports of a program fetch in one interpreter: so one process keeps up
with them, however many they are. It starts with the first export and ends with the last.

Protocol: the parent writes commands to the process's stdin, each a line of JSON `[channel, command, argument, …]`;
`add` is followed by as many lines of serialized rows as its argument says. All commands but `open` and `abort` are
replied to with a line `[channel, command, result, error, kind]`, where `error` is the first error of the channel, and
`kind` its `error_kind`. A log message is the result of a command `log`. At the end of its stdin, the process ends.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import suppress
from itertools import count
from queue import SimpleQueue
from threading import Lock, Semaphore, Thread
from typing import IO, Any, Final, cast
from weakref import WeakSet

from agora_analytics._core.decoding import json
from agora_analytics.export.write.writer import BusyError, DatabaseError, WriterError

log = logging.getLogger("agora_analytics")

_CODE: Final = (
    "import sys; line = sys.stdin.buffer.readline(); line.endswith(b'\\n') or sys.exit();"
    " sys.path[:] = bytes.fromhex(line.decode()).decode('utf-8', 'surrogatepass').split('\\0');"
    " from agora_analytics.export.write.writer_main import serve; serve()"
)
"""Program of the process: its first line of input is the import path, so that it imports what its parent does."""

_PIPE_SIZE: Final = 2**20
"""Bytes that the pipe to the process may buffer, where the system allows it."""

_EXIT_TIMEOUT: Final = 30.0
"""Seconds that the process may take to exit before it is killed."""

_MAX_QUEUED_ADDS: Final = 2
"""Batches of rows, of half a megabyte each, that a channel may have in the process: one is written, one waits."""

_INHERITED_VARIABLES: Final = frozenset(
    {
        *("PATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LD_PRELOAD", "SYSTEMROOT", "USERPROFILE", "COMSPEC", "PATHEXT"),
        *("PYTHONHOME", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONHASHSEED", "PYTHONWARNINGS", "__PYVENV_LAUNCHER__"),
        *("ARROW_DEFAULT_MEMORY_POOL", "ARROW_IO_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX"),
        *("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"),
    }
)
"""Environment variables that the process inherits: those that it needs to run, and none that may hold a secret."""

_ERRORS: Final = {"running": BusyError, "writer": WriterError, "state": DatabaseError}


class WriterDiedError(WriterError):
    """The process died, and with it every part that was not ended."""


class WriterAbortedError(WriterError):
    """The export was stopped while it waited for the process."""

    def __init__(self) -> None:
        super().__init__("the export was stopped while its files were written")


class Channel:
    """The commands and replies of one export. Used by one thread; only `abort` may be called by another."""

    def __init__(self, process: WriterProcess, number: int) -> None:
        self._process = process
        self._number = number
        self._replies: SimpleQueue[tuple[str, Any, str, str] | None] = SimpleQueue()
        self._room = Semaphore(_MAX_QUEUED_ADDS)
        self._is_aborted = False

    def call(self, command: str, *arguments: object) -> Any:
        """Send a command, wait for its reply and return its result; raises the first error of the channel."""
        self.send(command, *arguments)
        while (reply := self._replies.get()) is not None and reply[0] == "log":
            log.warning("%s", reply[1])
        if reply is None:
            raise self._ended_error()
        _, result, error, kind = reply
        if error:
            raise _ERRORS.get(kind, OSError)(error)
        return result

    def add(self, payloads: list[bytes]) -> None:
        """Send rows; blocks while the process still has too many of this channel, and of no other."""
        self._room.acquire()
        self.send("add", len(payloads), lines=payloads)

    def send(self, command: str, *arguments: object, lines: list[bytes] | None = None) -> None:
        """Send a command without waiting for a reply."""
        if self._is_aborted or not self._process.send((self._number, command, *arguments), lines or []):
            raise self._ended_error()

    def abort(self) -> None:
        """End what the thread of this channel waits for; the channel cannot be used any more."""
        self._is_aborted = True
        self.wake()

    def wake(self) -> None:
        """Let the waiting thread find out that the channel or its process has ended."""
        self._replies.put(None)
        self._room.release()

    def receive(self, reply: tuple[str, Any, str, str]) -> None:
        """Take a reply of the process; called by the thread that reads them."""
        if reply[0] == "add":
            self._room.release()
        else:
            self._replies.put(reply)

    def close(self) -> None:
        """Leave the process, which ends with its last channel."""
        if self._is_aborted:
            # What it still has to write nobody waits for. Its lock is free once it has closed its files.
            for command in ("abort", "close"):
                self._process.send((self._number, command), [])
        self._process.remove(self._number, kill=self._is_aborted)

    def _ended_error(self) -> WriterError:
        if self._is_aborted:
            return WriterAbortedError()
        return WriterDiedError(f"the export writer process died ({self._process.death()})")


class WriterProcess:
    """A process with a channel for each of the exports that use it.

    Attributes:
        first: the channel of the export that starts it. One that dies at once tells so when the channel is used.

    """

    def __init__(self) -> None:
        process = subprocess.Popen(  # noqa: S603 - this very Python
            [sys.executable, *(["-I"] if sys.flags.isolated else []), "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the exports, which then end their writer
            env={key: value for key, value in os.environ.items() if key.upper() in _INHERITED_VARIABLES},
        )
        self._process = process
        self._in, self._out = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        _running.add(self)
        _enlarge_pipe(self._in)
        self._sending, self._lock = Lock(), Lock()
        self._numbers = count(1)
        self.first = Channel(self, 0)
        self._channels = {0: self.first}
        self._is_ending = False
        self._reader = Thread(target=self._read_replies, name="agora-export-replies", daemon=True)
        # Imports ignore entries that are no text, too.
        path = "\0".join(entry for entry in sys.path if isinstance(entry, str))
        # In hexadecimal digits, because a path may hold line ends.
        self._write(path.encode("utf-8", "surrogatepass").hex().encode() + b"\n")
        self._reader.start()

    def open_channel(self) -> Channel | None:
        """Return a new channel; None if the process has died or is ending."""
        with self._lock:
            if self._is_ending:
                return None
            number = next(self._numbers)
            return self._channels.setdefault(number, Channel(self, number))

    def send(self, command: tuple[object, ...], lines: list[bytes]) -> bool:
        """Send a command, and the lines that follow it; return False if the process is gone."""
        return self._write(b"\n".join((json.encode(command), *lines, b"")))

    def remove(self, number: int, *, kill: bool) -> None:
        """Remove a channel. The last one ends the process, with `kill` at once, and waits for that."""
        with self._lock:
            del self._channels[number]
            if self._channels:
                return
            self._is_ending = True
        if kill:
            self._process.kill()
        with suppress(BrokenPipeError):
            # The end of its input is what ends the process.
            self._in.close()
        try:
            self._process.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join()

    def death(self) -> str:
        """Return why the process has ended, once it has."""
        self._reader.join()
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def detach(self) -> None:
        """In a forked child: point the pipes at the null device, since they and what they buffer are the parent's."""
        for pipe in (self._in, self._out):
            with suppress(ValueError, OSError):  # already closed
                _redirect_to_null(pipe.fileno())

    def _write(self, data: bytes) -> bool:
        # The process reads whatever it is sent at once: only a stopped one lets this wait.
        with self._sending:
            try:
                self._in.write(data)
                self._in.flush()
            except (BrokenPipeError, ValueError):  # ValueError: the pipe was closed after an earlier error
                return False
        return True

    def _read_replies(self) -> None:
        """Pass replies on to their channels until the process ends; then no channel waits any longer."""
        try:
            # Of a process that is killed while it writes, the last line may be cut off.
            while (line := self._out.readline()).endswith(b"\n"):
                number, *reply = json.loads(line)
                if channel := self._channels.get(number):  # an aborted one does not wait for its replies
                    channel.receive(tuple(reply))
        finally:
            self._process.wait()
            self._out.close()
            with self._lock:
                self._is_ending = True
                left = list(self._channels.values())
            for channel in left:
                channel.wake()


class SharedProcess:
    """The process that the exports of this program share: started with the first, and again after its end."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: WriterProcess | None = None

    def open_channel(self) -> Channel:
        """Return a channel of the running process, or of a new one."""
        with self._lock:
            channel = self._process.open_channel() if self._process else None
            if channel is None:
                self._process = WriterProcess()
                channel = self._process.first
            return channel

    def forget(self) -> None:
        """In a forked child: leave the process to the parent, one of whose threads may have held the lock."""
        self._lock, self._process = Lock(), None


def _enlarge_pipe(pipe: IO[bytes]) -> None:
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not on every system

        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


_running: Final[WeakSet[WriterProcess]] = WeakSet()

shared: Final = SharedProcess()
"""The process of this program."""


def _detach_processes() -> None:
    """Detach a forked child from the processes of its parent, so that they end with the parent and not with the child.

    The child starts a process of its own if it exports.
    """
    for process in list(_running):
        process.detach()
    shared.forget()


def _redirect_to_null(descriptor: int) -> None:
    os.close(descriptor)  # first: there may be no other descriptor left to open anything with
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor, inheritable=False)
        os.close(null)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_detach_processes)
