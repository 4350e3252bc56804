"""`agora-analytics follow`: events of calls as text and as JSON."""

from __future__ import annotations

import pytest


def test_each_event_is_printed_once_as_json_and_as_text(run):
    lines = run("follow", "--last", "30m", "--events", "20", "--json").lines
    assert len(lines) == 20
    started = [line["call"]["call_id"] for line in lines if line["event"] == "started"]
    assert started
    assert len(set(started)) == len(started)
    assert {line["event"] for line in lines} <= {"started", "changed", "finished"}
    text = run("follow", "--last", "30m", "--events", "20")
    assert text.code == 0
    assert len(text.out.splitlines()) == 20
    assert "  started   " in text.out


def test_it_resumes_from_its_checkpoint_and_fetches_sessions(run):
    def read_events(*options: str) -> list[tuple[str, str]]:
        lines = run("follow", "--last", "2h", "--checkpoint", "tail", "--with-sessions", "--json", *options).lines
        assert all(line["sessions"] for line in lines if line["event"] == "finished")
        return [(line["event"], line["call"]["call_id"]) for line in lines]

    resumed = read_events("--events", "4") + read_events("--events", "4")
    assert len(set(resumed)) == 8


@pytest.mark.parametrize("arguments", [("--start", "x"), ("--checkpoint", "../x"), ("--last", "x"), ("--every", "0")])
def test_wrong_options_are_reported(run, arguments):
    result = run("follow", *arguments, "--events", "1")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
