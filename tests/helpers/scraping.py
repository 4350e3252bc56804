"""Scrapes of a collector, as values by name and labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from agora_analytics.ops import Collector

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Scrape:
    """The samples of one scrape; each is there once, and has no timestamp."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        samples = [sample for metric in metrics for sample in metric.samples]
        assert {sample.timestamp for sample in samples} == {None}
        self.samples = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
        assert len(self.samples) == len(samples)

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of a series by all of its labels; None if it is not there."""
        return self.samples.get((name, frozenset(labels.items())))

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return the values of the series that have these labels, by another label."""
        found = [(dict(key), value) for (named, key), value in self.samples.items() if named == name]
        return {key[label]: value for key, value in found if label in key and labels.items() <= key.items()}

    def names(self) -> set[str]:
        """Return the names of all samples."""
        return {name for name, _ in self.samples}


async def scrape(collector: Collector, accept: str | None = None) -> Scrape:
    """Render the metrics and parse the text."""
    body, content_type = await collector.render(accept)
    parse: Any = openmetrics if "openmetrics" in content_type else prometheus
    return Scrape(parse(body.decode()))
