"""Live reports say what they cost before they send it, and send no more than they may."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from typing import Any

import attrs
import pytest
from helpers.export_runs import remove_rate_limits, request_count
from helpers.times import NOON

from agora_analytics import Plan, QuotaExhausted, ServerError, Span, Unauthorized
from agora_analytics.endpoints.calls import Calls
from agora_analytics.export import Exporter
from agora_analytics.ops import report
from agora_analytics.ops.report import live
from agora_analytics.plans import CALL_SESSIONS
from agora_analytics.simulator import Fault, Faults, Service, Simulation, World

HOUR = 3_600


@pytest.fixture
def simulation(clock) -> Simulation:
    world = World(seed=7, calls_per_hour=1.0, typical_minutes=3.0, long_share=0.0, large_share=0.0)
    made = Simulation(Service(world, Plan.of("enterprise"), clock=clock))
    remove_rate_limits(made)
    return made


@pytest.fixture
async def call(simulation):
    async with simulation.client(quotas=False) as client:
        found = [one async for one in client.calls.search(NOON - 9 * HOUR, NOON - HOUR)]
    return max((one for one in found if one.finished), key=lambda one: one.call_pcu)


def after(simulation: Simulation, *faults: Fault | None) -> Faults:
    """Return faults of the next requests."""
    return Faults.script([*[None] * request_count(simulation), *faults])


async def test_the_report_of_a_call_takes_the_requests_that_it_named(simulation, call):
    prices: list[int] = []
    before = request_count(simulation)
    async with simulation.client(quotas=False) as client:
        page = await report.live_call(client, call.call_id, call.span, max_requests=20, on_price=prices.append)
        sessions = [one async for one in client.calls.sessions(call)]
    assert prices == [8]
    assert request_count(simulation) - before == 8 + 1
    assert f"{len(sessions)} of {len(sessions)} sessions" in page
    assert "Source: Call Inspector, 8 requests" in page
    assert "Complete: nothing is known to be missing." in page


async def test_a_report_beyond_its_limit_sends_nothing(simulation, call):
    before = request_count(simulation)
    async with simulation.client(quotas=False) as client:
        with pytest.raises(ValueError, match="max_requests=7: the report takes 8 requests"):
            await report.live_call(client, call.call_id, call.span, max_requests=7)
        with pytest.raises(ValueError, match="max_requests=12: allowed are"):
            await report.live_week(client, max_requests=12)
    assert request_count(simulation) == before


async def test_an_error_of_the_callback_ends_a_report_before_it_is_paid(simulation, call):
    def refuse(price: int) -> None:
        raise LookupError(price)

    before = request_count(simulation)
    async with simulation.client(quotas=False) as client:
        with pytest.raises(LookupError, match="8"):
            await report.live_call(client, call.call_id, call.span, max_requests=20, on_price=refuse)
    assert request_count(simulation) == before


async def test_a_part_that_fails_is_named_in_the_report(simulation, call):
    simulation.faults = after(simulation, None, Fault("status", status=500))
    async with simulation.client(quotas=False) as client:
        page = await report.live_call(client, call.call_id, call.span, max_requests=20)
    assert "Incomplete data" in page
    assert "user_count by minute: " in page
    assert "Video freezes by network" in page


async def test_a_slice_that_is_refused_loses_no_other_slice(simulation, call):
    refused = Fault("refusal", code=403, message="not in the plan")
    missing: list[str] = []
    progress: list[int] = []
    # Two slices each: of the sessions, and of the timeline of the first metric.
    simulation.faults = after(simulation, None, refused, None, refused)
    async with simulation.client(quotas=False) as client:
        longest = client.plan.of_endpoint(CALL_SESSIONS).longest_query
        span = Span(call.span.end + 60 - longest, call.span.end + HOUR)
        page = await report.live_call(
            client, call.call_id, span, max_requests=20, on_progress=progress.append, on_missing=missing.append
        )
        sessions = [one async for one in client.calls.sessions(call)]
    assert f"{len(sessions)} of {len(sessions)} sessions" in page
    assert [part.partition(",")[0] for part in missing] == ["sessions", "user_count by minute"]
    assert all("not in the plan" in part and part in unescape(page) for part in missing)
    assert "Source: Call Inspector, at most 12 requests" in page
    assert progress == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(("status", "error"), [(401, Unauthorized), (500, ServerError)])
async def test_without_sessions_there_is_no_report(simulation, call, status, error):
    simulation.faults = after(simulation, Fault("status", status=status))
    async with simulation.client(quotas=False) as client:
        with pytest.raises(error):
            await report.live_call(client, call.call_id, call.span, max_requests=20)


async def test_a_span_of_which_nothing_is_queryable_is_refused(simulation):
    before = request_count(simulation)
    async with simulation.client(quotas=False) as client:
        with pytest.raises(ValueError, match="queryable only some minutes later"):
            await report.live_call(client, "A" * 32, Span(NOON - 60, NOON), max_requests=20)
        with pytest.raises(ValueError, match="the plan no longer keeps"):
            await report.live_call(client, "A" * 32, Span(1_700_000_000, 1_700_000_060), max_requests=20)
    assert request_count(simulation) == before


async def test_the_report_of_a_week_counts_its_estimate(simulation):
    prices: list[int] = []
    before = request_count(simulation)
    async with simulation.client(quotas=False) as client:
        page = await report.live_week(client, max_requests=200, on_price=prices.append)
        spent = request_count(simulation) - before
        calls = [one async for one in client.calls.search(*client.calls.recent(7 * 24 * HOUR))]
    assert prices[0] - 5 <= spent <= prices[0] + 12
    assert len(calls) > 100
    assert "join failure rate" in page
    assert f"Source: Call Inspector and Data Insights, {spent} requests" in page
    assert "Worst devices: needs sessions" in page
    with_estimate = spent - prices[0]
    async with simulation.client(quotas=False) as client:
        with pytest.raises(ValueError, match="requests after the"):
            await report.live_week(client, max_requests=max(13, with_estimate + prices[0] - 1))


async def test_a_week_of_which_a_part_is_refused_says_so(simulation):
    fault = Fault("refusal", code=403, message="not in the plan")
    simulation.faults = Faults.always(fault).only("insight_quality")
    missing: list[str] = []
    progress: list[int] = []
    before = request_count(simulation)
    async with simulation.client(quotas=False) as client:
        page = await report.live_week(client, max_requests=200, on_progress=progress.append, on_missing=missing.append)
    assert missing
    assert all("not in the plan" in part for part in missing)
    assert "Incomplete data" in page
    assert progress == sorted(progress)
    assert progress[-1] == request_count(simulation) - before


async def test_a_report_that_would_wait_for_the_next_day_is_refused(clock):
    """Exports leave the last requests of a day to others, and would wait for midnight."""
    made = Simulation(Service(World(seed=7, calls_per_hour=1.0), Plan.of("standard"), clock=clock))
    async with made.client() as client:
        for _ in range(955):
            await client.calls.page(NOON - 9 * HOUR, NOON - 8 * HOUR)
        before = request_count(made)
        with pytest.raises(QuotaExhausted, match="would wait for the quota of 'call_lists' until 2026-11-25T00:00"):
            await report.live_week(client, max_requests=100)
    assert request_count(made) == before


async def test_a_report_whose_quota_others_spend_ends(simulation, monkeypatch):
    run = Exporter.run

    async def run_slowly(*arguments: Any, max_requests: int, **options: Any) -> object:
        if max_requests:
            await asyncio.sleep(86_400)
        return await run(*arguments, max_requests=max_requests, **options)

    async with simulation.client(quotas=False) as client:
        monkeypatch.setattr(Exporter, "run", run_slowly)
        with pytest.raises(QuotaExhausted, match="the report was not done within 3600 s"):
            await report.live_week(client, max_requests=200)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("status", status=401), "HTTP 401"),
        (Fault("slow", seconds=20), "not done within 19 s"),
        (Fault("slow", seconds=40), "no answer within 30 s"),
    ],
)
async def test_a_week_that_ends_early_is_made_of_what_was_answered(simulation, monkeypatch, fault, reason):
    if "19 s" in reason:
        monkeypatch.setattr(live, "_MAX_WAIT", 19)
    missing: list[str] = []
    transport = simulation.transport(latency=(0.1, 2.0))  # so that some are answered long before the others
    async with simulation.client(quotas=False, transport=transport) as client:
        simulation.faults = Faults.script([*[None] * (request_count(simulation) + 15), *[fault] * 1_000])
        page = await report.live_week(client, max_requests=200, on_missing=missing.append)
    (part,) = missing
    assert re.match(r"\d+ spans are missing: ", part)
    assert reason in part
    assert part in unescape(page)
    assert "Data Insights, at least " in page


async def test_a_week_that_takes_more_requests_than_were_estimated_says_so(simulation, monkeypatch):
    run = Exporter.run

    async def run_less(*arguments: Any, max_requests: int, **options: Any) -> object:
        return await run(*arguments, max_requests=4, **options)

    monkeypatch.setattr(Exporter, "run", run_less)
    missing: list[str] = []
    async with simulation.client(quotas=False) as client:
        page = await report.live_week(client, max_requests=200, on_missing=missing.append)
    assert "spans are missing: max_requests does not suffice" in missing[0]
    assert missing[0] in unescape(page)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("error", [TimeoutError, LookupError, ServerError])
async def test_an_exception_from_a_callback_ends_a_week(simulation, error, first):
    seen: list[int] = []

    def fail(count: int) -> None:
        seen.append(count)
        if first or len(seen) > 2:
            raise error("of a program")

    async with simulation.client(quotas=False, transport=simulation.transport(latency=(1.0, 3.0))) as client:
        with pytest.raises(error, match="of a program"):
            await report.live_week(client, max_requests=200, on_progress=fail)


async def test_a_part_without_quota_says_why(simulation, call):
    simulation.faults = after(simulation, None, Fault("busy"))
    async with simulation.client(quotas=False) as client:
        page = await report.live_call(client, call.call_id, call.span, max_requests=20)
    assert "<li>user_count by minute: HTTP 429: " in page


async def test_a_report_of_less_than_the_call_says_of_what_it_is(simulation, call):
    part = Span(call.span.start + 20, call.span.end - 20)
    async with simulation.client(quotas=False) as client:
        page = await report.live_call(client, call.call_id, part, max_requests=20)
    assert f"what is shown over time, and by network, is of {part}" in page


@pytest.mark.parametrize("answers", [{"join_ts": 1_795_521_600_000}, {"leave_ts": None, "finished": False}], ids=str)
async def test_a_session_with_impossible_times_is_reported(simulation, call, monkeypatch, answers):
    sessions_page = Calls.sessions_page

    async def changed(self: Calls, *arguments: object, **options: object) -> object:
        page = await sessions_page(self, *arguments, **options)
        return attrs.evolve(page, sessions=(attrs.evolve(page.items[0], **answers), *page.items[1:]))

    monkeypatch.setattr(Calls, "sessions_page", changed)
    async with simulation.client(quotas=False) as client:
        page = await report.live_call(client, call.call_id, call.span, max_requests=20)
    assert ("1 sessions have no end" in page) is ("finished" in answers)


async def test_a_list_without_a_total_whose_first_page_is_full_has_more(simulation, call, monkeypatch):
    sessions_page = Calls.sessions_page

    async def changed(self: Calls, *arguments: object, **options: object) -> object:
        page = await sessions_page(self, *arguments, **options)
        many = [attrs.evolve(page.items[0], sid=str(number)) for number in range(100)]
        return attrs.evolve(page, sessions=tuple(many), total_size=None, has_more=None)

    monkeypatch.setattr(Calls, "sessions_page", changed)
    async with simulation.client(quotas=False) as client:
        page = await report.live_call(client, call.call_id, call.span, max_requests=20)
    assert "only the first page of 2 pages of sessions was requested" in page
