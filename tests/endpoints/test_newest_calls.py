"""Calls of a span, newest first, as `agora-analytics calls search` reads them within a budget of requests."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.times import NOON

from agora_analytics import MemoryLedger, Plan, Span, TransportError
from agora_analytics.cli.commands.search import NewestFirst, SearchBudget
from agora_analytics.cli.options import TimeOptions
from agora_analytics.plans import CALL_LISTS
from agora_analytics.protocols import Request, Response, Transport
from agora_analytics.simulator import Fault, Faults, Service, Simulation, Variants, World

DAY = 86_400
both_overlaps = pytest.mark.parametrize(
    "overlap", [False, True], ids=["calls that began in the span", "calls that overlap the span"]
)


def simulated(*, overlap: bool = False) -> Simulation:
    world, variants = World(seed=3, calls_per_hour=40), Variants(calls_overlap=overlap)
    # On virtual time: calls that are listed late must not appear between two searches of a test.
    return Simulation(world=world, plan="enterprise", clock=NOON, variants=variants)


@both_overlaps
async def test_all_calls_of_a_long_span_are_returned_once_and_newest_first(overlap):
    async with simulated(overlap=overlap).client() as client:
        span = client.calls.recent(DAY + 3_600)
        expected = {call.call_id async for call in client.calls.search(*span)}
        newest = NewestFirst(await SearchBudget.of(client, None), span, None, 100)
        calls = [call async for call in newest.calls()]
    ids = [call.call_id for call in calls]
    assert (len(ids), set(ids)) == (len(expected), expected)
    began = [call.created_ts for call in calls]
    assert began == sorted(began, reverse=True)
    assert newest.read_from == span.start


@both_overlaps
@pytest.mark.parametrize("budget", [2, 5, 12])
async def test_a_search_stays_within_its_budget_and_reports_how_far_it_read(overlap, budget):
    simulation = simulated(overlap=overlap)
    async with simulation.client() as client:
        span = client.calls.recent(3 * DAY)
        newest = NewestFirst(await SearchBudget.of(client, budget), span, None, 100)
        ids = {call.call_id async for call in newest.calls()}
        assert 0 < simulation.service.counts["call_lists"] <= budget
        assert newest.read_from > span.start
        expected = {call.call_id async for call in client.calls.search(newest.read_from + 1, span.end)}
    assert expected <= ids


@pytest.mark.parametrize("budget", range(2, 40, 3))
@pytest.mark.parametrize("variants", [{"beyond": "refused"}, {"beyond": "empty"}, {"beyond": "repeated"}], ids=str)
async def test_a_search_of_truncated_lists_stays_within_its_budget(budget, variants):
    busy = World(seed=7, calls_per_hour=600, typical_minutes=2, long_share=0.0, large_share=0.0)
    simulation = Simulation(Service(busy, "enterprise", variants=Variants(max_rows=200, **variants)))
    async with simulation.client() as client:
        span = Span(*map(int, client.calls.recent(2 * 3_600)))
        newest = NewestFirst(await SearchBudget.of(client, budget), span, None, 100)
        ids = {call.call_id async for call in newest.calls()}
        assert simulation.service.counts["call_lists"] <= budget
    existing = {call.call_id: call.created for call in busy.calls(*newest.span)}
    assert {call for call, began in existing.items() if began > newest.read_from} <= ids <= set(existing)
    assert newest.read_from > newest.span.start or ids == set(existing)


async def test_parts_are_reported_unread_if_the_first_part_takes_the_whole_budget():
    async with simulated().client() as client:
        span = client.calls.recent(9 * DAY)
        parts = NewestFirst(await SearchBudget.of(client, None), span, None, 100).parts
        first = client.calls.search(*parts[0])
        count = len([call async for call in first])
        newest = NewestFirst(await SearchBudget.of(client, first.requests), span, None, 100)
        assert len([call async for call in newest.calls()]) == count
    assert len(parts) > 2
    assert newest.read_from == parts[1].end


async def test_requests_made_elsewhere_meanwhile_count_against_the_budget():
    simulation = simulated()
    async with simulation.client() as client:
        span = client.calls.recent(3 * DAY)
        search_budget = await SearchBudget.of(client, 5)
        await client.calls.page(*client.calls.recent(3_600))
        newest = NewestFirst(search_budget, span, None, 100)
        assert [call async for call in newest.calls()]
    assert simulation.service.counts["call_lists"] <= 5
    assert newest.read_from > span.start


async def test_failed_attempts_count_as_requests():
    simulation = simulated()
    simulation.faults = Faults.script([None, *[Fault("status", status=503)] * 3])
    async with simulation.client() as client:
        results = client.calls.search(*client.calls.recent(3 * DAY), max_requests=5)
        assert [call async for call in results]
        assert results.exhausted
    assert simulation.service.counts["call_lists"] + 3 <= 5


async def test_a_search_that_needs_exactly_its_budget_is_not_exhausted():
    async with simulated().client() as client:
        span = client.calls.recent(3_600)
        complete = client.calls.search(*span)
        count = len([call async for call in complete])
        results = client.calls.search(*span, max_requests=complete.requests)
        assert len([call async for call in results]) == count
        assert not results.exhausted


async def test_a_search_stays_within_the_daily_limit():
    simulation = simulated()
    async with simulation.client(plan=Plan.of("enterprise").with_limits("call_lists", per_day=7)) as client:
        span = client.calls.recent(3 * DAY)
        newest = NewestFirst(await SearchBudget.of(client, 100), span, None, 100)
        assert [call async for call in newest.calls()]
    assert newest.read_from > span.start
    assert simulation.service.counts["call_lists"] <= 7


@pytest.mark.parametrize("time_is_known", [True, False], ids=["ledger with the time", "new ledger"])
@pytest.mark.parametrize("wrong", [0, 0.6, 3, 60, 7_200, -600])
async def test_the_default_span_ends_now_by_the_services_clock(wrong, time_is_known):
    simulation = simulated()
    simulation.host_clock.wrong = wrong
    ledger = MemoryLedger()
    if time_is_known:
        async with simulation.client(ledger=ledger) as client:
            for _ in range(2):
                await client.calls.page(*client.calls.recent(60))
    before = simulation.service.refusals.copy()
    async with simulation.client(ledger=ledger) as client:
        span = await TimeOptions().span(client, CALL_LISTS, DAY + 3_600)
        calls = [call async for call in NewestFirst(await SearchBudget.of(client, None), span, None, 100).calls()]
    assert sum((simulation.service.refusals - before).values()) <= (wrong > 0 and not time_is_known)
    ids = [call.call_id for call in calls]
    newest = int(simulation.clock()) - simulation.service.plan.of_endpoint(CALL_LISTS).delay - 60
    existing = {call.call_id for call in simulation.world.calls(newest - DAY - 3_400, newest)}
    assert len(ids) == len(set(ids))
    assert existing <= set(ids)


class Unreachable:
    """A transport whose first request fails with an error that does not name it, like that of a broken socket."""

    def __init__(self, transport: Transport) -> None:
        self.inner = transport
        self.sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def send(self, request: Request, host: int = 0) -> Response:
        self.sent += 1
        if self.sent == 1:
            raise TransportError("the connection failed")
        return await self.inner.send(request, host)


async def test_an_attempt_that_never_arrives_counts_once():
    simulation = simulated()
    async with simulation.client(transport=Unreachable(simulation.transport())) as client:
        results = client.calls.search(*client.calls.recent(600), max_requests=2)
        assert [call async for call in results]
        assert not results.exhausted


async def test_a_request_without_budget_for_a_retry_counts_as_made():
    simulation = simulated()
    simulation.faults = Faults.always(Fault("reset"))
    async with simulation.client() as client:
        results = client.calls.search(*client.calls.recent(600), max_requests=2)
        assert not [call async for call in results]
        assert (results.exhausted, results.requests) == (True, 1)
