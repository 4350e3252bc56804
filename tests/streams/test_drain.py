"""A stream that is drained: what was answered is delivered, nothing more is sent, and the next one resumes there."""

from __future__ import annotations

import asyncio
from collections import Counter
from copy import copy
from datetime import timedelta

import pytest
from helpers.fleet_service import FRESH
from helpers.streaming import CHANNELS, DAY, HOUR, SMALL, USERS, CountingTransport, collect, elapsed, simulated

from agora_analytics import CallFinished, CallStarted, MemoryCheckpoints, MemoryLedger, Window
from agora_analytics.simulator import Fault, Faults


async def drained_after(stream, seconds: float) -> list:
    """Return what a stream delivers if it is drained after so many seconds."""
    asyncio.get_running_loop().call_later(seconds, stream.drain)
    return await collect(stream)


@pytest.mark.parametrize("plan", ["premium", "enterprise"])
async def test_windows_come_once_and_nothing_is_asked_twice_however_often_a_watch_is_drained(plan):
    """Answers take two seconds, so that it is also drained while one is under way."""
    stop = simulated().clock() + HOUR // 2
    counts, windows = [], []
    for turn in (7.3, 10 * HOUR):
        simulation, store, seen = (
            simulated(plan, faults=Faults.always(Fault("slow", seconds=2))),
            MemoryCheckpoints(),
            [],
        )
        turns = 0
        async with simulation.client(checkpoints=store) as client:
            while len(seen) < 90:
                watch = client.realtime.watch(
                    USERS, CHANNELS, start=int(stop) - HOUR // 2, stop=int(stop), checkpoint="w", revisions=False
                )
                seen += await drained_after(watch, turn)
                turns += 1
                if turn > HOUR:
                    break
        assert turns > 50 or turn > HOUR
        counts.append(simulation.service.counts["realtime_usage"])
        windows.append([event.ts for event in seen if isinstance(event, Window)])
    assert windows[0] == windows[1]
    assert len(windows[0]) == 90
    assert 0 < counts[0] <= counts[1] + 2


@pytest.mark.parametrize("plan", ["premium", "enterprise", FRESH], ids=["premium", "enterprise", "fresh"])
@pytest.mark.parametrize(
    ("arguments", "more"), [({}, 0), ({"only_final": True}, 10), ({"every": 60}, 0)], ids=["all", "only_final", "every"]
)
async def test_a_watch_in_short_turns_polls_when_one_without_an_end_would(plan, arguments, more):
    """Until the first window is final nothing is delivered, and so nothing saved."""
    polls, windows = [], []
    for turn in (33.7, 10 * HOUR):
        simulation, store, ledger, seen = simulated(plan), MemoryCheckpoints(), MemoryLedger(), []
        until = elapsed() + HOUR // 2
        while (left := until - elapsed()) > 0:
            async with simulation.client(checkpoints=store, ledger=ledger) as client:
                watch = client.realtime.watch(USERS, checkpoint="w", **arguments)
                seen += await drained_after(watch, min(turn, left))
        polls.append([round(entry.at) for entry in simulation.service.log])
        windows.append([event.ts for event in seen if isinstance(event, Window)])
    assert 5 < len(polls[1]) <= len(polls[0]) <= len(polls[1]) + more
    shorter = min(map(len, windows))  # the last poll may be a little earlier
    assert shorter > 60
    assert windows[0][:shorter] == windows[1][:shorter]


async def test_a_drain_ends_a_wait_at_once():
    async with simulated().client() as client, client.realtime.watch(USERS) as watch:
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(5)
        before = asyncio.get_running_loop().time()
        watch.drain()
        with pytest.raises(StopAsyncIteration):
            await waiting
        assert asyncio.get_running_loop().time() - before < 0.1
        assert watch.health.state == "stopped"


async def test_a_drain_ends_a_wait_for_the_next_day():
    simulation = simulated()
    async with simulation.client() as client, client.realtime.watch(USERS) as watch:
        await anext(watch)
        simulation.service.spend("realtime", 10**6)
        waiting = asyncio.ensure_future(collect(watch))
        await asyncio.sleep(HOUR)
        assert watch.health.state == "waiting for quota"
        watch.drain()
        await asyncio.sleep(0.1)
        assert waiting.done()


async def test_a_watch_that_is_drained_once_there_is_quota_again_sends_nothing_more():
    """It waits some seconds more then, for the next window to be complete."""
    simulation = simulated()
    async with simulation.client() as client, client.realtime.watch(USERS) as watch:
        await anext(watch)
        simulation.service.spend("realtime", 10**6)
        waiting = asyncio.ensure_future(collect(watch))
        now = simulation.clock()
        await asyncio.sleep(DAY - now % DAY + 11.5)
        assert watch.health.state == "waiting for quota"
        before = simulation.service.counts.copy()
        watch.drain()
        await asyncio.sleep(30)
        assert waiting.result() == []
        assert simulation.service.counts == before


async def test_a_watch_that_is_drained_while_the_service_is_busy_sends_nothing_more():
    simulation = simulated(faults=Faults.always(Fault("busy", retry_after=30)))
    transport = CountingTransport(simulation)
    async with simulation.client(quotas=False, transport=transport) as client, client.realtime.watch(USERS) as watch:
        waiting = asyncio.ensure_future(collect(watch))
        await asyncio.sleep(10)
        before = list(transport.sent)
        watch.drain()
        await asyncio.sleep(60)
        assert waiting.result() == []
        assert transport.sent == before != []


async def test_a_stream_that_is_drained_before_it_starts_sends_nothing():
    simulation = simulated()
    async with simulation.client() as client:
        for stream in (client.realtime.watch(USERS), client.calls.follow()):
            stream.drain()
            assert await collect(stream) == []
    assert sum(simulation.service.counts.values()) == 0


@pytest.mark.parametrize("with_sessions", [False, True])
async def test_calls_come_once_however_often_a_follow_is_drained(with_sessions):
    simulation = simulated("enterprise", world=SMALL, faults=Faults.always(Fault("slow", seconds=2)))
    store, start = MemoryCheckpoints(), int(simulation.clock()) - HOUR
    seen: Counter = Counter()
    async with simulation.client(checkpoints=store) as client:
        for _ in range(120):
            follow = client.calls.follow(start=start, checkpoint="f", with_sessions=with_sessions)
            for event in await drained_after(follow, 31.7):
                if isinstance(event, CallStarted | CallFinished):
                    seen[type(event), event.call.call_id] += 1
    assert len(seen) > 30
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_restart_polls_when_the_last_run_would_have(kind):
    """Fifty runs of a minute cost as much as one of fifty, with a plan that allows less than a poll a minute."""
    requests = []
    for runs in (1, 50):
        simulation, store = simulated("premium"), MemoryCheckpoints()
        async with simulation.client(checkpoints=store) as client:
            for _ in range(runs):
                stream = client.realtime.watch(USERS, CHANNELS, checkpoint="s")
                if kind == "follow":
                    stream = client.calls.follow(checkpoint="s", every=300)
                await drained_after(stream, 3_000 / runs)
        requests.append(sum(simulation.service.counts.values()))
    assert requests[1] <= requests[0] + 3
    assert requests[0] > 8


async def test_a_restart_after_a_while_polls_at_once():
    simulation, store = simulated(), MemoryCheckpoints()
    async with simulation.client(checkpoints=store) as client:
        await drained_after(client.realtime.watch(USERS, checkpoint="w"), 60)
        await asyncio.sleep(1_200)
        before = asyncio.get_running_loop().time()
        async with client.realtime.watch(USERS, checkpoint="w") as watch:
            await anext(watch)
        assert asyncio.get_running_loop().time() - before < 1


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_restart_by_a_host_clock_in_the_past_polls_soon_after_the_clock_is_right(kind):
    """The service sends no date, so that the clock of the host, an hour behind for two minutes, is all there is."""
    simulation, store = simulated("enterprise", date="absent"), MemoryCheckpoints()
    for wrong in (0, -HOUR):
        simulation.host_clock.wrong = wrong
        async with simulation.client(checkpoints=store) as client:
            if kind == "watch":
                stream = client.realtime.watch(USERS, checkpoint="s")
            else:
                stream = client.calls.follow(checkpoint="s")
            asyncio.get_running_loop().call_later(120, setattr, simulation.host_clock, "wrong", 0)
            events = await drained_after(stream, 600)
    assert len(events) > 5


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_restart_of_a_stream_that_is_complete_ends_at_once(kind):
    simulation, store = simulated("enterprise"), MemoryCheckpoints()
    stop = int(simulation.clock()) + 600
    async with simulation.client(checkpoints=store) as client:
        for _ in range(2):
            before = asyncio.get_running_loop().time()
            if kind == "watch":
                stream = client.realtime.watch(USERS, stop=stop, revisions=False, checkpoint="s")
            else:
                # So few seconds that no call is open at their end.
                stream = client.calls.follow(start=stop - 5, stop=stop, every=300, checkpoint="s")
            events = await collect(stream)
    assert not events
    assert asyncio.get_running_loop().time() - before < 1


@pytest.mark.parametrize("back", [None, timedelta(minutes=5)])
async def test_a_watch_whose_first_event_was_not_processed_begins_there_again(back):
    simulation, store = simulated("enterprise"), MemoryCheckpoints()
    async with simulation.client(checkpoints=store) as client:
        async with client.realtime.watch(USERS, checkpoint="w", start=back) as watch:
            first = await anext(watch)
        await asyncio.sleep(120)  # several windows
        async with client.realtime.watch(USERS, checkpoint="w", start=back) as watch:
            assert (await anext(watch)).ts == first.ts


async def test_a_follow_that_was_killed_at_its_first_event_begins_there_again():
    simulation, store = simulated("enterprise"), MemoryCheckpoints()
    async with simulation.client(checkpoints=store) as client:
        async with client.calls.follow(checkpoint="f", start=timedelta(hours=1)) as follow:
            first = await anext(follow)
            killed = copy(store)  # as it is now, without what the end of the stream saves
            killed._texts, killed._epochs, killed._leased = dict(store._texts), dict(store._epochs), set()
        await asyncio.sleep(1_800)
    async with (
        simulation.client(checkpoints=killed) as client,
        client.calls.follow(checkpoint="f", start=timedelta(hours=1)) as follow,
    ):
        assert (await anext(follow)).call.call_id == first.call.call_id
