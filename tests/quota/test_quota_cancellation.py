"""Cancelling a caller or closing a client while requests wait for quota: nothing is sent, and no permit is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from agora_analytics import ENTERPRISE, MemoryLedger, Retry, TransportError
from agora_analytics.plans import CALL_LISTS
from agora_analytics.protocols import Request, Response
from agora_analytics.quota import LedgerState
from agora_analytics.quota.limiters import Limiters

T = TypeVar("T")


class Distant:
    """A ledger on another machine: a change takes a second each way, and is made even if its caller is cancelled."""

    def __init__(self) -> None:
        self._state = LedgerState()
        self.changes = 0

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        made = asyncio.ensure_future(self._make(change))
        cancelled: asyncio.CancelledError | None = None
        while not made.done():
            try:
                await asyncio.shield(made)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return made.result()

    async def _make(self, change: Callable[[LedgerState], T]) -> T:
        await asyncio.sleep(1)
        self.changes += 1
        result = change(self._state)
        await asyncio.sleep(1)
        return result

    async def close(self) -> None:
        """Nothing is open."""


async def use(limiters: Limiters) -> None:
    async with limiters.permit(CALL_LISTS) as permit:
        permit.answered(None)


async def used(limiters: Limiters) -> dict[str, int]:
    return {state.unit: state.used for state in await limiters.snapshot() if state.counter == "call_lists"}


@pytest.mark.parametrize("after", [0.5, 1.5], ids=["before the change is made", "before the caller hears of it"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_permit_issued_after_its_caller_was_cancelled_is_released(clock, after, times):
    ledger = Distant()
    limiters = Limiters(ENTERPRISE, ledger, account="a", clock=clock)
    task = asyncio.create_task(use(limiters))
    await asyncio.sleep(after)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ledger.changes == 2  # taken and given back
    assert await used(limiters) == {"second": 0, "day": 0}
    await use(limiters)
    assert await used(limiters) == {"second": 0, "day": 1}


async def test_cancelled_waiters_take_no_permit(clock):
    limiters = Limiters(ENTERPRISE.with_limits("call_lists", per_second=1), Distant(), account="a", clock=clock)
    waiting = [asyncio.create_task(use(limiters)) for _ in range(5)]
    await asyncio.sleep(5)
    for task in waiting[1:4]:
        task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results[1:4]] == [asyncio.CancelledError] * 3
    assert results[4] is None
    assert (await used(limiters))["day"] == 2


async def test_requests_that_wait_for_quota_while_their_client_is_closed_are_not_sent_and_cost_nothing(simulation):
    plan = ENTERPRISE.with_limits("call_lists", per_second=1)
    ledger = MemoryLedger()
    client = simulation.client(plan=plan, ledger=ledger)
    span = client.calls.recent(600)
    waiting = [asyncio.create_task(client.calls.page(*span)) for _ in range(4)]
    await asyncio.sleep(0.5)
    await client.close()
    _, *others = await asyncio.gather(*waiting, return_exceptions=True)
    assert [(type(error), str(error)) for error in others] == [(RuntimeError, "this client is closed")] * 3
    assert simulation.service.counts == {"call_lists": 1}
    async with simulation.client(plan=plan, ledger=ledger) as another:
        assert (await used(another.quota))["day"] == 1


class Down:
    """A network that is down; counts the attempts."""

    hosts = 1

    def __init__(self) -> None:
        self.tried = 0

    async def send(self, request: Request, host: int = 0) -> Response:
        self.tried += 1
        raise TransportError("down")

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_request_whose_client_is_closed_between_two_attempts_is_not_sent_again(simulation):
    network = Down()
    client = simulation.client(transport=network, retry=Retry(base=100, cap=100, total=1_000))
    waiting = asyncio.create_task(client.calls.page(*client.calls.recent(600)))
    await asyncio.sleep(1e-3)
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await waiting
    assert network.tried == 1
