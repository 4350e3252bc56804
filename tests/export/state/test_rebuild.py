"""`rebuild=True` restores a lost state from the manifest, and accepts and reports missing or altered files."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import duckdb
import pytest
from helpers.export_files import data_files, manifest_of, rows
from helpers.export_runs import DAY, HOUR, NOON, all_rows, export, last_hours, remove_rate_limits, request_count

from agora_analytics import ExportError, Insight, Selection, Series, Skipped, Unauthorized
from agora_analytics.export.state.preflight import ALTERED
from agora_analytics.simulator import Fault, Faults, Simulation

FORMS = ("jsonl", "csv", "parquet", "delta", "sqlite", "duckdb")
SELECTION = last_hours(2, "calls", "sessions")
WIDER = last_hours(5, "calls", "sessions")


def delete_state(folder: Path) -> None:
    shutil.rmtree(folder / ".agora-export")


def empty_state(folder: Path) -> None:
    (folder / ".agora-export" / "state.db").write_bytes(b"")


def damage_state(folder: Path) -> None:
    (folder / ".agora-export" / "state.db").write_bytes(b"hello")


@pytest.mark.parametrize(
    ("form", "lose"), [*((form, delete_state) for form in FORMS), ("jsonl", empty_state), ("jsonl", damage_state)]
)
async def test_a_lost_state_is_rebuilt_from_the_manifest_without_a_request(tmp_path, simulation, form, lose):
    remove_rate_limits(simulation)
    for max_requests in (8, None):
        before = await export(simulation, SELECTION, tmp_path, format=form, max_requests=max_requests)
    expected = all_rows(tmp_path, "calls", "sessions")
    lose(tmp_path)
    requests = request_count(simulation)
    report = await export(simulation, SELECTION, tmp_path, format=form, rebuild=True)
    assert request_count(simulation) - requests == before.unfinished
    assert (report.rows, report.complete, report.unfinished) == (before.rows, True, before.unfinished)
    assert all_rows(tmp_path, "calls", "sessions") == expected
    again = await export(simulation, SELECTION, tmp_path, format=form)  # the next run needs no rebuild
    assert again.rows == before.rows
    assert all_rows(tmp_path, "calls", "sessions") == expected


async def test_a_part_has_its_day_as_a_date_and_older_numbers_are_read(tmp_path, simulation):
    remove_rate_limits(simulation)
    before = await export(simulation, SELECTION, tmp_path)
    expected = all_rows(tmp_path, "calls", "sessions")
    manifest = manifest_of(tmp_path)
    assert all(f"/day={part['day']}/" in part["path"] for part in manifest["parts"])
    assert {part["day"] for part in manifest["parts"]} == {"2026-11-24"}
    for part in manifest["parts"]:
        part["day"] = NOON // DAY
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    delete_state(tmp_path)
    requests = request_count(simulation)
    report = await export(simulation, SELECTION, tmp_path, rebuild=True)
    assert (request_count(simulation) - requests, report.rows) == (before.unfinished, before.rows)
    assert all_rows(tmp_path, "calls", "sessions") == expected
    assert {part["day"] for part in manifest_of(tmp_path)["parts"]} == {"2026-11-24"}


@pytest.mark.slow_except("open calls")
@pytest.mark.parametrize("minutes", [0.2, 15.0], ids=["finished calls", "open calls"])
async def test_a_rebuilt_export_resumes_like_one_that_kept_its_state(tmp_path, simulation, minutes):
    remove_rate_limits(simulation)
    simulation.service.world = attrs.evolve(simulation.world, calls_per_hour=150.0, typical_minutes=minutes)
    selection = Selection(NOON - 3 * HOUR, NOON + 2 * HOUR, datasets=("calls",))
    for folder in ("lost", "kept"):
        await export(simulation, selection, tmp_path / folder)
    delete_state(tmp_path / "lost")
    for _ in range(3):
        await asyncio.sleep(HOUR)
        for folder in ("lost", "kept"):
            report = await export(simulation, selection, tmp_path / folder, rebuild=folder == "lost")
            assert report.rows["calls"] == len({row[1] for row in rows(tmp_path / folder, "calls")})
    assert all_rows(tmp_path / "lost", "calls") == all_rows(tmp_path / "kept", "calls")


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_provisional_rows_are_requested_again_after_a_rebuild(tmp_path, simulation, form):
    remove_rate_limits(simulation)
    selection = Selection(
        NOON - DAY,
        NOON - 60,
        datasets=("insights", "realtime"),
        insights=[Insight("userCount", granularity="1h")],
        series=[Series("userCount", product="Native")],
    )
    await export(simulation, selection, tmp_path, format=form)
    expected = all_rows(tmp_path, "insights", "realtime")
    delete_state(tmp_path)
    report = await export(simulation, selection, tmp_path, format=form, rebuild=True)
    assert all_rows(tmp_path, "insights", "realtime") == expected
    assert report.provisional > 0


async def test_half_fetched_calls_are_reported_and_no_row_is_duplicated(tmp_path, simulation):
    remove_rate_limits(simulation)
    selection = last_hours(2, "calls", "sessions", "metrics", mids={20001})
    await export(simulation, selection, tmp_path / "whole")
    short = await export(simulation, selection, tmp_path / "short", max_requests=12)
    assert short.pending
    delete_state(tmp_path / "short")
    report = await export(simulation, selection, tmp_path / "short", rebuild=True)
    (half,) = report.skipped
    assert (half.what, half.reason) == ("details", "half fetched when the state was lost")
    for name in selection.datasets:
        found = rows(tmp_path / "short", name)
        assert len({*found}) == len(found) == report.rows[name]
    ids = [{row[1] for row in rows(tmp_path / name, "metrics")} for name in ("whole", "short")]
    assert 0 < len(ids[0] - ids[1]) <= (half.calls or 0)


@pytest.mark.parametrize("form", FORMS)
async def test_a_missing_file_is_reported_and_the_export_is_never_complete(tmp_path, simulation, form):
    remove_rate_limits(simulation)
    before = await export(simulation, SELECTION, tmp_path, format=form)
    data_files(tmp_path, "sessions")[0].unlink()
    for rebuild in (True, False):
        report = await export(simulation, SELECTION, tmp_path, format=form, rebuild=rebuild)
        assert not report.complete
        gone = {one.what: one.rows for one in report.skipped if one.reason == "its file is gone"}
        assert {name: report.rows[name] + gone.get(name, 0) for name in before.rows} == before.rows
        assert "sessions" in gone


@pytest.mark.parametrize("form", FORMS)
async def test_no_manifest_is_complete_once_a_listed_file_is_known_to_be_gone(tmp_path, simulation, form):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path, format=form)
    assert manifest_of(tmp_path)["complete"]
    data_files(tmp_path, "sessions")[0].unlink()
    simulation.faults = Faults.always(Fault("status", status=401))
    with pytest.raises(Unauthorized):
        await export(simulation, WIDER, tmp_path, format=form, rebuild=True)
    assert not manifest_of(tmp_path)["complete"]


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_provisional_rows_of_a_missing_file_are_written_again_and_not_reported(tmp_path, simulation, form):
    remove_rate_limits(simulation)
    selection = Selection(
        NOON - DAY, NOON - 60, datasets=("insights",), insights=[Insight("userCount", granularity="1h")]
    )
    report = await export(simulation, selection, tmp_path, format=form)
    expected = all_rows(tmp_path, "insights")
    assert report.provisional > 0
    delete_provisional(tmp_path, form)
    again = await export(simulation, selection, tmp_path, format=form, rebuild=True)
    assert all_rows(tmp_path, "insights") == expected
    # A database is one file: if it was altered, any of its rows may be.
    expected_skipped = {"jsonl": report.skipped, "sqlite": (Skipped(app_id="", what="database", reason=ALTERED),)}[form]
    assert (again.skipped, again.rows) == (expected_skipped, report.rows)


def delete_provisional(folder: Path, form: str) -> None:
    if form == "jsonl":
        for path in folder.rglob("provisional*"):
            path.unlink()
        return
    with sqlite3.connect(folder / f"export.{form}") as database:
        for part in manifest_of(folder)["parts"]:
            if part["provisional"]:
                database.execute("DELETE FROM insights WHERE _part = ?", (part["id"],))
    database.close()


def truncate(database: Path) -> None:
    database.write_bytes(database.read_bytes()[: database.stat().st_size // 2])


def overwrite(database: Path) -> None:
    database.write_bytes(b"hello" * 5_000)


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
@pytest.mark.parametrize("damage", [truncate, overwrite])
async def test_an_unreadable_database_is_reported_whether_closed_or_not(tmp_path, simulation, form, damage):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path, format=form)
    damage(tmp_path / f"export.{form}")
    message = await refusal(simulation, tmp_path, format=form)
    with sqlite3.connect(tmp_path / ".agora-export" / "state.db") as state:
        state.execute("DELETE FROM database")  # as after a killed run
    state.close()
    for rebuild in (True, False):
        again = await refusal(simulation, tmp_path, format=form, rebuild=rebuild)
        assert "Put back a copy of it" in message
        assert "--rebuild" not in message
        assert again.partition("[")[2] == message.partition("[")[2]


def alter(database: Path) -> None:
    """Change values, but not the number of rows."""
    if database.suffix == ".sqlite":
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("UPDATE calls SET cname = 'another'")
            connection.commit()
        return
    with duckdb.connect(str(database)) as other:
        other.execute("UPDATE calls SET cname = 'another'")


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
async def test_an_altered_database_is_reported_and_the_export_is_never_complete(tmp_path, simulation, form):
    remove_rate_limits(simulation)
    before = await export(simulation, SELECTION, tmp_path, format=form)
    for change in (alter, lambda _: None, alter, lambda path: delete_state(path.parent)):
        change(tmp_path / f"export.{form}")
        report = await export(simulation, SELECTION, tmp_path, format=form, rebuild=True)
        (skipped,) = report.skipped
        assert (skipped.app_id, skipped.what, skipped.rows) == ("", "database", None)
        assert skipped.reason == "its file was altered"
        assert (report.rows, report.complete) == (before.rows, False)


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
async def test_unlisted_rows_are_not_accepted_and_no_rebuild_is_suggested(tmp_path, simulation, form):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path, format=form, max_requests=8)
    manifest = (tmp_path / "manifest.json").read_bytes()
    await export(simulation, SELECTION, tmp_path, format=form)
    (tmp_path / "manifest.json").write_bytes(manifest)  # as after a later run that was killed
    delete_state(tmp_path)
    message = await refusal(simulation, tmp_path, format=form)
    assert "does not list part " in message
    assert "Export into another place" in message
    assert "--rebuild" not in message


async def test_an_altered_file_is_accepted_and_reported(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path)
    path = data_files(tmp_path, "sessions")[0]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[1:]))
    for rebuild in (True, False):
        report = await export(simulation, SELECTION, tmp_path, rebuild=rebuild)
        assert [(one.what, one.reason, one.rows) for one in report.skipped] == [
            ("sessions", "its file was altered", len(lines))
        ]
    assert path.read_text() == "".join(lines[1:])


async def test_lost_files_stay_reported_when_the_state_is_lost_too(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path)
    data_files(tmp_path, "sessions")[0].unlink()
    first = await export(simulation, SELECTION, tmp_path, rebuild=True)
    delete_state(tmp_path)
    again = await export(simulation, SELECTION, tmp_path, rebuild=True)
    assert (again.skipped, again.rows) == (first.skipped, first.rows)


async def refusal(simulation: Simulation, folder: Path, kind: str = "state", **options) -> str:
    """Run an export twice; return the message of its refusal, which must come before any request."""
    before = request_count(simulation)
    for _ in range(2):
        with pytest.raises(ExportError) as error:
            await export(simulation, SELECTION, folder, **{"rebuild": True, **options})
    assert request_count(simulation) == before
    assert error.value.kind == kind
    return str(error.value)


async def test_files_that_the_manifest_does_not_list_are_not_accepted(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path)
    delete_state(tmp_path)
    path = data_files(tmp_path, "calls")[0]
    shutil.copy(path, path.with_name("part-00009.jsonl"))
    assert "does not list calls/" in await refusal(simulation, tmp_path)
    path.with_name("part-00009.jsonl").unlink()
    assert (await export(simulation, SELECTION, tmp_path, rebuild=True)).complete


async def test_without_a_manifest_nothing_is_rebuilt(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path)
    delete_state(tmp_path)
    (tmp_path / "manifest.json").unlink()
    assert "there is no manifest.json" in await refusal(simulation, tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"parts": 5}', "\x00"], ids=range(6))
async def test_a_foreign_manifest_is_reported(tmp_path, simulation, text):
    (tmp_path / "manifest.json").write_text(text)
    assert "is not what an export of this version wrote" in await refusal(simulation, tmp_path)
    assert (tmp_path / "manifest.json").read_text() == text


async def test_a_manifest_of_another_selection_is_refused(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, last_hours(2, "calls"), tmp_path)
    delete_state(tmp_path)
    assert "datasets" in await refusal(simulation, tmp_path, "settings")


async def test_a_manifest_has_no_call_that_no_list_can_contain_again(tmp_path, simulation):
    remove_rate_limits(simulation)
    selection = Selection(NOON - 20 * HOUR, NOON - 6 * HOUR, datasets=("calls",))
    report = await export(simulation, selection, tmp_path)
    listed = manifest_of(tmp_path)["resume"]["calls"]
    assert len(listed) < report.rows["calls"] / 5


async def test_a_rebuild_of_an_intact_export_changes_nothing(tmp_path, simulation):
    remove_rate_limits(simulation)
    before = await export(simulation, SELECTION, tmp_path)
    report = await export(simulation, SELECTION, tmp_path, rebuild=True)
    assert (report.rows, report.skipped, report.parts) == (before.rows, (), before.parts)
