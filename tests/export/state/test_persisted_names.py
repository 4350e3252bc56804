"""Names in a state, a manifest or a command of the writer: known ones keep their meaning, others are reported."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from helpers.export_files import rows
from helpers.export_runs import DAY, NOON, all_rows, export, remove_rate_limits, request_count

from agora_analytics import Breakdown, ExportError, Selection
from agora_analytics.export.write.subprocess_writer import SubprocessWriter
from agora_analytics.export.write.writer import WriterError

LONG = Selection(
    NOON - 2 * DAY,
    NOON - 600,
    datasets=("calls", "sessions", "metrics", "statistics"),
    mids={20001},
    statistics=[Breakdown("audio_freeze_rate", "os"), Breakdown("video_freeze_rate", "country")],
)


def update_state(folder: Path, statement: str, *values: object) -> None:
    """Change the state of an export as another version or a damage may have."""
    state = sqlite3.connect(folder / ".agora-export" / "state.db")
    with state:
        assert state.execute(statement, values).rowcount
    state.close()


def stored_cursors(folder: Path) -> list[str]:
    state = sqlite3.connect(folder / ".agora-export" / "state.db")
    found = [cursor for (cursor,) in state.execute("SELECT cursor FROM calls WHERE cursor != ''")]
    state.close()
    return found


async def stop_before(simulation, folder: Path, stage: str) -> None:
    """Run an export until the next request of a call is of this stage."""
    for _ in range(60):
        await export(simulation, LONG, folder, max_requests=1, concurrency=1)
        if any(f'"{stage}"' in cursor for cursor in stored_cursors(folder)):
            return
    raise AssertionError(stage)


@pytest.fixture
def single_call(simulation):
    """Return a simulation with very few calls, so that one of them is fetched at a time."""
    remove_rate_limits(simulation)
    simulation.service.world = type(simulation.world)(seed=7, calls_per_hour=0.1, typical_minutes=0.2)
    return simulation


@pytest.mark.parametrize("stage", ["metrics", "statistics"])
async def test_a_state_with_any_stage_ever_written_resumes(tmp_path, single_call, stage):
    await export(single_call, LONG, tmp_path / "whole")
    await stop_before(single_call, tmp_path / "cut", stage)
    # The fields that all earlier versions have written.
    cursor_fields = {"stage": stage, "slice_seconds": 7_200, "slice": 0, "page": 1, "rows_read": 0, "item": 0}
    assert json.loads(stored_cursors(tmp_path / "cut")[0]).keys() == cursor_fields.keys() | {"total"}
    update_state(tmp_path / "cut", "UPDATE calls SET cursor = json_remove(cursor, '$.total') WHERE cursor != ''")
    await export(single_call, LONG, tmp_path / "cut")
    assert all_rows(tmp_path / "cut", *LONG.datasets) == all_rows(tmp_path / "whole", *LONG.datasets)


CURSOR = "UPDATE calls SET cursor = ? WHERE cursor != ''"
UNKNOWN = {
    "a stage": (CURSOR, '{"stage": "transcripts", "slice_seconds": 5}', "transcripts"),
    "a name that is no stage": (
        CURSOR,
        '{"stage": "due", "slice_seconds": 5}',
        "due",
    ),
    "a negative slice": (
        CURSOR,
        '{"stage": "sessions", "slice_seconds": 5, "slice": -1}',
        "no cursor of a call",
    ),
    "no length of slices": (CURSOR, '{"stage": "metrics"}', "no cursor of a call"),
    "no JSON": (CURSOR, "metrics 3", "'metrics 3' is no cursor"),
    "a status of spans": ("UPDATE spans SET status = ?", 4, "4 is no status of spans"),
    "no status of spans": ("UPDATE spans SET status = ?", None, "None is no status of spans"),
    "a status of calls": ("UPDATE calls SET status = ?", -1, "-1 is no status of calls"),
    "a dataset": (
        "UPDATE partitions SET dataset = ? WHERE partition_id = 1",
        "transcripts",
        "'transcripts' is no dataset",
    ),
}


@pytest.mark.parametrize(("statement", "value", "message"), UNKNOWN.values(), ids=UNKNOWN)
async def test_an_unknown_name_is_reported_before_any_request(tmp_path, single_call, statement, value, message):
    await stop_before(single_call, tmp_path, "metrics")
    update_state(tmp_path, statement, value)
    before = request_count(single_call)
    with pytest.raises(ExportError, match=message) as error:
        await export(single_call, LONG, tmp_path)
    assert (error.value.kind, request_count(single_call)) == ("state", before)
    assert "Put back a copy" in error.value.hint


async def test_a_state_with_an_unknown_stage_is_rebuilt(tmp_path, single_call):
    await export(single_call, LONG, tmp_path / "whole")
    await stop_before(single_call, tmp_path / "cut", "metrics")
    update_state(tmp_path / "cut", *UNKNOWN["a stage"][:2])
    report = await export(single_call, LONG, tmp_path / "cut", rebuild=True)
    assert [(one.calls, one.reason) for one in report.skipped] == [(1, "half fetched when the state was lost")]
    assert rows(tmp_path / "cut", "calls") == rows(tmp_path / "whole", "calls")


MANIFESTS = {"dataset": ("parts", "dataset"), "state of a span": ("spans", "state")}


@pytest.mark.parametrize(("field", "key"), MANIFESTS.values(), ids=MANIFESTS)
async def test_an_unknown_name_in_a_manifest_is_reported(tmp_path, single_call, field, key):
    await export(single_call, LONG, tmp_path)
    document = json.loads((tmp_path / "manifest.json").read_text())
    document[field][0][key] = "transcripts"
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    (tmp_path / ".agora-export" / "state.db").unlink()
    before = request_count(single_call)
    with pytest.raises(ExportError, match="not what an export of this version wrote") as error:
        await export(single_call, LONG, tmp_path, rebuild=True)
    assert (error.value.kind, request_count(single_call)) == ("state", before)


@pytest.mark.parametrize("command", ["transcribe", "__init__", "_rows"])
def test_a_writer_reports_an_unknown_command(tmp_path, command):
    writer = SubprocessWriter("jsonl", tmp_path, tmp_path / ".state" / "scratch")
    try:
        writer._channel.send(command)
        with pytest.raises(WriterError, match=f"does not know the command '{command}'"):
            writer.ready()
    finally:
        with pytest.raises(WriterError):
            writer.close()
