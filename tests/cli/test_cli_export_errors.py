"""`agora-analytics export` reports what the service refuses, exports the rest, and prints errors with their kind."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from agora_analytics.export.state.export_state import ExportState
from agora_analytics.simulator import APP_ID, Fault, Faults

REFUSED = Fault("refusal", code=404, message="no such call")


@pytest.mark.parametrize("apps", [f"{APP_ID},somebody-elses", f"somebody-elses,{APP_ID}"])
def test_a_refused_app_id_is_reported_and_the_others_are_exported(run, tmp_path, apps):
    to = str(tmp_path / "data")
    result = run("export", to, "--apps", apps, "--last", "1h", "--format", "jsonl")
    assert result.code == 1
    line = next(line for line in result.out.splitlines() if line.startswith("skipped: app: "))
    assert line.startswith("skipped: app: Unauthorized: HTTP 200, code 403: Wrong authorization information.")
    assert line.endswith("somebody-elses, the next run tries again")
    rows = [json.loads(line) for path in (tmp_path / "data").rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert {row["app_id"] for row in rows} == {APP_ID}


@pytest.mark.slow
def test_refused_calls_are_reported_by_id(run, served, monkeypatch, tmp_path):
    monkeypatch.setattr(served.service, "faults", Faults.always(REFUSED).only("call_sessions"))
    what = ("--datasets", "sessions", "--last", "1h", "--format", "jsonl", "--max-requests", "40")
    result = run("export", str(tmp_path / "data"), *what, "--concurrency", "1")
    assert result.code == 1
    line = next(line for line in result.out.splitlines() if line.startswith("skipped: details: "))
    assert re.search(r"NotFound: HTTP 200, code 404, \d+ calls \([0-9A-F]{32}, ", line)
    assert line.endswith("the next run tries again")


def alter_file(data: Path) -> None:
    next(data.rglob("*.jsonl")).write_text("altered")


def damage_state(data: Path) -> None:
    (data / ".agora-export" / "state.db").write_bytes(b"hello" * 1_000)


def link_folder(data: Path) -> None:
    (data / ".agora-export" / "writing").rmdir()
    (data / ".agora-export" / "writing").symlink_to(data)


@pytest.mark.slow_except("damaged")
@pytest.mark.parametrize(
    ("change", "options", "kind"),
    [
        (alter_file, (), "state"),
        (damage_state, (), "state"),
        (link_folder, (), "disk"),
        (lambda _: None, ("--finished",), "settings"),
    ],
    ids=["altered", "damaged", "linked", "other settings"],
)
def test_an_export_error_is_printed_with_its_kind(run, tmp_path, change, options, kind):
    to = tmp_path / "data"
    what = ("export", str(to), "--last", "1h", "--format", "jsonl", "--max-requests", "2")
    run(*what)
    change(to)
    result = run(*what, *options, "--json")
    assert (result.code, result.out) == (1, "")
    error, hint = result.err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert error.endswith(f" [kind: {kind}]")
    assert "kind" not in hint


def test_a_second_export_into_the_same_folder_fails_with_kind_running(run, tmp_path):
    to = tmp_path / "data"
    with closing(ExportState(to / ".agora-export" / "state.db", "place")):
        result = run("export", str(to), "--last", "1h", "--format", "jsonl")
    assert result.code == 1
    assert result.err.splitlines()[-2].endswith("is running already [kind: running]")
