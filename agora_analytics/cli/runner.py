"""A command's life: its event loop, what becomes of its errors, and how it ends.

Errors are told in one or two lines on standard error, without a traceback. Whatever they quote may come from far away,
so nothing in it that could steer a terminal gets through.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from agora_analytics.cli.formatting import printable
from agora_analytics.cli.repeats import Repeats
from agora_analytics.cli.signals import Ending
from agora_analytics.errors import AgoraError, ExportError

DONE, FAILED, MISUSE, INTERRUPTED, CLOSED, TERMINATED = 0, 1, 2, 130, 141, 143
"""Exit codes; the last three are what a shell says of a program that Ctrl-C, a closed pipe or SIGTERM ended."""

Work = Coroutine[Any, Any, None]


def finish(work: Callable[[], Work]) -> int:
    """Run a command to its end and return its exit code."""
    try:
        with _told_log():
            code = _run(work())
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _let_go_of_stdout()
        return CLOSED
    except (AgoraError, OSError, ValueError, TypeError) as error:
        return fail(error)
    return code


def fail(error: Exception) -> int:
    """Tell an error and return its exit code."""
    if isinstance(error, AgoraError):
        kind = f" [kind: {error.kind}]" if isinstance(error, ExportError) else ""
        tell(": ".join(filter(None, ("error", error.request, str(error.args[0])))) + kind, error.hint)
    else:
        tell(f"error: {error}")
    return MISUSE if isinstance(error, ValueError | TypeError) else FAILED


def tell(*lines: str) -> None:
    """Write lines to standard error, those that are not empty."""
    # Nobody is left to tell if that is closed too.
    with suppress(OSError):
        sys.stderr.write("".join(f"{printable(line)}\n" for line in lines if line))
        sys.stderr.flush()


class _Teller(logging.Handler):
    """Tells what the library warns of as everything else is told: Python's own way lets through whatever it quotes.

    Warnings of one kind are told once and then counted: a server that is down has a new one every few seconds.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        kind = f"{record.name}: {record.msg}"
        tell(*self._repeats.take(kind, record.getMessage(), time.monotonic()))

    def close(self) -> None:
        tell(*self._repeats.rest())
        super().close()


@contextmanager
def _told_log() -> Iterator[None]:
    """Tell warnings while inside, unless whoever runs the command has seen to the log."""
    library, teller = logging.getLogger("agora_analytics"), _Teller(logging.WARNING)
    if library.hasHandlers():
        yield
        return
    library.addHandler(teller)
    try:
        yield
    finally:
        library.removeHandler(teller)
        teller.close()


def _run(work: Work) -> int:
    """Run on a loop of its own, and return the exit code; after a signal that cancelled it, no thread is waited for."""
    ending = Ending()
    with ending.listening():
        runner = asyncio.Runner()
        try:
            runner.run(ending.attend(work))
        except asyncio.CancelledError:
            loop = runner.get_loop()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            if not ending.code:
                raise
        except BaseException:
            runner.close()
            raise
        else:
            runner.close()
    return ending.code


def _let_go_of_stdout() -> None:
    """Point standard output nowhere: flushing what is left at the interpreter's end would fail again, and be told."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
