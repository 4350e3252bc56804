"""What is done elsewhere, waited for to its end: a thread cannot be stopped, and left alone it would come too late."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def ended(work: asyncio.Future[T]) -> T:
    """Return or raise what comes of some work once it has ended; a caller cancelled meanwhile hears of that then."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # nobody is left to hear of it
        raise cancelled
    return work.result()
