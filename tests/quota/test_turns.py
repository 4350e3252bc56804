"""Processes that share a ledger take turns: who goes first, what nobody loses, and how long a claim counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from itertools import count

import pytest
from helpers.distant_ledger import DistantLedger, Store
from helpers.streaming import NOON, simulated

from agora_analytics import ENTERPRISE, Priority, QuotaExhausted
from agora_analytics.client import with_options
from agora_analytics.plans import CALL_LISTS
from agora_analytics.quota import LedgerState, decode
from agora_analytics.quota.claims import Asker
from agora_analytics.quota.limiters import Limiters

PER_SECOND = ENTERPRISE.rates("call_lists")["second"]
MINUTELY = ENTERPRISE.with_limits("call_lists", per_second=None, per_minute=20)


class Fleet:
    """Processes with a client each, on one store, and how many requests each had answered."""

    def __init__(self, latency: float) -> None:
        self.simulation, self.store = simulated("enterprise"), Store(ahead=NOON - 50_000, latency=latency)
        self.answered: Counter[int] = Counter()
        self._transport = self.simulation.transport(latency=(0.01, 0.05), hosts=1)
        self._clients, self._tasks, self._numbers = [], [], count()

    def client(self, priority: Priority):
        ledger = DistantLedger(self.store)
        self._clients.append(client := self.simulation.client(ledger=ledger, transport=self._transport, max_wait=None))
        return client.with_priority(priority)

    def start(self, priority: Priority, tasks: int = 10) -> int:
        """Start a process that sends all requests that it may; return its number."""
        client, number = self.client(priority), next(self._numbers)

        async def spend() -> None:
            while True:
                await ask(client)
                self.answered[number] += 1

        self._tasks += [asyncio.create_task(spend()) for _ in range(tasks)]
        return number

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            await client.close()
        assert sum(self.simulation.service.refusals.values()) == 0

    @property
    def sent(self) -> int:
        return self.simulation.service.counts["call_lists"]

    def state(self) -> LedgerState:
        return decode(self.store.stored)


@asynccontextmanager
async def fleet(latency: float = 0.002):
    fleet = Fleet(latency)
    try:
        yield fleet
    finally:
        await fleet.close()


async def ask(client) -> None:
    now = int(client._dispatcher.time.utc())
    await client.calls.page(now - 6_000, now - 3_000, page_size=1)


async def waits_of_a_person(processes: Fleet, priority: Priority = Priority.INTERACTIVE) -> list[float]:
    """Return how long each of 15 requests takes that somebody makes every 1.3 seconds or so."""
    client, loop, waits = processes.client(priority), asyncio.get_running_loop(), []
    for number in range(15):
        await asyncio.sleep(1 + number % 7 / 10)
        begun = loop.time()
        await ask(client)
        waits.append(loop.time() - begun)
    return waits


@pytest.mark.slow_except("2-0.0002", "8-0.01")
@pytest.mark.parametrize("latency", [0.0002, 0.01])
@pytest.mark.parametrize("exporting", [2, 8])
async def test_a_person_waits_for_the_next_window_at_most_however_many_processes_export(exporting, latency):
    async with fleet(latency) as processes:
        for _ in range(exporting):
            processes.start(Priority.EXPORT)
        await asyncio.sleep(20)  # until the clock is calibrated
        sent, trips, begun = processes.sent, processes.store.trips, asyncio.get_running_loop().time()
        waits = await waits_of_a_person(processes)
        sent, trips = processes.sent - sent, processes.store.trips - trips
        assert max(waits) < 1.2
        assert sent >= 0.99 * PER_SECOND * (asyncio.get_running_loop().time() - begun - 1)
        assert trips / sent < 5


async def test_a_stream_goes_before_exports_of_other_processes():
    async with fleet() as processes:
        for _ in range(4):
            processes.start(Priority.EXPORT)
        await asyncio.sleep(20)
        assert max(await waits_of_a_person(processes, Priority.STREAM)) < 1.2


async def test_every_tenth_permit_is_for_a_lower_priority_of_another_process():
    async with fleet() as processes:
        for _ in range(3):
            processes.start(Priority.INTERACTIVE)
        stream, export = processes.start(Priority.STREAM), processes.start(Priority.EXPORT)
        await asyncio.sleep(20)
        before, sent = processes.answered.copy(), processes.sent
        await asyncio.sleep(30)
        share = {number: (processes.answered[number] - before[number]) / (processes.sent - sent) for number in range(5)}
        assert 0.07 < share[stream] < 0.13
        assert 0.07 < share[export] < 0.13


@pytest.mark.slow_except("3", "8")
@pytest.mark.parametrize("processes", [3, 8, 20])
async def test_processes_of_one_priority_get_equal_shares_and_use_all(processes):
    async with fleet() as shared:
        for _ in range(processes):
            shared.start(Priority.INTERACTIVE)
        await asyncio.sleep(20)
        before, sent = shared.answered.copy(), shared.sent
        await asyncio.sleep(40)
        answered = [shared.answered[number] - before[number] for number in range(processes)]
        assert shared.sent - sent >= 0.99 * 40 * PER_SECOND
        assert min(answered) > 0.75 * max(answered)


async def test_what_a_lost_process_claimed_is_left_to_it_for_seconds_only():
    async with fleet() as processes:
        for _ in range(2):
            processes.start(Priority.EXPORT)
        await asyncio.sleep(20)
        ledger = DistantLedger(processes.store)
        lost = Asker(Priority.INTERACTIVE, slot=77)
        await ledger.change("a", lambda state: state.claims_of("call_lists").renew(lost, 3, 0.0, ledger.time()))
        sent = processes.sent
        await asyncio.sleep(4)
        assert 6 * 4 <= processes.sent - sent <= 8 * 4
        await asyncio.sleep(2)
        sent = processes.sent
        await asyncio.sleep(10)
        assert processes.sent - sent >= 99


async def test_what_a_lost_process_of_the_same_priority_claimed_is_used_by_others():
    async with fleet() as processes:
        for _ in range(2):
            processes.start(Priority.EXPORT)
        await asyncio.sleep(20)
        ledger = DistantLedger(processes.store)
        lost = Asker(Priority.EXPORT, slot=77)
        await ledger.change("a", lambda state: state.claims_of("call_lists").renew(lost, 5, 0.0, ledger.time() - 10))
        sent = processes.sent
        await asyncio.sleep(10)
        assert processes.sent - sent >= 99


async def test_a_cancelled_request_withdraws_its_claim():
    async with fleet() as processes:
        processes.start(Priority.EXPORT)
        await asyncio.sleep(20.5)
        person = asyncio.create_task(ask(processes.client(Priority.INTERACTIVE)))
        await asyncio.sleep(0.1)
        claims = processes.state().claims["call_lists"].by_priority
        assert len(claims[Priority.INTERACTIVE]) == 1
        person.cancel()
        await asyncio.sleep(0.1)
        assert not processes.state().claims["call_lists"].by_priority[Priority.INTERACTIVE]


async def test_a_request_that_may_not_wait_claims_nothing():
    async with fleet() as processes:
        processes.start(Priority.EXPORT)
        await asyncio.sleep(20.5)
        client, before = processes.client(Priority.INTERACTIVE), processes.store.writes
        with pytest.raises(QuotaExhausted):
            await ask(with_options(client, max_wait=0))
        await asyncio.sleep(0.1)
        assert processes.store.writes == before


async def test_a_person_gets_the_first_permits_of_the_next_minute(clock):
    store = Store(latency=0.002)
    exporting = [Limiters(MINUTELY, DistantLedger(store), account="a", clock=clock) for _ in range(2)]
    person = Limiters(MINUTELY, DistantLedger(store), account="a", clock=clock)

    async def send(limiters: Limiters, priority: Priority) -> float:
        async with limiters.permit(CALL_LISTS, None, priority) as permit:
            permit.answered(None)
            return asyncio.get_running_loop().time()

    exports = [asyncio.create_task(send(one, Priority.STREAM)) for one in exporting for _ in range(40)]
    await asyncio.sleep(30)
    asked = [asyncio.create_task(send(person, Priority.INTERACTIVE)) for _ in range(4)]
    await asyncio.sleep(60)
    for one in exports + asked:
        one.cancel()
    assert all(one.done() for one in asked)
    assert max([one.result() for one in asked]) < 62


def test_a_crashed_process_and_a_new_clock_leave_no_claims():
    state = LedgerState()
    claims = state.claims_of("lists")
    claims.renew(Asker(Priority.STREAM, 3), 2, 0.5, 100.0)
    claims.renew(Asker(Priority.STREAM, 4), 2, 0.5, 100.0)
    state.reclaim(3, 101.0)
    assert list(decode(state.encode()).claims["lists"].by_priority[Priority.STREAM]) == [4]
    state.restart_clock(0.0)
    assert not state.claims
