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
    people = run("follow", "--last", "30m", "--events", "20")
    assert people.code == 0
    assert len(people.out.splitlines()) == 20
    assert "  started   " in people.out


def test_it_resumes_from_its_checkpoint_and_fetches_sessions(run):
    def facts(*more: str) -> list[tuple[str, str]]:
        lines = run("follow", "--last", "2h", "--checkpoint", "tail", "--with-sessions", "--json", *more).lines
        assert all(line["sessions"] for line in lines if line["event"] == "finished")
        return [(line["event"], line["call"]["call_id"]) for line in lines]

    told = facts("--events", "4") + facts("--events", "4")
    assert len(set(told)) == 8


@pytest.mark.parametrize("arguments", [("--start", "x"), ("--checkpoint", "../x"), ("--last", "x"), ("--every", "0")])
def test_wrong_options_are_reported(run, arguments):
    ran = run("follow", *arguments, "--events", "1")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
