"""The names, kinds and help texts of the gauges, and the values that become their samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import attrs
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Exemplar

_MAX_LABEL: Final = 128
"""Characters of a label's value; Prometheus may be set up to refuse a whole scrape for a longer one."""

UNKNOWN: Final = "unknown"
"""The label's value for an empty one, which Prometheus would treat as an absent label."""


@attrs.frozen
class Family:
    """Metrics of one name; `suffix` is what the names of its samples end with."""

    name: str
    help: str
    kind: str = "gauge"
    suffix: str = ""


class Value(NamedTuple):
    """One sample: its family, its labels and its value. It has no timestamp, so it becomes stale when it is absent."""

    family: Family
    labels: Mapping[str, str]
    value: float
    suffix: str = ""
    exemplar: Exemplar | None = None

    def add_to(self, metrics: dict[str, Metric]) -> None:
        """Add the sample to the metric of its name."""
        family = self.family
        metric = metrics.get(family.name)
        if metric is None:
            metric = metrics[family.name] = Metric(family.name, family.help, family.kind)
        metric.add_sample(
            family.name + (self.suffix or family.suffix), dict(self.labels), self.value, exemplar=self.exemplar
        )


def family_of(instrument: MetricWrapperBase) -> Family:
    """Return the family of an instrument of prometheus_client, a counter or a histogram."""
    (metric,) = instrument.describe()
    return Family(metric.name, metric.documentation, metric.type)


def values_of(instrument: MetricWrapperBase) -> Iterator[Value]:
    """Yield the samples of an instrument, without the times at which they were created."""
    family = family_of(instrument)
    for metric in instrument.collect():
        for sample in metric.samples:
            suffix = sample.name.removeprefix(metric.name)
            # prometheus_client adds one to each counter and histogram: a further series for each, which nobody queries.
            if suffix != "_created":
                yield Value(family, sample.labels, sample.value, suffix, sample.exemplar)


def label(text: str | None) -> str:
    """Return a text as a label's value: not empty, not long, and valid UTF-8."""
    if not text:
        return UNKNOWN
    if len(text) > _MAX_LABEL:
        text = text[: _MAX_LABEL - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
