"""Metrics as text for a scrape, encoded in slices: 2,000 series at once would hold the event loop for 20 ms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder

from agora_analytics._core.decoding.scanner import Steps

_SLICE: Final = 100
"""Samples that are encoded between two breaks."""

_HEADER: Final = re.compile(rb"\A(?:# .*\n)+")
"""The lines about a metric that come before its samples."""

_END: Final = b"# EOF\n"
"""The last line of OpenMetrics."""


class _Registry:
    """All that prometheus_client's encoders need of a registry: `collect`."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def encode(metrics: Iterable[Metric], accept: str) -> Steps[tuple[bytes, str]]:
    """Return the text and its content type: OpenMetrics if the `Accept` header allows it, else Prometheus' own."""
    encoder, content_type = choose_encoder(accept)
    whole: list[bytes] = []
    for metric in metrics:
        for number, part in enumerate(_parts(metric)):
            # The encoder repeats the header for each part, and ends each as if it were the whole: the formats allow
            # neither.
            text = encoder(_Registry([part])).removesuffix(_END)
            whole.append(_HEADER.sub(b"", text) if number else text)
            yield None
    if "openmetrics" in content_type:
        whole.append(_END)
    return b"".join(whole), content_type


def _parts(metric: Metric) -> Iterator[Metric]:
    """Yield a metric in parts of few samples."""
    for start in range(0, len(metric.samples), _SLICE):
        part = Metric(metric.name, metric.documentation, metric.type)
        part.samples = metric.samples[start : start + _SLICE]
        yield part
