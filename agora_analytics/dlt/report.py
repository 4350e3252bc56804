"""What the last run of a pipeline left for the next one, and what is lost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

import attrs

from agora_analytics._core import validation
from agora_analytics.spans import Span, moment

__all__ = ["LoadReport", "load_reports"]


class _Pipeline(Protocol):
    @property
    def state(self) -> Any: ...


@attrs.frozen(kw_only=True)
class LoadReport:
    """How far a resource has read an App ID, or a series of its insights.

    Attributes:
        resource: the resource, which is also the table.
        stream: a fingerprint of the App ID and of the settings, or the series and that.
        ran_at: when the last run of it began.
        cut_short: why that run ended before everything was requested; None if it did not. The next run continues.
        read: spans that are loaded for good.
        pending: calls that the next run asks for again: open ones, and those whose details are still to come.
        missing: what will never be loaded: its span (None: unknown), the reason, and the id of the call if it is one.

    """

    resource: str
    stream: str
    ran_at: datetime | None
    cut_short: str | None
    read: tuple[Span, ...]
    pending: int
    missing: tuple[tuple[Span | None, str, str | None], ...]

    @property
    def complete(self) -> bool:
        """Whether the last run asked for everything that it could, and nothing is lost."""
        return self.cut_short is None and not self.missing


def load_reports(pipeline: _Pipeline, *, source: str = "agora") -> tuple[LoadReport, ...]:
    """Return how far each resource of `agora_source` has read, from the state of a dlt pipeline.

    `source` is the name that the source was given.

    ```python
    def show(pipeline):
        for report in load_reports(pipeline):
            print(report.resource, report.cut_short or "complete", report.pending, "calls to come")
    ```
    """
    source = validation.non_empty_str("source", source)
    resources = pipeline.state.get("sources", {}).get(source, {}).get("resources", {})
    return tuple(
        _report(resource, stream, state)
        for resource, streams in resources.items()
        for stream, state in streams.items()
        if isinstance(state, Mapping) and "ran_at" in state
    )


def _report(resource: str, stream: str, state: Mapping[str, Any]) -> LoadReport:
    return LoadReport(
        resource=resource,
        stream=stream,
        ran_at=moment(state["ran_at"]),
        cut_short=state["cut"],
        read=tuple(Span(*one) for one in state.get("done", ())),
        pending=len(state["pending"]),
        missing=tuple(
            (Span(start, end) if start < end else None, reason, call_id)
            for start, end, reason, call_id in state["missing"]
        ),
    )
