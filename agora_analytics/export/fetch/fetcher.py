"""One request of an export: counted against its budget, and tried again for as long as that may help."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeVar

import attrs

from agora_analytics._core.retry import Retry
from agora_analytics.errors import AgoraError, PlanRefused, RateLimited

T = TypeVar("T")

log = logging.getLogger("agora_analytics")

SINGLE_ATTEMPT: Final = Retry(attempts=1)
"""What the session makes of one attempt, so that each can be counted here."""

_OUTAGE_RETRY: Final = Retry(attempts=12, base=1.0, cap=120.0, total=900.0)
"""An export sits out an outage of minutes; after a quarter of an hour it ends, to be run again."""

_ISOLATED_AFTER: Final = 8
"""Attempts, some two minutes, after which a failure is the item's own, where others like it were answered meanwhile."""

_PROBE_RETRY: Final = Retry(attempts=6, base=2.0, cap=30.0)
"""A small question is asked again over a connection that broke, and for a moment's trouble; it need not be answered."""

_WARN_AFTER: Final = 10.0
"""Seconds of trouble after which it is told as a warning: an export that waits shall not look like one that works."""

RETENTION_MARGIN: Final = 2
"""Seconds that a question about the very oldest keeps off the edge: time passes before it is sent."""

_TOO_NEW_WAIT: Final = 30.0
"""Seconds to wait where the service says that something is too new: its clock is known better by then."""

_MAX_REFUSALS: Final = 5

_MAX_RETRY_AFTER: Final = 3_600.0
"""Seconds that are waited at most because a refusal names them."""


async def _no_delay() -> float:
    return 0.0


class RetentionExpired(Exception):
    """The service keeps what is to be asked for no longer."""


class RequestBudgetExhausted(Exception):
    """As many requests were made as the run may make."""


@attrs.define
class _Attempts:
    """What became of the attempts of one request so far.

    `failed_at` is how many requests of all had been made when the first failed, `trouble` for how many seconds it has
    failed: refusals for frequency are no outage, and of those only our own pauses count, since the quota may hold the
    next attempt back for a night.
    """

    attempts: int = 0
    refused: int = 0
    failed_at: int = 0
    trouble: float = 0.0
    paused: float = 0.0
    _failing: float | None = None

    def fail(self, error: AgoraError, made: int, now: float) -> None:
        """Note that an attempt failed."""
        self.failed_at = self.failed_at or made
        if isinstance(error, RateLimited):
            self._failing, self.trouble = None, self.paused
        else:
            self._failing = now if self._failing is None else self._failing
            self.trouble = now - self._failing


class RetryingFetcher:
    """Makes requests, at most so many; unless `patient`, what is too new for the service is refused at once.

    Attributes:
        made: the requests that were made, or wait for their quota.
        done: those of them that were answered, or failed.
        narrowed: those of them for lists that were asked for again over less time, since the service cut them off.

    """

    def __init__(self, max_requests: int | None) -> None:
        self.requests_made = self.requests_done = 0
        self.narrowed = 0
        self.wait_if_too_new = True
        self._most = max_requests
        self._answered: dict[str, int] = {}
        self._random = Random()  # noqa: S311 - jitter, no secret

    @property
    def budget_spent(self) -> bool:
        """Whether no request may be made any more."""
        return self._most is not None and self.requests_made >= self._most

    async def __call__(
        self,
        send: Callable[[], Awaitable[T]],
        before_attempt: Callable[[], Awaitable[float]] = _no_delay,
        *,
        category: str = "",
    ) -> T:
        """Return an answer; raises `RequestBudgetExhausted`, and what asking again does not mend.

        `like` names what is asked of whom: an outage is sat out for a quarter of an hour, but not where others of that
        name are answered.

        `before_attempt` runs before every attempt: it raises `RetentionExpired`, or returns seconds to sleep first. At
        most half a minute of them are slept, since the clock may be wrong.
        """
        tries = _Attempts()
        while True:
            if early := await before_attempt():
                await asyncio.sleep(min(early, _TOO_NEW_WAIT))
            number, tries.attempts = self._take_from_budget(), tries.attempts + 1
            try:
                answer = await self._counted(send)
            except AgoraError as error:
                wait = self._delay(error, tries)
                if wait is None or (
                    tries.attempts >= _ISOLATED_AFTER and tries.failed_at < self._answered.get(category, 0)
                ):
                    raise
                level = logging.WARNING if tries.trouble >= _WARN_AFTER else logging.INFO
                log.log(level, "export: attempt %d failed, next in %.1f s: %s", tries.attempts, wait, error)
            else:
                self._answered[category] = max(number, self._answered.get(category, 0))
                return answer
            await asyncio.sleep(wait)

    def _take_from_budget(self) -> int:
        """Take one request of the budget and return its number; raises `RequestBudgetExhausted` where there is none."""
        if self.budget_spent:
            raise RequestBudgetExhausted
        self.requests_made += 1
        return self.requests_made

    def _delay(self, error: AgoraError, tries: _Attempts) -> float | None:
        """Return how long to wait for another attempt, None for none."""
        tries.fail(error, self.requests_made, asyncio.get_running_loop().time())
        if isinstance(error, RateLimited):
            return self._rate_limit_delay(error, tries)
        wait = _OUTAGE_RETRY.wait(error, tries.attempts, tries.trouble, self._random)
        if wait is None and isinstance(error, PlanRefused):
            tries.refused += 1
            return self._plan_refusal_delay(error, tries.refused)
        return wait

    async def probe(self, send: Callable[[], Awaitable[T]]) -> T:
        """Return an answer to a question that is not worth sitting out an outage for; raises as a call does."""
        began, attempt = asyncio.get_running_loop().time(), 0
        while True:
            self._take_from_budget()
            attempt += 1
            try:
                return await self._counted(send)
            except AgoraError as error:
                if isinstance(error, RateLimited):
                    wait = min(self._backoff(attempt), _PROBE_RETRY.cap) if attempt < _MAX_REFUSALS else None
                else:
                    wait = _PROBE_RETRY.wait(error, attempt, asyncio.get_running_loop().time() - began, self._random)
                if wait is None:
                    raise
                log.info("export: a small question failed, next in %.1f s: %s", wait, error)
            await asyncio.sleep(wait)

    async def _counted(self, send: Callable[[], Awaitable[T]]) -> T:
        try:
            return await send()
        finally:
            self.requests_done += 1

    def _rate_limit_delay(self, error: RateLimited, tries: _Attempts) -> float | None:
        """Return how long to wait after a refusal for frequency, None where our pauses were in vain for long enough.

        What the quota or the refusal itself makes us wait for is not counted: it may be a night.
        """
        if tries.paused > _OUTAGE_RETRY.total:
            return None
        pause = self._backoff(tries.attempts)
        tries.paused += pause
        return pause + min(error.retry_after or 0.0, _MAX_RETRY_AFTER)

    def _backoff(self, attempt: int) -> float:
        longest = min(_OUTAGE_RETRY.cap, _OUTAGE_RETRY.base * 2.0 ** min(attempt, _ISOLATED_AFTER))
        return self._random.uniform(longest / 2, longest)

    def _plan_refusal_delay(self, error: PlanRefused, times: int) -> float | None:
        """Return after how many seconds to ask again for what the service says is too new; too old is too old."""
        if error.kind == "range":
            raise RetentionExpired from error
        return _TOO_NEW_WAIT if error.kind == "latency" and self.wait_if_too_new and times <= _MAX_REFUSALS else None
