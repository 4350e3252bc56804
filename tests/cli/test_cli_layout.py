"""Tables fit the width of the terminal."""

from __future__ import annotations

import re
import sys
import time
from itertools import pairwise

import pytest

from agora_analytics.catalogue import TimelineMetric
from agora_analytics.cli import tables
from agora_analytics.cli.formatting import WIDTH
from agora_analytics.cli.output import Screen
from agora_analytics.models import Point, Total

BLOCK = re.compile("[▁▂▃▄▅▆▇█]+")


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes the output a terminal with so many columns."""

    def set_width(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("FORCE_COLOR", "1")

    return set_width


def plain(text: str) -> list[str]:
    """Return the lines of a text without its styles."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()


def series(length: int, step: int = 60) -> tuple[Point, ...]:
    return tuple(Point.of(1_795_521_600 + at * step, 100 + at) for at in range(length))


@pytest.mark.slow_except("metrics-80", "sessions-80", "timeline-80", "search-80", "search-200")
@pytest.mark.parametrize("columns", [80, 100, 120, 200])
@pytest.mark.parametrize("what", ["search", "sessions", "metrics", "timeline"])
def test_no_line_of_a_table_is_wider_than_the_terminal(run, call_id, terminal, columns, what):
    terminal(columns)
    set_width = ("--limit", "3") if what == "search" else (call_id, "--last", "5h")
    shown = plain(run("calls", what, *set_width).out)
    assert len(shown) > 3
    assert [line for line in shown if len(line) > columns] == []


def test_a_very_narrow_terminal_is_no_error(run, terminal):
    terminal(30)
    result = run("calls", "search", "--limit", "3")
    assert (result.code, "calls" in result.out) == (0, True)


@pytest.mark.parametrize("columns", [80, 100, 120, 160])
def test_a_plot_fits_its_column_and_is_never_truncated(capsys, terminal, columns):
    terminal(columns)
    points = series(200)
    name = TimelineMetric.VIDEO_FREEZE_RATE
    Screen().show(points, tables.plots("", "metric", [(name, "", points)]))
    (plot,) = (found.group() for found in map(BLOCK.search, plain(capsys.readouterr().out)) if found)
    assert len(plot) in {WIDTH, WIDTH // 2, WIDTH // 3}
    assert (plot[0], plot[-1]) == ("▁", "█")


def test_at_80_columns_no_metric_of_the_demo_is_folded(bare, terminal):
    terminal(80)
    shown = plain(bare("demo", "--windows", "0").out)
    assert max(map(len, shown)) <= 80
    assert all(any(name in line for line in shown) for name in ("audioFreezeRate Native", "video_freeze_rate"))
    assert not any(line == after == "" for line, after in pairwise(shown))


# 200 has room for the widest session of the simulator; in 160 it depends on the hour whether one is that wide.
@pytest.mark.parametrize("columns", [80, 200])
def test_a_narrow_terminal_folds_neither_ids_nor_numbers(run, call_id, terminal, columns):
    terminal(columns)
    shown = plain(run("calls", "sessions", call_id, "--last", "5h", "--limit", "5").out)
    sids = [line["sid"] for line in run("calls", "sessions", call_id, "--last", "5h", "--json").lines[:5]]
    joined = "".join(shown)
    assert all(any(sid in line for line in shown) for sid in sids)
    assert ("no room for: network, sdk, roles" in shown) == (columns <= 100)
    assert len(re.findall(r"\d (?:s|m|h)(?=  )", joined)) >= 5


def test_the_requests_spent_are_printed_after_the_result(run, terminal, monkeypatch):
    terminal(120)
    monkeypatch.setattr("sys.stderr", sys.stdout)
    lines = plain(run("insights", "usage", "--last", "3d").out)
    assert lines[0] == "userCount"
    assert lines[-1].startswith("spent today: ")


def test_percents_are_in_the_value_column_and_empty_columns_are_left_out(capsys):
    found = (Total(value=0.0123, dimension_value="China"), Total(value=0.5, dimension_value="Kenya"))
    Screen().show(found, tables.totals(found, "freezes", "fraction", "country"))
    title, heading, _, *rows = plain(capsys.readouterr().out)
    assert title == "freezes"
    assert heading.split() == ["country", "value"]
    assert [row.split()[:3] for row in rows[:2]] == [["China", "1.23", "%"], ["Kenya", "50.00", "%"]]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("plans", "starter"), "plan starter: no API access"),
        (("quota", "--plan", "starter"), "quota of the plan starter: no API access"),
    ],
)
def test_a_plan_without_api_access_is_one_line(bare, arguments, line):
    assert bare(*arguments).out.splitlines() == [line]


def test_a_search_without_results_prints_nothing_found(run):
    start = int(time.time()) - 7_200
    result = run("calls", "search", "--start", str(start), "--end", str(start + 60), "--cname", "nobody-is-here")
    assert (result.code, result.out) == (0, "calls: nothing found\n")


@pytest.mark.parametrize("arguments", [(), ("calls",), ("insights",), ("realtime",)])
def test_a_group_without_a_command_prints_its_help_only(bare, arguments):
    result = bare(*arguments)
    assert result.code == 2
    assert "Usage" in result.out
    assert "error" not in result.err


@pytest.mark.parametrize(("command", "flag"), [("calls", "json"), ("calls", "secret-stdin"), ("simulate", "hostile")])
def test_a_flag_that_is_off_by_default_has_no_negation(bare, command, flag):
    shown = bare(*((command, "search") if command == "calls" else (command,)), "--help").out
    assert f"--{flag}" in shown
    assert f"--no-{flag}" not in shown
