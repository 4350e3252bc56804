"""Spreads the polls of many streams: each window becomes queryable for all of them in the same moment.

Polled in that moment, a thousand watches would keep the event loop busy for many seconds, in which no answer of a store
or of the service is read in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final
from weakref import WeakKeyDictionary

from agora_analytics.spans import WINDOW

_TOGETHER: Final = 10
"""Streams that poll in one moment: a program with no more of them is as fresh as it can be."""

_STEP: Final = 0.2
"""Seconds between two groups, a few times what their polls take: a thousand streams are spread over a window."""

_taken: WeakKeyDictionary[asyncio.AbstractEventLoop, set[int]] = WeakKeyDictionary()


@contextmanager
def poll_offset() -> Iterator[float]:
    """Yield the seconds by which a stream polls later than it could, for as long as it runs in this event loop."""
    taken = _taken.setdefault(asyncio.get_running_loop(), set())
    number = next(number for number in count() if number not in taken)
    taken.add(number)
    try:
        yield number // _TOGETHER * _STEP % WINDOW
    finally:
        taken.discard(number)
