"""Requests as metrics: how they end, how long they take, and how long they wait for their quota."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

import attrs
from prometheus_client import Counter, Histogram

from agora_analytics.ops.metrics.families import Value, label, values_of
from agora_analytics.plans import Endpoint
from agora_analytics.protocols import Attempt, AttemptResult, RequestResult

_DURATIONS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds in seconds, as the semantic conventions of OpenTelemetry have them for HTTP."""

_WAITS: Final = (0.01, 0.1, 1.0, 5.0, 10.0, 60.0, 600.0, 3_600.0)
"""Upper bounds in seconds: an interactive request waits two minutes at most, an export for hours."""

_MAX_ID: Final = 100
"""Characters of a request id: OpenMetrics allows 128 for the names and values of an exemplar."""


class RequestMetrics:
    """Observes the requests of a client (`RequestObserver`)."""

    def __init__(self) -> None:
        self.requests = Counter(
            "agora_requests", "Requests by how they ended after all retries.", ("endpoint", "outcome"), registry=None
        )
        self.durations = Histogram(
            "agora_request_duration_seconds",
            "Seconds from sending an attempt of a request until its response is there.",
            ("endpoint",),
            registry=None,
            buckets=_DURATIONS,
        )
        self.waits = Histogram(
            "agora_quota_wait_seconds",
            "Seconds that an attempt of a request waited for its quota.",
            ("counter", "priority"),
            registry=None,
            buckets=_WAITS,
        )

    def request_started(self, endpoint: Endpoint, priority: str) -> RequestMeasurement:
        """Return the trace that measures a request."""
        return RequestMeasurement(self, endpoint.name, priority)

    def all(self) -> tuple[Counter, Histogram, Histogram]:
        """Return the instruments."""
        return self.requests, self.durations, self.waits

    def values(self) -> Iterator[Value]:
        """Yield the samples."""
        return chain.from_iterable(map(values_of, self.all()))


@attrs.define
class RequestMeasurement:
    """Measures one request (`RequestTrace`); the id of one that failed becomes an exemplar."""

    _metrics: RequestMetrics
    _endpoint: str
    _priority: str
    _request_id: str | None = None

    def attempt_started(self, attempt: Attempt) -> None:
        """Record how long an attempt waited."""
        self._metrics.waits.labels(attempt.counter, self._priority).observe(attempt.waited)

    def attempt_ended(self, attempt: Attempt, result: AttemptResult) -> None:  # noqa: ARG002 - part of the protocol
        """Record how long an attempt took."""
        self._metrics.durations.labels(self._endpoint).observe(result.seconds)
        # That of the last attempt, whose error is the one that was raised.
        self._request_id = result.request_id

    def request_ended(self, result: RequestResult) -> None:
        """Count a request."""
        exemplar = {"request_id": label(self._request_id[:_MAX_ID])} if self._request_id else None
        self._metrics.requests.labels(self._endpoint, result.outcome).inc(exemplar=exemplar)
