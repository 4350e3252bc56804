"""Details of calls in parts: spans longer than a request may have, lists of several pages, several breakdowns."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import attrs
import pytest
from helpers.export_files import rows
from helpers.export_runs import HOUR, NOON, Tampering, asked, export, free, last

from agora_analytics import Breakdown, Selection
from agora_analytics.export.fetch.call_details import _merge_partials
from agora_analytics.export.state.staging import SerializedRows, serialized
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import deserialize
from agora_analytics.models import SessionMetrics, Track
from agora_analytics.simulator import Simulation

TWO = (Breakdown("audio_freeze_rate", "os"), Breakdown("video_freeze_rate", "country"))


@pytest.fixture
def long(simulation: Simulation) -> Simulation:
    """Calls of some minutes, of which a request may ask for 200 seconds."""
    free(simulation)
    simulation.service.world = attrs.evolve(simulation.world, calls_per_hour=6.0, typical_minutes=6.0)
    simulation.service.plan = simulation.service.plan.with_limits("call_details", longest=200)
    return simulation


async def test_every_breakdown_of_a_long_call_is_requested_for_every_part(tmp_path, long):
    selection = Selection(NOON - 3 * HOUR, NOON - 2 * HOUR, datasets=("statistics",), statistics=TWO)
    await export(long, selection, tmp_path)
    async with long.client(quotas=False) as client:
        calls = [call async for call in client.calls.search(*selection.span)]
    parts = [part for call in calls for part in call.span.slices(200)]
    assert len(parts) > len(calls)
    assert long.service.counts["call_statistics"] == len(parts) * len(TWO)
    found = {(row[1], row[2]) for row in rows(tmp_path, "statistics")}
    assert {metric for _, metric in found} == {one.metric for one in TWO}


async def test_a_point_in_two_parts_of_a_call_is_one_row(tmp_path, long):
    def border(document: dict) -> None:
        """Tell of one more moment in each part, the same in all."""
        for session in document.get("metrics", []):
            for track in session["data"]:
                track["kvs"].append([NOON, 987_654])

    selection = Selection(NOON - 3 * HOUR, NOON - 2 * HOUR, datasets=("metrics",), mids={20001})
    await export(long, selection, tmp_path / "plain")
    async with long.client(quotas=False, transport=Tampering(long.transport(), border)) as client:
        await client.export.run(selection, tmp_path / "twice", format="jsonl")
    plain = rows(tmp_path / "plain", "metrics")
    tracks = {(*row[:4], row[5]) for row in plain}
    found = rows(tmp_path / "twice", "metrics")
    assert len(found) == len(plain) + len(tracks)
    assert sum(row[7] == "987654.0" for row in found) == len(tracks)


def half(*tracks: tuple[str | None, tuple[tuple[int, int], ...]]) -> SerializedRows:
    data = tuple(Track(mid=1, peer_uid=peer, kvs=points) for peer, points in tracks)
    return serialized(column_batch.metrics("app", "call", (SessionMetrics(sid="s", data=data),)))


def test_merged_parts_of_a_call_have_each_point_of_a_track_once_with_its_last_value():
    merged = _merge_partials(
        [half(("a", ((1, 10), (2, 20))), ("b", ((2, 5),))), half(), half(("a", ((2, 21), (3, 30))), ("b", ((2, 6),)))]
    )
    (piece,) = merged
    found = deserialize("metrics", piece.payload)
    told = zip(found.column("peer_uid"), found.column("ts"), found.column("value"), strict=True)
    assert list(told) == [("a", 1, 10), ("a", 2, 21), ("b", 2, 6), ("a", 3, 30)]
    assert _merge_partials([half()]) == []


# Lists of several pages


@pytest.fixture
def large(simulation: Simulation) -> Simulation:
    """Calls, some of which have more sessions than a page."""
    free(simulation)
    simulation.service.world = attrs.evolve(simulation.world, calls_per_hour=3.0, large_share=0.5)
    return simulation


def left_in(folder: Path, table: str) -> int:
    state = sqlite3.connect(folder / ".agora-export" / "state.db")
    ((many,),) = state.execute(f"SELECT count(*) FROM {table}")
    state.close()
    return many


async def test_a_run_resumed_between_two_pages_repeats_no_request_and_has_the_same_rows(tmp_path, large):
    before = asked(large)
    await export(large, last(3, "sessions"), tmp_path / "whole")
    whole, cost = rows(tmp_path / "whole", "sessions"), asked(large) - before
    paused = 0
    for _ in range(cost + 5):
        report = await export(large, last(3, "sessions"), tmp_path / "cut", max_requests=1, concurrency=1)
        paused += left_in(tmp_path / "cut", "pages") > 0
        if report.complete:
            break
    assert paused
    assert asked(large) - before - cost == cost
    assert rows(tmp_path / "cut", "sessions") == whole


async def test_the_progress_of_a_call_is_deleted_when_the_call_is_done(tmp_path, large):
    await export(large, last(3, "sessions"), tmp_path)
    assert (left_in(tmp_path, "pages"), left_in(tmp_path, "halves")) == (0, 0)


# Ids that cannot be asked for


def renamed(kind: str, name: str, value: str):
    """A change of an answer that gives the first of its rows another id."""

    def change(document: dict) -> None:
        for row in document.get(kind, [])[:1]:
            row[name] = value

    return change


@pytest.mark.parametrize("value", ["", " "])
async def test_only_a_call_with_an_invalid_id_is_skipped(tmp_path, simulation, whole, value):
    found, _, _ = await whole(last(1))
    transport = Tampering(simulation.transport(), renamed("call_lists", "call_id", value))
    async with simulation.client(quotas=False, transport=transport) as client:
        report = await client.export.run(last(1), tmp_path / "odd", format="jsonl")
    (left,) = report.skipped
    assert (left.what, left.reason, left.calls) == ("details", "an id that cannot be asked for", 1)
    assert report.rows["calls"] == len(found["calls"]) > 1
    others = {row[1] for row in rows(tmp_path / "odd", "calls")} & {row[1] for row in found["calls"]}
    assert {row[1] for row in rows(tmp_path / "odd", "metrics")} == others


@pytest.mark.parametrize("value", ["", "a,b"])
async def test_only_the_metrics_of_a_session_with_an_invalid_id_are_skipped(tmp_path, simulation, whole, value):
    found, _, _ = await whole(last(1))
    transport = Tampering(simulation.transport(), renamed("call_info", "sid", value))
    async with simulation.client(quotas=False, transport=transport) as client:
        report = await client.export.run(last(1), tmp_path / "odd", format="jsonl")
    (left,) = report.skipped
    assert (left.what, left.rows) == ("metrics", len(found["calls"]))
    assert left.reason.endswith("a session with an id that cannot be asked for")
    sids = {row[2] for row in rows(tmp_path / "odd", "sessions")} & {row[2] for row in found["metrics"]}
    assert report.rows["sessions"] == len(found["sessions"])
    assert {row[2] for row in rows(tmp_path / "odd", "metrics")} == sids


# Sessions of which no metrics come


@pytest.mark.parametrize("longest", [10_800, 5])
async def test_sessions_missing_from_an_answer_are_counted(tmp_path, simulation, longest):
    free(simulation)
    simulation.service.plan = simulation.service.plan.with_limits("call_details", longest=longest)
    dropped: set[str] = set()

    def partial(document: dict) -> None:
        """Leave out the first session of each answer, and of all later ones."""
        found = document.get("metrics", [])
        dropped.update(one["sid"] for one in found[:1] if not dropped)
        found[:] = [one for one in found if one["sid"] not in dropped]

    async with simulation.client(quotas=False, transport=Tampering(simulation.transport(), partial)) as client:
        report = await client.export.run(last(1, "sessions", "metrics"), tmp_path, format="jsonl")
        again = await client.export.run(last(1, "sessions", "metrics"), tmp_path, format="jsonl")
    sids, measured = ({row[2] for row in rows(tmp_path, name)} for name in ("sessions", "metrics"))
    assert dropped <= sids - measured
    assert report.unmeasured == again.unmeasured == len(sids - measured)
    assert report.complete
