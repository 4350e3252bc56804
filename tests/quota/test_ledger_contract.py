"""One contract for all ledgers: what a change leaves behind, who sees it, and what happens when it cannot be made."""

from __future__ import annotations

import asyncio

import pytest
from helpers.ledger_changes import Mishap, count, counted, whole

from agora_analytics.quota import LedgerState
from agora_analytics.simulator import CUSTOMER_ID, CUSTOMER_SECRET, Simulation

pytestmark = pytest.mark.real_time


async def test_a_change_returns_its_result_and_stays(ledger):
    assert [await ledger.change("a", count) for _ in range(3)] == [1, 2, 3]
    assert await ledger.change("a", counted) == 3


async def test_a_new_account_has_an_empty_state(ledger):
    state = await ledger.change("a", whole)
    assert (state.counters, state.issued, state.clock.known) == ({}, 0, False)


async def test_accounts_are_apart(ledger):
    await ledger.change("a", count)
    assert await ledger.change("b", counted) == 0
    assert await ledger.change("b", count) == 1
    assert await ledger.change("a", counted) == 1


async def test_what_a_change_raises_reaches_its_caller_alone(ledger):
    def fail(state: LedgerState) -> None:
        raise Mishap

    with pytest.raises(Mishap):
        await ledger.change("a", fail)
    assert await ledger.change("a", count) == 1


@pytest.mark.parametrize("error", [ValueError("mine"), OSError("mine")])
async def test_a_change_may_raise_what_a_file_may_raise(ledger, error):
    def fail(state: LedgerState) -> None:
        raise error

    with pytest.raises(type(error), match="mine"):
        await ledger.change("a", fail)


async def test_changes_at_once_lose_no_count(ledger):
    results = await asyncio.gather(*(ledger.change("a", count) for _ in range(50)))
    assert sorted(results) == list(range(1, 51))


async def test_a_cancelled_change_is_made_whole_or_not_at_all(ledger):
    made = []

    def change(state: LedgerState) -> None:
        made.append(count(state))

    tasks = [asyncio.create_task(ledger.change("a", change)) for _ in range(50)]
    for task in tasks[::2]:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await ledger.change("a", counted) == len(made) >= 25


async def test_a_ledger_is_closed_twice_and_used_again(ledger):
    await ledger.close()
    await ledger.change("a", count)
    await ledger.close()
    await ledger.close()
    assert await ledger.change("a", count) == 2


async def test_no_ledger_shows_or_keeps_a_credential(ledger, path):
    simulation = Simulation()
    async with simulation.client(ledger=ledger) as client:
        await client.calls.page(*client.calls.recent(600))
    shown = repr(ledger) + repr(await ledger.change("a", whole))
    shown += "".join(file.read_bytes().decode("latin-1") for file in path.parent.glob("*"))
    assert CUSTOMER_ID not in shown
    assert CUSTOMER_SECRET not in shown
