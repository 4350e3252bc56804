"""How a command is told to end: the first Ctrl-C or SIGTERM asks it to, the second one does not wait.

The handlers are Python's own and not the event loop's, so that the second signal is heard while the loop is held up.
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

# What a signal does where nobody has decided otherwise: a shell's background ignores Ctrl-C, `nohup` may more.
_USUAL: Final = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

_ECHO: Final = 0.1
"""Seconds in which the same signal comes twice though it was meant once: `timeout` tells the child and its group."""

_MANY: Final = 4_096

_SHOW_CURSOR: Final = b"\x1b[?25h"


class Ending:
    """The end of a command by a signal; `code` is its exit code then, and 0 before."""

    def __init__(self) -> None:
        self.code = 0
        self._heard = 0.0
        self.stop: Callable[[], object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear signals while inside; where others handle or ignore them, and outside the main thread, none."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: usual for number, usual in _USUAL.items() if signal.getsignal(number) is usual}
        token = _now.set(self)
        try:
            for number in before:
                signal.signal(number, self._hear)
            yield
        finally:
            for number, usual in before.items():
                signal.signal(number, usual)
            _now.reset(token)

    async def attend(self, work: Coroutine[Any, Any, None]) -> None:
        """Do a command's work; the first signal stops it where it can be stopped, and else cancels it."""
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        if self.code:
            self._end()
        with _woken(self._loop):
            await work

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler is given both
        now = time.monotonic()
        if self.code == 128 + number and now - self._heard < _ECHO:
            return
        if self.code:
            _leave(self.code)
        self.code, self._heard = 128 + number, now
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed: the command is over
                self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if self.stop is not None:
            self.stop()
        elif self._task is not None:
            self._task.cancel()


@contextmanager
def _woken(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let signals wake the loop while inside: one that comes just before it falls asleep is not heard else."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        theirs.settimeout(0)
        try:
            loop.add_reader(ours, ours.recv, _MANY)
        except NotImplementedError:  # Windows' loop is woken by signals anyway
            yield
            return
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            loop.remove_reader(ours)


_now: ContextVar[Ending | None] = ContextVar("ending", default=None)


@contextmanager
def stopped_by_signal(stop: Callable[[], object]) -> Iterator[None]:
    """Let the first signal call `stop` while inside, instead of cancelling the work."""
    ending = _now.get()
    if ending is None:
        yield
        return
    ending.stop = stop
    try:
        yield
    finally:
        ending.stop = None


def _leave(code: int) -> None:
    """End the process now, whatever it does."""
    for stream in (sys.stdout, sys.stderr):
        # A table that moves has hidden it.
        with suppress(OSError, ValueError):
            if stream.isatty():
                os.write(stream.fileno(), _SHOW_CURSOR)
    os._exit(code)
