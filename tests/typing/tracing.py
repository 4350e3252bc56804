"""What a type checker sees of `ops.OpenTelemetry`."""

from __future__ import annotations

from typing import assert_type

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from agora_analytics import AnalyticsClient, Plan
from agora_analytics.ops import OpenTelemetry


def traced(plan: Plan, tracers: TracerProvider, meters: MeterProvider) -> None:
    assert_type(OpenTelemetry(), OpenTelemetry)
    AnalyticsClient(
        "id", "secret", plan=plan, observers=[OpenTelemetry(tracer_provider=tracers, meter_provider=meters)]
    )
    OpenTelemetry(tracers)  # type: ignore[call-arg]
    OpenTelemetry(tracer_provider=3)  # type: ignore[arg-type]
