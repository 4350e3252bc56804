"""One request of an export: counted against its budget, and tried again for as long as that may help."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeVar

from agora_analytics._retry import Retry
from agora_analytics.errors import AgoraError

T = TypeVar("T")

log = logging.getLogger("agora_analytics")

ONCE: Final = Retry(attempts=1)
"""What the session makes of one attempt, so that each can be counted here."""

_STUBBORN: Final = Retry(attempts=12, base=1.0, cap=120.0, total=900.0)
"""An export sits out an outage of minutes; after a quarter of an hour it ends, to be run again."""


class OutOfBudgetError(Exception):
    """As many requests were made as the run may make."""


class Asking:
    """Makes requests, at most so many."""

    def __init__(self, max_requests: int | None) -> None:
        self.made = 0
        self._most = max_requests
        self._random = Random()  # noqa: S311 - jitter, no secret

    @property
    def spent(self) -> bool:
        """Whether no request may be made any more."""
        return self._most is not None and self.made >= self._most

    async def __call__(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return an answer; raises `OutOfBudgetError`, and what asking again does not mend."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        attempt = 0
        while True:
            if self.spent:
                raise OutOfBudgetError
            self.made += 1
            attempt += 1
            try:
                return await ask()
            except AgoraError as error:
                wait = _STUBBORN.wait(error, attempt, loop.time() - begun, self._random)
                if wait is None:
                    raise
                log.info("export: attempt %d failed, next in %.1f s: %s", attempt, wait, error)
            await asyncio.sleep(wait)
