"""Who closes a ledger; a ledger that is never closed leaves no thread and no file behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.ledger_changes import BlockedChange, increment, read_count

from agora_analytics import ENTERPRISE, FileLedger, MemoryLedger
from agora_analytics.plans import CALL_LISTS
from agora_analytics.quota.limiters import Limiters
from agora_analytics.simulator import Simulation

pytestmark = pytest.mark.real_time

THREAD = "agora_analytics ledger"


class CountingLedger(MemoryLedger):
    """A ledger that counts how often it was closed."""

    closed = 0

    async def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("close_ledger", [False, True])
async def test_a_client_closes_the_callers_ledger_only_with_close_ledger(close_ledger):
    ledger = CountingLedger()
    async with Simulation().client(ledger=ledger, close_ledger=close_ledger) as client:
        await client.calls.page(*client.calls.recent(600))
    assert ledger.closed == close_ledger


async def test_the_ledger_is_closed_even_if_closing_the_transport_fails():
    simulation, ledger = Simulation(), CountingLedger()
    transport = simulation.transport()

    async def fail() -> None:
        raise OSError("broken")

    transport.close = fail  # type: ignore[method-assign]
    client = simulation.client(ledger=ledger, close_ledger=True, transport=transport)
    with pytest.raises(OSError, match="broken"):
        await client.close()
    assert ledger.closed == 1


async def test_async_with_closes_a_file_ledger(path):
    async with FileLedger(path) as ledger:
        assert await ledger.change("a", increment) == 1
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREAD)]


async def test_a_garbage_collected_file_ledger_closes_its_thread_and_files(path):
    ledger = FileLedger(path)
    await ledger.change("a", increment)
    [thread] = [thread for thread in threading.enumerate() if thread.name.startswith(THREAD)]
    del ledger
    gc.collect()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    async with FileLedger(path) as ledger:
        assert await ledger.change("a", read_count) == 1


NEVER_CLOSED = """
import asyncio, sys
from agora_analytics import FileLedger

async def main():
    await ledger.change("a", lambda state: state.next_permit_id())

ledger = FileLedger(sys.argv[1])
asyncio.run(main())
"""


@pytest.mark.process
def test_a_file_ledger_that_is_never_closed_leaves_nothing_open_at_interpreter_exit(path: Path):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", NEVER_CLOSED, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    assert [found.name for found in path.parent.iterdir()] == [path.name]


async def test_a_permit_is_released_if_its_request_is_cancelled_while_the_file_changes(file):
    limiters = Limiters(ENTERPRISE, file, account="a", clock=lambda: 1_795_521_600.0)
    await limiters.snapshot()
    blocked_change = BlockedChange()
    blocked = asyncio.create_task(file.change("b", blocked_change))
    await blocked_change.started()

    async def acquire() -> None:
        async with limiters.permit(CALL_LISTS):
            raise AssertionError("the permit was issued to a cancelled request")

    acquiring = asyncio.create_task(acquire())
    while not acquiring.get_stack() or len(asyncio.all_tasks()) < 3:  # noqa: ASYNC110 - until the change is queued
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    acquiring.cancel()
    blocked_change.release()
    with pytest.raises(asyncio.CancelledError):
        await acquiring
    await blocked
    day = next(state for state in await limiters.snapshot() if (state.counter, state.unit) == ("call_lists", "day"))
    assert day.used == 0
    assert (await file.change("a", lambda state: dict(state.counter("call_lists").in_flight))) == {}
