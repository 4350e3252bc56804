"""Many watches in one event loop: they poll one after the other, and few as soon as they can."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from helpers.fleet_service import FRESH
from helpers.streaming import USERS, CountingTransport, consuming, elapsed, simulated

from agora_analytics.spans import WINDOW


async def polls_of(simulation, watches: int, seconds: float) -> Counter:
    """Return how many polls so many watches send at each moment of a window, once all have begun."""
    transport = CountingTransport(simulation)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(simulation.client(quotas=False, transport=transport))
        for _ in range(watches):
            await stack.enter_async_context(consuming(client.realtime.watch(USERS)))
        await asyncio.sleep(2 * WINDOW)
        begun = elapsed()
        await asyncio.sleep(seconds)
    return Counter(round(at % WINDOW, 1) for at in transport.sent if at >= begun)


async def test_few_watches_poll_as_soon_as_a_window_is_there():
    assert list((await polls_of(simulated(FRESH), 10, WINDOW)).values()) == [10]


async def test_many_watches_poll_in_small_groups_within_the_window():
    polls = await polls_of(simulated(FRESH), 95, WINDOW)
    assert sum(polls.values()) == 95
    assert max(polls.values()) == 10
    moments = sorted(polls)
    assert moments[-1] - moments[0] < 2


async def test_watches_that_ended_delay_no_later_ones():
    simulation = simulated(FRESH)
    first = await polls_of(simulation, 30, WINDOW)
    assert len(first) == 3
    assert len(await polls_of(simulation, 10, WINDOW)) == 1
