"""Numbers, times, plots, and values of options."""

from __future__ import annotations

import math

import pytest

from agora_analytics._core import validation
from agora_analytics.cli import formatting, parsing, tables
from agora_analytics.models import Session, SessionMetrics, Track
from agora_analytics.quota import ClockState
from agora_analytics.spans import moment


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, "0"), (12_345, "12,345"), (2.0, "2"), (12.34, "12.3"), (1.23456, "1.235"), (-1_234.5, "-1,234.5")],
)
def test_a_number_has_thousands_separators_and_few_decimals(value, text):
    assert formatting.format_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0, "0 s"), (59.9, "59 s"), (60, "1 m"), (3_661, "1 h 1 m"), (86_400, "1 d"), (90_061, "1 d 1 h")],
)
def test_a_duration_is_formatted_in_its_two_largest_units(seconds, text):
    assert formatting.format_duration(seconds) == text


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
def test_a_sparkline_is_scaled_and_blank_where_data_is_missing(pairs, drawn):
    assert formatting.sparkline(pairs) == drawn


def test_a_sparkline_is_downsampled_by_averaging():
    assert formatting.sparkline([(second, second // 10) for second in range(80)], 8) == formatting.BLOCKS


@pytest.mark.parametrize(("value", "highest", "width"), [(5, 10, 10), (None, 10, 0), (10, 10, 20), (0, 0, 0)])
def test_a_bar_is_as_long_as_its_share_of_the_highest(value, highest, width):
    assert len(formatting.bar(value, highest)) == width


def test_control_characters_are_replaced():
    assert validation.printable("a\x1b[31mb\r\nc\u202ed") == "a [31mb  c d"


def test_a_rate_is_formatted_in_percent_and_a_missing_value_as_nothing():
    assert (formatting.format_percent(0.5), formatting.format_percent(None), formatting.format_time(0)) == (
        "50.00 %",
        "",
        "",
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("20m", 1_200), ("1h30m", 5_400), ("2d", 172_800), ("2w", 1_209_600), ("1w1d", 691_200)],
)
def test_a_duration_is_parsed_from_parts(text, seconds):
    assert parsing.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["2026-11-24T12:00:00Z", "2026-11-24T13:00:00+01:00", "1795521600"])
def test_a_time_is_parsed_from_iso_8601_and_epoch_seconds(text):
    assert moment(parsing.parse_time(text, "--start")) == moment(1_795_521_600)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "end=1795521600 must be after start=1795525200",
            "end=2026-11-24T12:00:00Z must be after start=2026-11-24T13:00:00Z",
        ),
        (
            "end=1795521600 lies in the future (plan 'x'): at most 1795518000 now",
            "end=2026-11-24T12:00:00Z lies in the future (plan 'x'): at most 2026-11-24T11:00:00Z now",
        ),
        ("uids=(1795521600,) are too many: at most 10", "uids=(1795521600,) are too many: at most 10"),
        (
            "'start=1795521600' is the name of a channel, not the id of a call",
            "'start=1795521600' is the name of a channel, not the id of a call",
        ),
        ("cname: start=1795521600 contains a comma", "cname: start=1795521600 contains a comma"),
        ("end=50 must be after start=100", "end=50 must be after start=100"),
        ("--start=1795521600000 is not a time in seconds", "--start=1795521600000 is not a time in seconds"),
    ],
)
def test_errors_about_times_are_shown_in_iso_8601(message, shown):
    assert formatting.with_iso_times(message) == shown


def test_names_are_completed_from_the_catalogue():
    assert "networkDelay" in parsing.completion("quality")("netw")
    assert parsing.completion("quality")("zzz") == []
    assert "app_cpu" in parsing.completion("metric_id")("app")
    assert parsing.parse_mids("20001,system_cpu") == {20001, 20002}


def test_an_unknown_metric_id_is_shown_by_number_and_an_empty_track_is_left_out():
    tracks = (Track(mid=99_999, kvs=((100, 1.0),)), Track(mid=20_001, kvs=()))
    table = tables.metrics(SessionMetrics(sid="A", data=tracks))
    assert [row[:3] for row in table.rows] == [("99999", "", "")]


def test_an_open_session_is_still_in_call():
    (row,) = tables.sessions([Session(sid="A", uid=0, join_ts=1_795_521_600)]).rows
    assert (row[1], row[3]) == ("0", "still in call")


@pytest.mark.parametrize(
    ("offset", "uncertainty", "text"),
    [
        (2.5, 0.3, "the service's clock is 2.50 to 2.80 s ahead of this machine's"),
        (-5.0, 0.3, "the service's clock is 4.70 to 5.00 s behind this machine's"),
        (-0.1, 0.3, "the service's clock is between 0.10 s behind and 0.20 s ahead of this machine's"),
        (0.0, math.inf, "the service's clock is not known yet"),
    ],
)
def test_the_service_s_clock_is_shown_as_a_range(offset, uncertainty, text):
    assert tables.service_clock(ClockState(offset=offset, uncertainty=uncertainty)) == text
