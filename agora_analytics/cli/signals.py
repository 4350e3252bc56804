"""Graceful shutdown: the first Ctrl-C or SIGTERM stops the command, the second one ends the process at once.

The handlers are installed by `signal.signal`, not by the event loop: the second signal works while the loop is blocked.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import Any, Final

# Only default handlers are replaced: a shell's background job ignores Ctrl-C, and `nohup` may ignore more.
_DEFAULTS: Final = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

_DUPLICATE: Final = 0.1
"""Seconds in which the same signal counts once: `timeout` sends it to the child and to its process group."""

_DRAIN: Final = 10.0
"""Seconds that a command may take to drain."""

_READ_SIZE: Final = 4_096

_SHOW_CURSOR: Final = b"\x1b[?25h"


class GracefulShutdown:
    """Ends one command by a signal; `code` is its exit code then, and 0 before."""

    def __init__(self) -> None:
        self.code = 0
        self.stop: Callable[[], object] | None = None
        self._received_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Handle signals while inside; leaves alone what others handle or ignore, and threads beside the main one."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: default for number, default in _DEFAULTS.items() if signal.getsignal(number) is default}
        token = _current.set(self)
        try:
            for number in before:
                signal.signal(number, self._on_signal)
            yield
        finally:
            if before:
                self._await_duplicate()
            for number, default in before.items():
                signal.signal(number, default)
            _current.reset(token)

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a command; the first signal calls `stop` if there is one, and cancels the command otherwise."""
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        if self.code:
            self._stop_or_cancel()
        with _signals_wake(self._loop):
            await work

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        now = time.monotonic()
        if self.code == 128 + number and now - self._received_at < _DUPLICATE:
            return
        if self.code:
            # The first signal asked; who sends a second one does not want to wait for a clean end.
            _exit_now(self.code)
        self.code, self._received_at = 128 + number, now
        # From a handler that runs between any two instructions: nothing of the loop may be touched directly.
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the command has ended
                self._loop.call_soon_threadsafe(self._stop_or_cancel)

    def _await_duplicate(self) -> None:
        """Wait until a duplicate of the signal would have come: the default handler would end the process with it."""
        if self.code:
            time.sleep(max(0.0, self._received_at + _DUPLICATE - time.monotonic()))

    def _stop_or_cancel(self) -> None:
        if self.stop is not None:
            self.stop()
        elif self._task is not None:
            self._task.cancel()


@contextmanager
def _signals_wake(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let signals wake the loop while inside; otherwise one that arrives just before it sleeps is handled too late."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = socket.socketpair()
    with reading, writing:
        # The loop reads, and the handler of Python's runtime writes: neither may ever block.
        reading.settimeout(0)
        writing.settimeout(0)
        try:
            loop.add_reader(reading, reading.recv, _READ_SIZE)
        except NotImplementedError:  # the loop of Windows, which signals wake anyway
            yield
            return
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            loop.remove_reader(reading)


_current: ContextVar[GracefulShutdown | None] = ContextVar("shutdown", default=None)


@contextmanager
def stop_on_signal(stop: Callable[[], object]) -> Iterator[None]:
    """Call `stop` at the first signal while inside, instead of cancelling the command."""
    shutdown = _current.get()
    if shutdown is None:
        yield
        return
    shutdown.stop = stop
    try:
        yield
    finally:
        shutdown.stop = None


@contextmanager
def drain_on_signal(note: Callable[[str], object]) -> Iterator[asyncio.Event]:
    """Yield an event that the first signal sets; cancel what still runs ten seconds later."""
    event, timers = asyncio.Event(), list[asyncio.TimerHandle]()
    task = asyncio.current_task()

    def drain() -> None:
        event.set()
        if task is not None:
            timers.append(task.get_loop().call_later(_DRAIN, task.cancel))
        note("stopping: waiting for answers that are under way; a second signal ends it at once")

    try:
        with stop_on_signal(drain):
            yield event
    finally:
        for timer in timers:
            timer.cancel()


def _exit_now(code: int) -> None:
    """End the process at once."""
    for stream in (sys.stdout, sys.stderr):
        # A live table hides the cursor.
        with suppress(OSError, ValueError):
            if stream.isatty():
                os.write(stream.fileno(), _SHOW_CURSOR)
    os._exit(code)
