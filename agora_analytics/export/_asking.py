"""One request of an export: counted against its budget, and tried again for as long as that may help."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeVar

from agora_analytics._retry import Retry
from agora_analytics.errors import AgoraError, PlanRefused, RateLimited

T = TypeVar("T")

log = logging.getLogger("agora_analytics")

ONCE: Final = Retry(attempts=1)
"""What the session makes of one attempt, so that each can be counted here."""

_STUBBORN: Final = Retry(attempts=12, base=1.0, cap=120.0, total=900.0)
"""An export sits out an outage of minutes; after a quarter of an hour it ends, to be run again."""

_OWN: Final = 8
"""Attempts, some two minutes, after which a failure is the item's own, where others like it were answered meanwhile."""

_BRIEF: Final = Retry(attempts=6, base=2.0, cap=30.0)
"""A small question is asked again over a connection that broke, and for a moment's trouble; it need not be answered."""

_TOLD: Final = 10.0
"""Seconds of trouble after which it is told as a warning: an export that waits shall not look like one that works."""

EDGE: Final = 2
"""Seconds that a question about the very oldest keeps off the edge: time passes before it is sent."""

_LATENCY: Final = 30.0
"""Seconds to wait where the service says that something is too new: its clock is known better by then."""

_TIMES: Final = 5

_LONGEST: Final = 3_600.0
"""Seconds that are waited at most because a refusal names them."""


async def _at_once() -> float:
    return 0.0


class TooOldError(Exception):
    """The service keeps what is to be asked for no longer."""


class OutOfBudgetError(Exception):
    """As many requests were made as the run may make."""


class Asking:
    """Makes requests, at most so many; unless `patient`, what is too new for the service is refused at once.

    Attributes:
        made: the requests that were made, or wait for their quota.
        done: those of them that were answered, or failed.
        narrowed: those of them for lists that were asked for again over less time, since the service cut them off.

    """

    def __init__(self, max_requests: int | None) -> None:
        self.made = self.done = 0
        self.narrowed = 0
        self.patient = True
        self._most = max_requests
        self._answered: dict[str, int] = {}
        self._random = Random()  # noqa: S311 - jitter, no secret

    @property
    def spent(self) -> bool:
        """Whether no request may be made any more."""
        return self._most is not None and self.made >= self._most

    async def __call__(
        self, ask: Callable[[], Awaitable[T]], timely: Callable[[], Awaitable[float]] = _at_once, *, like: str = ""
    ) -> T:
        """Return an answer; raises `OutOfBudgetError`, and what asking again does not mend.

        `like` names what is asked of whom: an outage is sat out for a quarter of an hour, but not where others of that
        name are answered.

        `timely` is asked before every attempt how many seconds are to pass before it, and raises `TooOldError`. However
        many it says, the service is asked after half a minute: the clock may be wrong.
        """
        loop = asyncio.get_running_loop()
        failing: float | None = None  # since when: waiting for quota is no failure, however long
        attempt = refused = made = 0
        paused = 0.0
        while True:
            if early := await timely():
                await asyncio.sleep(min(early, _LATENCY))
            if self.spent:
                raise OutOfBudgetError
            self.made += 1
            attempt += 1
            number = self.made
            try:
                answer = await self._counted(ask)
            except AgoraError as error:
                made = made or self.made
                if isinstance(error, RateLimited):
                    failing, trouble = None, paused  # no outage: the quota may hold the next attempt back for a night
                    wait = self._limited(error, attempt, paused)
                else:
                    failing = failing or loop.time()
                    trouble = loop.time() - failing
                    wait = _STUBBORN.wait(error, attempt, trouble, self._random)
                if wait is None and isinstance(error, PlanRefused):
                    refused += 1
                    wait = self._refused(error, refused)
                if wait is None or (attempt >= _OWN and made < self._answered.get(like, 0)):
                    raise
                level = logging.WARNING if trouble >= _TOLD else logging.INFO
                log.log(level, "export: attempt %d failed, next in %.1f s: %s", attempt, wait, error)
            else:
                self._answered[like] = max(number, self._answered.get(like, 0))
                return answer
            await asyncio.sleep(wait)
            paused += wait

    async def briefly(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return an answer to a question that is not worth sitting out an outage for; raises as a call does."""
        began, attempt = asyncio.get_running_loop().time(), 0
        while True:
            if self.spent:
                raise OutOfBudgetError
            self.made += 1
            attempt += 1
            try:
                return await self._counted(ask)
            except AgoraError as error:
                if isinstance(error, RateLimited):
                    wait = self._limited(error, attempt, 0.0) if attempt < _TIMES else None
                else:
                    wait = _BRIEF.wait(error, attempt, asyncio.get_running_loop().time() - began, self._random)
                if wait is None:
                    raise
                log.info("export: a small question failed, next in %.1f s: %s", wait, error)
            await asyncio.sleep(wait)

    async def _counted(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            return await ask()
        finally:
            self.done += 1

    def _limited(self, error: RateLimited, attempt: int, paused: float) -> float | None:
        """Return how long to wait after a refusal for frequency, None where that was in vain for long enough.

        What the quota makes others wait for is not counted: it may be a night.
        """
        if paused > _STUBBORN.total:
            return None
        longest = min(_STUBBORN.cap, _STUBBORN.base * 2.0 ** min(attempt, _OWN))
        return self._random.uniform(longest / 2, longest) + min(error.retry_after or 0.0, _LONGEST)

    def _refused(self, error: PlanRefused, times: int) -> float | None:
        """Return after how many seconds to ask again for what the service says is too new; too old is too old."""
        if error.kind == "range":
            raise TooOldError from error
        return _LATENCY if error.kind == "latency" and self.patient and times <= _TIMES else None
