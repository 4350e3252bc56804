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


class RemoteLedger:
    """A ledger on another machine: one second of latency each way, and a change outlives its cancelled caller."""

    def __init__(self) -> None:
        self._state = LedgerState()
        self.changes = 0

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        task = asyncio.ensure_future(self._apply(change))
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return task.result()

    async def _apply(self, change: Callable[[LedgerState], T]) -> T:
        await asyncio.sleep(1)
        self.changes += 1
        result = change(self._state)
        await asyncio.sleep(1)
        return result

    async def close(self) -> None:
        """Nothing is open."""


async def send_request(limiters: Limiters) -> None:
    async with limiters.permit(CALL_LISTS) as permit:
        permit.answered(None)


async def used(limiters: Limiters) -> dict[str, int]:
    return {state.unit: state.used for state in await limiters.snapshot() if state.counter == "call_lists"}


@pytest.mark.parametrize("after", [0.5, 1.5], ids=["before the change", "before its result arrives"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_permit_issued_after_its_caller_was_cancelled_is_released(clock, after, times):
    ledger = RemoteLedger()
    limiters = Limiters(ENTERPRISE, ledger, account="a", clock=clock)
    task = asyncio.create_task(send_request(limiters))
    await asyncio.sleep(after)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ledger.changes == 2  # acquired and released
    assert await used(limiters) == {"second": 0, "day": 0}
    await send_request(limiters)
    assert await used(limiters) == {"second": 0, "day": 1}


async def test_cancelled_waiters_take_no_permit(clock):
    limiters = Limiters(ENTERPRISE.with_limits("call_lists", per_second=1), RemoteLedger(), account="a", clock=clock)
    waiting = [asyncio.create_task(send_request(limiters)) for _ in range(5)]
    await asyncio.sleep(5)
    for task in waiting[1:4]:
        task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results[1:4]] == [asyncio.CancelledError] * 3
    assert results[4] is None
    assert (await used(limiters))["day"] == 2


async def test_closing_a_client_ends_its_waiting_requests_without_sending_or_charging_them(simulation):
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
    async with simulation.client(plan=plan, ledger=ledger) as other_client:
        assert (await used(other_client.quota))["day"] == 1


class FailingNetwork:
    """A network that is down; it counts the attempts to send."""

    hosts = 1

    def __init__(self) -> None:
        self.attempts = 0

    async def send(self, request: Request, host: int = 0) -> Response:
        self.attempts += 1
        raise TransportError("down")

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        """Nothing is open."""


async def test_closing_a_client_between_two_attempts_ends_the_retries(simulation):
    network = FailingNetwork()
    client = simulation.client(transport=network, retry=Retry(base=100, cap=100, total=1_000))
    waiting = asyncio.create_task(client.calls.page(*client.calls.recent(600)))
    await asyncio.sleep(1e-3)
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await waiting
    assert network.attempts == 1
