"""A worker of a fleet as metrics: the requests of its accounts together, and the fleet as this worker sees it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client import Metric

from agora_analytics._core.decoding.scanner import Steps
from agora_analytics._core.dispatcher import in_turns
from agora_analytics.ops.fleet.monitor import FleetMonitor
from agora_analytics.ops.metrics import fleet_metrics
from agora_analytics.ops.metrics.exposition import encode
from agora_analytics.ops.metrics.families import Family, Value, label
from agora_analytics.ops.metrics.request_metrics import RequestMetrics

_BUILD: Final = Family(
    "agora_fleet_worker", "The version of the library, and the name of this worker.", "info", "_info"
)


class WorkerMetrics:
    """What `ops.Collector` shows of one account, for a worker that has hundreds; `requests` observes all of them.

    A collector for each would have the same metrics without an account's label, and more series the more accounts.
    """

    def __init__(self, worker: str, requests: RequestMetrics, monitor: FleetMonitor) -> None:
        self._requests = requests
        self._worker = label(worker)
        self._monitor = monitor

    async def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """Return all metrics as text, and its content type."""
        return await in_turns(self._encoded(accept or ""))

    def _encoded(self, accept: str) -> Steps[tuple[bytes, str]]:
        metrics: dict[str, Metric] = {}
        for value in self._values():
            value.add_to(metrics)
        yield None
        return (yield from encode(metrics.values(), accept))

    def _values(self) -> Iterator[Value]:
        yield Value(_BUILD, {"version": version("agora-analytics"), "worker": self._worker}, 1)
        yield from self._requests.values()
        yield from fleet_metrics.values(self._monitor)
