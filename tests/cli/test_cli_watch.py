"""`agora-analytics watch`: windows as text and as JSON."""

from __future__ import annotations

import re

import pytest


def test_windows_are_printed_in_order_as_json_and_as_text(run):
    lines = run("watch", "userCount:WebRTC", "videoFreezeRate", "--windows", "5", "--json").lines
    assert [line["event"] for line in lines] == ["window"] * 5
    stamps = [line["ts"] for line in lines]
    assert stamps == list(range(stamps[0], stamps[0] + 100, 20))
    assert set(lines[0]["values"]) == {"userCount WebRTC", "videoFreezeRate Native"}
    assert lines[0]["values"]["userCount WebRTC"][0]["ts"] == stamps[0]
    text = run("watch", "userCount", "--windows", "3", "--last", "5m")
    assert text.code == 0
    assert text.out.count("userCount Native") == 3
    assert "1 request every 60 s, of 1,440 a day" in text.err


def test_the_first_window_is_shown_without_an_age_and_later_ones_with_it(run, monkeypatch):
    """The position of the stream is unknown until its first window is processed."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    shown = run("watch", "userCount", "--windows", "2", "--last", "10m").out
    titles = re.findall(r"\d\d:\d\d:\d\d UTC[^\x1b\n]*", shown)
    assert titles[0].endswith(" UTC") or titles[0].partition(" UTC")[2].startswith("; ")
    ages = [int(found) for found in re.findall(r", (\d+) s old, ", "".join(titles))]
    assert ages
    assert min(ages) > 500


def test_it_resumes_from_its_checkpoint(run):
    first = run("watch", "--windows", "4", "--last", "5m", "--checkpoint", "desk", "--json").lines
    again = run("watch", "--windows", "2", "--checkpoint", "desk", "--json").lines
    assert again[0]["ts"] == first[-1]["ts"] + 20


def test_a_start_beyond_the_retention_is_a_gap(run):
    lines = run("watch", "userCount", "--start", "1700000000", "--windows", "1", "--json").lines
    assert [line["event"] for line in lines] == ["gap", "window"]
    assert lines[0]["end"] == lines[1]["ts"]


@pytest.mark.parametrize(
    "arguments", [(":Native",), ("userCount", "userCount"), ("--checkpoint", "../x"), ("--last", "x")]
)
def test_wrong_options_are_reported(run, arguments):
    result = run("watch", *arguments, "--windows", "1")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
