"""A write-ahead log that a killed process left beside a copy is not applied to a new file of the same name."""

from __future__ import annotations

import shutil
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from helpers.export_runs import remove_rate_limits

from agora_analytics.export.state import copies
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.recovery_tables import DatabaseCopy


def leave_killed_run(path: Path) -> None:
    """Leave the files of a process that was killed while it had an empty state open at this path."""
    aside = path.with_name("aside")
    aside.mkdir()
    with closing(ExportState(aside / path.name, "aside")):
        for file in aside.iterdir():
            shutil.copy(file, path.parent)
    shutil.rmtree(aside)


def test_a_downloaded_copy_ignores_a_leftover_log(tmp_path):
    source = ExportState(tmp_path / "state.db", "place")
    with source.transaction():
        source.save_settings({"format": "jsonl"})
    copied = tmp_path / "packed"
    source.copy_to(copied)
    source.close()

    class Store:
        def get(self, _: str, file: Path) -> None:
            shutil.copy(copied, file)

    copy = tmp_path / "state.copy"
    leave_killed_run(copy)
    assert copy.with_name("state.copy-wal").stat().st_size > 0
    copies.download(Store(), "name", copy)
    copies.check_copy(copy)  # raises if it is no state, or an empty one
    with closing(ExportState(copy, "place")) as state:
        assert state.settings() == {"format": "jsonl"}


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_a_machine_with_a_killed_run_takes_the_copy_from_the_store(
    tmp_path, simulation, memory_place, truth, form
):
    remove_rate_limits(simulation)
    await memory_place.run(simulation, "one", format=form, max_requests=5)
    await memory_place.run(simulation, "two", format=form, max_requests=5)
    (state,) = (tmp_path / "one").rglob("state.db")
    leave_killed_run(state.with_name("state.copy"))
    report = await memory_place.run(simulation, "one", format=form)
    assert (report.complete, memory_place.rows()) == (True, truth)


def test_a_database_with_a_leftover_log_is_downloaded_although_its_checksum_matches(tmp_path):
    (tmp_path / "export.duckdb").write_bytes(b"whole")
    (tmp_path / "export.duckdb.wal").write_bytes(b"changes of a part that the state does not know")

    class Store:
        def stat(self, name: str) -> str | None:
            return name if name == "database-1" else None

        def get(self, _: str, file: Path) -> None:
            file.write_bytes(b"whole")

    (tmp_path / "writing").mkdir()
    copy_info = DatabaseCopy("database-1", 5, sha256(b"whole").hexdigest())
    assert copies.fetch_database(Store(), copy_info, tmp_path / "export.duckdb")
    assert [path.name for path in tmp_path.iterdir() if "wal" in path.name] == []
    assert (tmp_path / "export.duckdb").read_bytes() == b"whole"
