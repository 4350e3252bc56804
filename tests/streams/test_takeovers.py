"""Streams that lose their name to another process, and saves that are spaced out: what a crash repeats."""

from __future__ import annotations

import asyncio

import pytest
from helpers.checkpoints import OwnCheckpoints
from helpers.streaming import HOUR, NOON, USERS, collect, elapsed, simulated, timestamps

from agora_analytics import Checkpoint, CheckpointError, MemoryCheckpoints, Span, broadcast
from agora_analytics.ops import alerts
from agora_analytics.streams.saver import Saver


def stream_of(client, kind, **options):
    return client.realtime.watch(USERS, **options) if kind == "watch" else client.calls.follow(**options)


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_stream_that_was_taken_over_ends_and_says_so(kind):
    store = OwnCheckpoints({})
    async with simulated("enterprise").client(checkpoints=store) as client:
        old = stream_of(client, kind, start=NOON - HOUR, checkpoint="prod")
        new = stream_of(client, kind, start=NOON - HOUR, checkpoint="prod")
        await anext(old)
        await anext(new)
        saved = await store.load("prod")
        with pytest.raises(CheckpointError, match="another process took this stream over") as caught:
            await collect(old)
        assert caught.value.kind == "taken_over"
        assert old.health.state == "stopped"
        assert "took this stream over" in old.health.last_error
        assert await store.load("prod") == saved
        await anext(new)
        await new.aclose()


async def test_a_watch_that_was_taken_over_delivers_at_most_the_event_it_was_working_on():
    store = OwnCheckpoints({})
    async with simulated().client(checkpoints=store) as client:
        options = {"start": NOON - 1_200, "stop": NOON, "checkpoint": "prod", "revisions": False}
        old, new = (client.realtime.watch(USERS, **options) for _ in range(2))
        first = [await anext(old) for _ in range(5)]
        second = await collect(new)
        with pytest.raises(CheckpointError, match="took this stream over"):
            first.append(await anext(old))
        # The fifth was not done when the other took over.
        assert timestamps(first)[-1] == timestamps(second)[0]
        assert sorted({*timestamps(first), *timestamps(second)}) == list(range(NOON - 1_200, NOON, 20))


async def test_a_hub_that_was_taken_over_raises_it_to_every_subscriber():
    store, found = OwnCheckpoints({}), []

    async def share(client) -> None:
        async with broadcast(client.realtime.watch(USERS, start=NOON - HOUR, checkpoint="prod")) as hub:
            one, other = hub.subscribe(), hub.subscribe()
            await asyncio.gather(anext(one), anext(other))
            await store.acquire("prod")
            found.extend(await asyncio.gather(collect(one), collect(other), return_exceptions=True))

    async with simulated().client(checkpoints=store) as client:
        with pytest.raises(CheckpointError, match="took this stream over"):
            await share(client)
    assert [error.kind for error in found] == ["taken_over", "taken_over"]


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_stream_that_stands_by_sends_no_request(kind):
    simulation, store = simulated(), MemoryCheckpoints()
    await store.acquire("prod")
    async with simulation.client(checkpoints=store) as client:
        for _ in range(3):
            with pytest.raises(CheckpointError, match="in use"):
                await anext(stream_of(client, kind, checkpoint="prod"))
    assert simulation.service.counts.total() == 0


# Saves that are spaced out.


class CountedCheckpoints(MemoryCheckpoints):
    """Counts saves, each of which takes a while."""

    def __init__(self, every: float, seconds: float = 0.0) -> None:
        super().__init__(every=every)
        self.saves: list[float] = []
        self.seconds = seconds
        self.error: Exception | None = None

    async def save(self, name, checkpoint, epoch):
        self.saves.append(elapsed())
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        await super().save(name, checkpoint, epoch)


@pytest.mark.parametrize("kind", ["watch", "follow"])
@pytest.mark.parametrize("every", [90, 600])
async def test_a_stream_saves_at_most_once_in_so_many_seconds_and_at_its_end(kind, every):
    store = CountedCheckpoints(every)
    async with simulated("enterprise").client(checkpoints=store) as client:
        stream = stream_of(client, kind, start=NOON - HOUR, checkpoint="prod", stop=NOON + HOUR)
        async for _ in stream:
            pass
        last = store.saves.pop()
        assert 2 < len(store.saves) <= (elapsed() / every) + 1
        assert all(other - one >= every for one, other in zip(store.saves, store.saves[1:], strict=False))
        assert elapsed() - last < 1
        assert await store.load("prod") == stream.checkpoint


@pytest.mark.parametrize("end", ["stop", "aclose", "cancelled", "error"])
async def test_the_last_checkpoint_is_saved_however_a_stream_ends(end):
    store = CountedCheckpoints(every=10_000)
    async with simulated().client(checkpoints=store) as client:

        async def work(stream) -> None:
            async with stream:
                async for event in stream:
                    if event.ts == NOON:
                        if end == "error":
                            raise ZeroDivisionError
                        if end == "aclose":
                            return
                        stream.stop() if end == "stop" else asyncio.current_task().cancel()

        stream = client.realtime.watch(USERS, start=NOON - 1_200, checkpoint="prod", revisions=False)
        await asyncio.gather(work(stream), return_exceptions=True)
        lease = await store.acquire("prod")
        # What was worked on when the consumer stopped the stream, or asked for the next event, counts as delivered.
        assert lease.checkpoint.done == (Span(NOON - 1_200, NOON + 20 if end in {"stop", "cancelled"} else NOON),)
        assert len(store.saves) == 2


async def test_a_crash_repeats_what_came_since_the_last_save():
    store = CountedCheckpoints(every=300)
    async with simulated("enterprise").client(checkpoints=store) as client:
        stream = client.realtime.watch(USERS, start=NOON - 1_200, checkpoint="prod", revisions=False)
        first = []
        while elapsed() < HOUR:
            first.append((await anext(stream)).ts)
        saved = await store.load("prod")  # the process is killed now
        repeated = [ts for ts in first if ts >= saved.done[-1].end]
        # What came in 300 seconds, the windows of the poll before, and the one in work.
        assert 0 < len(repeated) <= (300 + 60) // 20 + 1
        await stream.aclose()


async def test_a_quiet_stream_saves_its_newest_checkpoint_after_the_time_has_passed():
    saved = []

    async def save(checkpoint: Checkpoint) -> None:
        saved.append((elapsed(), checkpoint.done[0].end))

    saver = Saver(save, 60.0)
    for end in range(1, 11):
        await saver.put(Checkpoint(stream="s", done=(Span(0, end),)))
        await asyncio.sleep(1)
    await asyncio.sleep(600)
    assert saved == [(0.0, 1), (60.0, 10)]
    await saver.close()
    assert len(saved) == 2


async def test_what_arrives_while_a_save_is_under_way_is_saved_once_with_the_newest():
    saved, running = [], 0

    async def save(checkpoint: Checkpoint) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(100)
        saved.append(checkpoint.done[0].end)
        running -= 1

    saver = Saver(save, 1.0)
    for end in range(1, 201):
        await saver.put(Checkpoint(stream="s", done=(Span(0, end),)))
        await asyncio.sleep(1)
    await saver.close()
    assert saved == [1, 101, 200]


async def test_a_failed_spaced_save_ends_the_stream_at_its_next_event():
    store = CountedCheckpoints(every=60)
    async with simulated().client(checkpoints=store) as client:
        stream = client.realtime.watch(USERS, start=NOON - HOUR, checkpoint="prod")
        for _ in range(100):
            await anext(stream)
        store.error = CheckpointError("the store is gone", kind="store")
        with pytest.raises(CheckpointError, match="the store is gone"):
            await asyncio.wait_for(collect(stream), HOUR)
        assert stream.health.state == "stopped"
        store.error = None
        await store.acquire("prod")


async def test_a_takeover_that_shows_only_at_the_end_of_a_stream_is_raised_by_its_end_and_shown():
    store = OwnCheckpoints({})
    store.every = 10_000
    async with simulated().client(checkpoints=store) as client:
        stream = client.realtime.watch(USERS, start=NOON - 1_200, checkpoint="prod", revisions=False)
        for _ in range(10):
            await anext(stream)
        await store.acquire("prod")
        with pytest.raises(CheckpointError, match="took this stream over"):
            await stream.aclose()
        assert "took this stream over" in stream.health.last_error


async def test_a_stream_that_is_cancelled_during_its_last_save_completes_it():
    store = CountedCheckpoints(every=1_000, seconds=5.0)
    async with simulated().client(checkpoints=store) as client:
        stream = client.realtime.watch(USERS, start=NOON - HOUR, checkpoint="prod", revisions=False)
        for _ in range(10):
            await anext(stream)
        closing = asyncio.create_task(stream.aclose())
        await asyncio.sleep(1)
        closing.cancel()
        await asyncio.wait([closing])
        lease = await store.acquire("prod")
        assert lease.checkpoint is not None


async def test_the_state_of_alerts_is_saved_before_the_checkpoint_of_their_watch():
    """Otherwise a crash between the two would lose alerts."""
    order = []

    class Ordered(CountedCheckpoints):
        async def save(self, name, checkpoint, epoch):
            await super().save(name, checkpoint, epoch)
            order.append(name)

    store = Ordered(every=200)
    rule = alerts.parse("userCount:Native < 1000000")
    async with simulated("enterprise").client(checkpoints=store) as client:
        watch = client.realtime.watch(*alerts.watched([rule]), start=NOON - 1_200, checkpoint="prod", stop=NOON + HOUR)
        async with watch:
            async for _ in alerts.evaluate(watch, [rule]):
                pass
    assert order.count("prod") > 5
    assert all(order[at - 1] == "prod.alerts" for at, name in enumerate(order[:-1]) if name == "prod")
