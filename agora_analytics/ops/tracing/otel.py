"""`OpenTelemetry`, the observer that makes spans and metrics of a client's requests."""

from __future__ import annotations

from contextvars import Token
from importlib.metadata import version
from typing import Final, TypeVar

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter, MeterProvider
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from agora_analytics._core import validation
from agora_analytics.ops.tracing import attributes
from agora_analytics.plans import Endpoint
from agora_analytics.protocols import Attempt, AttemptResult, RequestResult

__all__ = ["OpenTelemetry"]

T = TypeVar("T")

_SCOPE: Final = "agora_analytics"

_HTTP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds in seconds, as the semantic conventions advise."""

_WAIT_BUCKETS: Final = (0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 14_400.0)
"""Upper bounds in seconds: an interactive request may wait two minutes, an export for the next day."""

_SILENT: Final = getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", "suppress_http_instrumentation")
"""The key in the context that silences instrumentations of HTTP clients: OpenTelemetry has no public name for it."""

_NO_FAILURE: Final = frozenset({"ok", "skipped", "cancelled"})
"""Outcomes that leave the status of a request's span unset: nothing failed."""


class OpenTelemetry:
    """Makes OpenTelemetry spans and metrics of a client's requests.

    ```python
    from agora_analytics import AnalyticsClient
    from agora_analytics.ops import OpenTelemetry

    client = AnalyticsClient.from_env(observers=[OpenTelemetry()])
    ```

    Each request is an internal span, with its waiting and its attempts; each attempt is a client span by the HTTP
    semantic conventions, but without `url.full`, which holds the App ID. While an attempt is sent, instrumentations of
    aiohttp are silent. docs/guides/tracing.md lists the spans, the metrics and their attributes.

    Only the API of OpenTelemetry is used; set up the SDK and its exporters in your program. The providers default to
    the global ones. Raises `TypeError` for any other object.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        tracers = _provider("tracer_provider", tracer_provider, "get_tracer")
        meters = _provider("meter_provider", meter_provider, "get_meter")
        release = version("agora-analytics")
        self._tracer = trace.get_tracer(_SCOPE, release, tracers, attributes.SCHEMA)
        self._instruments = _Instruments(metrics.get_meter(_SCOPE, release, meters, attributes.SCHEMA))

    def request_started(self, endpoint: Endpoint, priority: str) -> _RequestSpans:
        """Start the span of a request."""
        return _RequestSpans(self._tracer, self._instruments, endpoint, priority)


class _Instruments:
    """The three histograms, in seconds; docs/guides/tracing.md lists their attributes."""

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(name, "s", what, explicit_bucket_boundaries_advisory=buckets)

        self.attempt = seconds("http.client.request.duration", "Duration of HTTP client requests.", _HTTP_BUCKETS)
        self.wait = seconds("agora.quota.wait_time", "Time that an attempt waited for its quota.", _WAIT_BUCKETS)
        self.request = seconds(
            "agora.request.duration", "Duration of requests, with waiting and retries.", _WAIT_BUCKETS
        )


class _RequestSpans:
    """The span of a request, and that of its current attempt."""

    def __init__(self, tracer: trace.Tracer, instruments: _Instruments, endpoint: Endpoint, priority: str) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._endpoint = endpoint
        self._attributes = attributes.of_request(endpoint, priority)
        self._span = tracer.start_span(f"agora.{endpoint.name}", kind=SpanKind.INTERNAL, attributes=self._attributes)
        # Not attached: if a processor raised, the caller would keep it as its current span for ever.
        self._context = trace.set_span_in_context(self._span)
        self._attempt: _CurrentSpan | None = None

    def attempt_started(self, attempt: Attempt) -> None:
        endpoint = self._endpoint
        labels = {"agora.counter": attempt.counter, "agora.priority": self._attributes["agora.priority"]}
        self._instruments.wait.record(attempt.waited, labels, self._context)
        span = self._tracer.start_span(
            f"{endpoint.method} {endpoint.path}",
            self._context,
            SpanKind.CLIENT,
            attributes.of_attempt(endpoint, attempt) | attributes.of_span(attempt),
        )
        self._attempt = _CurrentSpan(span, self._context)

    def attempt_ended(self, attempt: Attempt, result: AttemptResult) -> None:
        current, self._attempt = self._attempt, None
        if current is None:
            return
        # Before anything that could raise, or the attempt's span would stay current for the code that follows.
        current.detach()
        found = attributes.of_result(result)
        labels = attributes.of_attempt(self._endpoint, attempt) | found
        self._instruments.attempt.record(result.seconds, labels, current.context)
        # Only on the span: each is another one, and would make a time series of its own.
        if result.request_id is not None:
            found["agora.request_id"] = result.request_id
        _end(current.span, found, failed=result.error is not None)

    def request_ended(self, result: RequestResult) -> None:
        outcome: attributes.Attributes = {"agora.outcome": result.outcome}
        self._instruments.request.record(result.seconds, self._attributes | outcome, self._context)
        failed = result.outcome not in _NO_FAILURE
        if failed and result.error is not None:
            outcome["error.type"] = attributes.class_name(result.error)
        _end(self._span, outcome, failed=failed)


class _CurrentSpan:
    """A span that is current until it is detached; instrumentations of HTTP clients are silent below it."""

    def __init__(self, span: Span, parent: Context) -> None:
        self.span = span
        self.context = context.set_value(_SILENT, True, trace.set_span_in_context(span, parent))  # noqa: FBT003 - a value
        self._token: Token[Context] = context.attach(self.context)

    def detach(self) -> None:
        """Make the span before it current again."""
        # In another context, where the garbage collector may end a request, there is nothing to detach.
        if trace.get_current_span() is self.span:
            context.detach(self._token)


def _end(span: Span, found: attributes.Attributes, *, failed: bool) -> None:
    if span.is_recording():
        span.set_attributes(found)
        if failed:
            span.set_status(StatusCode.ERROR)
    span.end()


def _provider(name: str, given: T, member: str) -> T:
    """Return what was given, unless it is no provider."""
    if given is None:
        return given
    return validation.with_members(name, given, f"a provider of OpenTelemetry, with {member}()", member)
