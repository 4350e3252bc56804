"""What observers cost a request: none, one that only counts, and OpenTelemetry without and with an SDK.

`python -m benchmarks.observing [--quick]`: CPU time of this process, over loopback HTTP, as in `benchmarks.overhead`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from statistics import median

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import NoOpTracerProvider

from agora_analytics._core.observers import Observers
from agora_analytics.ops import OpenTelemetry
from agora_analytics.plans import CALL_LISTS, PREMIUM, Endpoint
from agora_analytics.protocols import Attempt, AttemptResult, RequestObserver, RequestResult
from benchmarks._measure import Row, compare, table
from benchmarks.overhead import client, interleaved, serving

_CALLS = 200_000


class _Counting:
    """The least that an observer can do."""

    def __init__(self) -> None:
        self.ended = 0

    def request_started(self, endpoint: Endpoint, priority: str) -> _Counting:  # noqa: ARG002 - the protocol
        return self

    def attempt_started(self, attempt: Attempt) -> None:
        """Do nothing."""

    def attempt_ended(self, attempt: Attempt, result: AttemptResult) -> None:
        """Do nothing."""

    def request_ended(self, result: RequestResult) -> None:  # noqa: ARG002 - the protocol
        self.ended += 1


class _Dropping(SpanProcessor):
    """Stands for an exporter that costs nothing in this process."""

    def on_end(self, span: ReadableSpan) -> None:
        """Drop a span."""


def _with_sdk(sampler: Sampler) -> OpenTelemetry:
    tracers = TracerProvider(sampler, shutdown_on_exit=False)
    tracers.add_span_processor(_Dropping())
    return OpenTelemetry(
        tracer_provider=tracers, meter_provider=MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    )


def _observers() -> dict[str, list[RequestObserver]]:
    return {
        "none": [],
        "an observer that counts": [_Counting()],
        "OpenTelemetry, no SDK": [
            OpenTelemetry(tracer_provider=NoOpTracerProvider(), meter_provider=NoOpMeterProvider())
        ],
        "OpenTelemetry, SDK, not sampled": [_with_sdk(ALWAYS_OFF)],
        "OpenTelemetry, SDK, all sampled": [_with_sdk(ALWAYS_ON)],
    }


async def _measure(rounds: int, requests: int) -> list[Row]:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving())
        asks = {
            name: await stack.enter_async_context(client(url, observers=observers))
            for name, observers in _observers().items()
        }
        found = await interleaved(asks, rounds, requests, 1)
    return [compare(f"request, {name}", found[name], "no observer", found["none"]) for name in asks if name != "none"]


def _timed(work: Callable[[], None]) -> float:
    begun = time.process_time()
    for _ in range(_CALLS):
        work()
    return (time.process_time() - begun) / _CALLS


def _hook() -> float:
    """Seconds that the dispatcher spends on observers in a request that nobody observes."""
    observers = Observers((), PREMIUM)

    def request() -> None:
        with observers.request(CALL_LISTS, "interactive") as trace:
            trace.waiting()
            with trace.attempt(0) as attempt:
                attempt.answered(200)

    return median(_timed(request) - _timed(lambda: None) for _ in range(9))


def main() -> None:
    """Print the table."""
    quick = "--quick" in sys.argv[1:]
    print(f"hook in a request that nobody observes: {_hook() * 1e6:.2f} us")
    print(table(asyncio.run(_measure(5 if quick else 25, 300 if quick else 2_000))))


if __name__ == "__main__":
    main()
