"""At the widths of common terminals, tables truncate nothing, and no line is too wide."""

from __future__ import annotations

import re

import pytest

from agora_analytics.cli import tables
from agora_analytics.cli.output import Screen
from agora_analytics.models import Call, Point, Total

WIDTHS = (40, 80, 100, 124, 160)
NOON = 1_795_521_600
CALLS = [
    Call(
        call_id=f"5AC413F01FAF16B3192E987D79A13F{number}",
        cname=f"room-{number}",
        created_ts=NOON,
        destroyed_ts=NOON + 1_863,
        finished=True,
        call_pcu=182,
        call_acu=128.9,
        call_audio_freeze_rate=0.0113,
        call_video_freeze_rate=0.0093,
    )
    for number in (71, 72)
]
VALUES = ("room-71", "31 m 3 s", "182", "1.13 %", "0.93 %", "2.057")


@pytest.fixture
def show_lines(capsys, monkeypatch):
    """Return a function that prints a table on a terminal with so many columns, and returns its unstyled lines."""

    def show(columns: int, table: tables.Table, **environment: str) -> list[str]:
        for name, value in {"COLUMNS": str(columns), "FORCE_COLOR": "1", **environment}.items():
            monkeypatch.setenv(name, value)
        Screen().show((), table)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out).splitlines()

    return show


@pytest.mark.parametrize("columns", WIDTHS)
def test_no_figure_of_a_call_is_truncated_at_any_width(show_lines, columns):
    lines = show_lines(columns, tables.calls(CALLS, impact=True))
    assert max(map(len, lines)) <= columns
    assert all(any(figure in line for line in lines) for figure in VALUES)
    assert any("5AC413F01FAF16B3192E987D79A13F71" in line for line in lines)
    assert any("128.9" in line for line in lines) != ("no room for: average" in lines)


@pytest.mark.parametrize(("columns", "lines"), [(80, 2), (100, 2), (124, 1), (160, 1)])
def test_a_call_is_one_line_if_it_fits(show_lines, columns, lines):
    shown = show_lines(columns, tables.calls(CALLS, impact=True))
    (start,) = (at for at, line in enumerate(shown) if "─" in line)
    rows = [line for line in shown[start + 1 : -1] if "no room" not in line]
    assert len(rows) == 2 * lines


def test_on_a_narrow_terminal_each_cell_has_its_own_line(show_lines):
    assert [line.rstrip() for line in show_lines(40, tables.calls(CALLS[:1], impact=True))] == [
        "calls",
        "5AC413F01FAF16B3192E987D79A13F71",
        "  cname          room-71",
        "  started (UTC)  2026-11-24 12:00:00",
        "  lasted         31 m 3 s",
        "  peak           182",
        "  average        128.9",
        "  audio freeze   1.13 %",
        "  video freeze   0.93 %",
        "  freeze x users 2.057",
        "",
    ]


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_bar_is_never_folded(show_lines, columns):
    totals = [
        Total(value=value, dimension_value=name) for name, value in {"China": 14_617, "United States": 7_308}.items()
    ]
    lines = show_lines(columns, tables.totals(totals, "users", "", "country"))
    bars = [len(found.group()) for found in map(re.compile("█+").search, lines) if found]
    assert len(bars) == 2
    assert bars[0] == 2 * bars[1]
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_plot_is_not_truncated_at_any_width(show_lines, columns):
    points = tuple(Point.of(NOON + 60 * at, 100 + at) for at in range(200))
    lines = show_lines(columns, tables.plots("", "metric", [("video_freeze_rate", "", points)]))
    (plot,) = (found.group() for found in map(re.compile("[▁▂▃▄▅▆▇█]+").search, lines) if found)
    assert (plot[0], plot[-1]) == ("▁", "█")
    assert any("video_freeze_rate" in line for line in lines)
    assert max(map(len, lines)) <= columns
