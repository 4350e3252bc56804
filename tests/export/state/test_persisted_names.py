"""What a state, a manifest or a line to the writer says by name: known names do what they did, others are told."""

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


def altered(folder: Path, statement: str, *values: object) -> None:
    """Change the state as another version, or an accident, would have written it."""
    state = sqlite3.connect(folder / ".agora-export" / "state.db")
    with state:
        assert state.execute(statement, values).rowcount
    state.close()


def cursors(folder: Path) -> list[str]:
    state = sqlite3.connect(folder / ".agora-export" / "state.db")
    found = [cursor for (cursor,) in state.execute("SELECT cursor FROM calls WHERE cursor != ''")]
    state.close()
    return found


async def half_done(simulation, folder: Path, step: str) -> None:
    """An export that stopped where the next request of a call is a step."""
    for _ in range(60):
        await export(simulation, LONG, folder, max_requests=1, concurrency=1)
        if any(f'"{step}"' in cursor for cursor in cursors(folder)):
            return
    raise AssertionError(step)


@pytest.fixture
def small(simulation):
    remove_rate_limits(simulation)
    simulation.service.world = type(simulation.world)(seed=7, calls_per_hour=0.1, typical_minutes=0.2)
    return simulation


@pytest.mark.parametrize("step", ["metrics", "statistics"])
async def test_a_state_with_any_step_ever_written_resumes(tmp_path, small, step):
    await export(small, LONG, tmp_path / "whole")
    await half_done(small, tmp_path / "cut", step)
    # The very text that versions before this one have written.
    kept = {"step": step, "cut": 7_200, "part": 0, "page": 1, "count": 0, "number": 0}
    assert json.loads(cursors(tmp_path / "cut")[0]).keys() == kept.keys() | {"total"}
    altered(tmp_path / "cut", "UPDATE calls SET cursor = json_remove(cursor, '$.total') WHERE cursor != ''")
    await export(small, LONG, tmp_path / "cut")
    assert all_rows(tmp_path / "cut", *LONG.datasets) == all_rows(tmp_path / "whole", *LONG.datasets)


CURSOR = "UPDATE calls SET cursor = ? WHERE cursor != ''"
UNKNOWN = {
    "a step": (CURSOR, '{"step": "transcripts", "cut": 5}', "transcripts"),
    "the name of something else": (
        CURSOR,
        '{"step": "due", "cut": 5}',
        "due",
    ),
    "a place before the first": (
        CURSOR,
        '{"step": "sessions", "cut": 5, "part": -1}',
        "no cursor of a call",
    ),
    "a cut of nothing": (CURSOR, '{"step": "metrics"}', "no cursor of a call"),
    "no cursor at all": (CURSOR, "metrics 3", "'metrics 3' is no cursor"),
    "a kind of span": ("UPDATE spans SET kind = ?", 4, "4 is no kind of spans"),
    "no kind of span": ("UPDATE spans SET kind = ?", None, "None is no kind of spans"),
    "a status of calls": ("UPDATE calls SET status = ?", -1, "-1 is no status of calls"),
    "a dataset": ("UPDATE groups SET dataset = ? WHERE id = 1", "transcripts", "'transcripts' is no dataset"),
}


@pytest.mark.parametrize(("statement", "value", "said"), UNKNOWN.values(), ids=UNKNOWN)
async def test_an_unknown_name_is_reported_before_any_request(tmp_path, small, statement, value, said):
    await half_done(small, tmp_path, "metrics")
    altered(tmp_path, statement, value)
    before = request_count(small)
    with pytest.raises(ExportError, match=said) as told:
        await export(small, LONG, tmp_path)
    assert (told.value.kind, request_count(small)) == ("state", before)
    assert "Put back a copy" in told.value.hint


async def test_a_state_with_an_unknown_step_is_rebuilt(tmp_path, small):
    await export(small, LONG, tmp_path / "whole")
    await half_done(small, tmp_path / "cut", "metrics")
    altered(tmp_path / "cut", *UNKNOWN["a step"][:2])
    report = await export(small, LONG, tmp_path / "cut", rebuild=True)
    assert [(one.calls, one.reason) for one in report.skipped] == [(1, "half fetched when the state was lost")]
    assert rows(tmp_path / "cut", "calls") == rows(tmp_path / "whole", "calls")


MANIFESTS = {"dataset": ("parts", "dataset"), "state of a span": ("spans", "state")}


@pytest.mark.parametrize(("many", "name"), MANIFESTS.values(), ids=MANIFESTS)
async def test_an_unknown_name_in_a_manifest_is_reported(tmp_path, small, many, name):
    await export(small, LONG, tmp_path)
    document = json.loads((tmp_path / "manifest.json").read_text())
    document[many][0][name] = "transcripts"
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    (tmp_path / ".agora-export" / "state.db").unlink()
    before = request_count(small)
    with pytest.raises(ExportError, match="not what an export of this version wrote") as told:
        await export(small, LONG, tmp_path, rebuild=True)
    assert (told.value.kind, request_count(small)) == ("state", before)


@pytest.mark.parametrize("verb", ["transcribe", "__init__", "_rows"])
def test_a_writer_reports_an_unknown_command(tmp_path, verb):
    writer = SubprocessWriter("jsonl", tmp_path, tmp_path / ".state" / "scratch")
    try:
        writer._send_command(verb)
        with pytest.raises(WriterError, match=f"does not know the command '{verb}'"):
            writer.ready()
    finally:
        with pytest.raises(WriterError):
            writer.close()
