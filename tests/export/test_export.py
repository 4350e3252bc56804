"""An export has every row of the service exactly once, also after interruptions and faults."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import datetime

import attrs
import pytest
from helpers.export_files import check_manifest, rows
from helpers.export_runs import (
    ALL,
    DAY,
    HOUR,
    NOON,
    SOME_MIDS,
    all_rows,
    export,
    last_hours,
    remove_rate_limits,
    request_count,
)

from agora_analytics import (
    Breakdown,
    Insight,
    Selection,
    Series,
    Unauthorized,
)
from agora_analytics.simulator import Fault, Faults, Variants


async def test_an_export_has_the_rows_that_the_endpoints_return(simulation, whole):
    found, _, report = await whole()
    async with simulation.client(quotas=False) as client:
        calls = [call async for call in client.calls.search(NOON - 3 * HOUR, NOON - 600)]
        sessions = {call.call_id: [one async for one in client.calls.sessions(call)] for call in calls if call.finished}
        metrics = [
            (call_id, one.sid, track.mid, ts, value)
            for call_id, some in sessions.items()
            if some
            async for one in client.calls.metrics(next(c for c in calls if c.call_id == call_id), some)
            for track in one.data
            if track.mid in SOME_MIDS
            for ts, value in track.kvs
        ]
    assert len(calls) > 20
    assert {row[1] for row in found["calls"]} == {call.call_id for call in calls}
    assert sorted(row[2] for row in found["sessions"]) == sorted(one.sid for some in sessions.values() for one in some)
    assert len(found["metrics"]) == len(metrics) > 1_000
    assert report.rows == {name: len(found[name]) for name in ALL}
    assert report.complete


async def test_the_manifest_lists_files_spans_columns_and_the_version(tmp_path, simulation, whole):
    await whole()
    check_manifest(tmp_path / "whole")
    manifest = json.loads((tmp_path / "whole/manifest.json").read_text())
    assert manifest["complete"] is True
    assert manifest["tool"] == "agora-analytics"
    assert manifest["version"]
    assert [one["state"] for one in manifest["spans"]] == ["read"]
    units = {column["name"]: column.get("unit") for column in manifest["columns"]["metrics"]}
    assert units["ts"] == "ms, UTC"


async def test_files_are_partitioned_by_app_and_day(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, last_hours(20, "calls"), tmp_path)
    partitions = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("part-*.jsonl")}
    app = f"calls/app={simulation.app_id}"
    assert partitions == {f"{app}/day=2026-11-23", f"{app}/day=2026-11-24"}


async def test_a_complete_export_sends_no_request_when_it_is_run_again(tmp_path, simulation, whole):
    found, _, _ = await whole()
    before = request_count(simulation)
    report = await export(simulation, last_hours(3), tmp_path / "whole")
    assert report.requests == request_count(simulation) - before == 0
    assert all_rows(tmp_path / "whole") == found


async def test_a_later_run_requests_only_new_data(tmp_path, simulation, whole):
    await whole()
    await asyncio.sleep(HOUR // 2)
    longer = attrs.evolve(last_hours(3), start=NOON - 3 * HOUR, end=NOON + HOUR // 2 - 600)
    before = dict(simulation.service.counts)
    await export(simulation, longer, tmp_path / "whole")
    new = simulation.service.counts["call_lists"] - before["call_lists"]
    assert new <= 2
    await export(simulation, longer, tmp_path / "again")
    assert all_rows(tmp_path / "whole") == all_rows(tmp_path / "again")
    check_manifest(tmp_path / "whole")


@pytest.mark.slow_except("7")
@pytest.mark.parametrize("max_requests", [1, 7, 40])
async def test_many_small_runs_export_the_same_rows_with_the_same_number_of_requests(
    tmp_path, simulation, whole, max_requests
):
    selection = last_hours(1)
    found, cost, _ = await whole(selection)
    before, report = request_count(simulation), None
    while report is None or not report.complete:
        report = await export(simulation, selection, tmp_path / "parts", max_requests=max_requests)
        assert report.requests <= max_requests
        assert bool(report.pending) is not report.complete
    assert request_count(simulation) - before == cost
    assert all_rows(tmp_path / "parts") == found


async def test_a_run_without_requests_writes_what_a_run_that_failed_has_fetched(tmp_path, simulation, whole):
    simulation.faults = Faults.script([*[None] * 20, *[Fault("status", status=401)] * 100])
    with pytest.raises(Unauthorized):
        await export(simulation, last_hours(1), tmp_path / "parts", concurrency=1)
    assert not (tmp_path / "parts/manifest.json").exists()
    before = request_count(simulation)
    report = await export(simulation, last_hours(1), tmp_path / "parts", max_requests=0)
    assert (report.requests, request_count(simulation)) == (0, before)
    assert report.pending
    assert sum(report.rows.values()) == sum(map(len, all_rows(tmp_path / "parts").values())) > 0
    check_manifest(tmp_path / "parts")
    simulation.faults = Faults()
    found, *_ = await whole(last_hours(1))
    await export(simulation, last_hours(1), tmp_path / "parts")
    assert all_rows(tmp_path / "parts") == found


@pytest.mark.slow
@pytest.mark.usefixtures("subprocess_writer")
async def test_an_export_that_is_cancelled_at_any_moment_resumes_where_it_was(tmp_path, simulation, whole):
    found, cost, _ = await whole()
    before, workers, cancellations = request_count(simulation), 4, 0
    while True:
        async with simulation.client(quotas=False, transport=simulation.transport(latency=(0.02, 0.05))) as client:
            run = asyncio.create_task(
                client.export.run(last_hours(3), tmp_path / "cut", format="jsonl", concurrency=workers)
            )
            done, _ = await asyncio.wait([run], timeout=0.05 + 0.05 * cancellations)
            if done:
                break
            run.cancel()
            with suppress(asyncio.CancelledError):
                await run
            cancellations += 1
    assert cancellations > 3
    assert request_count(simulation) - before <= cost + cancellations * workers
    assert all_rows(tmp_path / "cut") == found
    check_manifest(tmp_path / "cut")


async def test_five_percent_of_faults_change_no_row(tmp_path, simulation, whole):
    found, _, _ = await whole()
    kinds = tuple(map(Fault, ("reset", "status", "cut", "html", "busy")))
    simulation.faults = Faults.chance(0.05, kinds, seed=3)
    report = await export(simulation, last_hours(3), tmp_path / "faults")
    assert report.complete
    assert all_rows(tmp_path / "faults") == found


async def test_variants_of_the_service_change_no_call_and_no_session(tmp_path, simulation):
    remove_rate_limits(simulation)
    simulation.service.variants = Variants(calls_overlap=True, has_more=False, uid_as_text=True, date="lazy")
    await export(simulation, last_hours(30, "calls", "sessions"), tmp_path / "rough")
    simulation.service.variants = Variants(calls_overlap=True)
    await export(simulation, last_hours(30, "calls", "sessions"), tmp_path / "smooth")
    assert all_rows(tmp_path / "rough", "calls", "sessions") == all_rows(tmp_path / "smooth", "calls", "sessions")
    calls = [row[1] for row in rows(tmp_path / "rough", "calls")]
    assert len(calls) == len(set(calls))


async def test_calls_longer_than_one_request_may_cover_are_exported_in_full(tmp_path, simulation):
    remove_rate_limits(simulation)
    simulation.service.world = attrs.evolve(simulation.world, calls_per_hour=6.0, typical_minutes=6.0)
    simulation.service.plan = simulation.service.plan.with_limits("call_details", longest=200)
    selection = Selection(NOON - 3 * HOUR, NOON - 2 * HOUR, datasets=("sessions", "metrics"), mids={20001})
    await export(simulation, selection, tmp_path)
    async with simulation.client(quotas=False) as client:
        calls = [call async for call in client.calls.search(*selection.span)]
        assert any(call.span and call.span.duration > 600 for call in calls)
        sids = [one.sid for call in calls async for one in client.calls.sessions(call)]
        points = [
            (one.sid, ts)
            for call in calls
            async for one in client.calls.metrics(call)
            for track in one.data
            if track.mid == 20001
            for ts, _ in track.kvs
        ]
    assert sorted(row[2] for row in rows(tmp_path, "sessions")) == sorted(sids)
    found = rows(tmp_path, "metrics")
    assert len(found) == len(points)
    assert {row[3] for row in found} == {"20001"}
    assert len({(row[2], row[5], row[6]) for row in found}) == len(found)


async def test_calls_with_more_sessions_than_fit_on_a_page_are_exported_in_full(tmp_path, simulation):
    remove_rate_limits(simulation)
    simulation.service.world = attrs.evolve(simulation.world, calls_per_hour=6.0, large_share=0.3)
    selection = last_hours(3, "sessions")
    await export(simulation, selection, tmp_path)
    async with simulation.client(quotas=False) as client:
        calls = [call async for call in client.calls.search(*selection.span)]
        sids = [one.sid for call in calls async for one in client.calls.sessions(call)]
    assert len(sids) > len(calls) * 20
    assert sorted(row[2] for row in rows(tmp_path, "sessions")) == sorted(sids)


async def test_filters_select_calls_and_their_sessions(tmp_path, simulation):
    remove_rate_limits(simulation)
    everything = await export(simulation, last_hours(6, "calls"), tmp_path / "all")
    calls = rows(tmp_path / "all", "calls")
    channel = calls[0][2]
    await export(simulation, last_hours(6, "calls", channels=[channel]), tmp_path / "channel")
    assert rows(tmp_path / "channel", "calls") == [row for row in calls if row[2] == channel]
    await export(simulation, last_hours(6, "calls", "sessions", min_freeze_rate=0.03), tmp_path / "worse")
    worse = [row for row in calls if max(float(row[8] or 0), float(row[9] or 0)) > 0.03]
    assert 0 < len(worse) < everything.rows["calls"]
    assert rows(tmp_path / "worse", "calls") == worse
    assert {row[1] for row in rows(tmp_path / "worse", "sessions")} <= {row[1] for row in worse}


async def test_statistics_are_requested_once_for_each_call(tmp_path, simulation):
    remove_rate_limits(simulation)
    selection = last_hours(1, "statistics", statistics=[Breakdown("video_freeze_rate", "country")])
    report = await export(simulation, selection, tmp_path)
    found = rows(tmp_path, "statistics")
    assert {row[2:4] for row in found} == {("video_freeze_rate", "country")}
    assert simulation.service.counts["call_statistics"] == len({row[1] for row in found}) == report.requests - 1


async def test_an_open_call_is_provisional_until_it_has_finished(tmp_path, simulation):
    remove_rate_limits(simulation)
    simulation.service.world = attrs.evolve(simulation.world, typical_minutes=30.0, calls_per_hour=6.0)
    selection = Selection(NOON - HOUR, NOON, datasets=("calls", "sessions"))
    first = await export(simulation, selection, tmp_path)
    assert first.unfinished > 0
    assert first.complete
    assert len(list(tmp_path.rglob("provisional.jsonl"))) == 1
    before = {row[1]: row[5] for row in rows(tmp_path, "calls")}
    assert list(before.values()).count("False") == first.unfinished
    await asyncio.sleep(8 * HOUR)
    second = await export(simulation, selection, tmp_path)
    after = [(row[1], row[5]) for row in rows(tmp_path, "calls")]
    assert second.unfinished == second.provisional == 0
    assert list(tmp_path.rglob("provisional.jsonl")) == []
    assert len(after) == len(dict(after))
    assert set(dict(after).values()) == {"True"}
    assert set(before) <= set(dict(after))
    check_manifest(tmp_path)


async def test_the_finished_filter_leaves_out_open_calls(tmp_path, simulation):
    remove_rate_limits(simulation)
    simulation.service.world = attrs.evolve(simulation.world, typical_minutes=30.0)
    report = await export(simulation, Selection(NOON - HOUR, NOON, datasets=("calls",), finished=True), tmp_path)
    assert report.unfinished > 0
    assert {row[5] for row in rows(tmp_path, "calls")} == {"True"}


async def test_insights_of_the_last_days_are_fetched_again_by_a_later_run(tmp_path, simulation):
    remove_rate_limits(simulation)
    chosen = [Insight("userCount"), Insight("videoFreezeRate", product="Native", granularity="1h")]
    selection = Selection(NOON - 8 * DAY, NOON, datasets=("insights",), insights=chosen)
    first = await export(simulation, selection, tmp_path)
    found = rows(tmp_path, "insights")
    provisional = [row for row in found if row[9] == "True"]
    assert first.provisional == len(provisional) > 3
    assert min(row[6] for row in provisional) == "2026-11-21T00:00:00Z"
    await asyncio.sleep(6 * DAY)
    longer = attrs.evolve(selection, start=NOON - 8 * DAY, end=NOON + 6 * DAY)
    await export(simulation, longer, tmp_path)
    later = rows(tmp_path, "insights")
    keys = [(row[1], row[6]) for row in later]
    assert len(keys) == len(set(keys))
    assert {(row[1], row[6]) for row in found} <= set(keys)
    final = {(row[1], row[6]): row[7] for row in later if row[9] == "False"}
    async with simulation.client(quotas=False) as client:
        points = await client.insights.usage("userCount", NOON - 8 * DAY, NOON)
    truth = {point.ts: point.value for point in points}
    day = int(NOON // DAY * DAY - DAY)
    assert float(final["userCount", "2026-11-23T00:00:00Z"] or 0) == truth[day]
    check_manifest(tmp_path)


async def test_insights_by_a_dimension_are_requested_day_by_day(tmp_path, simulation):
    remove_rate_limits(simulation)
    by_country = Insight("audioFreezeRate", product="Native", dimension="country")
    selection = Selection(NOON - 5 * DAY, NOON - DAY, datasets=("insights",), insights=[by_country])
    await export(simulation, selection, tmp_path)
    assert simulation.service.counts["insight_quality_total"] == 5  # whole days
    found = rows(tmp_path, "insights")
    assert {row[4] for row in found} == {"country"}
    assert len({row[6] for row in found}) == 5


async def test_windows_are_collected_by_many_runs_and_expired_ones_are_reported(tmp_path, simulation):
    remove_rate_limits(simulation)
    series = [Series("userCount", product="Native"), Series("videoFreezeRate", product="Native", dimension="country")]

    async def run(end):
        return await export(simulation, Selection(NOON - 3_000, end, datasets=("realtime",), series=series), tmp_path)

    first = await run(NOON + DAY)
    assert first.complete
    assert first.provisional > 0
    await asyncio.sleep(1_000)
    assert (await run(NOON + DAY)).complete
    windows = [row[7] for row in rows(tmp_path, "realtime") if row[1] == "userCount"]
    assert len(windows) == len(set(windows)) == (3_000 + 1_000 - 21) // 20
    await asyncio.sleep(5_000)
    third = await run(NOON + DAY)
    assert [(one.reason, one.span.duration > 1_000) for one in third.skipped if one.span] == [("expired", True)] * 2
    windows = [row[7] for row in rows(tmp_path, "realtime") if row[1] == "userCount"]
    assert len(windows) == len(set(windows))
    check_manifest(tmp_path)


async def test_an_export_of_several_app_ids_has_the_calls_of_each(tmp_path, simulation):
    remove_rate_limits(simulation)
    simulation.service.other_apps = ["another/app"]
    report = await export(simulation, last_hours(1, "calls", apps=[simulation.app_id, "another/app"]), tmp_path)
    assert report.complete
    found = rows(tmp_path, "calls")
    own_calls = {row[1:] for row in found if row[0] == simulation.app_id}
    assert own_calls
    assert own_calls == {row[1:] for row in found if row[0] == "another/app"}


async def test_details_of_the_worst_calls_are_fetched_first_within_a_budget(tmp_path, simulation, whole):
    everything, _, _ = await whole(last_hours(6, "calls", "sessions"))
    calls = {row[1]: row for row in everything["calls"]}

    def score(call_id):
        row = calls[call_id]
        start, end = (datetime.fromisoformat(row[column]).timestamp() for column in (3, 4))
        return max(float(row[8] or 0), float(row[9] or 0)) * float(row[6]) * (end - start)

    report = await export(
        simulation, last_hours(6, "calls", "sessions"), tmp_path / "worst", order="worst", max_requests=11
    )
    chosen = {row[1] for row in rows(tmp_path / "worst", "sessions")}
    ranked = sorted(calls, key=score, reverse=True)
    assert chosen == set(ranked[: len(chosen)])
    assert len(chosen) == 10
    assert report.pending == len(calls) - 10
    assert not report.complete


async def test_details_of_calls_with_too_few_users_are_not_fetched(tmp_path, simulation):
    remove_rate_limits(simulation)
    report = await export(simulation, last_hours(6, "calls", "sessions"), tmp_path, order="worst", min_users=3)
    users = {row[1]: int(row[6] or 0) for row in rows(tmp_path, "calls")}
    assert {row[1] for row in rows(tmp_path, "sessions")} == {call for call, count in users.items() if count >= 3}
    assert report.below_min_users == sum(count < 3 for count in users.values()) > 0
    assert report.complete
