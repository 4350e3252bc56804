"""Numbers, times and plots as people read them."""

from __future__ import annotations

import pytest

from agora_analytics.cli import formatting, parsing, tables
from agora_analytics.models import Session, SessionMetrics, Track
from agora_analytics.spans import moment


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, ""), (0, "0"), (12_345, "12,345"), (2.0, "2"), (12.34, "12.3"), (1.23456, "1.235"), (-1_234.5, "-1,234.5")],
)
def test_a_number_is_told_with_no_more_digits_than_it_deserves(value, told):
    assert formatting.format_number(value) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, ""), (0, "0 s"), (59.9, "59 s"), (60, "1 m"), (3_661, "1 h 1 m"), (86_400, "1 d"), (90_061, "1 d 1 h")],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds, told):
    assert formatting.format_duration(seconds) == told


@pytest.mark.parametrize(
    ("pairs", "drawn"),
    [
        ((), ""),
        (((0, 5.0),), "▄"),
        (((0, 5.0), (20, 5.0)), "▄▄"),
        (((0, 0.0), (20, 7.0)), "▁█"),
        (((0, 0.0), (20, 7.0), (60, 7.0), (80, 0.0)), "▁█ █▁"),
    ],
)
def test_a_plot_shows_heights_and_leaves_gaps_where_nothing_was_measured(pairs, drawn):
    assert formatting.sparkline(pairs) == drawn


def test_a_plot_averages_what_it_has_no_room_for():
    assert formatting.sparkline([(second, second // 10) for second in range(80)], 8) == formatting.BLOCKS


@pytest.mark.parametrize(("value", "highest", "width"), [(5, 10, 10), (None, 10, 0), (10, 10, 20), (0, 0, 0)])
def test_a_bar_is_as_long_as_its_share(value, highest, width):
    assert len(formatting.bar(value, highest)) == width


def test_nothing_that_steers_a_terminal_gets_through():
    assert formatting.printable("a\x1b[31mb\r\nc\u202ed") == "a [31mb  c d"


def test_a_rate_is_told_in_percent_and_no_time_as_nothing():
    assert (formatting.format_percent(0.5), formatting.format_percent(None), formatting.format_time(0)) == (
        "50.00 %",
        "",
        "",
    )


@pytest.mark.parametrize(("text", "seconds"), [("45s", 45), ("20m", 1_200), ("1h30m", 5_400), ("2d", 172_800)])
def test_a_duration_may_be_typed_in_parts(text, seconds):
    assert parsing.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["2026-11-24T12:00:00Z", "2026-11-24T13:00:00+01:00", "1795521600"])
def test_an_instant_may_be_typed_in_several_ways(text):
    assert moment(parsing.parse_time(text, "--start")) == moment(1_795_521_600)


def test_names_are_completed_from_the_catalogue():
    assert "networkDelay" in parsing.completion("quality")("netw")
    assert parsing.completion("quality")("zzz") == []
    assert "app_cpu" in parsing.completion("metric_id")("app")
    assert parsing.parse_mids("20001,system_cpu") == {20001, 20002}


def test_a_metric_id_of_tomorrow_is_shown_by_its_number_and_an_empty_track_not_at_all():
    tracks = (Track(mid=99_999, kvs=((100, 1.0),)), Track(mid=20_001, kvs=()))
    table = tables.metrics(SessionMetrics(sid="A", data=tracks))
    assert [row[:3] for row in table.rows] == [("99999", "", "")]


def test_a_session_that_goes_on_is_still_there():
    (row,) = tables.sessions([Session(sid="A", uid=0, join_ts=1_795_521_600)]).rows
    assert (row[1], row[3]) == ("0", "still in call")
