"""Runs a command: its event loop, its log, its errors, and the exit codes of all commands.

Errors are one or two lines on standard error, without a traceback. They may quote the service or the network, so
control characters are removed.
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

from agora_analytics._core.validation.values import printable
from agora_analytics.cli.formatting import with_iso_times
from agora_analytics.cli.signals import GracefulShutdown
from agora_analytics.cli.throttle import MessageThrottle
from agora_analytics.errors import AgoraError, ExportError

DONE, FAILED, MISUSE, INTERRUPTED, CLOSED, TERMINATED = 0, 1, 2, 130, 141, 143
"""All exit codes; the last three are those of a shell for Ctrl-C, a closed pipe and SIGTERM."""

_LOGGERS = ("agora_analytics", "docket")
"""Whose warnings are shown: docket, which a fleet uses, would write tracebacks every second while its store is away."""

Work = Coroutine[Any, Any, None]


def run_command(work: Callable[[], Work]) -> int:
    """Run a command to its end and return its exit code."""
    try:
        with _show_warnings():
            code = _run(work())
        # Inside, since a reader that has closed the pipe shows only now.
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return CLOSED
    # Anything else is a bug of ours, and keeps its traceback.
    except (AgoraError, OSError, ValueError, TypeError) as error:
        return report_error(error)
    return code


def report_error(error: Exception) -> int:
    """Write an error to standard error and return its exit code."""
    if isinstance(error, AgoraError):
        kind = f" [kind: {error.kind}]" if isinstance(error, ExportError) else ""
        parts = ("error", error.request, str(error.args[0]))
        write_stderr(": ".join(filter(None, parts)) + kind, error.hint)
    else:
        write_stderr(f"error: {with_iso_times(str(error))}")
    # The library raises these two for arguments that it refuses before it sends anything.
    return MISUSE if isinstance(error, ValueError | TypeError) else FAILED


def write_stderr(*lines: str) -> None:
    """Write the lines that are not empty to standard error."""
    with suppress(OSError):  # it may be closed too
        sys.stderr.write("".join(f"{printable(line)}\n" for line in lines if line))
        sys.stderr.flush()


class _WarningHandler(logging.Handler):
    """Writes the library's warnings like all other messages: Python's default handler keeps control characters.

    Warnings of one kind are throttled: an outage logs a new one every few seconds.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._throttle = MessageThrottle()

    def emit(self, record: logging.LogRecord) -> None:
        # The message without its arguments, so that the times in it do not make a new kind.
        kind = f"{record.name}: {record.msg}{getattr(record, 'throttle_kind', '')}"
        write_stderr(*self._throttle.add(kind, record.getMessage(), time.monotonic()))

    def close(self) -> None:
        write_stderr(*self._throttle.flush())
        super().close()


@contextmanager
def _show_warnings() -> Iterator[None]:
    """Show the library's warnings while inside, unless the program has set up logging itself."""
    handler = _WarningHandler(logging.WARNING)
    # The handlers of the program receive the warnings too: with ours, they would appear twice.
    silent = [logger for logger in map(logging.getLogger, _LOGGERS) if not logger.hasHandlers()]
    for logger in silent:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in silent:
            logger.removeHandler(handler)
        handler.close()


def _run(work: Work) -> int:
    """Run on a new event loop and return the exit code; after a signal that cancelled it, threads are not joined."""
    shutdown = GracefulShutdown()
    with shutdown.handle_signals():
        runner = asyncio.Runner()
        try:
            runner.run(shutdown.run(work))
        except asyncio.CancelledError:
            # Not by `Runner.close`, which joins the executor's threads: one of them may wait for a name server.
            loop = runner.get_loop()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            # Cancelled, and not by a signal: somebody else's cancellation is not ours to hide.
            if not shutdown.code:
                raise
        except BaseException:
            runner.close()
            raise
        else:
            runner.close()
    return shutdown.code


def _discard_stdout() -> None:
    """Redirect standard output to the null device: the interpreter would fail to flush the rest at its end."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
