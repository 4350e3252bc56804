"""Exports over days, estimates, and what exports reject, skip and report."""

from __future__ import annotations

import asyncio
import json
import pickle

import pytest
from helpers.export_files import rows
from helpers.export_runs import ALL, DAY, HOUR, NOON, all_rows, export, last_hours, remove_rate_limits, request_count
from helpers.wrong_dates import Tampering

from agora_analytics import (
    AgoraError,
    ExportError,
    Insight,
    Plan,
    Selection,
    Series,
    Skipped,
)
from agora_analytics.plans import CALL_SESSIONS
from agora_analytics.simulator import Fault, Faults, Service, Simulation

# Days


async def test_a_run_that_has_used_its_daily_quota_continues_after_midnight(tmp_path, simulation, whole):
    found, cost, _ = await whole(last_hours(3))
    limited = Plan.of("enterprise").with_limits("call_details", per_day=40)
    simulation = Simulation(Service(simulation.world, limited, clock=simulation.clock))  # with its whole daily quota
    loop = asyncio.get_running_loop()
    report = await export(simulation, last_hours(3), tmp_path / "days", quotas=True)
    assert report.complete
    assert loop.time() > 12 * HOUR
    assert report.requests == cost
    assert sum(simulation.service.refusals.values()) == 0
    assert all_rows(tmp_path / "days") == found


async def test_calls_that_expire_before_their_details_are_fetched_are_reported(tmp_path, simulation):
    simulation.service.plan = (
        Plan.of("enterprise")
        .with_limits("call_details", per_day=30, retention=2 * DAY)
        .with_limits("call_lists", retention=2 * DAY)
    )
    selection = Selection(NOON - 2 * DAY, NOON - 600, datasets=("calls", "sessions"))
    async with simulation.client() as client:
        estimate = await client.export.estimate(selection)
        report = await client.export.run(selection, tmp_path, format="jsonl")
    details = [one for one in report.skipped if one.what == "details"]
    assert [one.reason for one in details] == ["expired"]
    expired = details[0].calls or 0
    assert expired + len({row[1] for row in rows(tmp_path, "sessions")}) == report.rows["calls"]
    expected = next(one for one in estimate.expired if one.what == "details")
    assert expected.calls == pytest.approx(expired, rel=0.25)
    assert not report.complete
    assert json.loads((tmp_path / "manifest.json").read_text())["complete"] is False


async def test_spans_that_have_expired_are_reported(tmp_path, simulation):
    remove_rate_limits(simulation)
    report = await export(simulation, Selection(NOON - 20 * DAY, NOON - 14 * DAY, datasets=("calls",)), tmp_path)
    assert [(one.what, one.reason) for one in report.skipped] == [("calls", "expired")]
    assert report.skipped[0].span
    assert report.skipped[0].span.start == NOON - 20 * DAY
    assert not report.complete


# Estimates


async def test_an_estimate_takes_few_requests_and_is_close(tmp_path, simulation):
    selection = Selection(NOON - 9 * HOUR, NOON - 600, datasets=("calls", "sessions", "metrics"), mids={20001})
    simulation.service.plan = simulation.service.plan.with_limits("call_lists", longest=HOUR)
    async with simulation.client() as client:
        estimate = await client.export.estimate(selection)
        assert estimate.spent == request_count(simulation) <= 12
        assert not estimate.counted
        before = dict(simulation.service.counts)
        report = await client.export.run(selection, tmp_path, format="jsonl")
    counts = simulation.service.counts
    lists = counts["call_lists"] - before["call_lists"]
    details = counts["call_sessions"] + counts["call_metrics"] - before["call_sessions"] - before["call_metrics"]
    assert estimate.requests["call_lists"] == pytest.approx(lists, rel=0.15)
    assert estimate.requests["call_details"] == pytest.approx(details, rel=0.15)
    assert estimate.calls == pytest.approx(report.rows["calls"], rel=0.15)
    expected = {one.dataset: one for one in estimate.estimates}
    assert expected["sessions"].rows == pytest.approx(report.rows["sessions"], rel=0.5)
    size = sum(path.stat().st_size for path in (tmp_path / "calls").rglob("*.jsonl"))
    assert expected["calls"].bytes == pytest.approx(size, rel=0.2)
    assert estimate.done_at is not None


@pytest.mark.slow_except("alone")
@pytest.mark.parametrize(("rest", "daily"), [(0, 0), (2, 4)], ids=["alone", "beside a stream"])
async def test_an_export_takes_as_many_days_as_its_estimate_promises(tmp_path, simulation, rest, daily):
    """At 20 requests a day, of which one is left to people and some to a stream: 208 requests take over a week."""
    simulation.service.plan = Plan.of("enterprise").with_limits("call_details", per_day=20)
    selection = last_hours(20, "calls", "sessions")
    async with simulation.client() as client, client.quota.reserve(CALL_SESSIONS) as reserve:
        await reserve.keep(rest, daily)
        estimate = await client.export.estimate(selection)
        report = await client.export.run(selection, tmp_path, format="jsonl")
    assert report.complete
    # The estimate itself measured three calls.
    assert estimate.requests["call_details"] == simulation.service.counts["call_sessions"] - 3 == 208
    assert estimate.done_at is not None
    assert 0 <= simulation.clock() - estimate.done_at.timestamp() < 60
    assert simulation.clock() > NOON + 10 * DAY


@pytest.mark.parametrize("filters", [{"min_freeze_rate": 0.02}, {"min_freeze_rate": 0.99}, {"finished": True}], ids=str)
async def test_an_estimate_takes_filters_into_account(tmp_path, simulation, filters):
    selection = Selection(NOON - 9 * HOUR, NOON - 600, datasets=("calls", "sessions"), **filters)
    async with simulation.client() as client:
        estimate = await client.export.estimate(selection)
        before = simulation.service.counts["call_sessions"]
        report = await client.export.run(selection, tmp_path, format="jsonl")
    details = simulation.service.counts["call_sessions"] - before
    assert not estimate.counted
    assert estimate.calls == pytest.approx(report.rows["calls"], rel=0.3, abs=2)
    assert estimate.requests.get("call_details", 0) == pytest.approx(details, rel=0.3, abs=2)


async def test_an_estimate_has_no_points_if_the_service_has_none(simulation):
    selection = Selection(NOON - 9 * HOUR, NOON - 600, datasets=("calls", "sessions", "metrics"))
    transport = Tampering(simulation.transport(), lambda document: document.update(metrics=[]))
    async with simulation.client(transport=transport) as client:
        estimate = await client.export.estimate(selection)
    expected = {one.dataset: one.rows for one in estimate.estimates}
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
        estimate = await client.export.estimate(selection)
    assert estimate.spent == request_count(simulation) == 0
    assert estimate.requests["insight_usage"] == 2
    assert estimate.requests["insight_quality_total"] == 10
    assert estimate.requests["realtime"] == 1


# Refusals


async def test_another_selection_or_format_in_the_same_place_is_refused(tmp_path, simulation, whole):
    await whole(last_hours(1, "calls"))
    before = request_count(simulation)
    with pytest.raises(ExportError, match=r"min_freeze_rate None, now 0\.1") as error:
        await export(simulation, last_hours(1, "calls", min_freeze_rate=0.1), tmp_path / "whole")
    assert error.value.kind == "settings"
    with pytest.raises(ExportError, match="format 'jsonl', now 'csv'"):
        await export(simulation, last_hours(1, "calls"), tmp_path / "whole", format="csv")
    assert request_count(simulation) == before


async def test_a_file_that_is_no_state_is_reported_as_damaged(tmp_path, simulation):
    await export(simulation, last_hours(1, "calls"), tmp_path)
    before = request_count(simulation)
    for path in (tmp_path / ".agora-export").glob("state.db*"):
        path.write_bytes(b"no state of an export" * 1_000)
    with pytest.raises(ExportError, match="state") as error:
        await export(simulation, last_hours(1, "calls"), tmp_path)
    assert pickle.loads(pickle.dumps(error.value)).kind == "state"
    assert request_count(simulation) == before


async def test_a_second_run_in_the_same_place_is_refused_while_one_runs(tmp_path, simulation):
    remove_rate_limits(simulation)
    async with simulation.client(quotas=False, transport=simulation.transport(latency=(0.1, 0.1))) as client:
        first = asyncio.create_task(client.export.run(last_hours(1), tmp_path, format="jsonl"))
        await asyncio.sleep(0.5)
        with pytest.raises(ExportError, match="is running already") as error:
            await client.export.run(last_hours(1), tmp_path, format="jsonl")
        assert error.value.kind == "running"
        assert (await first).complete


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "xml"}, "format='xml': allowed are jsonl, "),
        ({"order": "best"}, "order='best': allowed are oldest, worst"),
        ({"max_requests": -1}, "max_requests=-1: allowed are 0 or more"),
        ({"concurrency": 0}, "concurrency=0: allowed are 1 to 1000"),
        ({"sink_options": {"key": "x"}}, "sink_options go with a URL"),
    ],
)
async def test_bad_arguments_are_rejected_before_anything_is_sent(tmp_path, simulation, options, message):
    with pytest.raises(ValueError, match=message):
        await export(simulation, last_hours(1), tmp_path / "new", **options)
    assert request_count(simulation) == 0


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"datasets": ("call",)}, "datasets='call': allowed are calls, sessions"),
        ({"datasets": ()}, r"datasets=\(\): allowed are"),
        ({"min_freeze_rate": 3}, "min_freeze_rate=3: allowed are numbers from 0 to below 1"),
        ({"datasets": ("insights",)}, "insights=.*give both or neither"),
        ({"datasets": ("calls",), "series": [Series("userCount", product="Native")]}, "series="),
    ],
)
def test_bad_selections_are_rejected(filters, message):
    with pytest.raises(ValueError, match=message):
        Selection(0, 10, **filters)


def test_bad_insights_are_rejected():
    with pytest.raises(ValueError, match="give a product"):
        Insight("audioFreezeRate")
    with pytest.raises(ValueError, match="has none"):
        Insight("userCount", product="Native")
    with pytest.raises(ValueError, match="only '1d' is allowed"):
        Insight("userCount", dimension="country", granularity="1h")


async def test_a_refused_call_is_skipped_and_reported(tmp_path, simulation, whole):
    found, _, _ = await whole(last_hours(1))
    simulation = Simulation(Service(simulation.world, simulation.service.plan, clock=simulation.clock))
    simulation.faults = Faults.script([*[None] * 5, Fault("garbage")])
    report = await export(simulation, last_hours(1), tmp_path / "one", concurrency=1)
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
            await client.export.run(last_hours(1), tmp_path, format="jsonl")
    assert request_count(simulation) <= 2


async def test_progress_counts_requests_that_were_made_and_those_waiting_for_quota(tmp_path):
    progress, simulation = [], Simulation(plan="premium", clock=NOON)
    selection = Selection(
        NOON - 29 * DAY, NOON - DAY, datasets=("insights",), insights=[Insight("userCount", granularity="1h")]
    )
    async with simulation.client() as client:
        report = await client.export.run(selection, tmp_path, format="jsonl", on_progress=progress.append)
    assert [one.requests for one in progress] == sorted(one.requests for one in progress)
    assert progress[5].requests < report.requests == progress[-1].requests
    assert progress[5].waiting > 0 == progress[-1].waiting
    assert all(one.requests + one.waiting <= report.requests for one in progress)


async def test_progress_counts_calls_whose_details_are_not_queryable_yet(tmp_path, simulation):
    progress = []
    remove_rate_limits(simulation)
    call = simulation.world.calls(NOON, NOON + HOUR)[0]
    await asyncio.sleep(call.destroyed + 30 - NOON)  # lists have it after 20 s, details after 100 s
    async with simulation.client() as client:
        selection = Selection(call.created, call.created + 1, datasets=("calls", "sessions"))
        await client.export.run(selection, tmp_path, format="jsonl", on_progress=progress.append)
    early = [one for one in progress if one.early]
    assert early
    assert all(one.done_at is not None for one in early)
    assert progress[-1].early == 0


async def test_progress_reports_rows_requests_and_what_is_pending(tmp_path, simulation):
    progress = []
    async with simulation.client() as client:
        await client.export.run(last_hours(3), tmp_path, format="jsonl", on_progress=progress.append)
    assert progress[-1].slices == progress[-1].calls == 0
    assert progress[-1].rows == {name: len(rows(tmp_path, name)) for name in ALL}
    assert [one.requests for one in progress] == sorted(one.requests for one in progress)
    assert any(one.done_at for one in progress)
    assert progress[-1].left["call_details"] < 10_000
