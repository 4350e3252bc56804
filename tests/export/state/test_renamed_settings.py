"""Exports whose settings and manifest have former names are resumed and rebuilt like others."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from helpers.export_files import manifest_of
from helpers.export_runs import all_rows, export, last_hours, remove_rate_limits, request_count

from agora_analytics import ExportError

SELECTION = last_hours(2, "calls", "sessions", min_freeze_rate=0.01)


def with_older_names(folder: Path) -> None:
    """Give the state and the manifest of an export the names that preceded `min_freeze_rate` and `skipped`."""
    with closing(sqlite3.connect(folder / ".agora-export" / "state.db")) as state, state:
        changed = state.execute("UPDATE settings SET name = 'worse_than' WHERE name = 'min_freeze_rate'")
        assert changed.rowcount == 1
    manifest = manifest_of(folder)
    manifest["settings"]["worse_than"] = manifest["settings"].pop("min_freeze_rate")
    manifest["left_out"] = manifest.pop("skipped")
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("lost", [False, True])
async def test_an_export_with_former_setting_names_is_resumed_or_rebuilt(tmp_path, simulation, lost):
    remove_rate_limits(simulation)
    before = await export(simulation, SELECTION, tmp_path)
    expected, requests = all_rows(tmp_path, "calls", "sessions"), request_count(simulation)
    with_older_names(tmp_path)
    if lost:
        shutil.rmtree(tmp_path / ".agora-export")
    report = await export(simulation, SELECTION, tmp_path, rebuild=lost)
    assert request_count(simulation) - requests == before.unfinished
    assert (report.complete, report.rows) == (True, before.rows)
    assert all_rows(tmp_path, "calls", "sessions") == expected
    manifest = manifest_of(tmp_path)
    assert (manifest["skipped"], manifest["settings"]["min_freeze_rate"]) == ([], 0.01)
    assert "worse_than" not in manifest["settings"]


async def test_another_value_under_a_former_name_is_another_setting(tmp_path, simulation):
    await export(simulation, SELECTION, tmp_path)
    with_older_names(tmp_path)
    with pytest.raises(ExportError, match=r"min_freeze_rate 0\.01, now 0\.02"):
        await export(simulation, last_hours(2, "calls", "sessions", min_freeze_rate=0.02), tmp_path)


async def test_the_manifest_lists_what_is_skipped_under_the_name_of_the_report(tmp_path, simulation):
    report = await export(simulation, last_hours(24 * 40, "calls"), tmp_path, max_requests=60)
    assert report.skipped
    listed = manifest_of(tmp_path)["skipped"]
    assert [(one["what"], one["reason"]) for one in listed] == [(one.what, one.reason) for one in report.skipped]
