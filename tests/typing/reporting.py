"""The types of ready SQL and of reports; see `api.py`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

from agora_analytics import AnalyticsClient, Span
from agora_analytics.export import queries
from agora_analytics.export.queries import QUESTIONS, QueryResult, Question
from agora_analytics.ops import report


def asking() -> None:
    assert_type(QUESTIONS, Mapping[str, Question])
    question = QUESTIONS["worst_calls"]
    assert_type((question.name, question.text, question.needs, question.sql), tuple[str, str, tuple[str, ...], str])
    result = queries.run("worst_calls", Path("data"), span=Span(1, 2), limit=5)
    assert_type(result, QueryResult)
    assert_type((result.question, result.columns, result.missing), tuple[Question, tuple[str, ...], tuple[str, ...]])
    assert_type(result.total, int)
    assert_type(result.rows, tuple[tuple[Any, ...], ...])
    assert_type(queries.views("data"), str)
    with queries.connect("data") as database:
        database.execute("SELECT 1")
    queries.run("worst_calls")  # type: ignore[call-arg]


async def reporting(client: AnalyticsClient) -> None:
    assert_type(report.week("data", span=Span(1, 2)), str)
    assert_type(report.call(Path("data"), "id"), str)
    assert_type(await report.live_week(client, max_requests=100, on_price=print), str)
    assert_type(await report.live_call(client, "id", Span(1, 2), max_requests=20), str)
    await report.live_call(client, "id", Span(1, 2), max_requests=20, on_progress=print, on_missing=print)
    await report.live_week(client, max_requests=100, on_progress=print, on_missing=print)
    await report.live_week(client)  # type: ignore[call-arg]
