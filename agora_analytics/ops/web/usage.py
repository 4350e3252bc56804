"""Which requests a client has sent: by hour, endpoint and priority, as far as this process has seen them."""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from typing import Final

import attrs

from agora_analytics.errors import RateLimited
from agora_analytics.plans import Endpoint
from agora_analytics.protocols import Attempt, AttemptResult, RequestResult
from agora_analytics.quota.service_time import Now, ServiceTime
from agora_analytics.spans import DAY, HOUR, MINUTE

_KEPT: Final = DAY + HOUR
"""Seconds that counts are kept: a whole day, however much of the current hour has passed."""


@attrs.define
class Meter:
    """Counts the requests of one task."""

    requests: int = 0


METER: Final[ContextVar[Meter | None]] = ContextVar("agora_analytics.meter", default=None)
"""The meter of the current task; observers are called in its context."""


@attrs.define(kw_only=True)
class HourCount:
    """The requests of an hour (its start in UTC seconds) to one endpoint at one priority, as JSON.

    `refused` are those that the service counted as too many, `failed` those with any other error. A retry is a request.
    """

    hour: int
    endpoint: str
    counter: str
    priority: str
    requests: int = 0
    refused: int = 0
    failed: int = 0

    def __add__(self, other: HourCount) -> HourCount:
        """Return the sum of two counts of the same requests."""
        return attrs.evolve(
            self,
            requests=self.requests + other.requests,
            refused=self.refused + other.refused,
            failed=self.failed + other.failed,
        )


@attrs.define
class _Booked:
    """Counts, and when the first of their requests was sent; their hour is corrected once the clock is confirmed."""

    at: Now
    counts: HourCount

    def settle(self, now: Now) -> None:
        if now.confirmed and not self.at.confirmed:
            self.counts.hour = _hour(self.at.utc + now.shift_since(self.at))
            self.at = self.at._replace(confirmed=True)


class RequestUsage:
    """An observer of a client that counts its requests, for a day and an hour.

    Until the service's clock is confirmed the hour may be wrong, so requests are counted by minute, and their hours are
    corrected later.
    """

    def __init__(self, time: ServiceTime) -> None:
        self._time = time
        self._booked: dict[tuple[bool, int, str, str], _Booked] = {}
        # By the loop's clock, which no answer moves.
        self._minutes: dict[int, Counter[str]] = {}

    def request_started(self, endpoint: Endpoint, priority: str) -> UsageTrace:
        """Count the attempts of a request."""
        return UsageTrace(self, endpoint, priority)

    def hours(self) -> list[HourCount]:
        """Return the counts, oldest first."""
        if self._booked:
            self._settle(self._time.now())
        merged: dict[tuple[int, str, str], HourCount] = {}
        for counts in (one.counts for one in self._booked.values()):
            key = counts.hour, counts.endpoint, counts.priority
            # Entries by minute may turn out to be of the same hour.
            merged[key] = merged[key] + counts if key in merged else counts
        return [merged[key] for key in sorted(merged)]

    def last_hour(self) -> Counter[str]:
        """Return the requests of the last hour by counter."""
        since = self._time.monotonic() - HOUR
        total = Counter[str]()
        for minute, counts in self._minutes.items():
            if minute > since:
                total.update(counts)
        return total

    def count(self, endpoint: Endpoint, priority: str, counter: str) -> HourCount:
        """Count one request, and return the counts that it is part of."""
        now = self._time.now()
        start, minute = _hour(now.utc), int(now.monotonic) // MINUTE * MINUTE
        # By minute of a clock that no answer moves: each entry is then shifted to one hour.
        key = now.confirmed, start if now.confirmed else minute, endpoint.name, priority
        if key not in self._booked:
            self._settle(now)
            # Only where an hour is new, so that counting is cheap and memory bounded.
            self._booked = {known: one for known, one in self._booked.items() if one.counts.hour > start - _KEPT}
            counts = HourCount(hour=start, endpoint=endpoint.name, counter=counter, priority=priority)
            self._booked[key] = _Booked(now, counts)
        if minute not in self._minutes:
            self._minutes = {known: one for known, one in self._minutes.items() if known > minute - HOUR}
            self._minutes[minute] = Counter()
        self._booked[key].counts.requests += 1
        self._minutes[minute][counter] += 1
        return self._booked[key].counts

    def _settle(self, now: Now) -> None:
        for one in self._booked.values():
            one.settle(now)


def _hour(utc: float) -> int:
    return int(utc) // HOUR * HOUR


class UsageTrace:
    """Counts the attempts of one request."""

    def __init__(self, usage: RequestUsage, endpoint: Endpoint, priority: str) -> None:
        self._usage = usage
        self._endpoint = endpoint
        self._priority = priority
        self._counts: HourCount | None = None

    def attempt_started(self, attempt: Attempt) -> None:
        """Count an attempt: each one spends a request."""
        self._counts = self._usage.count(self._endpoint, self._priority, attempt.counter)
        if (meter := METER.get()) is not None:
            meter.requests += 1

    def attempt_ended(self, attempt: Attempt, result: AttemptResult) -> None:  # noqa: ARG002 - part of the protocol
        """Count what failed."""
        if self._counts is not None and result.error is not None:
            refused = issubclass(result.error, RateLimited)
            self._counts.refused += refused
            self._counts.failed += not refused

    def request_ended(self, result: RequestResult) -> None:
        """Nothing is counted at the end."""
