"""Who closes a ledger, and that nothing stays open of one that nobody closed."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.ledger_changes import Held, count, counted

from agora_analytics import ENTERPRISE, FileLedger, MemoryLedger
from agora_analytics.plans import CALL_LISTS
from agora_analytics.quota.limiters import Limiters
from agora_analytics.simulator import Simulation

pytestmark = pytest.mark.real_time

THREAD = "agora_analytics ledger"


class Counting(MemoryLedger):
    """A ledger that counts how often it was closed."""

    closed = 0

    async def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("told", [False, True])
async def test_a_client_closes_the_ledger_that_it_was_given_only_if_told_to(told):
    ledger = Counting()
    async with Simulation().client(ledger=ledger, close_ledger=told) as client:
        await client.calls.page(*client.calls.recent(600))
    assert ledger.closed == told


async def test_a_ledger_is_closed_also_where_the_transport_cannot_be():
    class Broken(Counting):
        pass

    simulation, ledger = Simulation(), Broken()
    transport = simulation.transport()

    async def fail() -> None:
        raise OSError("broken")

    transport.close = fail  # type: ignore[method-assign]
    client = simulation.client(ledger=ledger, close_ledger=True, transport=transport)
    with pytest.raises(OSError, match="broken"):
        await client.close()
    assert ledger.closed == 1


async def test_a_file_ledger_is_closed_when_it_is_left(path):
    async with FileLedger(path) as ledger:
        assert await ledger.change("a", count) == 1
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    assert not [one for one in threading.enumerate() if one.name.startswith(THREAD)]


async def test_a_file_ledger_that_is_dropped_leaves_nothing_open(path):
    ledger = FileLedger(path)
    await ledger.change("a", count)
    [thread] = [one for one in threading.enumerate() if one.name.startswith(THREAD)]
    del ledger
    gc.collect()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    async with FileLedger(path) as ledger:
        assert await ledger.change("a", counted) == 1


KEPT = """
import asyncio, sys
from agora_analytics import FileLedger

async def main():
    await ledger.change("a", lambda state: state.next_permit_id())

ledger = FileLedger(sys.argv[1])
asyncio.run(main())
"""


@pytest.mark.process
def test_a_file_ledger_that_is_never_closed_leaves_nothing_open_at_the_interpreters_end(path: Path):
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", KEPT, str(path)], capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    assert [found.name for found in path.parent.iterdir()] == [path.name]


async def test_a_permit_whose_request_is_cancelled_while_the_file_changes_is_released(file):
    limiters = Limiters(ENTERPRISE, file, account="a", clock=lambda: 1_795_521_600.0)
    await limiters.snapshot()
    held = Held()
    before = asyncio.create_task(file.change("b", held))
    await held.begun()

    async def take() -> None:
        async with limiters.permit(CALL_LISTS):
            raise AssertionError("it was cancelled")

    taking = asyncio.create_task(take())
    while not taking.get_stack() or len(asyncio.all_tasks()) < 3:  # noqa: ASYNC110 - until the change is in line
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    taking.cancel()
    held.release()
    with pytest.raises(asyncio.CancelledError):
        await taking
    await before
    day = next(one for one in await limiters.snapshot() if (one.counter, one.unit) == ("call_lists", "day"))
    assert day.used == 0
    assert (await file.change("a", lambda state: dict(state.counter("call_lists").in_flight))) == {}
