"""Named checkpoints of a broadcast: they follow the slowest subscriber, and the lease ends with the hub."""

from __future__ import annotations

import asyncio

import pytest
from helpers.checkpoints import store_checkpoint
from helpers.streaming import HOUR, NOON, USERS, consume

from agora_analytics import CheckpointError, MemoryCheckpoints, broadcast


class Consumer:
    """Processes each event for so many seconds, and then records its window."""

    def __init__(self, seconds: float) -> None:
        self.done: list[int] = []
        self._seconds = seconds

    async def work(self, events) -> None:
        async for event in events:
            await asyncio.sleep(self._seconds)
            self.done.append(event.ts)


def watch(client, **options):
    return client.realtime.watch(USERS, stop=NOON + 1_200, revisions=False, checkpoint="hub", **options)


async def resumed(simulation, store) -> list[int]:
    """Return the windows of a stream that resumes at the saved checkpoint."""
    async with simulation.client(checkpoints=store) as client:
        return [event.ts async for event in watch(client)]


@pytest.mark.parametrize("killed", [False, True])
async def test_the_checkpoint_is_that_of_the_slowest_subscriber(simulation, killed):
    store, fast, slow = MemoryCheckpoints(), Consumer(0), Consumer(7)
    async with (
        simulation.client(checkpoints=store) as client,
        broadcast(watch(client, start=NOON - 1_200)) as hub,
    ):
        work = [asyncio.create_task(consumer.work(hub.subscribe())) for consumer in (fast, slow)]
        await asyncio.sleep(100)
        saved, done = await store.load("hub"), list(slow.done)
        for task in work:
            task.cancel()
        await asyncio.wait(work)
    if killed:  # the process saved nothing at its end
        await store_checkpoint(store, "hub", saved)
    assert len(fast.done) > len(done) + 5
    delivered = [*done, *await resumed(simulation, store)]
    assert sorted(set(delivered)) == list(range(NOON - 1_200, NOON + 1_200, 20))
    repeated = len(delivered) - len(set(delivered))
    assert repeated <= (20 // 7 + 1 if killed else 0)  # the checkpoint is saved when the next window is delivered


async def test_an_unused_hub_does_not_change_its_stream(simulation):
    store = MemoryCheckpoints()
    async with simulation.client(checkpoints=store) as client:
        stream = watch(client, start=NOON - 1_200)
        broadcast(stream)
        delivered = [event.ts async for event in stream]
        assert await resumed(simulation, store) == []
    assert delivered == list(range(NOON - 1_200, NOON + 1_200, 20))


async def test_a_stream_has_one_hub_at_a_time(simulation):
    async with simulation.client(checkpoints=MemoryCheckpoints()) as client, watch(client) as stream, broadcast(stream):
        with pytest.raises(RuntimeError, match="another hub"):
            async with broadcast(stream):
                pass


@pytest.mark.parametrize("how", ["save fails", "cancelled"])
async def test_the_checkpoint_name_is_released_however_the_hub_ends(simulation, how):
    class Store(MemoryCheckpoints):
        saving = 0.0

        async def save(self, name, checkpoint, epoch):
            await asyncio.sleep(self.saving)
            if self.saving and how == "save fails":
                raise CheckpointError("the disk is full")
            await super().save(name, checkpoint, epoch)

    store = Store()

    async def share() -> None:
        async with broadcast(client.calls.follow(start=NOON - HOUR, checkpoint="hub")) as hub:
            work = asyncio.create_task(consume(hub.subscribe(), []))
            await asyncio.sleep(100)
            store.saving = 5.0
            work.cancel()

    async with simulation.client(checkpoints=store) as client:
        task = asyncio.create_task(share())
        await asyncio.sleep(102)
        if how == "cancelled":
            task.cancel()  # while it saves the checkpoint
        await asyncio.wait([task])
        assert task.cancelled() if how == "cancelled" else isinstance(task.exception(), CheckpointError)
        store.saving = 0.0
        await store.acquire("hub")  # raises if it is still leased


async def test_a_subscriber_that_drops_events_holds_no_checkpoint_back(simulation):
    store, fast = MemoryCheckpoints(), Consumer(0)
    async with simulation.client(checkpoints=store) as client:
        async with broadcast(watch(client, start=NOON - 1_200), size=5, on_overflow="drop_oldest") as hub:
            idle = hub.subscribe()
            await asyncio.gather(anext(idle), fast.work(hub.subscribe()))
        checkpoint = await store.load("hub")
    assert checkpoint.done[-1].end >= NOON + 1_200 - 20 * 7
