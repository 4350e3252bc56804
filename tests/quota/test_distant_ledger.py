"""A ledger at a distance: how many changes a request costs, what happens if one runs twice, and whose clock counts."""

from __future__ import annotations

import asyncio

import pytest
from helpers.distant_ledger import DistantLedger, Store
from helpers.streaming import NOON, simulated

from agora_analytics import ENTERPRISE, LedgerError, Priority, QuotaExhausted
from agora_analytics.plans import CALL_LISTS
from agora_analytics.quota import decode
from agora_analytics.quota.limiters import Limiters


def in_flight(store: Store) -> dict[int, float]:
    return decode(store.stored).counter("call_lists").in_flight if store.stored else {}


async def used_today(client) -> int:
    states = await client.quota.snapshot()
    return next(state.used for state in states if (state.counter, state.unit) == ("call_lists", "day"))


async def ask(client) -> None:
    now = int(client._dispatcher.time.utc())
    await client.calls.page(now - 6_000, now - 3_000, page_size=1)


async def send_request(limiters: Limiters, priority: Priority = Priority.INTERACTIVE) -> None:
    async with limiters.permit(CALL_LISTS, None, priority) as permit:
        permit.answered(None)


async def test_how_a_request_ended_rides_with_the_change_of_the_next():
    simulation, store = simulated("enterprise"), Store()
    async with simulation.client(ledger=DistantLedger(store)) as client:
        await ask(client)
        before = store.trips
        for _ in range(8):
            await ask(client)
        assert store.trips - before == 8
    assert not in_flight(store)


async def test_how_the_last_request_ended_is_stored_a_moment_later():
    simulation, store = simulated("enterprise"), Store()
    async with simulation.client(ledger=DistantLedger(store)) as client:
        await ask(client)
        await ask(client)
        assert in_flight(store)
        await asyncio.sleep(0.06)
        assert not in_flight(store)


async def test_a_ledger_that_fails_loses_no_answer_and_hears_of_it_later(caplog):
    simulation, store = simulated("enterprise"), Store()
    async with simulation.client(ledger=DistantLedger(store)) as client:
        await ask(client)
        store.latency = 0.01
        request = asyncio.create_task(ask(client))
        await asyncio.sleep(0.011)  # it has its permit
        store.failing = True
        await request
        await asyncio.sleep(1)
        assert "1 answer of the service is not yet in the ledger, and stored once" in caplog.text
        with pytest.raises(LedgerError):
            await ask(client)
        store.failing = False
        await ask(client)
        await asyncio.sleep(1)
        assert not in_flight(store)
        assert await used_today(client) == simulation.service.counts["call_lists"] == 3


async def test_a_rejection_stores_nothing():
    simulation, store = simulated("enterprise"), Store()
    plan = ENTERPRISE.with_limits("call_lists", per_second=None, per_day=2)
    async with simulation.client(ledger=DistantLedger(store), plan=plan, max_wait=None) as client:
        await ask(client)
        await ask(client)
        await asyncio.sleep(1)
        before = store.stored
        waiting = asyncio.create_task(ask(client))
        await asyncio.sleep(600)
        assert store.stored == before
        waiting.cancel()


async def test_one_change_takes_the_permits_of_all_who_wait():
    simulation, store = simulated("enterprise"), Store()
    async with simulation.client(ledger=DistantLedger(store), max_wait=None) as client:
        await ask(client)
        await asyncio.sleep(30)
        await asyncio.gather(*(ask(client) for _ in range(200)))
        trips = store.trips
    assert simulation.service.counts["call_lists"] == 201
    assert sum(simulation.service.refusals.values()) == 0
    assert trips < 201


async def cancel_during_the_change_for_all(store, waiting) -> None:
    """Cancel all but two, after the store made the change that took a permit for all but the first."""
    while len(in_flight(store)) < len(waiting) - 1:  # noqa: ASYNC110 - half of the latency before the answer
        await asyncio.sleep(0.001)
    for one in waiting[2:]:
        one.cancel()
    await asyncio.wait(waiting)


async def test_spare_permits_that_nobody_used_are_given_back(clock):
    store = Store(latency=0.01)
    limiters = Limiters(ENTERPRISE, DistantLedger(store), account="a", clock=clock)
    waiting = [asyncio.create_task(send_request(limiters)) for _ in range(8)]
    await cancel_during_the_change_for_all(store, waiting)
    assert len(in_flight(store)) >= 6
    await asyncio.sleep(1)
    await send_request(limiters)
    await limiters.close()
    assert not in_flight(store)
    assert sum(decode(store.stored).counter("call_lists").used_per_day.values()) == 3


async def test_an_export_takes_no_spare_permit_of_a_stream(clock):
    """Of 20 requests a day one is left to interactive use; the stream's permits are the last three."""
    store = Store(latency=0.01)
    plan = ENTERPRISE.with_limits("call_lists", per_second=None, per_day=20)
    limiters = Limiters(plan, DistantLedger(store), account="a", clock=clock)
    for _ in range(17):
        await send_request(limiters)
    waiting = [asyncio.create_task(send_request(limiters, Priority.STREAM)) for _ in range(3)]
    export = asyncio.create_task(send_request(limiters, Priority.EXPORT))
    await cancel_during_the_change_for_all(store, waiting)
    await asyncio.sleep(0.015)
    assert not export.done()
    export.cancel()


@pytest.mark.parametrize("latency", [0.0002, 0.002, 0.01])
@pytest.mark.parametrize("processes", [2, 8])
async def test_processes_far_from_their_ledger_use_all_of_the_limit_and_none_is_refused(processes, latency):
    used, trips = await spend_for_20_seconds(processes, latency)
    assert used > 0.99
    assert trips < 7


@pytest.mark.parametrize(
    ("processes", "latency", "least"),
    [(1, 0.05, 0.99), (1, 0.2, 0.99), (2, 0.05, 0.98), (8, 0.02, 0.85), (8, 0.05, 0.65)],
)
async def test_what_processes_very_far_from_their_ledger_use_of_the_limit(processes, latency, least):
    """A change takes a share of the window for a process; not all shares fit into its first 80 ms."""
    used, trips = await spend_for_20_seconds(processes, latency)
    assert used > least
    assert trips < 5


async def spend_for_20_seconds(processes: int, latency: float) -> tuple[float, float]:
    """Send what the plan allows; return the fraction of it that was sent, and the round trips for each request.

    Fails if a request is refused.
    """
    simulation, store = simulated("enterprise"), Store(ahead=NOON - 50_000, latency=latency)
    transport = simulation.transport(latency=(0.01, 0.05), hosts=1)
    clients = [
        simulation.client(ledger=DistantLedger(store), transport=transport, max_wait=None) for _ in range(processes)
    ]

    async def spend(client) -> None:
        while True:
            await ask(client)

    tasks = [asyncio.create_task(spend(client)) for client in clients for _ in range(10)]
    await asyncio.sleep(20)  # until the clock is calibrated
    sent, trips = simulation.service.counts["call_lists"], store.trips
    await asyncio.sleep(20)
    sent, trips = simulation.service.counts["call_lists"] - sent, store.trips - trips
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for client in clients:
        await client.close()
    assert sum(simulation.service.refusals.values()) == 0
    return sent / (20 * ENTERPRISE.rates("call_lists")["second"]), trips / sent


async def test_a_refusal_is_stored_at_once():
    simulation, store = simulated("enterprise"), Store()
    async with simulation.client(ledger=DistantLedger(store), max_wait=0) as client:
        await ask(client)
        simulation.service.spend("call_lists", 10**6)
        with pytest.raises(QuotaExhausted):
            await ask(client)
        assert decode(store.stored).counter("call_lists").refusals == 1


async def test_a_cancelled_request_ends_as_cancelled_although_its_ledger_fails(clock):
    store = Store(latency=0.02)
    limiters = Limiters(ENTERPRISE, DistantLedger(store), account="a", clock=clock)
    await send_request(limiters)
    request = asyncio.create_task(send_request(limiters))
    await asyncio.sleep(0.015)  # the change is made, and its answer under way
    request.cancel()
    store.failing = True
    with pytest.raises(asyncio.CancelledError):
        await request
    store.failing = False
    await send_request(limiters)
    await limiters.close()
    assert not in_flight(store)
    assert sum(decode(store.stored).counter("call_lists").used_per_day.values()) == 2


async def test_how_a_request_ended_is_kept_where_the_next_change_fails_and_its_caller_is_cancelled():
    simulation, store = simulated("enterprise"), Store()
    async with simulation.client(ledger=DistantLedger(store)) as client:
        await ask(client)
        await ask(client)
        store.latency = 0.02
        store.failing = True
        request = asyncio.create_task(ask(client))
        await asyncio.sleep(0.005)
        request.cancel()
        await asyncio.wait([request])
        store.failing = False
        await ask(client)
        await asyncio.sleep(0.1)
        assert not in_flight(store)


async def test_the_first_answer_is_returned_although_the_ledger_fails_by_then():
    simulation, store = simulated("enterprise"), Store()
    transport = simulation.transport(latency=(0.1, 0.1), hosts=1)
    async with simulation.client(ledger=DistantLedger(store), transport=transport) as client:
        request = asyncio.create_task(ask(client))
        await asyncio.sleep(0.05)
        store.failing = True
        await request
        store.failing = False
        await ask(client)
        await asyncio.sleep(0.1)
        assert not in_flight(store)
        assert decode(store.stored).clock.known
