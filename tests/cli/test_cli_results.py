"""Each command shows what the service has: as tables for people, as one JSON object a line for programs."""

from __future__ import annotations

import math
import time

import pytest

from agora_analytics.catalogue import MetricId
from agora_analytics.cli.commands.demo import Tour
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
    pages = math.ceil(len(calls) / 100)  # how many calls an hour has depends on the hour
    assert f"spent today: {pages} of the day's 10,000 call_lists requests" in table.err


def test_a_search_by_channel_finds_only_it_and_a_limit_is_told(run):
    first = run("calls", "search", "--last", "2h", "--json").lines[0]
    mine = run("calls", "search", "--last", "2h", "--cname", first["cname"], "--page-size", "10", "--json").lines
    assert {call["cname"] for call in mine} == {first["cname"]}
    cut = run("calls", "search", "--last", "2h", "--limit", "3")
    assert "the newest 3 calls, back to " in cut.err
    assert "older ones are left out" in cut.err
    assert len(run("calls", "search", "--last", "2h", "--limit", "3", "--json").lines) == 3


def test_a_call_is_drilled_into(run, call_id):
    sessions = run("calls", "sessions", call_id, "--last", "5h", "--json").lines
    table = run("calls", "sessions", call_id, "--last", "5h", "--limit", "1000").out
    assert sessions
    assert all(session["sid"] in table for session in sessions)
    uid = str(sessions[0]["uid"])
    mine = run("calls", "sessions", call_id, "--last", "5h", "--uids", uid, "--json").lines
    assert {str(one["uid"]) for one in mine} == {uid}
    sid = sessions[0]["sid"]
    (measured,) = run("calls", "metrics", call_id, "--last", "5h", "--sids", sid, "--json").lines
    assert measured["sid"] == sid
    some = measured["data"][0]["mid"]
    (only,) = run("calls", "metrics", call_id, "--last", "5h", "--sids", sid, "--mids", str(some), "--json").lines
    assert {track["mid"] for track in only["data"]} == {some}
    shown = run("calls", "metrics", call_id, "--last", "5h", "--sids", sid, "--mids", str(some)).out
    assert MetricId(some).name.lower() in shown


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (("statistics",), {"user_count"}),
        (("freeze", "--metric", "audio_freeze_rate"), {"bucket", "user_count"}),
        (("timeline",), {"ts", "value"}),
    ],
)
def test_a_call_is_told_in_figures(run, call_id, arguments, fields):
    rows = run("calls", *arguments, call_id, "--last", "5h", "--json").lines
    assert rows
    assert all(fields <= row.keys() for row in rows)
    assert run("calls", *arguments, call_id, "--last", "5h").out.count("\n") > len(rows[:1]) + 2


def metric_of(arguments: tuple[str, ...]) -> str:
    """The metric asked for: a point's value has its name."""
    return arguments[arguments.index("--metric") + 1] if "--metric" in arguments else "userCount"


def still(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The same question about windows that do not move on, however long after the first it is asked again."""
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
    arguments = still(arguments)
    lines = run(*arguments, "--json")
    assert (lines.code, lines.err) == (0, "")
    field = "value" if "top" in arguments[1] or "total" in arguments[1] else metric_of(arguments)
    assert all(field in line for line in lines.lines)
    table = run(*arguments)
    assert table.code == 0
    assert "─" in table.out
    values = [line["dimension_value"] for line in lines.lines if line.get("dimension_value")]
    assert all(value in table.out for value in values)


def test_a_filter_and_values_of_a_dimension_narrow_a_total(run):
    found = run(
        *("insights", "usage-total", "--last", "5d", "--dimension", "region", "--filters", "country=China", "--json")
    )
    assert found.code == 0
    values = run("insights", "usage-total", "--last", "5d", "--dimension", "os", "--dimension-values", "iOS", "--json")
    assert {line["dimension_value"] for line in values.lines} <= {"iOS"}


def test_a_window_that_is_named_is_the_one_shown(run):
    at = int(time.time()) // 20 * 20 - 400
    assert run("realtime", "usage-top", "--at", str(at), "--json").lines


def test_the_plans_are_shown_without_an_account(bare):
    rows = bare("plans", "--json").lines
    assert {row["plan"] for row in rows} == {"standard", "premium", "enterprise"}
    premium = bare("plans", "premium").out
    assert "480" in premium
    assert "no API access" in bare("plans").out


def test_the_catalogue_is_shown_whole_or_by_kind(bare):
    rows = bare("metrics", "--json").lines
    assert {row["id"] for row in rows} >= {mid.value for mid in MetricId}
    assert {row["kind"] for row in bare("metrics", "quality", "--json").lines} == {"quality"}
    assert "networkDelay" in bare("metrics").out


def test_the_quota_shows_every_counter_of_the_plan(bare):
    rows = bare("quota", "--plan", "premium", "--json").lines
    assert {row["counter"] for row in rows if row["unit"] == "day"} > {"call_lists", "realtime", "insight_usage"}
    assert "realtime" in bare("quota", "--plan", "premium").out


def test_the_demo_shows_calls_windows_and_what_they_cost(bare):
    tables = bare("demo", "--windows", "0", "--plan", "premium")
    assert tables.code == 0
    assert all(word in tables.out for word in ("Searched the last 8 hours", "sessions", "userCount", "0 refused"))
    steps = [line["step"] for line in bare("demo", "--windows", "0", "--json").lines]
    assert list(dict.fromkeys(steps)) == ["search", "sessions", "metrics", "call", "realtime", "quota"]


async def test_the_demo_says_what_a_plan_does_not_have(capsys):
    async with Simulation().client(plan="standard") as client:
        await Tour(client, Screen()).show_realtime(1)
    assert "The plan standard has no real-time windows" in capsys.readouterr().out


def test_help_explains_every_command(bare):
    for words in ((), ("calls",), ("calls", "search"), ("insights",), ("realtime", "quality-top"), ("simulate",)):
        said = bare(*words, "--help")
        assert said.code == 0
        assert "Usage" in said.out
