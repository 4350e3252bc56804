"""What the dlt source notes of its progress, and what it says without dlt: tests that need no dlt."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.times import NOON

from agora_analytics import Call, Selection, Span
from agora_analytics.dlt import agora_source, load_reports
from agora_analytics.dlt.progress import LoadProgress

HOUR = 3_600


def call(name: str, start: int, end: int | None) -> Call:
    return Call(call_id=name, created_ts=start, destroyed_ts=end, finished=end is not None)


def test_without_dlt_the_error_has_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlt", None)
    with pytest.raises(ModuleNotFoundError, match=r'python -m pip install "agora-analytics\[dlt\]"'):
        agora_source(Selection(1, 2))


def test_a_span_that_may_still_grow_is_read_again():
    progress = LoadProgress({}, "key", NOON)
    progress.mark_done(Span(NOON - HOUR, NOON), final_before=NOON - 300)
    assert progress.unread(Span(NOON - 2 * HOUR, NOON)) == (
        Span(NOON - 2 * HOUR, NOON - HOUR),
        Span(NOON - 300, NOON),
    )


def test_a_loaded_call_is_known_for_as_long_as_it_is_listed_again():
    progress = LoadProgress({}, "key", NOON)
    progress.add(call("late", NOON - 200, NOON - 100))
    progress.mark_loaded("late", NOON - 200)
    progress.mark_done(Span(NOON - HOUR, NOON), final_before=NOON - 300)
    progress.add(call("late", NOON - 200, NOON - 100))
    assert progress.ended_calls() == []
    progress.mark_done(Span(NOON - 300, NOON + HOUR), final_before=NOON + HOUR)
    assert not progress.is_seen(call("late", NOON - 200, NOON - 100))


def test_open_calls_that_began_close_together_are_looked_up_in_one_list():
    progress = LoadProgress({}, "key", NOON)
    for name, start in (("a", NOON), ("b", NOON + 60), ("c", NOON + HOUR)):
        progress.add(call(name, start, None))
    assert progress.open_spans() == [Span(NOON, NOON + 61), Span(NOON + HOUR, NOON + HOUR + 1)]
    assert progress.open_in(Span(NOON, NOON + 61)) == {"a", "b"}
    progress.add(call("a", NOON, NOON + 10))
    assert [(one.call_id, one.span) for one in progress.ended_calls()] == [("a", Span(NOON, NOON + 11))]


def test_losses_that_adjoin_are_one_and_their_number_is_bounded():
    states: dict[str, Any] = {}
    progress = LoadProgress(states, "key", NOON)
    for start in range(0, 10 * HOUR, HOUR):
        progress.lose("expired", [Span(start, start + HOUR)])
    assert states["key"]["missing"] == [[0, 10 * HOUR, "expired", None]]
    for number in range(2_000):
        progress.lose("refused", call_id=str(number))
    assert len(states["key"]["missing"]) == 1_000


def test_a_report_says_what_a_run_left():
    states: dict[str, Any] = {}
    progress = LoadProgress(states, "key", NOON)
    progress.add(call("open", NOON, None))
    progress.mark_done(Span(NOON - HOUR, NOON), final_before=NOON)
    progress.lose("refused", call_id="x")
    progress.cut("max_requests=1 were made")
    state = {"sources": {"agora": {"resources": {"calls": json.loads(json.dumps(states))}}}}
    (report,) = load_reports(SimpleNamespace(state=state))
    assert (report.resource, report.stream, report.pending) == ("calls", "key", 1)
    assert report.read == (Span(NOON - HOUR, NOON),)
    assert report.missing == ((None, "refused", "x"),)
    assert report.cut_short == "max_requests=1 were made"
    assert not report.complete
    LoadProgress(states, "key", NOON)
    assert states["key"]["cut"] is None
