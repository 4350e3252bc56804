"""A writer in a process of its own: to make files takes half as long as to fetch their rows, and can be done beside.

The process is told what to do in lines: a verb and what it takes as JSON, after `add` as many lines of rows as it says.
`ready`, `held`, `end`, `copy` and `close` are answered, by a line of JSON: what came of it, what has gone wrong so far,
and whether another process, the disk, the writer or the database is to blame. A line of text alone is what the process
logs. When nobody is left who could tell it
more, the process ends.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, cast
from weakref import WeakSet

from agora_analytics._core.decoding import json
from agora_analytics.export.sinks import said
from agora_analytics.export.write.writer import BusyError, DatabaseError, Here, Writer, WriterError, trouble_of

log = logging.getLogger("agora_analytics")

_CODE: Final = (
    "import sys; told = sys.stdin.buffer.readline(); told.endswith(b'\\n') or sys.exit();"
    " sys.path[:] = bytes.fromhex(told.decode()).decode('utf-8', 'surrogatepass').split('\\0');"
    " from agora_analytics.export.write.subprocess_writer import serve; serve()"
)
_PIPE: Final = 2**20
"""Bytes that may be on their way to the process, where the system allows it."""

_PATIENCE: Final = 30.0
"""Seconds that the process may take to end."""

_PYTHONS: Final = ("python", "pypy")

_NAMED: Final = frozenset(
    {
        *("PATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LD_PRELOAD", "SYSTEMROOT", "USERPROFILE", "COMSPEC", "PATHEXT"),
        *("PYTHONHOME", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONHASHSEED", "PYTHONWARNINGS", "__PYVENV_LAUNCHER__"),
        *("ARROW_DEFAULT_MEMORY_POOL", "ARROW_IO_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX"),
        *("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"),
    }
)
"""Variables that the process gets, where they are set: what it needs to run, so that no secret of anybody is there."""

_VERBS: Final[Mapping[str, Callable[..., object]]] = {
    "ready": Here.ready,
    "held": Here.held,
    "begin": Here.begin,
    "add": Here.add,
    "end": Here.end,
    "copy": Here.copy,
    "close": Here.close,
}
"""What an open writer can be told."""

_ANSWERED: Final = frozenset({"ready", "held", "end", "copy", "close"})

_ERRORS: Final = {"running": BusyError, "writer": WriterError, "state": DatabaseError}


def writer_of(name: str, folder: Path, scratch: Path) -> Writer:
    """Return a writer, in a process of its own where this one is run by a Python that can be started once more."""
    alone = not getattr(sys, "frozen", False) and Path(sys.executable or "").name.lower().startswith(_PYTHONS)
    if alone:
        try:
            return Apart(name, folder, scratch)
        except WriterError:
            raise
        except OSError:  # this system starts no more processes
            pass
    return Here(name, folder, scratch)


def _widen(pipe: IO[bytes]) -> None:
    """Let more bytes be on their way, where the system can and allows it."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not everywhere

        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


class Apart:
    """Writes in a process of its own."""

    def __init__(self, name: str, folder: Path, scratch: Path) -> None:
        process = subprocess.Popen(  # noqa: S603 - this very Python
            [sys.executable, *(["-I"] if sys.flags.isolated else []), "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the export, which ends what it began
            env={key: value for key, value in os.environ.items() if key.upper() in _NAMED},
        )
        self._process = process
        self._in, self._out = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        _APART.add(self)
        _widen(self._in)
        # What is no text is ignored by imports, too.
        path = "\0".join(entry for entry in sys.path if isinstance(entry, str))
        self._send(path.encode("utf-8", "surrogatepass").hex().encode() + b"\n")
        self._tell("open", name, *(os.fsencode(path.absolute()).hex() for path in (folder, scratch)))

    def ready(self) -> None:
        """Wait until all is open."""
        self._ask("ready")

    def held(self) -> list[tuple[str, int, int]]:
        """Return dataset, part and rows of all that a database holds."""
        return [(dataset, part, rows) for dataset, part, rows in self._ask("held")]

    def begin(self, dataset: str, part: int) -> None:
        """Begin a part."""
        self._tell("begin", dataset, part)

    def add(self, stored: Sequence[bytes]) -> None:
        """Add rows."""
        self._tell("add", len(stored))
        self._send(b"\n".join([*stored, b""]))

    def end(self) -> int:
        """Complete the part."""
        return int(self._ask("end"))

    def copy(self, name: str) -> None:
        """Copy a database."""
        self._ask("copy", name)

    def close(self) -> None:
        """End the process, when it has let go of everything."""
        try:
            self._ask("close")
        finally:
            self._stop()

    def abort(self) -> None:
        """Kill the process: what it has not completed is written anew by the next."""
        self._process.kill()

    def let_go(self) -> None:
        """Point the pipes elsewhere, in a forked process: they are its parent's, and so is what waits in them."""
        for pipe in (self._in, self._out):
            with suppress(ValueError, OSError):  # it was closed before
                _point_nowhere(pipe.fileno())

    def _ask(self, verb: str, *given: object) -> Any:
        self._tell(verb, *given)
        while isinstance(answer := self._answer(), str):
            log.warning("%s", answer)
        came, wrong, trouble = answer
        if wrong:
            raise _ERRORS.get(trouble, OSError)(wrong)
        return came

    def _answer(self) -> Any:
        line = self._out.readline()
        if not line:
            raise self._gone()
        return json.loads(line)

    def _tell(self, verb: str, *given: object) -> None:
        self._send(json.encode((verb, *given)) + b"\n")

    def _send(self, line: bytes) -> None:
        try:
            self._in.write(line)
            self._in.flush()
        except (BrokenPipeError, ValueError):  # the latter where it was found to be gone before
            pass
        else:
            return
        raise self._gone()

    def _gone(self) -> WriterError:
        """Say that the process is there no more, and why."""
        self._stop()
        code = self._process.returncode
        why = f"signal {-code}" if code < 0 else f"exit code {code}"
        return WriterError(f"the process that writes has ended before its time ({why})")

    def _stop(self) -> None:
        """See that the process ends."""
        with suppress(BrokenPipeError):
            self._in.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._out.close()


_APART: Final[WeakSet[Apart]] = WeakSet()
"""The writers of this process."""


def _let_go() -> None:
    """Let writers end with the process that began them, however long one that it has forked goes on."""
    for writer in list(_APART):
        writer.let_go()


def _point_nowhere(descriptor: int) -> None:
    """Put the null device in the place of what a descriptor stands for."""
    os.close(descriptor)  # first: there may be no other left to open anything with
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor, inheritable=False)
        os.close(nowhere)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class _NoPandas:
    """Hides pandas, which pyarrow would load wherever it is: a fifth of a second, tens of megabytes, for nothing."""

    def find_spec(self, name: str, _path: object = None, _target: object = None, /) -> None:
        """Find no pandas."""
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


class _Telling(logging.Handler):
    """Hands on what the library logs in the process: its export logs it."""

    def __init__(self, answers: int) -> None:
        super().__init__(logging.WARNING)
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line that is no answer."""
        with suppress(BrokenPipeError):
            os.write(self._answers, json.encode(record.getMessage()) + b"\n")


def _work(verb: str) -> Callable[..., object]:
    """Return what a verb stands for."""
    if verb not in _VERBS:
        raise WriterError(f"the writer is told {verb!r}, which it does not know: was the library updated meanwhile?")
    return _VERBS[verb]


def serve() -> None:
    """Do as told, as the process, until nobody is there to tell more."""
    sys.meta_path.insert(0, _NoPandas())
    told, answers = sys.stdin.buffer, os.dup(1)
    os.dup2(2, 1)  # what a library prints is no answer
    log.addHandler(_Telling(answers))
    writer: Here | None = None
    wrong = trouble = ""
    while (line := told.readline()).endswith(b"\n"):
        verb, *given = json.loads(line)
        if verb == "add":
            given = [[told.readline()[:-1] for _ in range(given[0])]]
        came = None
        try:
            if verb == "open":
                writer = Here(given[0], *(Path(os.fsdecode(bytes.fromhex(path))) for path in given[1:]))
            elif writer is not None and (verb == "close" or not wrong):
                came = _work(verb)(writer, *given)
        except Exception as error:  # noqa: BLE001 - whatever a format's library raises
            wrong, trouble = said(error), trouble_of(error)
        if verb in _ANSWERED:
            with suppress(BrokenPipeError):  # nobody is left: the next line is none
                os.write(answers, json.encode((came, wrong, trouble)) + b"\n")
