"""Which requests a client has sent: by hour, endpoint and priority, as far as this process has seen them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

import attrs

from agora_analytics.errors import RateLimited
from agora_analytics.plans import Endpoint
from agora_analytics.protocols import Attempt, AttemptResult, RequestResult
from agora_analytics.spans import DAY, HOUR, MINUTE

_KEPT: Final = DAY + HOUR


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


class RequestUsage:
    """An observer of a client that counts its requests, for a day and an hour."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._hours: dict[tuple[int, str, str], HourCount] = {}
        self._minutes: dict[int, Counter[str]] = {}

    def request_started(self, endpoint: Endpoint, priority: str) -> UsageTrace:
        """Count the attempts of a request."""
        return UsageTrace(self, endpoint, priority)

    def hours(self) -> list[HourCount]:
        """Return the counts, oldest first."""
        return sorted(self._hours.values(), key=lambda one: (one.hour, one.endpoint, one.priority))

    def last_hour(self, counter: str) -> int:
        """Return the requests of the last hour to a counter."""
        since = self._now() - HOUR
        return sum(counts[counter] for minute, counts in self._minutes.items() if minute > since)

    def count(self, endpoint: Endpoint, priority: str, counter: str) -> HourCount:
        """Count one request, and return the count of its hour, to which its failure is added."""
        now = int(self._now())
        hour, minute = now // HOUR * HOUR, now // MINUTE * MINUTE
        key = hour, endpoint.name, priority
        if key not in self._hours:
            self._hours = {known: one for known, one in self._hours.items() if known[0] > hour - _KEPT}
            self._hours[key] = HourCount(hour=hour, endpoint=endpoint.name, counter=counter, priority=priority)
        if minute not in self._minutes:
            self._minutes = {known: one for known, one in self._minutes.items() if known > minute - HOUR}
            self._minutes[minute] = Counter()
        self._hours[key].requests += 1
        self._minutes[minute][counter] += 1
        return self._hours[key]


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
