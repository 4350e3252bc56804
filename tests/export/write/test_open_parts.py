"""A part that is still open at the end of a run, while provisional parts are replaced or removed."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
from helpers.export_files import rows
from helpers.export_runs import HOUR, NOON, export, remove_rate_limits

from agora_analytics import Selection
from agora_analytics.export.formats.sqlite import SqliteWriter
from agora_analytics.export.write import part_writer
from agora_analytics.simulator import Simulation, World


@pytest.mark.slow_except("jsonl", "sqlite")
@pytest.mark.parametrize("form", ["jsonl", "sqlite", "duckdb"])
async def test_an_open_part_survives_rewritten_or_removed_provisional_parts(tmp_path, monkeypatch, clock, form):
    if form == "duckdb":
        pytest.importorskip("duckdb")
    monkeypatch.setattr(part_writer, "_FLUSH_SIZE", 2_000)  # so that a few rows open a part
    still_open: list[bool] = []
    flush_all = part_writer.PartWriter.flush_all

    async def record_open_part(self: part_writer.PartWriter) -> None:
        still_open.append(self._open_part is not None)
        await flush_all(self)

    monkeypatch.setattr(part_writer.PartWriter, "flush_all", record_open_part)
    world = World(seed=7, calls_per_hour=25.0, typical_minutes=15.0, long_share=0, large_share=0)
    simulation = Simulation(world=world, clock=clock)
    remove_rate_limits(simulation)
    selection = Selection(NOON - 2 * HOUR, NOON, datasets=("calls", "sessions"))
    provisional = []
    for wait in (60, 2 * HOUR, 2 * HOUR):
        report = await export(simulation, selection, tmp_path, format=form)
        assert report.complete
        assert {name: len(rows(tmp_path, name)) for name in ("calls", "sessions")} == report.rows
        provisional.append(report.provisional > 0)
        await asyncio.sleep(wait)
    assert provisional == [True, True, False]
    assert still_open[::2] == [True, True]


def test_a_database_accepts_ready_while_a_part_is_written(tmp_path):
    with closing(SqliteWriter(tmp_path / "file")) as tables:
        tables.ready()
        tables.begin("calls", 1)
        tables.ready()
        tables.end()
