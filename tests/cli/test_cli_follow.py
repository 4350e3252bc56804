"""`agora-analytics follow`: facts of calls for people and for pipes."""

from __future__ import annotations

import pytest


def test_facts_come_once_for_pipes_and_for_people(run):
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


def test_it_goes_on_where_it_ended_and_drills(run):
    def facts(*more: str) -> list[tuple[str, str]]:
        lines = run("follow", "--last", "2h", "--checkpoint", "tail", "--with-sessions", "--json", *more).lines
        assert all(line["sessions"] for line in lines if line["event"] == "finished")
        return [(line["event"], line["call"]["call_id"]) for line in lines]

    told = facts("--events", "4") + facts("--events", "4")
    assert len(set(told)) == 8


@pytest.mark.parametrize("arguments", [("--start", "x"), ("--checkpoint", "../x"), ("--last", "x"), ("--every", "0")])
def test_misuse_is_told(run, arguments):
    ran = run("follow", *arguments, "--events", "1")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
