"""Reports and ready SQL of exports that are damaged, changed, or hold what no service should send."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.written_exports import SELECTION, write_export, write_rows

from agora_analytics import ExportError
from agora_analytics.export import queries
from agora_analytics.ops import report

CALL = {
    "app_id": "a",
    "call_id": "1",
    "cname": "lobby",
    "finished": True,
    "call_pcu": 2,
    "call_video_freeze_rate": 0.5,
    "created_ts": "2026-11-24T12:00:00Z",
    "destroyed_ts": "2026-11-24T12:20:00Z",
}
SESSION = {
    "app_id": "a",
    "call_id": "1",
    "sid": "s",
    "uid": "1",
    "finished": True,
    "user_video_freeze_rate": 0.1,
    "join_ts": "2026-11-24T12:00:00Z",
    "leave_ts": "2026-11-24T12:20:00Z",
}
PART = "calls/app=a/day=2026-11-24/part-00001.jsonl"


def written(place: Path, *, session: Any = (), call: Any = (), **manifest: Any) -> Path:
    rows = {"calls": [CALL | dict(call)], "sessions": [SESSION, SESSION | {"sid": "t"} | dict(session)]}
    return write_rows(place / "data", rows, **manifest)


def listing(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.rglob("part-*"))
    return [{"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size} for path in files]


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("exports")
    end = SELECTION.span.end
    day = attrs.evolve(SELECTION, start=end - 86_400, end=end, datasets=("calls",), statistics=(), insights=(), mids=())
    for form in ("parquet", "csv", "jsonl", "jsonl.gz", "duckdb"):
        write_export(place / form, day, format=form)
    return place


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl", "jsonl.gz", "duckdb"])
def test_a_damaged_file_is_an_error_that_names_the_export(exports, form):
    path = next(path for path in sorted((exports / form).rglob("*")) if path.name.startswith(("part-", "export.")))
    path.write_bytes(path.read_bytes()[: 5_000 if form == "duckdb" else path.stat().st_size // 2 + 5])
    for read in (queries.run, lambda _, folder: report.week(folder), lambda _, folder: report.call(folder, "1")):
        with pytest.raises(ExportError, match=r"the export in '.*' cannot be read: \S") as caught:
            read("worst_calls", exports / form)
        assert caught.value.kind in {"state", "disk"}
        assert "\n" not in str(caught.value.args[0])


def test_the_views_of_a_damaged_export_are_an_error_too(tmp_path):
    (tmp_path / "export.duckdb").write_bytes(b"no database" * 1_000)
    with pytest.raises(ExportError, match="cannot be read"):
        queries.views(tmp_path)


def test_a_file_that_is_gone_altered_or_unknown_is_said(tmp_path):
    folder = written(tmp_path)
    manifest = folder / "manifest.json"
    parts = listing(folder)
    manifest.write_text(json.dumps({"complete": True, "parts": parts}))
    assert "Complete: nothing is known to be missing." in report.week(folder)
    (folder / PART).rename(folder / PART.replace("00001", "00002"))
    page = report.week(folder)
    assert f"files that are gone: their rows are missing: 1, such as {PART}" in page
    assert "files that are unknown to the export: rows may be counted twice: 1, such as calls/" in page
    assert "Complete" not in page
    (folder / PART.replace("00001", "00002")).rename(folder / PART)
    (folder / PART).write_text((folder / PART).read_text() * 2)
    assert f"files that are altered since they were written: 1, such as {PART}" in report.week(folder)


@pytest.mark.parametrize("form", ["parquet", "duckdb"])
def test_of_a_real_export_no_file_is_wrong(tmp_path, form):
    day = attrs.evolve(SELECTION, start=SELECTION.span.end - 86_400, datasets=("calls",), statistics=(), insights=())
    write_export(tmp_path / "data", attrs.evolve(day, mids=()), format=form)
    assert "files that are" not in report.week(tmp_path / "data")


def test_a_report_made_while_a_run_ends_says_so(tmp_path, monkeypatch):
    folder = written(tmp_path)
    answer = queries.running.answer

    def change(*arguments: Any) -> Any:
        (folder / "manifest.json").write_text(json.dumps({"complete": True, "skipped": [], "rows": {}}))
        return answer(*arguments)

    monkeypatch.setattr(queries.running, "answer", change)
    assert "a run changed the export while this report was made" in report.week(folder)


@pytest.mark.parametrize(
    "wrong",
    [
        {"leave_ts": "2026-11-24T11:00:00Z"},
        {"leave_ts": "1970-01-01T00:00:01Z"},
        {"join_ts": "1970-01-01T00:00:01Z"},
        {"leave_ts": "4000-01-01T00:00:00Z"},
        {"leave_ts": "56000-01-01T00:00:00Z"},
        {"join_ts": None, "leave_ts": None},
    ],
    ids=str,
)
def test_a_wrong_time_of_one_session_leaves_the_chart_of_the_others(tmp_path, wrong):
    page = report.call(written(tmp_path, session=wrong), "1")
    values = re.findall(r"<tr><th [^>]*>(11-24 12:\d\d:00)</th><td[^>]*>(\d)</td></tr>", page)
    assert [minute for minute, _ in values] == [f"11-24 12:{minute:02}:00" for minute in range(21)]
    assert {users for _, users in values} <= {"1", "2"}


def test_a_call_from_the_future_does_not_move_the_newest_week(tmp_path):
    rows = {"calls": [CALL, CALL | {"call_id": "2", "created_ts": "4000-01-01T00:00:00Z"}]}
    folder = write_rows(tmp_path / "data", rows, spans=[{"end": 1_795_564_800}])
    assert "Call quality, 2026-11-18 to 2026-11-24" in report.week(folder)


@pytest.mark.parametrize("rate", [1e308, -1e308])
def test_figures_beyond_measure_stay_out_of_the_drawing(tmp_path, rate):
    folder = written(tmp_path, call={"call_video_freeze_rate": rate, "call_pcu": 2**62}, session={"sid": "u"})
    for page in (report.week(folder), report.call(folder, "1")):
        assert re.findall(r'="[^"]*\b(?:nan|inf)\b[^"]*"', page) == []
        assert max(map(len, re.findall(r">([^<]*)<", page.partition("</style>")[2]))) < 200


def test_of_several_app_ids_each_row_says_which(tmp_path):
    both = {"calls": [CALL, CALL | {"app_id": "b"}], "sessions": [SESSION, SESSION | {"app_id": "b"}]}
    assert "App ID</th>" in report.week(write_rows(tmp_path / "both", both))
    assert "App ID</th>" not in report.week(written(tmp_path))


def test_exports_side_by_side_are_not_one(tmp_path):
    for name in ("one", "two"):
        written(tmp_path / name)
        (tmp_path / name / "data").rename(tmp_path / f"{name} week")
    with pytest.raises(ValueError, match="holds no export that DuckDB reads"):
        queries.run("worst_calls", tmp_path)
    (tmp_path / "one week").rename(tmp_path / "2026-11-24-1d-0001")
    assert queries.run("worst_calls", tmp_path).total == 1


def test_a_call_that_begins_at_midnight_has_its_hour(tmp_path):
    page = report.week(written(tmp_path, call={"created_ts": "2026-11-24T00:00:00Z"}))
    assert "<time>2026-11-24 00:00</time>" in page


def test_one_call_id_of_two_app_ids_is_not_one_call(tmp_path):
    rows = {
        "calls": [CALL, CALL | {"app_id": "b", "cname": "other"}],
        "sessions": [SESSION | {"app_id": app, "account": f"user of {app}"} for app in ("a", "b")],
    }
    page = report.call(write_rows(tmp_path / "data", rows), "1")
    assert "2 App IDs have a call of this id: this is that of a" in page
    assert "user of a" in page
    assert "user of b" not in page


def test_a_table_of_many_values_is_cut(tmp_path):
    same = {"app_id": "a", "call_id": "1", "metric": "video_freeze_rate", "dimension": "device", "user_count": 1}
    values = [same | {"dimension_value": f"device {number}", "value": number / 1_000} for number in range(1_000)]
    page = report.call(write_rows(tmp_path / "data", {"calls": [CALL], "statistics": values}), "1")
    assert "The first 200 of 1000 rows." in page
    assert "<bdi>device 999</bdi>" in page
    assert "<bdi>device 799</bdi>" not in page


def test_a_limit_leaves_the_number_of_all_rows(tmp_path):
    sessions = [SESSION | {"sid": f"{number}", "cname": f"channel {number}"} for number in range(40)]
    folder = write_rows(tmp_path / "data", {"sessions": sessions})
    found = queries.run("minutes_by_channel", folder, limit=3)
    assert (len(found.rows), found.total) == (3, 40)
    assert found.rows == queries.run("minutes_by_channel", folder).rows[:3]
    assert "The first 15 of 40 rows." in report.week(folder)
    with pytest.raises(ValueError, match="limit=0: allowed are"):
        queries.run("minutes_by_channel", folder, limit=0)
