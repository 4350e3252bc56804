"""A named checkpoint under a hub: it is where the slowest consumer is, and its name is free afterwards."""

from __future__ import annotations

import asyncio

import pytest

from agora_analytics import CheckpointError, MemoryCheckpoints, Series, broadcast

NOON = 1_795_521_600
USERS = Series("userCount", product="Native")


class Desk:
    """A consumer that notes what it is done with; works on each event for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.done: list[int] = []
        self._seconds = seconds

    async def work(self, events) -> None:
        async for event in events:
            await asyncio.sleep(self._seconds)
            self.done.append(event.ts)


def named(client, **more):
    return client.realtime.watch(USERS, stop=NOON + 1_200, revisions=False, checkpoint="hub", **more)


async def rest_of(simulation, store) -> list[int]:
    """What a stream from the saved place yields."""
    async with simulation.client(checkpoints=store) as client:
        return [event.ts async for event in named(client)]


@pytest.mark.parametrize("killed", [False, True])
async def test_the_checkpoint_is_that_of_the_slowest_subscriber(simulation, killed):
    store, quick, lazy = MemoryCheckpoints(), Desk(0), Desk(7)
    async with (
        simulation.client(checkpoints=store) as client,
        broadcast(named(client, start=NOON - 1_200)) as hub,
    ):
        work = [asyncio.create_task(one.work(hub.subscribe())) for one in (quick, lazy)]
        await asyncio.sleep(100)
        saved, done = await store.load("hub"), list(lazy.done)
        for task in work:
            task.cancel()
        await asyncio.wait(work)
    if killed:
        await store.save("hub", saved)
    assert len(quick.done) > len(done) + 5
    whole = [*done, *await rest_of(simulation, store)]
    assert sorted(set(whole)) == list(range(NOON - 1_200, NOON + 1_200, 20))
    assert len(whole) - len(set(whole)) <= (20 // 7 + 1 if killed else 0)  # saved as the next window comes


async def test_an_unused_hub_does_not_change_its_stream(simulation):
    store = MemoryCheckpoints()
    async with simulation.client(checkpoints=store) as client:
        stream = named(client, start=NOON - 1_200)
        broadcast(stream)
        alone = [event.ts async for event in stream]
        assert await rest_of(simulation, store) == []
    assert alone == list(range(NOON - 1_200, NOON + 1_200, 20))


async def test_a_stream_has_one_hub_at_a_time(simulation):
    async with simulation.client(checkpoints=MemoryCheckpoints()) as client, named(client) as stream, broadcast(stream):
        with pytest.raises(RuntimeError, match="another hub"):
            async with broadcast(stream):
                pass


@pytest.mark.parametrize("how", ["save fails", "cancelled"])
async def test_the_checkpoint_name_is_released_however_the_hub_ends(simulation, how):
    class Store(MemoryCheckpoints):
        saving = 0.0

        async def save(self, name, checkpoint):
            await asyncio.sleep(self.saving)
            if self.saving and how == "save fails":
                raise CheckpointError("the disk is full")
            await super().save(name, checkpoint)

    store = Store()

    async def shared() -> None:
        async with broadcast(client.calls.follow(start=NOON - 3_600, checkpoint="hub")) as hub:
            work = asyncio.create_task(drained(hub.subscribe()))
            await asyncio.sleep(100)
            store.saving = 5.0
            work.cancel()

    async with simulation.client(checkpoints=store) as client:
        task = asyncio.create_task(shared())
        await asyncio.sleep(102)
        if how == "cancelled":
            task.cancel()  # while it saves
        await asyncio.wait([task])
        assert task.cancelled() if how == "cancelled" else isinstance(task.exception(), CheckpointError)
        store.saving = 0.0
        await store.acquire("hub")  # raises where it is leased still


async def drained(events) -> None:
    async for _ in events:
        pass


async def test_a_subscriber_that_drops_events_holds_no_checkpoint_back(simulation):
    store, quick = MemoryCheckpoints(), Desk(0)
    async with simulation.client(checkpoints=store) as client:
        async with broadcast(named(client, start=NOON - 1_200), size=5, on_overflow="drop_oldest") as hub:
            idle = hub.subscribe()
            await asyncio.gather(anext(idle), quick.work(hub.subscribe()))
        place = await store.load("hub")
    assert place.done[-1].end >= NOON + 1_200 - 20 * 7
