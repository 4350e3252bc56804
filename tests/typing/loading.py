"""The types of the dlt source; see `api.py`. dlt's own may be missing."""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_type

from agora_analytics import AnalyticsClient, Selection, Span
from agora_analytics.dlt import (
    LoadReport,
    agora_source,  # pyright: ignore[reportUnknownVariableType]  # dlt may not be installed
    agora_sources,  # pyright: ignore[reportUnknownVariableType]
    load_reports,
)


def loading(selection: Selection, pipeline: Any) -> None:
    agora_source(selection)
    agora_source(
        selection, client=AnalyticsClient.from_env, max_requests=100, max_wait=60.0, allowed_lateness=600, name="agora"
    )
    for source in agora_sources(selection, client=AnalyticsClient.from_env, requests=100, max_wait=60.0, name="agora"):
        pipeline.run(source)
    reports = load_reports(pipeline, source="agora")
    assert_type(reports, tuple[LoadReport, ...])
    assert_type((reports[0].resource, reports[0].stream, reports[0].cut_short), tuple[str, str, str | None])
    assert_type((reports[0].ran_at, reports[0].pending), tuple[datetime | None, int])
    assert_type(reports[0].read, tuple[Span, ...])
    assert_type(reports[0].missing, tuple[tuple[Span | None, str, str | None], ...])
    assert_type(reports[0].complete, bool)
