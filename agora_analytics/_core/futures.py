"""Futures whose caller may be cancelled: work in a thread, which cannot be stopped, and errors nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")


_GRACE: Final = 1.0
"""Seconds after a cancellation before `abort` is called."""


async def wait_until_done(work: asyncio.Future[T], abort: Callable[[], object] | None = None) -> T:
    """Return the result of a future, or raise its error; a cancellation meanwhile is raised after its end.

    `abort` is called if the work still runs a second after the cancellation.
    """
    loop = asyncio.get_running_loop()
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            # Not `await work`, which would pass a cancellation of the caller on to it.
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            if abort is not None and cancelled is None:
                loop.call_later(_GRACE, lambda: work.done() or abort())
            cancelled = error
    if cancelled is not None:
        # The caller gets its cancellation instead.
        retrieve_error(work)
        raise cancelled
    return work.result()


async def uncancellable(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns; a cancellation meanwhile is raised after its end.

    A close that is cancelled in its first step would leave open what comes after it.
    """
    return await wait_until_done(asyncio.ensure_future(work))


async def cancel_and_wait(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks, and return once they have ended, or after two cancellations meanwhile.

    The first one is passed on to the tasks, and raised when they have ended: a task that is left while it ends would go
    on with what its caller closes next. The second one leaves them, since they may wait for the caller.
    """
    for task in tasks:
        task.add_done_callback(retrieve_error)
        task.cancel()
    if running := [task for task in tasks if not task.done() and task is not asyncio.current_task()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            raise


def cancellations() -> int:
    """Return how often the current task was cancelled.

    More than before a wait, although nothing was raised, means that a library has lost a cancellation, as
    `asyncio.wait_for` of Python 3.11 does when what it waits for is done in the same moment.
    """
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def raise_lost_cancellation(before: int) -> None:
    """Raise the cancellation that a library has lost since there were `before`."""
    if cancellations() > before:
        raise asyncio.CancelledError


def retrieve_error(future: asyncio.Future[Any]) -> None:
    """Mark an error as retrieved, as a done callback: the caller that would raise it may be cancelled or gone."""
    if not future.cancelled():
        future.exception()
