"""One request of an export: charged to the request budget, and retried for as long as a retry may help.

Retries follow what failed:

- an outage (no connection, a server error): exponential backoff with jitter, for up to 15 minutes (`_OUTAGE_RETRY`);
- a ledger that cannot be used: as an outage if it has worked in this run, without a request (`LedgerWaits`);
- a rate limit (HTTP 429): backoff, plus the pause that the service names; hours in the quota's queue do not count;
- data that the service does not have yet: a fixed pause of half a minute, up to five times;
- data that it does not keep any more: no retry, `RetentionExpired`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeVar

import attrs

from agora_analytics._core.retry import Retry
from agora_analytics.errors import AgoraError, PlanRefused, RateLimited
from agora_analytics.export.fetch.drain import Drain, RequestsEnded
from agora_analytics.export.fetch.outages import LONGEST_OUTAGE, WARN_AFTER, LedgerWaits

T = TypeVar("T")

log = logging.getLogger("agora_analytics")

SINGLE_ATTEMPT: Final = Retry(attempts=1)
"""The retry policy below this one: the dispatcher makes one attempt, so that each is charged to the budget here."""

_OUTAGE_RETRY: Final = Retry(attempts=100, base=1.0, cap=120.0, total=LONGEST_OUTAGE)
"""An export waits through an outage of minutes. After a quarter of an hour, in some 25 attempts, the run fails, and can
be resumed."""

_ISOLATED_AFTER: Final = 8
"""Attempts (about two minutes) after which a failure is the item's own, if requests of its category succeeded since."""

_PROBE_RETRY: Final = Retry(attempts=6, base=2.0, cap=30.0)
"""A probe is retried over a broken connection and a brief failure; its answer is not worth a long wait."""

RETENTION_MARGIN: Final = 2
"""Seconds that a request keeps from the retention limit, since time passes before it is sent."""

_TOO_NEW_WAIT: Final = 30.0
"""Seconds to wait when the service says that a span is too recent. Its clock is known better afterwards."""

# Two and a half minutes of `_TOO_NEW_WAIT`: an error of the clock that lasts longer is not cured by waiting.
_MAX_REFUSALS: Final = 5

_MAX_RETRY_AFTER: Final = 3_600.0
"""Cap on the seconds that a rate-limit answer can make an export wait."""


async def _no_delay() -> float:
    return 0.0


class RetentionExpired(Exception):
    """The service does not keep the requested data any more."""


@attrs.define
class _Attempts:
    """The attempts of one request so far.

    Attributes:
        attempts: attempts made.
        refused: those refused by the plan.
        failed_at: requests that the run had made when the first attempt failed; 0 before.
        trouble: seconds of continuous failure. Time under a rate limit is no outage: of that only our own pauses
            count, since the quota may hold the next attempt back for a night.
        paused: seconds of our own pauses under rate limits.

    """

    attempts: int = 0
    refused: int = 0
    failed_at: int = 0
    trouble: float = 0.0
    paused: float = 0.0
    _failing_since: float | None = None

    def fail(self, error: AgoraError, requests_made: int, now: float) -> None:
        """Record a failed attempt."""
        self.failed_at = self.failed_at or requests_made
        if isinstance(error, RateLimited):
            self._failing_since, self.trouble = None, self.paused
        else:
            self._failing_since = now if self._failing_since is None else self._failing_since
            self.trouble = now - self._failing_since


class RetryingFetcher:
    """Sends requests with retries, up to `max_requests` in all (None: no limit), until the run drains.

    Attributes:
        requests_made: requests sent, or waiting for quota.
        requests_done: those that were answered, or failed.
        narrowed: those made because the service truncated a list, which is then read in narrower spans.
        wait_if_too_new: whether to wait for data that the service does not have yet, or raise its refusal at once.

    """

    def __init__(self, max_requests: int | None, drain: Drain | None = None) -> None:
        self.requests_made = self.requests_done = 0
        self.narrowed = 0
        self.wait_if_too_new = True
        self._ledger = LedgerWaits()
        self._max_requests = max_requests
        self._drain = drain or Drain()
        self._answered: dict[str, int] = {}  # by category: the number of the latest request that was answered
        self._random = Random()  # noqa: S311 - jitter, no secret

    @property
    def has_ended(self) -> bool:
        """Whether the run is to send no further request."""
        is_spent = self._max_requests is not None and self.requests_made >= self._max_requests
        return is_spent or self._drain.is_draining

    async def __call__(
        self,
        send: Callable[[], Awaitable[T]],
        before_attempt: Callable[[], Awaitable[float]] = _no_delay,
        *,
        category: str = "",
    ) -> T:
        """Return the answer; raises `RequestsEnded`, `RetentionExpired`, or the error that no retry helps.

        `category` names the kind of request and its App ID. A request is retried for up to 15 minutes, but for only two
        if others of its category succeed meanwhile: then the failure is the item's own.

        `before_attempt` runs before every attempt. It raises `RetentionExpired`, or returns seconds to sleep first, of
        which at most half a minute are slept: the clock that they come from may be wrong.
        """
        tries = _Attempts()
        while True:
            if early := await before_attempt():
                await self._pause(min(early, _TOO_NEW_WAIT))
            # Charged before it is sent, since the service counts requests that fail, too.
            number, tries.attempts = self._take_from_budget(), tries.attempts + 1
            try:
                answer = await self._counted(send)
            except AgoraError as error:
                delay = self._delay(error, tries)
                if delay is None or self._is_isolated(tries, category):
                    raise
                level = logging.WARNING if tries.trouble >= WARN_AFTER else logging.INFO
                log.log(level, "export: attempt %d failed, retrying in %.1f s: %s", tries.attempts, delay, error)
            else:
                # The largest, because answers come in any order.
                self._answered[category] = max(number, self._answered.get(category, 0))
                return answer
            await self._pause(delay)

    async def probe(self, send: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to a probe, with a short retry policy; raises like a call of the fetcher."""
        began, attempt = asyncio.get_running_loop().time(), 0
        while True:
            self._take_from_budget()
            attempt += 1
            try:
                return await self._counted(send)
            except AgoraError as error:
                # `Retry` leaves rate limits to the dispatcher, which exports tell to raise them at once.
                if isinstance(error, RateLimited):
                    delay = min(self._backoff(attempt), _PROBE_RETRY.cap) if attempt < _MAX_REFUSALS else None
                else:
                    delay = _PROBE_RETRY.delay(error, attempt, asyncio.get_running_loop().time() - began, self._random)
                if delay is None:
                    raise
                log.info("export: a probe failed, retrying in %.1f s: %s", delay, error)
            await self._pause(delay)

    def _is_isolated(self, tries: _Attempts, category: str) -> bool:
        """Whether a request keeps failing while others of its category succeed."""
        return tries.attempts >= _ISOLATED_AFTER and tries.failed_at < self._answered.get(category, 0)

    def _take_from_budget(self) -> int:
        """Charge one request to the budget and return its number; raises `RequestsEnded` if none is left."""
        if self.has_ended:
            raise RequestsEnded
        self.requests_made += 1
        return self.requests_made

    async def _counted(self, send: Callable[[], Awaitable[T]]) -> T:
        sent = 1
        try:
            return await self.with_ledger(send)
        except RequestsEnded:
            sent = 0
            self.requests_made -= 1
            raise
        finally:
            self.requests_done += sent

    async def with_ledger(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call that uses the ledger, and wait while that is down; see `LedgerWaits`."""
        return await self._drain.unless_draining(lambda: self._ledger.until_used(call))

    async def _pause(self, seconds: float) -> None:
        await self._drain.unless_draining(lambda: asyncio.sleep(seconds))

    def _delay(self, error: AgoraError, tries: _Attempts) -> float | None:
        """Return the seconds before the next attempt, or None for no retry."""
        tries.fail(error, self.requests_made, asyncio.get_running_loop().time())
        if isinstance(error, RateLimited):
            return self._rate_limit_delay(error, tries)
        delay = _OUTAGE_RETRY.delay(error, tries.attempts, tries.trouble, self._random)
        if delay is None and isinstance(error, PlanRefused):
            tries.refused += 1
            return self._plan_refusal_delay(error, tries.refused)
        return delay

    def _rate_limit_delay(self, error: RateLimited, tries: _Attempts) -> float | None:
        """Return the seconds to back off after a rate-limit answer, or None once our own pauses exceed 15 minutes.

        Waits for the quota, and those that the answer names, do not count: they may last a night.
        """
        if tries.paused > _OUTAGE_RETRY.total:
            return None
        pause = self._backoff(tries.attempts)
        tries.paused += pause
        return pause + min(error.retry_after or 0.0, _MAX_RETRY_AFTER)

    def _backoff(self, attempt: int) -> float:
        longest = min(_OUTAGE_RETRY.cap, _OUTAGE_RETRY.base * 2.0 ** min(attempt, _ISOLATED_AFTER))
        # Half of it is fixed: many workers fail at once, and none of them may retry at once.
        return self._random.uniform(longest / 2, longest)

    def _plan_refusal_delay(self, error: PlanRefused, refusals: int) -> float | None:
        """Return the seconds until a span that is too recent is requested again; raises for one that is too old."""
        if error.kind == "range":
            raise RetentionExpired from error
        return _TOO_NEW_WAIT if error.kind == "latency" and self.wait_if_too_new and refusals <= _MAX_REFUSALS else None
