"""`agora-analytics calls search`: sort orders, the requests that it takes, and what is left out."""

from __future__ import annotations

import logging
import time

import pytest
from helpers.unlimited_rates import without_rate_limits

from agora_analytics import Plan
from agora_analytics.cli.sorting import CALL_ORDERS, TopN, freeze_impact
from agora_analytics.models import Call
from agora_analytics.plans import PLANS


@pytest.fixture(autouse=True)
def _no_rate_limits(monkeypatch):
    """Remove the rate limits per second and minute, so that no search waits."""
    monkeypatch.setitem(PLANS, "enterprise", without_rate_limits(Plan.of("enterprise")))


def call(name: str, **fields: object) -> Call:
    return Call(call_id=name, **fields)


def test_top_n_keeps_the_highest_and_puts_missing_values_last():
    best = TopN(CALL_ORDERS["peak"], 3)
    for name, peak in {"a": 1, "b": None, "c": 5, "d": 3, "e": 5}.items():
        best.add(call(name, call_pcu=peak))
    assert [one.call_id for one in best.items()] == ["c", "e", "d"]
    best = TopN(CALL_ORDERS["peak"], 9)
    best.add(call("none"))
    best.add(call("zero", call_pcu=0))
    assert [one.call_id for one in best.items()] == ["zero", "none"]


def test_top_n_puts_missing_values_after_negative_ones():
    best = TopN(CALL_ORDERS["peak"], 9)
    best.add(call("none"))
    best.add(call("negative", call_pcu=-5))
    assert [one.call_id for one in best.items()] == ["negative", "none"]


def test_a_sorted_list_as_json_has_all_calls_unless_limited(run):
    end = int(time.time()) - 3_600
    span = ("--start", str(end - 5 * 3_600), "--end", str(end), "--json")
    calls = {one["call_id"] for one in run("calls", "search", *span).lines}
    result = run("calls", "search", *span, "--sort", "peak")
    assert len(calls) > 100
    assert {one["call_id"] for one in result.lines} == calls
    assert result.err == ""
    assert len(run("calls", "search", *span, "--worst", "--limit", "7").lines) == 7


def test_a_sorted_table_has_the_first_hundred_calls_unless_limited(run):
    err = run("calls", "search", "--last", "5h", "--sort", "peak").err
    assert "the first 100 of " in err


def test_one_call_is_in_the_singular_in_every_message(run):
    err = run("calls", "search", "--last", "2h", "--limit", "1").err
    assert err.startswith("the newest 1 call, back to ")
    (cname, *_) = (one["cname"] for one in run("calls", "search", "--last", "2h", "--json").lines)
    (first, *_) = run("calls", "search", "--last", "2h", "--cname", cname, "--json").lines
    span = ("--start", str(first["created_ts"]), "--end", str(first["created_ts"] + 1), "--cname", cname)
    assert run("calls", "search", *span).err.startswith("1 call\n")
    assert "\n1 call, by peak\n" in run("calls", "search", *span, "--sort", "peak").err


def test_freeze_impact_is_the_higher_freeze_rate_times_the_peak_of_users():
    assert freeze_impact(call("a", call_audio_freeze_rate=0.1, call_video_freeze_rate=0.2, call_pcu=50)) == 10
    assert freeze_impact(call("a", call_video_freeze_rate=None, call_audio_freeze_rate=0.2, call_pcu=5)) == 1
    assert freeze_impact(call("a", call_pcu=5)) is None


def test_worst_covers_the_whole_span_and_its_price_is_printed_first(run):
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
    text = run("calls", "search", *span, "--worst", "--limit", "4")
    price, part, left, _ = text.err.splitlines()
    assert price.startswith("takes at least 2 of the 10,000 requests left today")
    assert part.startswith("part 1 of 2: ")
    assert "are left out: see --limit" in left
    assert "freeze x users" in text.out


def test_min_freeze_rate_filters_calls(run):
    found = run("calls", "search", "--last", "6h", "--min-freeze-rate", "0.04", "--json")
    assert found.lines
    assert all(max(c["call_audio_freeze_rate"] or 0, c["call_video_freeze_rate"] or 0) > 0.04 for c in found.lines)
    text = run("calls", "search", "--last", "6h", "--min-freeze-rate", "0.04", "--limit", "1000")
    assert f"\n{len(found.lines)} of " in text.err
    assert "calls that froze more than 4.00 %" in text.err


def test_a_freeze_rate_may_be_given_in_percent(run):
    start = int(time.time()) // 3600 * 3600 - 6 * 3600
    span = ("--start", str(start), "--end", str(start + 5 * 3600), "--json")
    # Open calls may still change.
    percent, fraction = (
        [one for one in run("calls", "search", *span, "--min-freeze-rate", rate).lines if one["finished"]]
        for rate in ("3%", "0.03")
    )
    assert percent == fraction != []


@pytest.mark.parametrize(
    ("order", "field"), [("peak", "call_pcu"), ("average", "call_acu"), ("audio", "call_audio_freeze_rate")]
)
def test_calls_are_sorted_highest_first(run, order, field):
    lines = run("calls", "search", "--last", "5h", "--sort", order, "--limit", "20", "--json").lines
    assert [line[field] for line in lines] == sorted((line[field] for line in lines), reverse=True)


def test_max_requests_reports_what_was_not_read(run):
    for form in ((), ("--json",)):
        result = run("calls", "search", "--last", "3d", "--worst", "--max-requests", "6", *form)
        assert "were not read: --max-requests is used up" in result.err
        assert "after 6 requests, calls that began before " in result.err
        assert ("one more for each further 100 calls in a part; stops after 6" in result.err) is (form == ())


def test_a_search_of_one_request_prints_its_page_and_what_was_not_read(run, served):
    before = served.service.counts["call_lists"]
    result = run("calls", "search", "--last", "3d", "--max-requests", "1", "--json")
    assert (result.code, len(result.lines)) == (0, 100)
    assert "after 1 request, calls that began before " in result.err
    assert served.service.counts["call_lists"] == before + 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sort", "colour"), ("--sort", "started, lasted, peak")),
        (("--sort", "peak", "--worst"), ("exclude each other",)),
        (("--min-freeze-rate", "5"), ("--min-freeze-rate", "'5': allowed are 0 to 1, or percent like 3%")),
        (("--min-freeze-rate", "101%"), ("'101%': allowed are",)),
        (("--min-freeze-rate", "little"), ("'little': allowed are",)),
        (("--max-requests", "0"), ("--max-requests",)),
    ],
    ids=" ".join,
)
def test_wrong_options_are_reported(run, arguments, words):
    result = run("calls", "search", *arguments)
    assert (result.code, result.out) == (2, "")
    assert all(word in result.err for word in words)


@pytest.mark.parametrize("command", ["sessions", "metrics", "statistics", "freeze", "timeline"])
def test_a_channel_name_in_place_of_a_call_id_is_refused_with_the_newest_call(run, served, command):
    lines = run("calls", "search", "--last", "3h", "--json").lines
    # Details are queryable later than lists: the newest call of the channel may have none yet.
    call = next(one for one in lines if one["created_ts"] < lines[0]["created_ts"] - 900)
    call = next(one for one in lines if one["cname"] == call["cname"])
    before = served.service.counts["call_lists"]
    result = run("calls", command, call["cname"], "--json")
    assert (result.code, result.out) == (2, "")
    assert f"'{call['cname']}' is the name of a channel, not the id of a call" in result.err
    assert "the channel's newest call in that time is " in result.err
    assert served.service.counts["call_lists"] == before + 1


def test_an_unknown_call_id_is_a_warning(run):
    result = run("calls", "sessions", "no-such-call", "--json")
    assert (result.code, result.out) == (0, "")
    assert "nothing is known of a call 'no-such-call' in " in result.err


def test_a_call_without_this_freeze_rate_is_not_reported_as_unknown(run):
    calls = run("calls", "search", "--last", "4h", "--json").lines
    without_video = next(one for one in calls if one["finished"] and one["call_video_freeze_rate"] is None)
    result = run("calls", "freeze", without_video["call_id"], "--last", "4h", "--json")
    assert (result.code, result.out) == (0, "")
    assert f"no user of call '{without_video['call_id']}' in " in result.err


def test_statistics_without_a_value_say_so_and_which_metric_to_try(run):
    calls = run("calls", "search", "--last", "4h", "--json").lines
    audio = [one for one in calls if one["finished"] and one["call_video_freeze_rate"] is None]
    audio_only = next(one["call_id"] for one in audio if one["call_audio_freeze_rate"] is not None)
    result = run("calls", "statistics", audio_only, "--last", "4h")
    assert (result.code, "video_freeze_rate by net" in result.out) == (0, True)
    assert f"no value of video_freeze_rate was measured in call '{audio_only}' " in result.err
    assert "try --metric audio_freeze_rate" in result.err
    measured = run("calls", "statistics", audio_only, "--last", "4h", "--metric", "audio_freeze_rate")
    assert (measured.code, "no value" in measured.err) == (0, False)


def test_a_known_call_costs_no_further_request(run, call_id, served):
    before = served.service.counts["call_lists"]
    assert run("calls", "sessions", call_id, "--last", "5h", "--json").lines
    assert served.service.counts["call_lists"] == before


def test_a_search_beyond_the_retention_is_a_warning(run, monkeypatch):
    # A command prints warnings only if no other handler takes them, as that of pytest does.
    monkeypatch.setattr(logging.getLogger("agora_analytics"), "propagate", False)
    result = run("calls", "search", "--last", "400d", "--limit", "1", "--max-requests", "2")
    assert result.code == 0
    assert "--last=400d is longer than the plan keeps: it starts 15 d ago" in result.err
