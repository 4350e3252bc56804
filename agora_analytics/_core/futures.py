"""What is done elsewhere, waited for to its end: a thread cannot be stopped, and left alone it would come too late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")


_GRACE: Final = 1.0
"""Seconds that work may go on for after its caller was cancelled, before it is made to end."""


async def wait_until_done(work: asyncio.Future[T], abort: Callable[[], object] | None = None) -> T:
    """Return or raise what comes of some work once it has ended; a caller cancelled meanwhile hears of that then.

    Where it goes on for long after that, `abort` makes it end.
    """
    loop = asyncio.get_running_loop()
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            if abort is not None and cancelled is None:
                loop.call_later(_GRACE, lambda: work.done() or abort())
            cancelled = error
    if cancelled is not None:
        work.exception()  # nobody is left to hear of it
        raise cancelled
    return work.result()
