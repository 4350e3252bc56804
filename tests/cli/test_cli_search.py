"""`agora-analytics calls search`: the worst first, what it costs, and what is left out (see also `virtual`)."""

from __future__ import annotations

import logging
import time

import pytest
from unhurried import unhurried

from agora_analytics import Plan
from agora_analytics.cli.commands.ranking import ORDERS, Best, frozen_users
from agora_analytics.models import Call
from agora_analytics.plans import PLANS


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch):
    """No request waits for its second: here it matters which are made, and how many."""
    monkeypatch.setitem(PLANS, "enterprise", unhurried(Plan.of("enterprise")))


def call(name: str, **fields: object) -> Call:
    return Call(call_id=name, **fields)


def test_the_best_are_kept_highest_first_and_those_without_a_value_come_last():
    best = Best(ORDERS["peak"], 3)
    for name, peak in {"a": 1, "b": None, "c": 5, "d": 3, "e": 5}.items():
        best.offer(call(name, call_pcu=peak))
    assert [one.call_id for one in best.calls()] == ["c", "e", "d"]
    best = Best(ORDERS["peak"], 9)
    best.offer(call("none"))
    best.offer(call("zero", call_pcu=0))
    assert [one.call_id for one in best.calls()] == ["zero", "none"]


def test_a_call_is_as_bad_as_its_higher_freeze_rate_times_its_users():
    assert frozen_users(call("a", call_audio_freeze_rate=0.1, call_video_freeze_rate=0.2, call_pcu=50)) == 10
    assert frozen_users(call("a", call_video_freeze_rate=None, call_audio_freeze_rate=0.2, call_pcu=5)) == 1
    assert frozen_users(call("a", call_pcu=5)) is None


def test_the_worst_are_those_of_the_whole_span_and_what_they_cost_is_said_before(run):
    end = int(time.time()) - 3_600
    span = ("--start", str(end - 25 * 3_600), "--end", str(end))
    lines = run("calls", "search", *span, "--json").lines
    worst = run("calls", "search", *span, "--worst", "--limit", "4", "--json")
    rates = [
        max(one["call_audio_freeze_rate"] or 0, one["call_video_freeze_rate"] or 0) * one["call_pcu"] for one in lines
    ]
    shown = [
        max(one["call_audio_freeze_rate"] or 0, one["call_video_freeze_rate"] or 0) * one["call_pcu"]
        for one in worst.lines
    ]
    assert shown == sorted(rates, reverse=True)[:4]
    assert worst.err.startswith("the worst 4 of ")
    people = run("calls", "search", *span, "--worst", "--limit", "4")
    price, part, left, _ = people.err.splitlines()
    assert price.startswith("at least 2 of the 10,000 requests that the day has left")
    assert part.startswith("1 of 2 parts: ")
    assert "are left out: see --limit" in left
    assert "freeze x users" in people.out


def test_only_calls_that_are_worse_are_listed(run):
    found = run("calls", "search", "--last", "6h", "--min-freeze-rate", "0.04", "--json")
    assert found.lines
    assert all(max(c["call_audio_freeze_rate"] or 0, c["call_video_freeze_rate"] or 0) > 0.04 for c in found.lines)
    people = run("calls", "search", "--last", "6h", "--min-freeze-rate", "0.04", "--limit", "1000")
    assert f"\n{len(found.lines)} of " in people.err
    assert "calls that froze more than 4.00 %" in people.err


@pytest.mark.parametrize(
    ("order", "field"), [("peak", "call_pcu"), ("average", "call_acu"), ("audio", "call_audio_freeze_rate")]
)
def test_calls_are_sorted_by_what_is_asked_for(run, order, field):
    lines = run("calls", "search", "--last", "5h", "--sort", order, "--limit", "20", "--json").lines
    assert [line[field] for line in lines] == sorted((line[field] for line in lines), reverse=True)


def test_a_bound_on_requests_says_what_was_not_asked_for_in_every_form(run):
    for form in ((), ("--json",)):
        ran = run("calls", "search", "--last", "3d", "--worst", "--max-requests", "6", *form)
        assert "were not asked for: --max-requests allows no more" in ran.err
        assert "after 6 requests, calls that began before " in ran.err
        assert (", at most 6, and one more for each 100 calls in a part" in ran.err) is (form == ())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sort", "colour"), ("--sort", "started, lasted, peak")),
        (("--sort", "peak", "--worst"), ("exclude each other",)),
        (("--min-freeze-rate", "5"), ("--min-freeze-rate",)),
        (("--max-requests", "1"), ("--max-requests",)),
    ],
    ids=" ".join,
)
def test_misuse_is_told(run, arguments, words):
    ran = run("calls", "search", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert all(word in ran.err for word in words)


@pytest.mark.parametrize("command", ["sessions", "metrics", "statistics", "freeze", "timeline"])
def test_a_channels_name_where_a_call_id_is_asked_for_is_said(run, served, command):
    lines = run("calls", "search", "--last", "3h", "--json").lines
    # Details come later than lists: the channel's newest call may be too new for them.
    call = next(one for one in lines if one["created_ts"] < lines[0]["created_ts"] - 900)
    call = next(one for one in lines if one["cname"] == call["cname"])
    before = served.service.counts["call_lists"]
    ran = run("calls", command, call["cname"], "--json")
    assert (ran.code, ran.out) == (2, "")
    assert f"'{call['cname']}' is a channel's name, not a call's id" in ran.err
    assert "its newest call there is " in ran.err
    assert served.service.counts["call_lists"] == before + 1


def test_an_id_that_nothing_is_known_of_is_said_to_be_so(run):
    ran = run("calls", "sessions", "no-such-call", "--json")
    assert (ran.code, ran.out) == (0, "")
    assert "nothing is known of a call 'no-such-call' in " in ran.err


def test_a_call_in_which_nobody_has_a_freeze_rate_is_not_said_to_be_unknown(run):
    calls = run("calls", "search", "--last", "4h", "--json").lines
    call = next(one for one in calls if one["finished"] and one["call_video_freeze_rate"] is None)  # of audio only
    ran = run("calls", "freeze", call["call_id"], "--last", "4h", "--json")
    assert (ran.code, ran.out) == (0, "")
    assert f"no user of call '{call['call_id']}' in " in ran.err


def test_a_call_without_what_was_asked_for_costs_no_further_request(run, call_id, served):
    before = served.service.counts["call_lists"]
    assert run("calls", "sessions", call_id, "--last", "5h", "--json").lines
    assert served.service.counts["call_lists"] == before


def test_a_span_that_the_plan_cuts_is_told(run, monkeypatch):
    monkeypatch.setattr(logging.getLogger("agora_analytics"), "propagate", False)  # or pytest takes it
    ran = run("calls", "search", "--last", "400d", "--limit", "1", "--max-requests", "2")
    assert ran.code == 0
    assert "--last=400d is more than the plan keeps: it begins 15 d ago" in ran.err


def test_what_a_format_needs_is_told_before_an_export_is_planned(run, served, monkeypatch):
    before = served.service.counts.total()
    monkeypatch.setattr("agora_analytics.export.formats.find_spec", lambda name: None)
    ran = run("export", "--dry-run", "--last", "1h")
    assert (ran.code, ran.out) == (2, "")
    assert 'needs pyarrow: pip install "agora-analytics[parquet]"' in ran.err
    assert served.service.counts.total() == before
