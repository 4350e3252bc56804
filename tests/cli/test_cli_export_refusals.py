"""`agora-analytics export`: what the service refuses is told by name, and the rest comes (see also `exports`)."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from agora_analytics.export.state.export_state import ExportState
from agora_analytics.simulator import APP_ID, Fault, Faults

NO = Fault("refusal", code=404, message="no such call")


@pytest.mark.parametrize("apps", [f"{APP_ID},somebody-elses", f"somebody-elses,{APP_ID}"])
def test_an_app_id_that_is_refused_is_told_and_the_rest_comes(run, tmp_path, apps):
    to = str(tmp_path / "data")
    ran = run("export", to, "--apps", apps, "--last", "1h", "--format", "jsonl")
    assert ran.code == 1
    told = next(line for line in ran.out.splitlines() if line.startswith("left out: app: "))
    assert told.startswith("left out: app: Unauthorized: HTTP 200, code 403: Wrong authorization information.")
    assert told.endswith("somebody-elses, the next run tries again")
    rows = [json.loads(line) for path in (tmp_path / "data").rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert {row["app_id"] for row in rows} == {APP_ID}


def test_calls_that_are_refused_are_told_by_their_ids(run, served, monkeypatch, tmp_path):
    monkeypatch.setattr(served.service, "faults", Faults.always(NO).only("call_sessions"))
    what = ("--datasets", "sessions", "--last", "1h", "--format", "jsonl", "--max-requests", "40")
    ran = run("export", str(tmp_path / "data"), *what, "--concurrency", "1")
    assert ran.code == 1
    told = next(line for line in ran.out.splitlines() if line.startswith("left out: details: "))
    assert re.search(r"NotFound: HTTP 200, code 404, \d+ calls \([0-9A-F]{32}, ", told)
    assert told.endswith("the next run tries again")


def altered(data: Path) -> None:
    next(data.rglob("*.jsonl")).write_text("altered")


def damaged(data: Path) -> None:
    (data / ".agora-export" / "state.db").write_bytes(b"hello" * 1_000)


def linked(data: Path) -> None:
    (data / ".agora-export" / "writing").rmdir()
    (data / ".agora-export" / "writing").symlink_to(data)


@pytest.mark.parametrize(
    ("spoil", "more", "kind"),
    [
        (altered, (), "state"),
        (damaged, (), "state"),
        (linked, (), "disk"),
        (lambda _: None, ("--finished",), "settings"),
    ],
    ids=["altered", "damaged", "linked", "other settings"],
)
def test_an_export_that_ends_with_an_error_tells_its_kind(run, tmp_path, spoil, more, kind):
    to = tmp_path / "data"
    what = ("export", str(to), "--last", "1h", "--format", "jsonl", "--max-requests", "2")
    run(*what)
    spoil(to)
    ran = run(*what, *more, "--json")
    assert (ran.code, ran.out) == (1, "")
    error, hint = ran.err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert error.endswith(f" [kind: {kind}]")
    assert "kind" not in hint


def test_an_export_that_runs_already_tells_that_as_its_kind(run, tmp_path):
    to = tmp_path / "data"
    with closing(ExportState(to / ".agora-export" / "state.db", "place")):
        ran = run("export", str(to), "--last", "1h", "--format", "jsonl")
    assert ran.code == 1
    assert ran.err.splitlines()[-2].endswith("is running already [kind: running]")
