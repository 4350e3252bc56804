"""Which hour and which day the requests of a page are counted in."""

from __future__ import annotations

import asyncio

import pytest
from helpers.streaming import DAY, HOUR, MIDNIGHT, USERS, simulated
from helpers.times import NOON

from agora_analytics.ops import LiveState
from agora_analytics.simulator import Fault, Faults


@pytest.mark.parametrize("wrong", [-5 * HOUR, 3 * DAY])
async def test_requests_before_the_clock_is_known_are_moved_to_their_hour(wrong):
    def clock() -> float:
        return NOON + 60 + wrong + asyncio.get_running_loop().time()

    simulation = simulated("premium", at=NOON + 60, faults=Faults.always(Fault("status", status=503)))
    async with simulation.client(clock=clock) as client, LiveState(client, USERS, calls=False) as state:
        await asyncio.sleep(120)
        simulation.faults = Faults()
        await asyncio.sleep(300)
        counts = state.usage.hours()
        assert {one.hour for one in counts} == {NOON}
        assert sum(one.requests for one in counts) > sum(one.failed for one in counts) > 0
        assert state.usage.last_hour()["realtime"] == sum(one.requests for one in counts)


async def test_the_quota_is_that_of_the_new_day_right_after_midnight():
    simulation = simulated("premium", at=MIDNIGHT + DAY - 60)
    async with simulation.client() as client, LiveState(client, USERS, calls=False) as state:
        await asyncio.sleep(3)
        for _ in range(20):
            await client.calls.page(*client.calls.recent(60))
        await asyncio.sleep(6)

        async def used() -> int:
            quota = await state.monitor.current()
            return next(one.used for one in quota.counters if (one.counter, one.unit) == ("call_lists", "day"))

        await state.monitor.refresh()  # without a viewer it looks once a minute
        assert await used() == 20
        while state.now() < MIDNIGHT + DAY:  # noqa: ASYNC110 - the clock announces nothing
            await asyncio.sleep(0.05)
        assert await used() == 0
