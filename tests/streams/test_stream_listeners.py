"""What an observer of a stream sees: the events that the consumer takes, what is final, when a position is saved."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from datetime import timedelta

import pytest
from helpers.streaming import (
    BUSY,
    HOUR,
    NETWORKS,
    NOON,
    USERS,
    WEB,
    consume_for,
    consuming,
    latest_values,
    of_type,
    simulated,
)

from agora_analytics import CallFinished, CallLost, CallStarted, MemoryCheckpoints, Revision, Window, broadcast
from agora_analytics.simulator import Faults


async def test_a_listener_gets_each_event_that_the_consumer_takes():
    async with simulated().client() as client:
        watch = client.realtime.watch(USERS, start=timedelta(minutes=20))
        heard = []
        watch.on_event(heard.append)
        taken = await consume_for(watch, HOUR)
        assert heard == taken
        assert len(heard) > 100


async def test_a_listener_hears_a_hub_that_takes_the_events():
    async with simulated().client() as client:
        watch = client.realtime.watch(USERS, start=timedelta(minutes=20))
        heard = []
        watch.on_event(heard.append)
        async with broadcast(watch, size=100) as hub:
            first = await anext(hub.subscribe())
        assert heard[0] == first


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_an_exception_from_a_listener_is_logged_and_loses_no_event(caplog, error):
    def fail(_):
        raise error

    async with simulated().client() as client, client.realtime.watch(USERS, start=timedelta(minutes=5)) as watch:
        watch.on_event(fail)
        heard = []
        watch.on_event(heard.append)
        with caplog.at_level(logging.ERROR, "agora_analytics.streams"):
            events = [await anext(watch) for _ in range(3)]
        assert heard == events
        assert caplog.text.count("a listener failed") == 1


async def test_a_listener_that_is_removed_hears_nothing_more():
    async with simulated().client() as client, client.realtime.watch(USERS, start=timedelta(minutes=5)) as watch:
        heard, others = [], []
        remove = watch.on_event(heard.append)
        watch.on_event(lambda _: remove())
        watch.on_event(others.append)
        events = [await anext(watch) for _ in range(3)]
        remove()
        assert (heard, others) == (events[:1], events)


async def test_what_removes_a_listener_does_not_keep_the_stream():
    async with simulated().client() as client:
        watch = client.realtime.watch(USERS)
        remove, gone = watch.on_event(print), weakref.ref(watch)
        await watch.aclose()
        del watch
        gc.collect()
        assert gone() is None
        remove()


async def test_a_listener_must_be_a_function():
    async with simulated().client() as client:
        watch = client.realtime.watch(USERS)
        with pytest.raises(TypeError, match="listener=5"):
            watch.on_event(5)
        await watch.aclose()


async def test_windows_before_the_final_mark_never_change_again():
    faults = Faults.outage(NOON + 600, NOON + 1_500)
    simulation = simulated("enterprise", faults=faults, late_windows=0.2, revised_windows=0.3, late_by=200)
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, WEB, start=timedelta(minutes=20))
        assert watch.final_before(USERS) is None
        marks, final = [], {}
        async with consuming(watch) as events:
            for _ in range(120):
                await asyncio.sleep(60)
                mark = watch.final_before(USERS)
                marks.append(mark)
                final |= {
                    key: value
                    for key, value in latest_values(events).items()
                    if key[0] < mark and key not in final and key[1] == USERS
                }
            last = latest_values(events)
        assert {key: last[key] for key in final} == final
        assert of_type(Revision, events)
        assert marks == sorted(marks)
        assert max(window.ts for window in of_type(Window, events)) - marks[-1] < 400
        with pytest.raises(ValueError, match="this watch has userCount Native"):
            watch.final_before(NETWORKS)


async def test_a_revision_that_a_slow_consumer_has_not_taken_is_not_final_yet():
    simulation = simulated("enterprise", revised_windows=0.5, late_by=200)
    events, final = [], {}

    async def process_slowly(watch) -> None:
        async for event in watch:
            events.append(event)
            if isinstance(event, Revision):
                await asyncio.sleep(100)

    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, WEB)
        task = asyncio.create_task(process_slowly(watch))
        for _ in range(300):
            await asyncio.sleep(20)
            marks = {series: watch.final_before(series) or 0 for series in (USERS, WEB)}
            known = latest_values(events)
            final |= {key: known[key] for key in known if key[0] < marks[key[1]] and key not in final}
        watch.stop()
        await task
    assert len(final) > 100
    last = latest_values(events)
    assert {key: last[key] for key in final} == final


async def test_without_revisions_every_delivered_window_is_final():
    async with simulated("enterprise").client() as client:
        watch = client.realtime.watch(USERS, revisions=False)
        async with consuming(watch) as events:
            await asyncio.sleep(HOUR)
            assert watch.final_before(USERS) == events[-1].ts + 20


async def test_a_series_that_fails_does_not_hold_back_what_is_final_of_others():
    faults = Faults.outage(NOON + 1_200, NOON + 3 * HOUR).only(productType="WebRTC")
    simulation = simulated("enterprise", faults=faults)
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, WEB)
        async with consuming(watch):
            await asyncio.sleep(2 * HOUR)
            assert simulation.clock() - watch.final_before(USERS) < 600
            assert simulation.clock() - watch.final_before(WEB) > 1_200


async def test_health_has_the_time_of_the_last_saved_checkpoint():
    simulation = simulated()
    async with simulation.client(checkpoints=MemoryCheckpoints()) as client:
        watch = client.realtime.watch(USERS, checkpoint="prod")
        unnamed = client.realtime.watch(USERS)
        async with consuming(watch), consuming(unnamed):
            await asyncio.sleep(HOUR)
            assert simulation.clock() - watch.health.checkpoint_saved < 400
        assert unnamed.health.checkpoint_saved is None


async def test_a_follow_counts_the_calls_that_are_open():
    async with simulated(world=BUSY).client() as client:
        follow = client.calls.follow(start=timedelta(hours=1))
        assert follow.open_calls == 0
        async with consuming(follow) as events:
            await asyncio.sleep(2 * HOUR)
            ended = of_type(CallFinished, events) + of_type(CallLost, events)
            assert follow.open_calls == len(of_type(CallStarted, events)) - len(ended) > 0
        assert follow.app_id == client.calls._app()
