"""Each command prints the data of the service, as tables and as JSON Lines."""

from __future__ import annotations

import math
import time

import pytest

from agora_analytics.catalogue import MetricId
from agora_analytics.cli.commands.demo import Tour
from agora_analytics.cli.options import ListOptions
from agora_analytics.cli.output import Screen
from agora_analytics.simulator import Simulation


def test_a_search_finds_the_calls_of_the_span_in_both_forms(run):
    start = int(time.time()) // 3600 * 3600 - 7200
    span = ("--start", str(start), "--end", str(start + 3600))
    calls = run("calls", "search", *span, "--json").lines
    table = run("calls", "search", *span, "--limit", "500")
    assert len({call["call_id"] for call in calls}) == len(calls) > 20
    assert all(call["call_id"] in table.out for call in calls)
    assert f"{len(calls)} calls" in table.err
    pages = math.ceil(len(calls) / 100)  # the number of calls differs from hour to hour
    assert f"spent today: {pages} of the day's 10,000 call_lists requests" in table.err


def test_a_search_by_channel_finds_only_that_and_a_limit_is_reported(run):
    first = run("calls", "search", "--last", "2h", "--json").lines[0]
    mine = run("calls", "search", "--last", "2h", "--cname", first["cname"], "--page-size", "10", "--json").lines
    assert {call["cname"] for call in mine} == {first["cname"]}
    cut = run("calls", "search", "--last", "2h", "--limit", "3")
    assert "the newest 3 calls, back to " in cut.err
    assert "older ones are left out" in cut.err
    assert len(run("calls", "search", "--last", "2h", "--limit", "3", "--json").lines) == 3


def test_sessions_and_metrics_of_a_call_are_shown_and_filtered(run, call_id):
    sessions = run("calls", "sessions", call_id, "--last", "5h", "--json").lines
    table = run("calls", "sessions", call_id, "--last", "5h", "--limit", "1000").out
    assert sessions
    assert all(session["sid"] in table for session in sessions)
    # A short session may have no sample, nor one that sent and received nothing.
    longest = sorted(sessions, key=lambda one: one["join_ts"] - one["leave_ts"])[:10]
    sids = ",".join(one["sid"] for one in longest)
    of_longest = run("calls", "metrics", call_id, "--last", "5h", "--sids", sids, "--json").lines
    sid = next(one["sid"] for one in of_longest if one["data"])
    uid = str(next(one["uid"] for one in longest if one["sid"] == sid))
    mine = run("calls", "sessions", call_id, "--last", "5h", "--uids", uid, "--json").lines
    assert {str(one["uid"]) for one in mine} == {uid}
    (measured,) = run("calls", "metrics", call_id, "--last", "5h", "--sids", sid, "--json").lines
    assert measured["sid"] == sid
    some = measured["data"][0]["mid"]
    (only,) = run("calls", "metrics", call_id, "--last", "5h", "--sids", sid, "--mids", str(some), "--json").lines
    assert {track["mid"] for track in only["data"]} == {some}
    shown = run("calls", "metrics", call_id, "--last", "5h", "--sids", sid, "--mids", str(some)).out
    assert MetricId(some).name.lower() in shown


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("joined", lambda one: one["join_ts"]),
        ("stayed", lambda one: one["leave_ts"] - one["join_ts"]),
        ("video", lambda one: one["user_video_freeze_rate"] or -1),
        ("worst", lambda one: max(one["user_audio_freeze_rate"] or 0, one["user_video_freeze_rate"] or 0)),
    ],
)
def test_sessions_are_sorted_highest_first(run, call_id, order, key):
    span = ("--last", "5h")
    rows = run("calls", "sessions", call_id, *span, "--json").lines
    wanted = sorted((key(row) for row in rows), reverse=True)
    shown = run("calls", "sessions", call_id, *span, "--sort", order, "--limit", "500", "--json")
    assert [key(row) for row in shown.lines] == wanted
    assert shown.err == ""
    cut = run("calls", "sessions", call_id, *span, "--sort", order, "--limit", "2")
    assert f"the first 2 of {len(rows)} sessions by {order}; {len(rows) - 2} are left out: see --limit" in cut.err


def test_sorted_sessions_as_json_are_all_unless_limited(run, call_id, monkeypatch):
    monkeypatch.setattr(ListOptions.max_rows, "__defaults__", (2,))  # no call has more sessions than the default of 100
    span = ("--last", "5h", "--sort", "joined")
    sessions = run("calls", "sessions", call_id, *span, "--json")
    assert len(sessions.lines) > 2
    assert sessions.err == ""
    assert len(run("calls", "sessions", call_id, *span, "--limit", "3", "--json").lines) == 3
    assert f"the first 2 of {len(sessions.lines)} sessions" in run("calls", "sessions", call_id, *span).err


def test_an_unknown_order_of_sessions_is_refused_before_anything_is_sent(run, served):
    before = served.service.counts.total()
    result = run("calls", "sessions", "id", "--sort", "peak")
    assert (result.code, result.err) == (2, "error: --sort='peak': allowed are joined, stayed, audio, video, worst\n")
    assert served.service.counts.total() == before


def test_a_sorted_list_of_sessions_reports_an_unknown_call_too(run):
    result = run("calls", "sessions", "no-such-call", "--sort", "joined")
    assert "nothing is known of a call 'no-such-call' in " in result.err


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (("statistics",), {"user_count"}),
        (("freeze", "--metric", "audio_freeze_rate"), {"bucket", "user_count"}),
        (("timeline",), {"ts", "value"}),
    ],
)
def test_statistics_of_a_call_are_shown(run, call_id, arguments, fields):
    rows = run("calls", *arguments, call_id, "--last", "5h", "--json").lines
    assert rows
    assert all(fields <= row.keys() for row in rows)
    assert run("calls", *arguments, call_id, "--last", "5h").out.count("\n") > len(rows[:1]) + 2


def metric_of(arguments: tuple[str, ...]) -> str:
    """Return the metric that a command requests; in JSON, values have its name."""
    return arguments[arguments.index("--metric") + 1] if "--metric" in arguments else "userCount"


def with_fixed_span(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Add a fixed span of windows, so that a later command requests the same ones."""
    if arguments[0] != "realtime":
        return arguments
    at = int(time.time()) // 20 * 20 - 400
    return (*arguments, *(("--at", str(at)) if "top" in arguments[1] else ("--start", str(at - 600), "--end", str(at))))


@pytest.mark.parametrize(
    "arguments",
    [
        ("insights", "usage", "--metric", "totalDuration", "--last", "5d"),
        (
            "insights",
            "quality",
            "--metric",
            "networkDelay",
            "--product",
            "WebRTC",
            "--last",
            "1d",
            "--granularity",
            "1h",
        ),
        ("insights", "usage-total", "--last", "5d", "--dimension", "country"),
        ("insights", "usage-total", "--last", "5d"),
        ("insights", "quality-total", "--last", "5d", "--dimension", "sdk", "--product", "Native"),
        ("realtime", "usage"),
        ("realtime", "usage", "--dimension", "country"),
        ("realtime", "quality", "--metric", "audioFreezeRate"),
        ("realtime", "usage-top", "--dimension", "country"),
        ("realtime", "quality-top", "--dimension", "os", "--metric", "networkDelay"),
    ],
    ids=" ".join,
)
def test_insights_and_real_time_are_shown_in_both_forms(run, arguments):
    arguments = with_fixed_span(arguments)
    lines = run(*arguments, "--json")
    assert (lines.code, lines.err) == (0, "")
    field = "value" if "top" in arguments[1] or "total" in arguments[1] else metric_of(arguments)
    assert all(field in line for line in lines.lines)
    table = run(*arguments)
    assert table.code == 0
    assert "─" in table.out
    values = [line["dimension_value"] for line in lines.lines if line.get("dimension_value")]
    assert all(value in table.out for value in values)


def test_filters_and_dimension_values_narrow_a_total(run):
    found = run(
        *("insights", "usage-total", "--last", "5d", "--dimension", "region", "--filters", "country=China", "--json")
    )
    assert found.code == 0
    values = run("insights", "usage-total", "--last", "5d", "--dimension", "os", "--dimension-values", "iOS", "--json")
    assert {line["dimension_value"] for line in values.lines} <= {"iOS"}


def test_at_chooses_the_window(run):
    at = int(time.time()) // 20 * 20 - 400
    assert run("realtime", "usage-top", "--at", str(at), "--json").lines


def test_the_plans_are_shown_without_an_account(bare):
    rows = bare("plans", "--json").lines
    assert {row["plan"] for row in rows} == {"standard", "premium", "enterprise"}
    premium = bare("plans", "premium").out
    assert "480" in premium
    assert "no API access" in bare("plans").out


def test_the_catalogue_is_listed_whole_or_by_kind(bare):
    rows = bare("metrics", "--json").lines
    assert {row["id"] for row in rows} >= {mid.value for mid in MetricId}
    assert {row["kind"] for row in bare("metrics", "quality", "--json").lines} == {"quality"}
    assert "networkDelay" in bare("metrics").out


def test_the_quota_shows_every_counter_of_the_plan(bare):
    rows = bare("quota", "--plan", "premium", "--json").lines
    assert {row["counter"] for row in rows if row["unit"] == "day"} > {"call_lists", "realtime", "insight_usage"}
    assert "realtime" in bare("quota", "--plan", "premium").out


@pytest.mark.slow
def test_the_demo_shows_calls_windows_and_what_they_cost(bare):
    tables = bare("demo", "--windows", "0", "--plan", "premium")
    assert tables.code == 0
    assert all(word in tables.out for word in ("Searched the last 8 hours", "sessions", "userCount", "0 refused"))
    steps = [line["step"] for line in bare("demo", "--windows", "0", "--json").lines]
    assert list(dict.fromkeys(steps)) == ["search", "sessions", "metrics", "call", "realtime", "quota"]


async def test_the_demo_explains_a_plan_without_real_time(capsys):
    async with Simulation().client(plan="standard") as client:
        await Tour(client, Screen()).show_realtime(1)
    assert "The plan standard has no real-time windows" in capsys.readouterr().out


def test_help_explains_every_command(bare):
    for words in ((), ("calls",), ("calls", "search"), ("insights",), ("realtime", "quality-top"), ("simulate",)):
        page = bare(*words, "--help")
        assert page.code == 0
        assert "Usage" in page.out
