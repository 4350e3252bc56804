"""A refused call, span, source or App ID is skipped and reported, and does not stop the rest of an export."""

from __future__ import annotations

import asyncio

import pytest
from helpers.export_files import rows
from helpers.export_runs import ALL, DAY, HOUR, NOON, all_rows, export, last_hours, remove_rate_limits, request_count
from helpers.wrong_dates import Tampering

from agora_analytics import Insight, NotFound, Selection, Series, Unauthorized
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.simulator import Fault, Faults, Service, Simulation

REFUSALS = [(400, 200), (404, 404), (503, 503), (403, 200), (401, 401), (300, 200), (204, 200), (1001, 200)]
"""The code in the body, and the HTTP status."""

NO_ACCESS = Fault("refusal", code=300, message="no auth")
REVOKED = Fault("refusal", code=401, status=401, message="Invalid authentication credentials")
REFUSED_APP = "an-app-id-of-another-account"


def refusal(code: int, status: int = 200) -> Fault:
    return Fault("refusal", code=code, status=status, message="not for you")


def oldest_call(found) -> str:
    """Return the id of the call that began first."""
    return min(found["calls"], key=lambda row: row[3])[1]


# Calls


@pytest.mark.slow_except("404-404", "300-200")
@pytest.mark.parametrize(("code", "status"), REFUSALS)
async def test_a_call_whose_details_are_refused_is_skipped_and_reported_by_its_id(
    tmp_path, simulation, whole, code, status
):
    found, _, _ = await whole(last_hours(1))
    refused = oldest_call(found)
    simulation.faults = Faults.of_call(refused, refusal(code, status))
    for _ in range(2):
        report = await export(simulation, last_hours(1), tmp_path / "rest", concurrency=1)
        (skipped,) = report.skipped
        assert (skipped.what, skipped.calls, skipped.call_ids, skipped.again) == ("details", 1, (refused,), True)
        assert str(code) in skipped.reason
        assert (report.pending, report.complete) == (0, False)
    expected = {name: [row for row in old if name == "calls" or row[1] != refused] for name, old in found.items()}
    assert all_rows(tmp_path / "rest") == expected
    simulation.faults = Faults()
    assert (await export(simulation, last_hours(1), tmp_path / "rest")).complete
    assert all_rows(tmp_path / "rest") == found


async def test_a_refused_call_costs_a_probe_only_if_no_other_call_is_answered_after_it(tmp_path, simulation, whole):
    found, cost, _ = await whole(last_hours(1, "calls", "sessions"))
    calls = sorted(found["calls"], key=lambda row: row[3] or "")
    for refused, probes in ((calls[0][1], 0), (calls[-1][1], 1)):
        simulation.faults = Faults.of_call(refused)
        report = await export(simulation, last_hours(1, "calls", "sessions"), tmp_path / refused, concurrency=1)
        assert [one.call_ids for one in report.skipped] == [(refused,)]
        assert (report.requests, report.pending) == (cost + probes, 0)


async def test_a_single_call_with_server_errors_is_not_retried_as_long_as_an_outage(tmp_path, simulation, whole):
    found, _, _ = await whole(last_hours(1))
    refused = oldest_call(found)
    loop = asyncio.get_running_loop()
    began = loop.time()
    simulation.faults = Faults.of_call(refused, refusal(503, 503))
    # The span ends in the future: more calls begin during the run.
    others = Selection(NOON - HOUR, NOON + 60, datasets=ALL, mids={20001, 20003, 20004})
    report = await export(simulation, others, tmp_path / "rest")
    assert [one.call_ids for one in report.skipped] == [(refused,)]
    assert loop.time() - began < 200


@pytest.mark.parametrize("quotas", [False, True])
async def test_a_single_rate_limited_call_is_skipped_and_retried_by_the_next_run(tmp_path, simulation, whole, quotas):
    found, _, _ = await whole(last_hours(1))
    refused = oldest_call(found)
    loop = asyncio.get_running_loop()
    began = loop.time()
    simulation.faults = Faults.of_call(refused, refusal(429, 429))
    report = await export(simulation, last_hours(1), tmp_path / "rest", quotas=quotas)
    (skipped,) = report.skipped
    assert (skipped.call_ids, skipped.reason, skipped.again) == ((refused,), "RateLimited: HTTP 429, code 429", True)
    assert loop.time() - began < 1_800
    assert rows(tmp_path / "rest", "sessions") == [row for row in found["sessions"] if row[1] != refused]
    simulation.faults = Faults()
    assert (await export(simulation, last_hours(1), tmp_path / "rest")).complete


@pytest.mark.parametrize("message", ["too many", "Service package limit check error, qps limit error"])
async def test_a_run_waits_while_every_request_is_rate_limited(tmp_path, simulation, whole, message):
    found, _, _ = await whole(last_hours(1))
    busy = Fault("refusal", code=429, status=429, message=message)
    now = simulation.service.clock()
    simulation.faults = Faults.outage(now, now + 400, busy)
    report = await export(simulation, last_hours(1), tmp_path / "rest")
    assert report.complete
    assert all_rows(tmp_path / "rest") == found


async def test_many_refused_calls_cost_few_probes(tmp_path, simulation, whole, monkeypatch):
    _, cost, _ = await whole(last_hours(3, "calls", "sessions"))
    first_end, excluded = ExportState.first_end, []
    monkeypatch.setattr(
        ExportState, "first_end", lambda *arguments: excluded.append(len(arguments[-1])) or first_end(*arguments)
    )
    simulation.faults = Faults.always(refusal(404)).only("call_sessions")
    report = await export(simulation, last_hours(3, "calls", "sessions"), tmp_path / "rest")
    (skipped,) = report.skipped
    assert skipped.calls == report.rows["calls"] > 20
    assert len(skipped.call_ids) == 10
    assert report.requests <= cost + cost // 8 + 2
    assert max(excluded) < 20  # a skipped call is no longer excluded by its id


async def test_refused_calls_are_not_skipped_if_every_later_request_is_refused_too(tmp_path, simulation, whole):
    found, _, _ = await whole(last_hours(3))
    before = request_count(simulation)
    simulation.faults = Faults.script([*[None] * (before + 12), *[REVOKED] * 200])
    with pytest.raises(Unauthorized):
        await export(simulation, last_hours(3), tmp_path / "rest", concurrency=1)
    assert len(simulation.service.log) - before <= 12 + 8 + 1
    simulation.faults = Faults()
    report = await export(simulation, last_hours(3), tmp_path / "rest")
    assert report.complete
    assert all_rows(tmp_path / "rest") == found


async def test_an_answer_to_a_request_sent_before_a_refusal_proves_nothing_about_it(
    tmp_path, simulation, whole, caplog
):
    _, cost, report = await whole(last_hours(3, "calls", "sessions"))
    lists = cost - report.rows["calls"]
    simulation.faults = Faults.script([*[None] * (cost + lists), REVOKED, None, *[REVOKED] * 200])
    transport = simulation.transport(latency=(0.1, 0.1))
    async with simulation.client(quotas=False, transport=transport) as client:
        with pytest.raises(Unauthorized):
            await client.export.run(
                last_hours(3, "calls", "sessions"), tmp_path / "rest", format="jsonl", concurrency=2
            )
    assert "skipping" not in caplog.text


async def test_details_that_the_plan_does_not_include_are_skipped_for_all_calls(tmp_path, simulation, whole):
    found, _, _ = await whole(last_hours(3))
    simulation.faults = Faults.always(NO_ACCESS).only("call_sessions")
    before = request_count(simulation)
    report = await export(simulation, last_hours(3), tmp_path / "rest", concurrency=1)
    assert request_count(simulation) - before < 12
    (skipped,) = report.skipped
    assert (skipped.what, skipped.reason) == ("details", "PlanRefused: access: no auth")
    assert (report.pending, report.complete) == (0, False)
    assert rows(tmp_path / "rest", "calls") == found["calls"]


# App IDs


@pytest.mark.slow_except("1-401-401", "0-403-200")
@pytest.mark.parametrize(
    ("position", "code", "status"), [(0, 403, 200), (0, 400, 200), (1, 401, 401), (2, 404, 200), (2, 404, 404)]
)
async def test_a_refused_app_id_is_skipped_and_the_others_are_exported(tmp_path, simulation, position, code, status):
    remove_rate_limits(simulation)
    simulation.service.other_apps = ["app-2"]
    simulation.faults = Faults.always(refusal(code, status)).only(appid=REFUSED_APP)
    apps = [simulation.app_id, "app-2"]
    await export(simulation, last_hours(1, apps=apps), tmp_path / "good")
    apps.insert(position, REFUSED_APP)
    for _ in range(2):
        report = await export(simulation, last_hours(1, *ALL, mids={20001, 20003, 20004}, apps=apps), tmp_path / "rest")
        (skipped,) = report.skipped
        assert (skipped.app_id, skipped.what, skipped.again) == (REFUSED_APP, "app", True)
        assert skipped.reason.endswith(f"code {code}: not for you")
        assert (report.pending, report.complete) == (0, False)
    assert all_rows(tmp_path / "rest") == all_rows(tmp_path / "good")


async def test_an_app_id_that_is_no_longer_refused_is_exported_by_the_next_run(tmp_path, simulation):
    remove_rate_limits(simulation)
    both = last_hours(1, "calls", apps=[REFUSED_APP, simulation.app_id])
    assert [one.app_id for one in (await export(simulation, both, tmp_path)).skipped] == [REFUSED_APP]
    simulation.service.other_apps = [REFUSED_APP]
    report = await export(simulation, both, tmp_path)
    assert report.complete
    assert {row[0] for row in rows(tmp_path, "calls")} == {REFUSED_APP, simulation.app_id}


async def test_refused_credentials_end_the_run_at_once(tmp_path, simulation):
    simulation.service.other_apps = ["app-2"]
    simulation.faults = Faults.always(REVOKED)
    for apps, max_sent in (([simulation.app_id], 2), ([simulation.app_id, "app-2"], 3)):
        before = len(simulation.service.log)
        with pytest.raises(Unauthorized):
            await export(simulation, last_hours(6, apps=apps), tmp_path, concurrency=1)
        assert len(simulation.service.log) - before <= max_sent


# Series


async def test_only_the_refused_series_is_skipped(tmp_path, simulation):
    remove_rate_limits(simulation)
    good, refused = Insight("userCount"), Insight("peakCurrentChannels")
    span = (NOON - 10 * DAY, NOON - 6 * DAY)
    await export(simulation, Selection(*span, datasets=("insights",), insights=[good]), tmp_path / "good")
    simulation.faults = Faults.always(refusal(400)).only(metric="peakCurrentChannels")
    report = await export(
        simulation, Selection(*span, datasets=("insights",), insights=[refused, good]), tmp_path / "rest"
    )
    (skipped,) = report.skipped
    assert (skipped.what, skipped.reason) == (
        "insight peakCurrentChannels 1d",
        "BadRequest: HTTP 200, code 400: not for you",
    )
    assert rows(tmp_path / "rest", "insights") == rows(tmp_path / "good", "insights")


async def test_the_run_ends_if_all_series_are_refused(tmp_path, simulation):
    selection = Selection(NOON - HOUR, NOON, datasets=("realtime",), series=[Series("userCount", product="Native")])
    simulation.faults = Faults.always(refusal(404))
    with pytest.raises(NotFound, match="not for you"):
        await export(simulation, selection, tmp_path)


# Spans


async def test_a_refused_span_is_skipped_and_requested_by_the_next_run(tmp_path, simulation, whole):
    simulation.service.plan = simulation.service.plan.with_limits("call_lists", longest=HOUR)
    found, _, _ = await whole(last_hours(5, "calls"))
    first = NOON - 5 * HOUR
    simulation.faults = Faults.always(refusal(404)).only(start_ts=first)
    for _ in range(2):
        report = await export(simulation, last_hours(5, "calls"), tmp_path / "rest")
        (skipped,) = report.skipped
        assert (skipped.what, skipped.again) == ("calls", True)
        assert skipped.reason == "NotFound: HTTP 200, code 404: not for you"
        assert skipped.span is not None
        assert skipped.span.start == first
        assert (report.pending, report.complete) == (0, False)
    assert set(rows(tmp_path / "rest", "calls")) < set(found["calls"])
    simulation.faults = Faults()
    assert (await export(simulation, last_hours(5, "calls"), tmp_path / "rest")).complete
    assert rows(tmp_path / "rest", "calls") == found["calls"]


# Estimates


async def test_an_estimate_skips_a_refused_app_id(simulation):
    async with simulation.client() as client:
        alone = await client.export.estimate(last_hours(3))
        estimate = await client.export.estimate(last_hours(3, apps=[REFUSED_APP, simulation.app_id]))
    assert (estimate.calls, estimate.requests) == (alone.calls, alone.requests)
    (skipped,) = estimate.expired
    assert (skipped.app_id, skipped.what, skipped.reason) == (REFUSED_APP, "app", "Unauthorized: HTTP 200, code 403")


async def test_an_estimate_fails_if_every_app_id_is_refused(simulation):
    async with simulation.client() as client:
        with pytest.raises(Unauthorized):
            await client.export.estimate(last_hours(3, apps=[REFUSED_APP, "another"]))


async def test_an_estimate_does_not_need_a_refused_call(simulation, whole):
    found, _, _ = await whole(last_hours(3))
    for sessions, metrics in ((refusal(404), None), (None, refusal(404))):
        simulation.faults = Faults.script([sessions] * 2, endpoint="call_sessions")
        simulation.faults += Faults.script([metrics] * 2, endpoint="call_metrics")
        fresh = Simulation(
            Service(simulation.world, simulation.service.plan, clock=simulation.clock, faults=simulation.faults)
        )
        async with fresh.client(quotas=False) as client:
            estimate = await client.export.estimate(last_hours(3))
        assert estimate.calls == len(found["calls"])
        assert min(one.rows for one in estimate.estimates) > 0


# Values


@pytest.mark.slow_except("jsonl", "sqlite")
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "sqlite", "duckdb"])
async def test_a_row_with_a_value_out_of_range_is_skipped_and_the_rest_is_exported(tmp_path, simulation, whole, form):
    found, _, _ = await whole(last_hours(1))

    def set_values_out_of_range(document) -> None:
        for key, value in (("call_pcu", 2**70), ("created_ts", 1e300)):
            for call in document.get("call_lists", [])[-1:]:
                call[key] = value
        for call in document.get("call_lists", [])[:1]:
            call["destroyed_ts"] = 2**62
        for session in document.get("call_info", [])[:1]:
            session["leave_ts"] = -(2**62)
        for track in [track for one in document.get("metrics", []) for track in one["data"]][:1]:
            track["kvs"][0][0] = 2**63 - 1

    transport = Tampering(simulation.transport(), set_values_out_of_range)
    async with simulation.client(quotas=False, transport=transport) as client:
        report = await client.export.run(last_hours(1), tmp_path / "rest", format=form)
    skipped = {one.what: one for one in report.skipped if one.rows}
    assert set(skipped) == {"call_lists", *ALL}
    assert skipped["calls"].rows == 1
    assert skipped["sessions"].reason == "does not fit the reference: a time that is no date, null here"
    assert len(rows(tmp_path / "rest", "calls")) == len(found["calls"]) - 1
    again = await export(simulation, last_hours(1), tmp_path / "rest", format=form)
    assert not again.complete
    assert {row[4] for row in rows(tmp_path / "rest", "calls")} >= {None}
