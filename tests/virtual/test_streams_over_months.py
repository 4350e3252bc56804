"""What a month of everything has shown: streams that wait, for sessions or for quota, and what they say was lost."""

from __future__ import annotations

import asyncio

from agora_analytics import CallFinished, CallStarted
from agora_analytics.simulator import Simulation, World

NOON = 1_795_521_600


async def test_calls_are_read_on_while_a_thousand_owe_sessions_that_cannot_be_had_today():
    simulation = Simulation(world=World(seed=7, calls_per_hour=1_500, typical_minutes=1), clock=NOON)
    simulation.service.plan = plan = simulation.service.plan.with_limits("call_details", per_day=10)
    ages = {CallStarted: [], CallFinished: []}
    async with simulation.client(plan=plan) as client:
        follow = client.calls.follow(start=NOON, drill=True)
        asyncio.get_running_loop().call_later(5_400, follow.stop)
        async with follow as events:
            async for event in events:
                if isinstance(event, CallStarted | CallFinished):
                    moment = event.call.created_ts if isinstance(event, CallStarted) else event.call.destroyed_ts
                    ages[type(event)].append(simulation.clock() - moment)
    assert len(ages[CallStarted]) > len(ages[CallFinished]) > 1_500
    assert max(ages[CallStarted]) < 300
    assert sorted(ages[CallFinished])[-100] < 900
