"""One stream, several consumers: asked for once, and no consumer can hurt another but as was agreed."""

from __future__ import annotations

import asyncio

import pytest

from agora_analytics import Series, Unauthorized, Window, broadcast
from agora_analytics.simulator import Fault, Faults

NOON = 1_795_521_600
USERS = Series("userCount", product="Native")


def watch(client, **more):
    return client.realtime.watch(USERS, start=NOON - 1_200, stop=NOON + 600, revisions=False, **more)


async def all_of(subscription, pause: float = 0.0) -> list[int]:
    found = []
    async for event in subscription:
        assert isinstance(event, Window)
        found.append(event.ts)
        await asyncio.sleep(pause)
    return found


async def test_every_subscriber_has_everything_and_it_is_asked_for_once(simulation):
    async with simulation.client() as client:
        expected = [event.ts async for event in watch(client)]
        alone = simulation.service.counts["realtime_usage"]
    async with simulation.client() as client, broadcast(watch(client)) as hub:
        found = await asyncio.gather(*(all_of(hub.subscribe()) for _ in range(5)))
    assert all(one == found[0] for one in found)
    assert found[0] == expected[-len(found[0]) :]
    assert len(found[0]) > 60
    assert simulation.service.counts["realtime_usage"] - alone <= alone


async def test_a_slow_subscriber_holds_the_others_back(simulation):
    async with simulation.client() as client, broadcast(watch(client), size=3) as hub:
        slow, quick = hub.subscribe(), hub.subscribe()
        task = asyncio.create_task(all_of(quick))
        first = await anext(slow)
        await asyncio.sleep(1_000)
        assert not task.done()
        rest = await all_of(slow)
        assert [first.ts, *rest] == await task
        assert slow.dropped == 0


async def test_a_slow_subscriber_loses_its_oldest_events_where_that_was_agreed(simulation):
    async with simulation.client() as client, broadcast(watch(client), size=10, slow="drop") as hub:
        slow, quick = hub.subscribe(), hub.subscribe()
        task = asyncio.create_task(all_of(quick))
        first = await anext(slow)
        whole = await task
        rest = await all_of(slow)
    assert whole == list(range(whole[0], NOON + 600, 20))
    assert rest == whole[-10:]
    assert slow.dropped == len(whole) - 11
    assert first.ts == whole[0]


async def test_who_leaves_lets_the_others_go_on(simulation):
    async with simulation.client() as client, broadcast(watch(client), size=1) as hub:
        leaving, staying = hub.subscribe(), hub.subscribe()
        task = asyncio.create_task(all_of(staying))
        await anext(leaving)
        await asyncio.sleep(10)
        await leaving.aclose()
        assert len(await task) > 60
        assert await all_of(leaving) == []


async def test_what_ends_the_stream_is_raised_in_every_subscriber(simulation):
    simulation.service.faults = Faults.chance(1, [Fault("status", status=401)])
    async with simulation.client() as client, broadcast(watch(client)) as hub:
        found = await asyncio.gather(*(all_of(hub.subscribe()) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in found] == [Unauthorized, Unauthorized]


async def test_leaving_the_hub_ends_all(simulation):
    async with simulation.client() as client:
        async with broadcast(client.realtime.watch(USERS)) as hub:
            task = asyncio.create_task(all_of(hub.subscribe()))
            await asyncio.sleep(100)
        assert await task != []
        states = {state.unit: state for state in await client.quota.snapshot() if state.counter == "realtime"}
    assert states["day"].expected == 0


async def test_misuse(simulation):
    async with simulation.client() as client:
        with pytest.raises(ValueError, match="slow='sometimes'"):
            broadcast(watch(client), slow="sometimes")
        with pytest.raises(ValueError, match="size=0"):
            broadcast(watch(client), size=0)
