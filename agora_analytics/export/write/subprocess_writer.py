"""A writer in a process of its own: encoding takes half as long as fetching, and so runs beside it.

Protocol: the parent writes commands to the process's stdin, each a line of JSON `[command, argument, …]`; `add` is
followed by as many lines of serialized rows as its argument says. All commands but `open` and `add` are replied to with
a line of JSON: `[result, error, kind]`, where `error` is the first error since the start, and `kind` its `error_kind`.
A reply that is a JSON string is a log message. At the end of its stdin, the process ends.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, cast
from weakref import WeakSet

from agora_analytics._core.decoding import json
from agora_analytics.export.formats.base import FormatWriter
from agora_analytics.export.sinks import error_text
from agora_analytics.export.write.writer import (
    BusyError,
    DatabaseError,
    RowWriter,
    WriterError,
    error_kind,
    open_in_process,
)

log = logging.getLogger("agora_analytics")

_CODE: Final = (
    "import sys; line = sys.stdin.buffer.readline(); line.endswith(b'\\n') or sys.exit();"
    " sys.path[:] = bytes.fromhex(line.decode()).decode('utf-8', 'surrogatepass').split('\\0');"
    " from agora_analytics.export.write.subprocess_writer import serve; serve()"
)
"""Program of the process: its first line of input is the import path, so that it imports what its parent does."""

_PIPE_SIZE: Final = 2**20
"""Bytes that the pipe to the process may buffer, where the system allows it."""

_EXIT_TIMEOUT: Final = 30.0
"""Seconds that the process may take to exit before it is killed."""

# In an embedded interpreter `sys.executable` is the application, which would start again.
_PYTHON_NAMES: Final = ("python", "pypy")

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

_COMMANDS: Final = frozenset({"ready", "part_row_counts", "begin", "add", "end", "copy", "close"})
"""Commands to an open writer: its methods."""

_NO_REPLY: Final = frozenset({"open", "add"})

_UPDATED: Final = "was the library updated meanwhile?"
"""The process may run newer code than the parent, which loaded its own before."""

_ERRORS: Final = {"running": BusyError, "writer": WriterError, "state": DatabaseError}


def open_writer(name: str, folder: Path, scratch: Path) -> RowWriter:
    """Open a writer of a format: in a process of its own if the running Python can be started again, else in this one.

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


def _enlarge_pipe(pipe: IO[bytes]) -> None:
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not on every system

        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


class SubprocessWriter:
    """Writes in a process of its own; the interface is that of `RowWriter`."""

    def __init__(self, name: str, folder: Path, scratch: Path) -> None:
        process = subprocess.Popen(  # noqa: S603 - this very Python
            [sys.executable, *(["-I"] if sys.flags.isolated else []), "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the export, which then ends its writer
            env={key: value for key, value in os.environ.items() if key.upper() in _INHERITED_VARIABLES},
        )
        self._process = process
        self._in, self._out = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        _open_writers.add(self)
        _enlarge_pipe(self._in)
        # Imports ignore entries that are no text, too.
        path = "\0".join(entry for entry in sys.path if isinstance(entry, str))
        # In hexadecimal digits, because a path may hold line ends.
        self._send(path.encode("utf-8", "surrogatepass").hex().encode() + b"\n")
        self._send_command("open", name, _path_argument(folder), _path_argument(scratch))

    def ready(self) -> None:
        """Wait until everything is open; raises what failed while it was opened."""
        self._call("ready")

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return dataset, part id and rows of every part in a database."""
        return [(dataset, part, rows) for dataset, part, rows in self._call("part_row_counts")]

    def begin(self, dataset: str, part: int) -> None:
        """Begin a part, in place of one that was not ended."""
        self._call("begin", dataset, part)  # replied to: a wait for a lock is logged before rows fill the pipe

    def add(self, payloads: Sequence[bytes]) -> None:
        """Add serialized rows; blocks while the pipe is full."""
        self._send_command("add", len(payloads))
        self._send(b"\n".join([*payloads, b""]))

    def end(self) -> int:
        """Complete the part, and return its number of rows."""
        return int(self._call("end"))

    def copy(self, path: Path) -> None:
        """Copy a database to `path`, between two parts."""
        self._call("copy", _path_argument(path))

    def close(self) -> None:
        """Release everything, and wait for the process to exit."""
        try:
            self._call("close")
        finally:
            self._stop()

    def abort(self) -> None:
        """Kill the process; the next writer rewrites the part that it has not ended."""
        self._process.kill()

    def detach(self) -> None:
        """In a forked child: point the pipes at the null device, since they and what they buffer are the parent's."""
        for pipe in (self._in, self._out):
            with suppress(ValueError, OSError):  # already closed
                _redirect_to_null(pipe.fileno())

    def _call(self, command: str, *arguments: object) -> Any:
        self._send_command(command, *arguments)
        while isinstance(reply := self._read_reply(), str):
            log.warning("%s", reply)
        result, error, kind = reply
        if error:
            raise _ERRORS.get(kind, OSError)(error)
        return result

    def _read_reply(self) -> Any:
        line = self._out.readline()
        if not line:
            raise self._died_error()
        return json.loads(line)

    def _send_command(self, command: str, *arguments: object) -> None:
        self._send(json.encode((command, *arguments)) + b"\n")

    def _send(self, data: bytes) -> None:
        try:
            self._in.write(data)
            self._in.flush()
        except (BrokenPipeError, ValueError):  # ValueError: the pipe was closed after an earlier error
            pass
        else:
            return
        raise self._died_error()

    def _died_error(self) -> WriterError:
        self._stop()
        code = self._process.returncode
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        return WriterError(f"the export writer process died ({reason})")

    def _stop(self) -> None:
        """Wait for the process to exit; kill it after a timeout."""
        with suppress(BrokenPipeError):
            # The end of its input is what ends the process.
            self._in.close()
        try:
            self._process.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._out.close()


_open_writers: Final[WeakSet[SubprocessWriter]] = WeakSet()


def _detach_writers() -> None:
    """Detach a forked child from the writers of its parent, so that they end with the parent and not with the child."""
    for writer in list(_open_writers):
        writer.detach()


def _redirect_to_null(descriptor: int) -> None:
    os.close(descriptor)  # first: there may be no other descriptor left to open anything with
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor, inheritable=False)
        os.close(null)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_detach_writers)


class _PandasBlocker:
    """Hides pandas, which pyarrow would import if it is installed: 0.2 s and tens of megabytes, for nothing."""

    def find_spec(self, name: str, _path: object = None, _target: object = None, /) -> None:
        """Refuse pandas, and leave all other names to the next finder."""
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


class _LogForwarder(logging.Handler):
    """Sends the library's log messages to the parent, which logs them."""

    def __init__(self, replies: int) -> None:
        super().__init__(logging.WARNING)
        self._replies = replies

    def emit(self, record: logging.LogRecord) -> None:
        """Write the message as a line of its own."""
        with suppress(BrokenPipeError):
            os.write(self._replies, json.encode(record.getMessage()) + b"\n")


def _path_argument(path: Path) -> str:
    """Return a path for a command: file names are bytes, and need not be text."""
    return os.fsencode(path.absolute()).hex()


def _path(argument: str) -> Path:
    try:
        return Path(os.fsdecode(bytes.fromhex(argument)))
    except ValueError:
        raise WriterError(f"the writer process cannot read a path: {_UPDATED}") from None


def serve() -> None:
    """Execute commands from stdin until it ends. This is the main function of the process."""
    sys.meta_path.insert(0, _PandasBlocker())
    commands, replies = sys.stdin.buffer, os.dup(1)
    os.dup2(2, 1)  # what a library prints is no reply
    log.addHandler(_LogForwarder(replies))
    writer: FormatWriter | None = None
    wrong = kind = ""
    while (line := commands.readline()).endswith(b"\n"):
        command, *arguments = json.loads(line)
        if command == "add":
            arguments = [[commands.readline()[:-1] for _ in range(arguments[0])]]
        result = None
        try:
            if command == "open":
                writer = open_in_process(arguments[0], *map(_path, arguments[1:]))
            elif writer is not None and (command == "close" or not wrong):
                result = _execute(writer, command, arguments)
        except Exception as error:  # noqa: BLE001 - whatever a format's library raises
            # Kept until the end: `add` has no reply, so that a later command reports its error.
            wrong, kind = error_text(error), error_kind(error)
        if command not in _NO_REPLY:
            with suppress(BrokenPipeError):  # the parent is gone, and the next line is none
                os.write(replies, json.encode((result, wrong, kind)) + b"\n")


def _execute(writer: FormatWriter, command: str, arguments: Sequence[Any]) -> Any:
    if command not in _COMMANDS:
        raise WriterError(f"the writer process does not know the command {command!r}: {_UPDATED}")
    if command == "copy":
        arguments = [_path(arguments[0])]
    return getattr(writer, command)(*arguments)
