"""Fan-out: one set of requests for all subscribers, which affect each other only as `on_overflow` says."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncGenerator

import pytest
from helpers.streaming import NOON, USERS

from agora_analytics import CheckpointError, Unauthorized, Window, broadcast
from agora_analytics.simulator import Fault, Faults


def watch(client, **options):
    return client.realtime.watch(USERS, start=NOON - 1_200, stop=NOON + 600, revisions=False, **options)


async def window_starts(subscription) -> list[int]:
    found = []
    async for event in subscription:
        assert isinstance(event, Window)
        found.append(event.ts)
    return found


async def test_every_subscriber_receives_every_event_for_one_set_of_requests(simulation):
    async with simulation.client() as client:
        expected = [event.ts async for event in watch(client)]
        requests = simulation.service.counts["realtime_usage"]
    async with simulation.client() as client, broadcast(watch(client)) as hub:
        found = await asyncio.gather(*(window_starts(hub.subscribe()) for _ in range(5)))
    assert all(windows == found[0] for windows in found)
    assert found[0] == expected[-len(found[0]) :]
    assert len(found[0]) > 60
    assert simulation.service.counts["realtime_usage"] - requests <= requests


async def test_a_slow_subscriber_blocks_the_others(simulation):
    async with simulation.client() as client, broadcast(watch(client), size=3) as hub:
        slow, quick = hub.subscribe(), hub.subscribe()
        task = asyncio.create_task(window_starts(quick))
        first = await anext(slow)
        await asyncio.sleep(1_000)
        assert not task.done()
        assert [first.ts, *await window_starts(slow)] == await task
        assert slow.dropped == 0


async def test_a_slow_subscriber_loses_its_oldest_events_with_drop_oldest(simulation):
    async with simulation.client() as client, broadcast(watch(client), size=10, on_overflow="drop_oldest") as hub:
        slow, quick = hub.subscribe(), hub.subscribe()
        task = asyncio.create_task(window_starts(quick))
        first = await anext(slow)
        every = await task
        kept = await window_starts(slow)
    assert every == list(range(every[0], NOON + 600, 20))
    assert kept == every[-10:]
    assert slow.dropped == len(every) - 11
    assert first.ts == every[0]


async def test_a_subscriber_that_leaves_does_not_stop_the_others(simulation):
    async with simulation.client() as client, broadcast(watch(client), size=1) as hub:
        leaving, staying = hub.subscribe(), hub.subscribe()
        task = asyncio.create_task(window_starts(staying))
        await anext(leaving)
        await asyncio.sleep(10)
        await leaving.aclose()
        assert len(await task) > 60
        assert await window_starts(leaving) == []


async def test_the_error_that_ends_the_stream_is_raised_in_every_subscriber(simulation):
    simulation.service.faults = Faults.chance(1, [Fault("status", status=401)])
    async with simulation.client() as client, broadcast(watch(client)) as hub:
        found = await asyncio.gather(*(window_starts(hub.subscribe()) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in found] == [Unauthorized, Unauthorized]


async def test_leaving_the_hub_ends_all_subscribers(simulation):
    async with simulation.client() as client:
        async with broadcast(client.realtime.watch(USERS)) as hub:
            task = asyncio.create_task(window_starts(hub.subscribe()))
            await asyncio.sleep(100)
        assert await task != []
        states = {state.unit: state for state in await client.quota.snapshot() if state.counter == "realtime"}
    assert states["day"].expected == 0


# When subscribers come and leave, and errors, on a stream of numbers.


class NumberStream:
    """A stream of numbers, one a second; it raises `failure` after the last."""

    def __init__(self, stop: int = 10, failure: Exception | None = None) -> None:
        self.closed = 0
        self._numbers = self._run(stop, failure)

    async def _run(self, stop: int, failure: Exception | None) -> AsyncGenerator[int]:
        for number in range(stop):
            await asyncio.sleep(1)
            yield number
        if failure is not None:
            raise failure

    def __aiter__(self) -> AsyncGenerator[int]:
        return self._numbers

    async def aclose(self) -> None:
        self.closed += 1
        await self._numbers.aclose()


async def remaining(subscription) -> list[int]:
    return [number async for number in subscription]


def time_limit() -> asyncio.Timeout:
    """Fail a test that would wait for ever."""
    return asyncio.timeout(1_000)


async def test_a_late_subscriber_gets_the_end():
    async with time_limit(), broadcast(NumberStream()) as hub:
        early = hub.subscribe()
        assert await remaining(early) == list(range(10))
        assert await remaining(hub.subscribe()) == []
        assert await remaining(early) == []
    async with time_limit():
        assert await remaining(hub.subscribe()) == []
    async with broadcast(NumberStream()) as never:
        pass
    async with time_limit():
        assert await remaining(never.subscribe()) == []


async def test_a_late_subscriber_gets_the_error():
    async with time_limit(), broadcast(NumberStream(3, Unauthorized("no", status=401)), history=2) as hub:
        early = hub.subscribe()
        for subscription in (early, early, hub.subscribe()):
            with pytest.raises(Unauthorized, match="no") as caught:
                await remaining(subscription)
            assert caught.value.status == 401
        late = hub.subscribe(last=2)
        assert [await anext(late), await anext(late)] == [1, 2]
        with pytest.raises(Unauthorized):
            await anext(late)
    async with time_limit():
        with pytest.raises(Unauthorized):
            await anext(hub.subscribe())


class NotCopyable(Exception):
    """`copy.copy` fails: it calls the constructor with the one message in `args`."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} {other}")


@pytest.mark.parametrize("failure", [Unauthorized("no"), NotCopyable(1, 2), ValueError("x")], ids=repr)
async def test_the_traceback_of_a_repeated_error_does_not_grow(failure):
    async with time_limit(), broadcast(NumberStream(1, failure)) as hub:
        lengths = []
        for _ in range(5):
            subscription = hub.subscribe()
            with pytest.raises(type(failure), match=str(failure)) as caught:
                await remaining(subscription)
            cause = caught.value.__cause__
            lengths.append((len(list(traceback.walk_tb(caught.value.__traceback__))), cause is failure))
    assert len(set(lengths)) == 1
    assert "_run" in "".join(traceback.format_exception(failure)) or isinstance(failure, NotCopyable)


async def test_a_subscriber_gets_later_events_and_the_history_if_requested():
    async with time_limit(), broadcast(NumberStream(), history=5) as hub:
        early = hub.subscribe()
        assert [await anext(early) for _ in range(3)] == [0, 1, 2]
        late = [hub.subscribe(last=last) for last in (0, 1, 3, 5)]
        found = await asyncio.gather(*map(remaining, late))
        assert found == [[*range(3, 10)], [*range(2, 10)], [*range(10)], [*range(10)]]
        assert await remaining(hub.subscribe(last=5)) == [5, 6, 7, 8, 9]
        assert await remaining(early) == list(range(3, 10))


async def test_subscribing_while_an_event_is_blocked_loses_and_repeats_none():
    async with time_limit(), broadcast(NumberStream(), size=1, history=3) as hub:
        slow = hub.subscribe()
        assert await anext(slow) == 0
        await asyncio.sleep(100)  # its queue holds 1; 2 waits for space
        late, later = hub.subscribe(last=1), hub.subscribe()
        assert [await anext(slow), await anext(slow)] == [1, 2]
        assert await anext(late) == 2
        assert await asyncio.gather(remaining(slow), remaining(late), remaining(later)) == [list(range(3, 10))] * 3


@pytest.mark.parametrize("on_overflow", ["block", "drop_oldest"])
async def test_the_requested_history_may_exceed_the_queue(on_overflow):
    async with time_limit(), broadcast(NumberStream(), size=2, on_overflow=on_overflow, history=8) as hub:
        early = hub.subscribe()
        assert [await anext(early) for _ in range(8)] == list(range(8))
        late = hub.subscribe(last=8)
        assert await asyncio.gather(remaining(late), remaining(early)) == [list(range(10)), [8, 9]]


async def test_a_timeout_or_cancellation_around_anext_loses_no_event():
    async with time_limit(), broadcast(NumberStream()) as hub:
        subscription, found = hub.subscribe(), []
        for _ in range(40):
            try:
                async with asyncio.timeout(0.3):
                    found.append(await anext(subscription))
            except TimeoutError:
                continue
            except StopAsyncIteration:
                break
        assert found == list(range(10))


async def test_leaving_the_hub_ends_waiting_and_blocking_subscribers():
    stream = NumberStream(100)
    async with time_limit():
        async with broadcast(stream, size=1) as hub:
            slow, quick = hub.subscribe(), hub.subscribe()
            assert await anext(slow) == 0
            waiting = asyncio.create_task(remaining(quick))
            await asyncio.sleep(100)  # the hub waits for space in the queue of `slow`
        assert stream.closed
        assert await waiting == [0, 1]
        assert await remaining(slow) == [1]


async def test_leaving_the_hub_at_once_ends_a_new_subscriber():
    async with time_limit():
        async with broadcast(NumberStream()) as hub:
            waiting = asyncio.create_task(remaining(hub.subscribe()))
            await asyncio.sleep(0)
        assert await waiting == []


async def test_a_dropped_subscription_blocks_nobody():
    async with time_limit(), broadcast(NumberStream(), size=1) as hub:
        staying = hub.subscribe()
        async for number in hub.subscribe():
            assert number == 0
            break
        kept = [hub.subscribe()]
        reading = asyncio.create_task(remaining(staying))
        await asyncio.sleep(100)  # the queue in `kept` is full and blocks the hub
        assert not reading.done()
        kept.clear()
        assert await reading == list(range(10))


async def test_an_error_of_closing_the_stream_is_raised_at_the_exit():
    stream = NumberStream()

    async def aclose() -> None:
        stream.closed += 1
        if stream.closed == 1:
            raise CheckpointError("full")

    stream.aclose = aclose
    with pytest.raises(CheckpointError, match="full"):
        async with time_limit(), broadcast(stream) as hub:
            await anext(hub.subscribe())


async def test_wrong_arguments_of_broadcast_raise(simulation):
    async with simulation.client() as client:
        with pytest.raises(ValueError, match="on_overflow='sometimes'"):
            broadcast(watch(client), on_overflow="sometimes")
        with pytest.raises(ValueError, match="size=0"):
            broadcast(watch(client), size=0)
        with pytest.raises(ValueError, match="history=-1"):
            broadcast(watch(client), history=-1)
        with pytest.raises(ValueError, match="last=4: the hub keeps the last 3 events"):
            broadcast(watch(client), history=3).subscribe(last=4)
        with pytest.raises(ValueError, match="last=1: the hub keeps the last 0 events"):
            broadcast(watch(client)).subscribe(last=1)
        for wrong in (None, True, 1.0):
            with pytest.raises(TypeError, match="last="):
                broadcast(watch(client), history=3).subscribe(last=wrong)


async def test_history_events_received_again_count_as_delivered():
    async with time_limit(), broadcast(NumberStream(), history=5) as hub:
        early = hub.subscribe()
        assert [await anext(early) for _ in range(6)] == list(range(6))
        delivered, late = hub.delivered, hub.subscribe(last=3)
        await anext(late)
        await anext(early)
        assert hub.processed() == delivered - 3
        await anext(late)
        assert hub.processed() == delivered - 2
