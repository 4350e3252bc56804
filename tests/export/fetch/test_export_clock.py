"""Exports with wrong clocks: data is expired only once the service refuses it, whatever a clock says."""

from __future__ import annotations

import asyncio

import attrs
import pytest
from helpers.export_files import rows
from helpers.export_runs import DAY, HOUR, NOON, export, remove_rate_limits, request_count
from helpers.wrong_dates import Misdated, Wrong

from agora_analytics import Insight, Plan, Retry, Selection, Series
from agora_analytics.simulator import Simulation


def selection_of(hours: float) -> Selection:
    return Selection(NOON - int(hours * HOUR) - 4_000, NOON - 4_000, datasets=("calls", "sessions"))


async def run(simulation: Simulation, selection: Selection, folder, **options):
    options = {"quotas": False, "retry": Retry(base=0.01)} | options
    async with simulation.client(**options) as client:
        return await client.export.run(selection, folder, format="jsonl")


def count_refusals(simulation: Simulation) -> int:
    return simulation.service.refusals["range"]


@pytest.mark.slow_except("{4}-3456000-200", "{4}--172800-200", "{1}-3456000-502")
@pytest.mark.parametrize(
    ("misdated", "ahead", "status"),
    [
        ({1}, 40 * DAY, 200),
        ({1}, 40 * DAY, 502),
        ({1, 2}, -600, 200),
        ({4}, 40 * DAY, 200),
        ({4}, 40 * DAY, 502),
        ({4}, -2 * DAY, 200),
        ({4, 5, 6, 7}, 40 * DAY, 200),
        ({4, 5, 6, 7}, -2 * DAY, 200),
    ],
    ids=str,
)
async def test_wrong_date_headers_do_not_make_data_expire(tmp_path, simulation, misdated, ahead, status):
    remove_rate_limits(simulation)
    selection = selection_of(5)
    await run(simulation, selection, tmp_path / "whole")
    wrong = Wrong(ahead, status, b"<html>Bad gateway</html>" if status == 502 else None)
    transport = Misdated(simulation.transport(), dict.fromkeys(misdated, wrong))
    report = await run(simulation, selection, tmp_path / "misdated", transport=transport)
    assert report.complete, report.skipped
    assert len(rows(tmp_path / "whole", "sessions")) > 20
    for name in ("calls", "sessions"):
        assert rows(tmp_path / "misdated", name) == rows(tmp_path / "whole", name)
    assert count_refusals(simulation) <= 1


@pytest.mark.parametrize(
    ("what", "ahead"),
    [
        ("calls", -30 * DAY),
        ("calls", 2 * HOUR),
        ("calls", 30 * DAY),
        ("realtime", -2 * HOUR),
        ("realtime", 600),
        ("realtime", 2 * HOUR),
        ("insights", -30 * DAY),
        ("insights", 30 * DAY),
    ],
)
async def test_a_wrong_host_clock_changes_no_row_and_delays_nothing(tmp_path, simulation, clock, what, ahead):
    remove_rate_limits(simulation)
    selections = {
        "calls": Selection(NOON - 5 * HOUR, NOON - HOUR, datasets=("calls",)),
        "realtime": Selection(
            NOON - 3_000, NOON - 600, datasets=("realtime",), series=[Series("userCount", product="Native")]
        ),
        "insights": Selection(NOON - 9 * DAY, NOON - 5 * DAY, datasets=("insights",), insights=[Insight("userCount")]),
    }
    await run(simulation, selections[what], tmp_path / "right")
    loop = asyncio.get_running_loop()
    started = loop.time()
    report = await run(simulation, selections[what], tmp_path / "wrong", clock=lambda: clock() + ahead)
    assert report.complete, report.skipped
    assert rows(tmp_path / "wrong", what) == rows(tmp_path / "right", what)
    assert loop.time() - started < 60


@pytest.mark.slow
async def test_expired_data_is_probed_once_and_not_again_by_the_next_run(tmp_path, simulation):
    remove_rate_limits(simulation)
    selection = Selection(NOON - 40 * DAY, NOON - HOUR, datasets=("calls",))
    report = await export(simulation, selection, tmp_path / "old")
    fresh = await export(
        simulation, Selection(NOON - 15 * DAY + 60, NOON - HOUR, datasets=("calls",)), tmp_path / "kept"
    )
    [skipped] = report.skipped
    assert (skipped.what, skipped.reason) == ("calls", "expired")
    assert NOON - 15 * DAY <= skipped.span.end <= NOON - 15 * DAY + 10
    assert count_refusals(simulation) == 1
    assert report.requests == fresh.requests + 1
    again = await export(simulation, selection, tmp_path / "old")
    assert again.skipped == report.skipped
    assert count_refusals(simulation) == 1


async def test_one_refusal_covers_all_expired_calls(tmp_path, simulation):
    remove_rate_limits(simulation)
    first = NOON - 15 * DAY
    selection = Selection(first + 60, first + 2 * DAY, datasets=("calls", "sessions"))
    list_requests = 3
    await export(simulation, selection, tmp_path, max_requests=list_requests)
    await asyncio.sleep(DAY)
    before = request_count(simulation)
    report = await export(simulation, selection, tmp_path)
    expired = [one for one in report.skipped if one.what == "details"]
    assert sum(one.calls or 0 for one in expired) > 50
    assert {one.reason for one in expired} == {"expired"}
    assert count_refusals(simulation) == 1
    assert request_count(simulation) - before == report.requests


async def test_data_kept_longer_than_the_plan_says_is_exported(tmp_path, simulation):
    remove_rate_limits(simulation)
    selection = Selection(NOON - 3 * DAY, NOON - HOUR, datasets=("calls",))
    await export(simulation, selection, tmp_path / "whole")
    shorter = simulation.service.plan.with_limits("call_lists", retention=2 * DAY)
    report = await run(simulation, selection, tmp_path / "small", plan=shorter)
    assert report.complete
    assert rows(tmp_path / "small", "calls") == rows(tmp_path / "whole", "calls")


async def test_data_kept_shorter_than_the_plan_says_expires_once_refused(tmp_path, simulation):
    remove_rate_limits(simulation)
    generous = simulation.service.plan
    simulation.service.plan = generous.with_limits("call_lists", retention=2 * HOUR)
    selection = Selection(NOON - 3 * HOUR, NOON - HOUR, datasets=("calls",))
    report = await run(simulation, selection, tmp_path, plan=generous)
    [skipped] = report.skipped
    assert skipped.reason == "expired"
    assert NOON - 2 * HOUR < skipped.span.end <= NOON - 2 * HOUR + 120
    assert rows(tmp_path, "calls")


async def test_a_provisional_row_that_expires_is_kept_as_final(tmp_path, simulation):
    remove_rate_limits(simulation)
    insight = Insight("userCount")
    selection = Selection(NOON - 5 * DAY, NOON - DAY, datasets=("insights",), insights=[insight])
    first = await export(simulation, selection, tmp_path)
    assert first.provisional
    provisional = rows(tmp_path, "insights")
    await asyncio.sleep(60 * DAY)
    report = await export(simulation, selection, tmp_path)
    assert (report.provisional, report.skipped) == (0, ())
    assert [row[:-1] for row in rows(tmp_path, "insights")] == [row[:-1] for row in provisional]
    assert count_refusals(simulation) <= 2


async def test_an_estimate_works_with_a_wrong_host_clock(simulation, clock):
    for ahead in (-2 * HOUR, 2 * HOUR):
        async with simulation.client(clock=lambda: clock() + ahead, max_wait=None) as client:  # noqa: B023
            estimate = await client.export.estimate(attrs.evolve(selection_of(15 * 24), datasets=("calls",)))
        assert estimate.calls > 100
        await asyncio.sleep(10)


def test_the_enterprise_plan_keeps_calls_for_fifteen_days():
    assert Plan.of("enterprise").limits["call_lists"].retention == 15 * DAY
