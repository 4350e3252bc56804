"""What a command lacks, cuts short or cannot have is said at once and in full."""

from __future__ import annotations

import io
import logging
import re
import socket

import pytest

from agora_analytics.simulator import CUSTOMER_SECRET

ALL = ("AGORA_CUSTOMER_ID", "AGORA_CUSTOMER_SECRET", "AGORA_PLAN", "AGORA_APP_ID")


@pytest.mark.parametrize(
    ("arguments", "missing", "flag"),
    [
        (("export", "data"), ALL, "--plan or AGORA_PLAN"),
        (("export", "data", "--apps", "app"), ALL[:-1], "--plan or AGORA_PLAN"),
        (("calls", "search"), ALL, "--plan or AGORA_PLAN"),
        (("watch",), ALL, "--plan or AGORA_PLAN"),
        (("quota",), (ALL[0], ALL[2]), "--plan or AGORA_PLAN"),
    ],
)
def test_all_settings_that_are_missing_are_named_at_once(bare, arguments, missing, flag):
    ran = bare(*arguments)
    assert ran.code == 2
    assert tuple(name for name in ALL if name in ran.err) == missing
    assert flag in ran.err


def test_an_export_reads_the_secret_from_standard_input_once(run, monkeypatch):
    monkeypatch.delenv("AGORA_CUSTOMER_SECRET")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CUSTOMER_SECRET}\n"))
    ran = run("export", "--dry-run", "--last", "1h", "--secret-stdin")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (
            ("follow", "--last", "40d", "--events", "1"),
            "--last=40d is more than the plan keeps: it begins 15 d ago, or where its checkpoint is",
        ),
        (
            ("watch", "--last", "3h", "--windows", "1"),
            "--last=3h is more than the plan keeps: it begins 1 h ago, or where its checkpoint is",
        ),
    ],
    ids=["follow", "watch"],
)
@pytest.mark.parametrize("shown", [(), ("--json",)], ids=["people", "pipes"])
def test_a_beginning_that_the_plan_does_not_keep_is_told(run, arguments, kept, shown, monkeypatch):
    # A command tells warnings by itself unless something else takes them, as pytest does.
    monkeypatch.setattr(logging.getLogger("agora_analytics"), "propagate", False)
    ran = run(*arguments, *shown)
    assert ran.code == 0
    assert kept in ran.err


CUT = {
    ("calls", "search", "--max-requests", "2"): ("40d", "it begins 15 d ago"),
    ("calls", "sessions", "CALL"): ("40d", "it begins 15 d ago"),
    ("insights", "usage"): ("40d", "it begins 30 d ago"),
    ("insights", "quality-total"): ("40d", "it begins 30 d ago"),
    ("insights", "quality"): ("30d", "--last=30d is more than can be requested: it is the newest 29 d "),
    ("realtime", "usage"): ("3h", "it begins 1 h ago"),
    ("realtime", "quality"): ("1h", "--last=1h is more than can be requested: it is the newest 57 m "),
    ("export", "--dry-run"): ("40d", None),
}


@pytest.mark.parametrize("command", CUT, ids=" ".join)
def test_a_span_that_is_cut_is_told_by_every_command(run, call_id, command, monkeypatch):
    monkeypatch.setattr(logging.getLogger("agora_analytics"), "propagate", False)
    last, told = CUT[command]
    ran = run(*(call_id if one == "CALL" else one for one in command), "--last", last, "--json")
    assert ran.code == 0, ran.err
    assert (told or "expired") in (ran.err if told else ran.out)
    assert ran.err.count("more than") == (1 if told else 0)


def test_a_beginning_that_the_plan_keeps_is_not_worth_a_word(run, monkeypatch):
    monkeypatch.setattr(logging.getLogger("agora_analytics"), "propagate", False)
    assert "more than the plan" not in run("watch", "--last", "10m", "--windows", "1").err


def test_a_port_that_is_in_use_is_told_with_the_way_out(bare):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = bare("simulate", "--port", str(port))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"error: port {port} of 127.0.0.1 is in use: choose another --port, or 0 for any free one\n"


@pytest.mark.parametrize("command", [("export",), ("calls", "search"), ("watch",), ("follow",), ("simulate",)])
def test_a_flag_is_shown_without_a_type(bare, command):
    told = bare(*command, "--help").out
    flags = re.findall(r"--(?:json|dry-run|finished|with-sessions|only-final|hostile)\b.*", told)
    assert flags
    assert [line for line in flags if "bool" in line.lower()] == []
