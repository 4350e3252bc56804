"""All missing settings, shortened spans and wrong options are reported before a command runs."""

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
def test_all_missing_settings_are_named_at_once(bare, arguments, missing, flag):
    result = bare(*arguments)
    assert result.code == 2
    assert tuple(name for name in ALL if name in result.err) == missing
    assert flag in result.err


def test_an_export_reads_the_secret_from_standard_input_once(run, monkeypatch):
    monkeypatch.delenv("AGORA_CUSTOMER_SECRET")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CUSTOMER_SECRET}\n"))
    result = run("export", "--dry-run", "--last", "1h", "--secret-stdin")
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        (
            ("follow", "--last", "40d", "--events", "1"),
            "--last=40d is longer than the plan keeps: it starts 15 d ago, or at the checkpoint",
        ),
        (
            ("watch", "--last", "3h", "--windows", "1"),
            "--last=3h is longer than the plan keeps: it starts 1 h ago, or at the checkpoint",
        ),
    ],
    ids=["follow", "watch"],
)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_a_start_beyond_the_retention_is_a_warning(run, arguments, warning, form, monkeypatch):
    # A command prints warnings only if no other handler takes them, as that of pytest does.
    monkeypatch.setattr(logging.getLogger("agora_analytics"), "propagate", False)
    result = run(*arguments, *form)
    assert result.code == 0
    assert warning in result.err


CUT = {
    ("calls", "search", "--max-requests", "2"): ("40d", "it starts 15 d ago"),
    ("calls", "sessions", "CALL"): ("40d", "it starts 15 d ago"),
    ("insights", "usage"): ("40d", "it starts 30 d ago"),
    ("insights", "quality-total"): ("40d", "it starts 30 d ago"),
    ("insights", "quality"): ("30d", "--last=30d is longer than can be requested: it covers the newest 29 d "),
    ("realtime", "usage"): ("3h", "it starts 1 h ago"),
    ("realtime", "quality"): ("1h", "--last=1h is longer than can be requested: it covers the newest 57 m "),
    ("export", "--dry-run"): ("40d", None),
}


@pytest.mark.slow_except("export --dry-run", "calls search --max-requests 2", "insights quality", "realtime usage")
@pytest.mark.parametrize("command", CUT, ids=" ".join)
def test_every_command_warns_of_a_span_that_is_cut(run, call_id, command, monkeypatch):
    monkeypatch.setattr(logging.getLogger("agora_analytics"), "propagate", False)
    last, warning = CUT[command]
    result = run(*(call_id if one == "CALL" else one for one in command), "--last", last, "--json")
    assert result.code == 0, result.err
    assert (warning or "expired") in (result.err if warning else result.out)
    assert result.err.count("longer than") == (1 if warning else 0)


def test_a_start_within_the_retention_is_no_warning(run, monkeypatch):
    monkeypatch.setattr(logging.getLogger("agora_analytics"), "propagate", False)
    assert "longer than the plan" not in run("watch", "--last", "10m", "--windows", "1").err


def test_a_port_in_use_is_reported_with_a_way_out(bare):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = bare("simulate", "--port", str(port))
    assert (result.code, result.out) == (1, "")
    assert result.err == f"error: port {port} of 127.0.0.1 is in use: choose another --port, or 0 for any free one\n"


@pytest.mark.parametrize("command", [("export",), ("calls", "search"), ("watch",), ("follow",), ("simulate",)])
def test_a_flag_is_shown_without_a_type(bare, command):
    page = bare(*command, "--help").out
    flags = re.findall(r"--(?:json|dry-run|finished|with-sessions|only-final|hostile)\b.*", page)
    assert flags
    assert [line for line in flags if "bool" in line.lower()] == []
