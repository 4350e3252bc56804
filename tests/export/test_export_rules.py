"""Exports over days, their estimates, and what they reject, skip and report."""

from __future__ import annotations

import asyncio
import json
import pickle

import pytest
from helpers.export_files import rows
from helpers.export_runs import ALL, DAY, HOUR, NOON, Tampering, all_rows, asked, export, free, last

from agora_analytics import (
    AgoraError,
    ExportError,
    Insight,
    Plan,
    Selection,
    Series,
    Skipped,
)
from agora_analytics.simulator import Fault, Faults, Service, Simulation

# Days


async def test_a_run_waits_for_midnight_and_continues(tmp_path, simulation, whole):
    found, cost, _ = await whole(last(3))
    plan = Plan.of("enterprise").with_limits("call_details", per_day=40)
    simulation = Simulation(Service(simulation.world, plan, clock=simulation.clock))  # nothing is spent there yet
    loop = asyncio.get_running_loop()
    report = await export(simulation, last(3), tmp_path / "days", free=False)
    assert report.complete
    assert loop.time() > 12 * HOUR
    assert report.requests == cost
    assert sum(simulation.service.refusals.values()) == 0
    assert all_rows(tmp_path / "days") == found


async def test_calls_that_expire_before_their_turn_are_reported(tmp_path, simulation):
    simulation.service.plan = (
        Plan.of("enterprise")
        .with_limits("call_details", per_day=30, available=2 * DAY)
        .with_limits("call_lists", available=2 * DAY)
    )
    selection = Selection(NOON - 2 * DAY, NOON - 600, datasets=("calls", "sessions"))
    async with simulation.client() as client:
        plan = await client.export.estimate(selection)
        report = await client.export.run(selection, tmp_path, format="jsonl")
    details = [one for one in report.skipped if one.what == "details"]
    assert [one.reason for one in details] == ["expired"]
    lost = details[0].calls or 0
    assert lost + len({row[1] for row in rows(tmp_path, "sessions")}) == report.rows["calls"]
    foreseen = next(one for one in plan.expired if one.what == "details")
    assert foreseen.calls == pytest.approx(lost, rel=0.25)
    assert not report.complete
    assert json.loads((tmp_path / "manifest.json").read_text())["complete"] is False


async def test_spans_that_have_expired_are_reported(tmp_path, simulation):
    free(simulation)
    report = await export(simulation, Selection(NOON - 20 * DAY, NOON - 14 * DAY, datasets=("calls",)), tmp_path)
    assert [(one.what, one.reason) for one in report.skipped] == [("calls", "expired")]
    assert report.skipped[0].span
    assert report.skipped[0].span.start == NOON - 20 * DAY
    assert not report.complete


# The plan


async def test_an_estimate_costs_little_and_is_close(tmp_path, simulation):
    selection = Selection(NOON - 9 * HOUR, NOON - 600, datasets=("calls", "sessions", "metrics"), mids={20001})
    simulation.service.plan = simulation.service.plan.with_limits("call_lists", longest=HOUR)
    async with simulation.client() as client:
        plan = await client.export.estimate(selection)
        assert plan.spent == asked(simulation) <= 12
        assert not plan.counted
        before = dict(simulation.service.counts)
        report = await client.export.run(selection, tmp_path, format="jsonl")
    counts = simulation.service.counts
    lists = counts["call_lists"] - before["call_lists"]
    details = counts["call_sessions"] + counts["call_metrics"] - before["call_sessions"] - before["call_metrics"]
    assert plan.requests["call_lists"] == pytest.approx(lists, rel=0.15)
    assert plan.requests["call_details"] == pytest.approx(details, rel=0.15)
    assert plan.calls == pytest.approx(report.rows["calls"], rel=0.15)
    expected = {one.dataset: one for one in plan.estimates}
    assert expected["sessions"].rows == pytest.approx(report.rows["sessions"], rel=0.5)
    size = sum(path.stat().st_size for path in (tmp_path / "calls").rglob("*.jsonl"))
    assert expected["calls"].bytes == pytest.approx(size, rel=0.2)
    assert plan.done_at is not None


@pytest.mark.parametrize("filters", [{"min_freeze_rate": 0.02}, {"min_freeze_rate": 0.99}, {"finished": True}], ids=str)
async def test_an_estimate_takes_filters_into_account(tmp_path, simulation, filters):
    selection = Selection(NOON - 9 * HOUR, NOON - 600, datasets=("calls", "sessions"), **filters)
    async with simulation.client() as client:
        plan = await client.export.estimate(selection)
        before = simulation.service.counts["call_sessions"]
        report = await client.export.run(selection, tmp_path, format="jsonl")
    details = simulation.service.counts["call_sessions"] - before
    assert not plan.counted
    assert plan.calls == pytest.approx(report.rows["calls"], rel=0.3, abs=2)
    assert plan.requests["call_details"] == pytest.approx(details, rel=0.3, abs=2)


async def test_an_estimate_has_no_points_if_the_service_has_none(simulation):
    selection = Selection(NOON - 9 * HOUR, NOON - 600, datasets=("calls", "sessions", "metrics"))
    transport = Tampering(simulation.transport(), lambda document: document.update(metrics=[]))
    async with simulation.client(transport=transport) as client:
        plan = await client.export.estimate(selection)
    expected = {one.dataset: one.rows for one in plan.estimates}
    assert expected["metrics"] == 0
    assert expected["sessions"] > 0


async def test_an_estimate_of_series_counts_their_requests(simulation):
    selection = Selection(
        NOON - 10 * DAY,
        NOON,
        datasets=("insights", "realtime"),
        insights=[Insight("userCount"), Insight("audioFreezeRate", product="Native", dimension="country")],
        series=[Series("userCount", product="Native")],
    )
    async with simulation.client() as client:
        plan = await client.export.estimate(selection)
    assert plan.spent == asked(simulation) == 0
    assert plan.requests["insight_usage"] == 2
    assert plan.requests["insight_quality_total"] == 10
    assert plan.requests["realtime"] == 1


# Refusals


async def test_another_selection_needs_another_place(tmp_path, simulation, whole):
    await whole(last(1, "calls"))
    before = asked(simulation)
    with pytest.raises(ExportError, match=r"min_freeze_rate None, now 0\.1") as error:
        await export(simulation, last(1, "calls", min_freeze_rate=0.1), tmp_path / "whole")
    assert error.value.kind == "settings"
    with pytest.raises(ExportError, match="format 'jsonl', now 'csv'"):
        await export(simulation, last(1, "calls"), tmp_path / "whole", format="csv")
    assert asked(simulation) == before


async def test_a_file_that_is_no_state_is_reported_as_damaged(tmp_path, simulation):
    await export(simulation, last(1, "calls"), tmp_path)
    before = asked(simulation)
    for path in (tmp_path / ".agora-export").glob("state.db*"):
        path.write_bytes(b"no state of an export" * 1_000)
    with pytest.raises(ExportError, match="state") as error:
        await export(simulation, last(1, "calls"), tmp_path)
    assert pickle.loads(pickle.dumps(error.value)).kind == "state"
    assert asked(simulation) == before


async def test_one_place_takes_one_run_at_a_time(tmp_path, simulation):
    free(simulation)
    async with simulation.client(quotas=False, transport=simulation.transport(latency=(0.1, 0.1))) as client:
        first = asyncio.create_task(client.export.run(last(1), tmp_path, format="jsonl"))
        await asyncio.sleep(0.5)
        with pytest.raises(ExportError, match="is running already") as error:
            await client.export.run(last(1), tmp_path, format="jsonl")
        assert error.value.kind == "running"
        assert (await first).complete


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "xml"}, "format='xml': allowed are jsonl, "),
        ({"order": "best"}, "order='best': allowed are oldest, worst"),
        ({"max_requests": 0}, "max_requests=0: allowed are 1 or more"),
        ({"concurrency": 0}, "concurrency=0: allowed are 1 to 1000"),
        ({"sink_options": {"key": "x"}}, "sink_options go with a URL"),
    ],
)
async def test_bad_arguments_are_rejected_before_anything_is_sent(tmp_path, simulation, options, said):
    with pytest.raises(ValueError, match=said):
        await export(simulation, last(1), tmp_path / "new", **options)
    assert asked(simulation) == 0


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"datasets": ("call",)}, "datasets='call': allowed are calls, sessions"),
        ({"datasets": ()}, r"datasets=\(\): allowed are"),
        ({"min_freeze_rate": 3}, "min_freeze_rate=3: allowed are numbers from 0 to below 1"),
        ({"datasets": ("insights",)}, "insights=.*give both or neither"),
        ({"datasets": ("calls",), "series": [Series("userCount", product="Native")]}, "series="),
    ],
)
def test_bad_selections_are_rejected(filters, said):
    with pytest.raises(ValueError, match=said):
        Selection(0, 10, **filters)


def test_bad_insights_are_rejected():
    with pytest.raises(ValueError, match="give a product"):
        Insight("audioFreezeRate")
    with pytest.raises(ValueError, match="has none"):
        Insight("userCount", product="Native")
    with pytest.raises(ValueError, match="only '1d' is allowed"):
        Insight("userCount", dimension="country", granularity="1h")


async def test_a_refused_call_is_skipped_and_reported(tmp_path, simulation, whole):
    found, _, _ = await whole(last(1))
    simulation = Simulation(Service(simulation.world, simulation.service.plan, clock=simulation.clock))
    simulation.faults = Faults.script([*[None] * 5, Fault("garbage")])
    report = await export(simulation, last(1), tmp_path / "one", concurrency=1)
    span, names = report.skipped[0].span, report.skipped[0].call_ids
    assert report.skipped == (
        Skipped(
            app_id=simulation.app_id,
            what="details",
            reason="DecodeError",
            span=span,
            calls=1,
            call_ids=names,
            again=True,
        ),
    )
    assert {row[1] for row in found["calls"]}.issuperset(names)
    assert len(names) == 1
    assert not report.complete
    assert len(rows(tmp_path / "one", "calls")) == len(found["calls"])


async def test_wrong_credentials_end_the_run_at_once(tmp_path, simulation):
    async with simulation.client() as client:
        simulation.service.app_id = "another"
        with pytest.raises(AgoraError):
            await client.export.run(last(1), tmp_path, format="jsonl")
    assert asked(simulation) <= 2


async def test_progress_counts_requests_made_and_those_waiting_for_quota(tmp_path):
    told, simulation = [], Simulation(plan="premium", clock=NOON)
    selection = Selection(
        NOON - 29 * DAY, NOON - DAY, datasets=("insights",), insights=[Insight("userCount", granularity="1h")]
    )
    async with simulation.client() as client:
        report = await client.export.run(selection, tmp_path, format="jsonl", on_progress=told.append)
    assert [one.requests for one in told] == sorted(one.requests for one in told)
    assert told[5].requests < report.requests == told[-1].requests
    assert told[5].waiting > 0 == told[-1].waiting
    assert all(one.requests + one.waiting <= report.requests for one in told)


async def test_progress_counts_calls_whose_details_are_not_available_yet(tmp_path, simulation):
    told = []
    free(simulation)
    call = simulation.world.calls(NOON, NOON + HOUR)[0]
    await asyncio.sleep(call.destroyed + 30 - NOON)  # lists have it after 20 s, details after 100 s
    async with simulation.client() as client:
        selection = Selection(call.created, call.created + 1, datasets=("calls", "sessions"))
        await client.export.run(selection, tmp_path, format="jsonl", on_progress=told.append)
    early = [one for one in told if one.early]
    assert early
    assert all(one.done_at is not None for one in early)
    assert told[-1].early == 0


async def test_progress_reports_rows_requests_and_what_is_pending(tmp_path, simulation):
    told = []
    async with simulation.client() as client:
        await client.export.run(last(3), tmp_path, format="jsonl", on_progress=told.append)
    assert told[-1].slices == told[-1].calls == 0
    assert told[-1].rows == {name: len(rows(tmp_path, name)) for name in ALL}
    assert [one.requests for one in told] == sorted(one.requests for one in told)
    assert any(one.done_at for one in told)
    assert told[-1].left["call_details"] < 10_000
