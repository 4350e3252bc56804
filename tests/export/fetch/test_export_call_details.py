"""Details of calls that take several requests: long calls, lists of several pages, several breakdowns."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import attrs
import pytest
from helpers.export_files import rows
from helpers.export_runs import HOUR, NOON, export, last_hours, remove_rate_limits, request_count
from helpers.wrong_dates import Tampering

from agora_analytics import Breakdown, Selection
from agora_analytics.export.fetch.call_details import _merge_partials
from agora_analytics.export.state.staging import SerializedRows, serialized
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import deserialize
from agora_analytics.models import SessionMetrics, Track
from agora_analytics.simulator import Simulation

BREAKDOWNS = (Breakdown("audio_freeze_rate", "os"), Breakdown("video_freeze_rate", "country"))


@pytest.fixture
def long_calls(simulation: Simulation) -> Simulation:
    """Return a simulation with calls of some minutes, of which a request may cover 200 seconds."""
    remove_rate_limits(simulation)
    simulation.service.world = attrs.evolve(simulation.world, calls_per_hour=6.0, typical_minutes=6.0)
    simulation.service.plan = simulation.service.plan.with_limits("call_details", longest=200)
    return simulation


async def test_every_breakdown_of_a_long_call_is_requested_for_every_part(tmp_path, long_calls):
    selection = Selection(NOON - 3 * HOUR, NOON - 2 * HOUR, datasets=("statistics",), statistics=BREAKDOWNS)
    await export(long_calls, selection, tmp_path)
    async with long_calls.client(quotas=False) as client:
        calls = [call async for call in client.calls.search(*selection.span)]
    parts = [part for call in calls for part in call.span.slices(200)]
    assert len(parts) > len(calls)
    assert long_calls.service.counts["call_statistics"] == len(parts) * len(BREAKDOWNS)
    found = {(row[1], row[2]) for row in rows(tmp_path, "statistics")}
    assert {metric for _, metric in found} == {one.metric for one in BREAKDOWNS}


async def test_a_sample_in_two_parts_of_a_call_is_exported_as_one_row(tmp_path, long_calls):
    def add_sample(document: dict) -> None:
        """Add one sample to each track, at the same time in every part."""
        for session in document.get("metrics", []):
            for track in session["data"]:
                track["kvs"].append([NOON, 987_654])

    selection = Selection(NOON - 3 * HOUR, NOON - 2 * HOUR, datasets=("metrics",), mids={20001})
    await export(long_calls, selection, tmp_path / "plain")
    async with long_calls.client(quotas=False, transport=Tampering(long_calls.transport(), add_sample)) as client:
        await client.export.run(selection, tmp_path / "tampered", format="jsonl")
    plain = rows(tmp_path / "plain", "metrics")
    tracks = {(*row[:4], row[5]) for row in plain}
    found = rows(tmp_path / "tampered", "metrics")
    assert len(found) == len(plain) + len(tracks)
    assert sum(row[7] == "987654.0" for row in found) == len(tracks)


def partial(*tracks: tuple[str | None, tuple[tuple[int, int], ...]]) -> SerializedRows:
    data = tuple(Track(mid=1, peer_uid=peer, kvs=points) for peer, points in tracks)
    return serialized(column_batch.metrics("app", "call", (SessionMetrics(sid="s", data=data),)))


def test_merging_parts_of_a_call_keeps_each_point_once_with_its_last_value():
    merged = _merge_partials(
        [
            partial(("a", ((1, 10), (2, 20))), ("b", ((2, 5),))),
            partial(),
            partial(("a", ((2, 21), (3, 30))), ("b", ((2, 6),))),
        ]
    )
    (batch,) = merged
    found = deserialize("metrics", batch.payload)
    samples = zip(found.column("peer_uid"), found.column("ts"), found.column("value"), strict=True)
    assert list(samples) == [("a", 1, 10), ("a", 2, 21), ("b", 2, 6), ("a", 3, 30)]
    assert _merge_partials([partial()]) == []


# Lists of several pages


@pytest.fixture
def large_calls(simulation: Simulation) -> Simulation:
    """Return a simulation with calls, some of which have more sessions than fit on a page."""
    remove_rate_limits(simulation)
    simulation.service.world = attrs.evolve(simulation.world, calls_per_hour=3.0, large_share=0.5)
    return simulation


def count_rows(folder: Path, table: str) -> int:
    state = sqlite3.connect(folder / ".agora-export" / "state.db")
    ((count,),) = state.execute(f"SELECT count(*) FROM {table}")
    state.close()
    return count


async def test_a_run_resumed_between_two_pages_repeats_no_request_and_exports_the_same_rows(tmp_path, large_calls):
    before = request_count(large_calls)
    await export(large_calls, last_hours(3, "sessions"), tmp_path / "whole")
    whole, cost = rows(tmp_path / "whole", "sessions"), request_count(large_calls) - before
    paused = 0
    for _ in range(cost + 5):
        report = await export(large_calls, last_hours(3, "sessions"), tmp_path / "cut", max_requests=1, concurrency=1)
        paused += count_rows(tmp_path / "cut", "pages") > 0
        if report.complete:
            break
    assert paused
    assert request_count(large_calls) - before - cost == cost
    assert rows(tmp_path / "cut", "sessions") == whole


async def test_the_progress_of_a_call_is_deleted_when_the_call_is_done(tmp_path, large_calls):
    await export(large_calls, last_hours(3, "sessions"), tmp_path)
    assert (count_rows(tmp_path, "pages"), count_rows(tmp_path, "partials")) == (0, 0)


# Invalid ids


def replace_first_id(list_name: str, name: str, value: str):
    """Return a change of an answer that replaces the id of its first row."""

    def change(document: dict) -> None:
        for row in document.get(list_name, [])[:1]:
            row[name] = value

    return change


@pytest.mark.parametrize("value", ["", " "])
async def test_only_a_call_with_an_invalid_id_is_skipped(tmp_path, simulation, whole, value):
    found, _, _ = await whole(last_hours(1))
    transport = Tampering(simulation.transport(), replace_first_id("call_lists", "call_id", value))
    async with simulation.client(quotas=False, transport=transport) as client:
        report = await client.export.run(last_hours(1), tmp_path / "invalid", format="jsonl")
    (skipped,) = report.skipped
    assert (skipped.what, skipped.reason, skipped.calls) == ("details", "an id that cannot be sent", 1)
    assert report.rows["calls"] == len(found["calls"]) > 1
    others = {row[1] for row in rows(tmp_path / "invalid", "calls")} & {row[1] for row in found["calls"]}
    assert {row[1] for row in rows(tmp_path / "invalid", "metrics")} == others


@pytest.mark.slow_except("a,b")
@pytest.mark.parametrize("value", ["", "a,b"])
async def test_only_the_metrics_of_a_session_with_an_invalid_id_are_skipped(tmp_path, simulation, whole, value):
    found, _, _ = await whole(last_hours(1))
    transport = Tampering(simulation.transport(), replace_first_id("call_info", "sid", value))
    async with simulation.client(quotas=False, transport=transport) as client:
        report = await client.export.run(last_hours(1), tmp_path / "invalid", format="jsonl")
    (skipped,) = report.skipped
    assert (skipped.what, skipped.rows) == ("metrics", len(found["calls"]))
    assert skipped.reason.endswith("a session with an id that cannot be sent")
    sids = {row[2] for row in rows(tmp_path / "invalid", "sessions")} & {row[2] for row in found["metrics"]}
    assert report.rows["sessions"] == len(found["sessions"])
    assert {row[2] for row in rows(tmp_path / "invalid", "metrics")} == sids


# Sessions without metrics


@pytest.mark.slow_except("10800")
@pytest.mark.parametrize("longest", [10_800, 5])
async def test_sessions_missing_from_metrics_are_reported_as_unmeasured(tmp_path, simulation, longest):
    remove_rate_limits(simulation)
    simulation.service.plan = simulation.service.plan.with_limits("call_details", longest=longest)
    dropped: set[str] = set()

    def drop_session(document: dict) -> None:
        """Drop the first session of the first answer, from that answer and from all later ones."""
        found = document.get("metrics", [])
        dropped.update(one["sid"] for one in found[:1] if not dropped)
        found[:] = [one for one in found if one["sid"] not in dropped]

    async with simulation.client(quotas=False, transport=Tampering(simulation.transport(), drop_session)) as client:
        report = await client.export.run(last_hours(1, "sessions", "metrics"), tmp_path, format="jsonl")
        again = await client.export.run(last_hours(1, "sessions", "metrics"), tmp_path, format="jsonl")
    sids, measured = ({row[2] for row in rows(tmp_path, name)} for name in ("sessions", "metrics"))
    assert dropped <= sids - measured
    assert report.unmeasured == again.unmeasured == len(sids - measured)
    assert report.complete
