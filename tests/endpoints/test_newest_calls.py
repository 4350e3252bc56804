"""The calls of a span, newest first, as `agora-analytics calls search` reads them: for as many requests as allowed."""

from __future__ import annotations

from typing import Any

import pytest

from agora_analytics import MemoryLedger, Plan, Span, TransportError
from agora_analytics.cli.commands.search import NewestFirst, SearchBudget
from agora_analytics.cli.options import TimeOptions
from agora_analytics.plans import CALL_LISTS
from agora_analytics.protocols import Request, Response, Transport
from agora_analytics.simulator import Fault, Faults, Service, Simulation, Variants, World

DAY = 86_400
WHICH = pytest.mark.parametrize("overlap", [False, True], ids=["that began in it", "that were on in it"])


def simulated(*, overlap: bool = False) -> Simulation:
    return Simulation(Service(World(seed=3, calls_per_hour=40), "enterprise", variants=Variants(calls_overlap=overlap)))


@WHICH
async def test_all_calls_of_a_long_span_come_once_and_the_newest_first(overlap):
    async with simulated(overlap=overlap).client() as client:
        span = client.calls.recent(DAY + 3_600)
        wanted = {call.call_id async for call in client.calls.search(*span)}
        newest = NewestFirst(await SearchBudget.of(client, None), span, None, 100)
        calls = [call async for call in newest.calls()]
    ids = [call.call_id for call in calls]
    assert (len(ids), set(ids)) == (len(wanted), wanted)
    began = [call.created_ts for call in calls]
    assert began == sorted(began, reverse=True)
    assert newest.read_from == span.start


@WHICH
@pytest.mark.parametrize("most", [2, 5, 12])
async def test_no_more_requests_are_made_than_allowed_and_it_is_known_how_far_they_went(overlap, most):
    simulation = simulated(overlap=overlap)
    async with simulation.client() as client:
        span = client.calls.recent(3 * DAY)
        newest = NewestFirst(await SearchBudget.of(client, most), span, None, 100)
        ids = {call.call_id async for call in newest.calls()}
        assert 0 < simulation.service.counts["call_lists"] <= most
        assert newest.read_from > span.start
        wanted = {call.call_id async for call in client.calls.search(newest.read_from + 1, span.end)}
    assert wanted <= ids


@pytest.mark.parametrize("most", range(2, 40, 3))
@pytest.mark.parametrize("turned", [{"beyond": "refused"}, {"beyond": "empty"}, {"beyond": "repeated"}], ids=str)
async def test_no_more_requests_are_made_than_allowed_where_lists_are_cut_off(most, turned):
    busy = World(seed=7, calls_per_hour=600, typical_minutes=2, long_share=0.0, large_share=0.0)
    simulation = Simulation(Service(busy, "enterprise", variants=Variants(most_rows=200, **turned)))
    async with simulation.client() as client:
        span = Span(*map(int, client.calls.recent(2 * 3_600)))
        newest = NewestFirst(await SearchBudget.of(client, most), span, None, 100)
        ids = {call.call_id async for call in newest.calls()}
        assert simulation.service.counts["call_lists"] <= most
    there = {call.call_id: call.created for call in busy.calls(*newest.span)}
    assert {call for call, began in there.items() if began > newest.read_from} <= ids <= set(there)
    assert newest.read_from > newest.span.start or ids == set(there)


async def test_where_the_first_part_takes_all_requests_the_others_are_known_not_to_be_asked_for():
    async with simulated().client() as client:
        span = client.calls.recent(9 * DAY)
        parts = NewestFirst(await SearchBudget.of(client, None), span, None, 100).parts
        first = client.calls.search(*parts[0])
        count = len([call async for call in first])
        newest = NewestFirst(await SearchBudget.of(client, first.requests), span, None, 100)
        assert len([call async for call in newest.calls()]) == count
    assert len(parts) > 2
    assert newest.read_from == parts[1].end


async def test_what_other_programs_spend_meanwhile_is_not_spent_again():
    simulation = simulated()
    async with simulation.client() as client:
        span = client.calls.recent(3 * DAY)
        budget = await SearchBudget.of(client, 5)
        await client.calls.page(*client.calls.recent(3_600))
        newest = NewestFirst(budget, span, None, 100)
        assert [call async for call in newest.calls()]
    assert simulation.service.counts["call_lists"] <= 5
    assert newest.read_from > span.start


async def test_attempts_that_fail_count_as_requests():
    simulation = simulated()
    simulation.faults = Faults.script([None, *[Fault("status", status=503)] * 3])
    async with simulation.client() as client:
        found = client.calls.search(*client.calls.recent(3 * DAY), max_requests=5)
        assert [call async for call in found]
        assert found.exhausted
    assert simulation.service.counts["call_lists"] + 3 <= 5


async def test_a_search_that_needs_no_more_requests_than_allowed_is_not_exhausted():
    async with simulated().client() as client:
        span = client.calls.recent(3_600)
        whole = client.calls.search(*span)
        count = len([call async for call in whole])
        found = client.calls.search(*span, max_requests=whole.requests)
        assert len([call async for call in found]) == count
        assert not found.exhausted


async def test_what_the_day_has_left_is_a_bound_too():
    simulation = simulated()
    async with simulation.client(plan=Plan.of("enterprise").with_limits("call_lists", per_day=7)) as client:
        span = client.calls.recent(3 * DAY)
        newest = NewestFirst(await SearchBudget.of(client, 100), span, None, 100)
        assert [call async for call in newest.calls()]
    assert newest.read_from > span.start
    assert simulation.service.counts["call_lists"] <= 7


@pytest.mark.parametrize("known", [True, False], ids=["a ledger knows the time", "new ledger"])
@pytest.mark.parametrize("wrong", [0, 0.6, 3, 60, 7_200, -600])
async def test_the_default_span_ends_now_by_the_services_clock(wrong, known):
    simulation = simulated()
    simulation.host_clock.wrong = wrong
    ledger = MemoryLedger()
    if known:
        async with simulation.client(ledger=ledger) as client:
            for _ in range(2):
                await client.calls.page(*client.calls.recent(60))
    before = simulation.service.refusals.copy()
    async with simulation.client(ledger=ledger) as client:
        span = await TimeOptions().span(client, CALL_LISTS, DAY + 3_600)
        calls = [call async for call in NewestFirst(await SearchBudget.of(client, None), span, None, 100).calls()]
    assert sum((simulation.service.refusals - before).values()) <= (wrong > 0 and not known)
    ids = [call.call_id for call in calls]
    newest = int(simulation.clock()) - simulation.service.plan.of_endpoint(CALL_LISTS).delay - 60
    there = {call.call_id for call in simulation.world.calls(newest - DAY - 3_400, newest)}
    assert len(ids) == len(set(ids))
    assert there <= set(ids)


class Unreachable:
    """Passes requests on but for the first, whose error says nothing of what was asked, as that of a socket."""

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


async def test_an_attempt_of_which_nothing_arrives_counts_once():
    simulation = simulated()
    async with simulation.client(transport=Unreachable(simulation.transport())) as client:
        found = client.calls.search(*client.calls.recent(600), max_requests=2)
        assert [call async for call in found]
        assert not found.exhausted


async def test_a_request_of_which_no_further_attempt_is_allowed_was_made_all_the_same():
    simulation = simulated()
    simulation.faults = Faults.always(Fault("reset"))
    async with simulation.client() as client:
        found = client.calls.search(*client.calls.recent(600), max_requests=2)
        assert not [call async for call in found]
        assert (found.exhausted, found.requests) == (True, 1)
