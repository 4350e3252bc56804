"""Streams in a scrape: the same as `health` and the events say, after outages, revisions, gaps and a spent quota."""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta

import pytest
from helpers.scraping import scrape
from helpers.streaming import BUSY, HOUR, NOON, USERS, WEB, consume_for, consuming, of_type, simulated

from agora_analytics import (
    CallChanged,
    CallFinished,
    CallLost,
    CallStarted,
    Gap,
    MemoryCheckpoints,
    Revision,
    Window,
    broadcast,
)
from agora_analytics.ops import Collector
from agora_analytics.simulator import Fault, Faults

APP = {"apps": {"simulated-app-id-0123456789abcdef": "shop"}}


async def state_of(collector: Collector, stream: str = "main") -> str:
    states = (await scrape(collector)).by("agora_stream_state", "state", app="shop", stream=stream)
    assert sorted(states.values()) == [0, 0, 0, 0, 0, 1]
    return max(states, key=states.__getitem__)


async def test_windows_are_counted_as_the_consumer_got_them():
    faults = Faults.outage(NOON + 600, NOON + 2 * HOUR)
    simulation = simulated("enterprise", faults=faults, late_windows=0.2, revised_windows=0.3, late_by=200)
    async with simulation.client() as client:
        collector = Collector(client, **APP)
        watch = client.realtime.watch(USERS, WEB, start=timedelta(minutes=20))
        collector.watch(watch, name="main")
        events = await consume_for(watch, 4 * HOUR)
        windows = of_type(Window, events)
        missing = [window for window in windows if window.missing]
        assert (await scrape(collector)).by("agora_watch_windows_total", "kind", app="shop", watch="main") == {
            "complete": len(windows) - len(missing),
            "missing": len(missing),
            "revised": len(of_type(Revision, events)),
            "gap": sum(gap.span.duration // 20 for gap in of_type(Gap, events)),
        }
        assert of_type(Gap, events)
        assert of_type(Revision, events)


async def test_the_state_of_a_watch_follows_its_health():
    simulation = simulated("enterprise", faults=Faults.outage(NOON + 1_200, NOON + 2_400))
    async with simulation.client(checkpoints=MemoryCheckpoints()) as client:
        collector = Collector(client, **APP)
        watch = client.realtime.watch(USERS, checkpoint="prod")
        collector.watch(watch, name="main")
        seen = []
        async with consuming(watch) as events:
            for _ in range(12):
                await asyncio.sleep(300)
                seen.append(await state_of(collector))
                health, found = watch.health, await scrape(collector)
                stream = {"app": "shop", "stream": "main"}
                assert seen[-1] == health.state
                assert found.value("agora_stream_failures", **stream) == health.failures
                assert found.value("agora_stream_lag_seconds", **stream) == pytest.approx(health.lag)
                saved = found.value("agora_checkpoint_saved_timestamp_seconds", **stream)
                assert saved == pytest.approx(health.checkpoint_saved)
                newest = found.value("agora_watch_newest_window_timestamp_seconds", app="shop", watch="main")
                assert newest is None or newest <= events[-1].ts
        assert set(seen) == {"polling", "outage"}
        assert await state_of(collector) == "stopped"


async def test_a_stream_without_quota_waits_for_it():
    simulation = simulated()
    async with simulation.client() as client:
        collector = Collector(client, **APP)
        watch = client.realtime.watch(USERS)
        collector.watch(watch, name="main")
        refusal = Fault("refusal", status=429, code=429, message="QPD Limit 5")
        async with consuming(watch):
            await asyncio.sleep(600)
            simulation.faults = Faults.always(refusal)
            await asyncio.sleep(HOUR)
            assert await state_of(collector) == watch.health.state == "waiting for quota"


async def test_a_follow_counts_calls_and_events():
    async with simulated(world=BUSY).client() as client:
        collector = Collector(client, **APP)
        follow = client.calls.follow(start=timedelta(hours=1))
        collector.follow(follow)
        async with consuming(follow) as events:
            await asyncio.sleep(2 * HOUR)
            seen = await scrape(collector)
            assert seen.value("agora_follow_open_calls", app="shop", follow="follow") == follow.open_calls > 0
        assert seen.by("agora_follow_events_total", "kind", app="shop", follow="follow") == {
            "started": len(of_type(CallStarted, events)),
            "changed": len(of_type(CallChanged, events)),
            "finished": len(of_type(CallFinished, events)),
            "lost": len(of_type(CallLost, events)),
            "sessions": 0,
            "gap": 0,
        }


async def test_streams_of_several_app_ids_are_apart_and_an_app_id_is_its_own_label():
    async with simulated("enterprise").client() as client:
        collector = Collector(client, apps={"a": "shop"})
        watches = [client.with_app(app).realtime.watch(USERS) for app in ("a", "b")]
        for watch in watches:
            collector.watch(watch)
        seen = await scrape(collector)
        assert seen.by("agora_stream_state", "app", state="polling", stream="watch") == {"shop": 1, "b": 1}
        for watch in watches:
            await watch.aclose()


async def test_a_name_is_free_again_once_its_stream_has_stopped_and_counting_goes_on():
    async with simulated("enterprise").client() as client:
        collector = Collector(client, **APP)
        first, second = (client.realtime.watch(USERS, start=timedelta(minutes=10)) for _ in range(2))
        collector.watch(first, name="main")
        with pytest.raises(ValueError, match="name='main' is the name of another stream"):
            collector.watch(second, name="main")
        counted = len(of_type(Window, await consume_for(first, 60)))
        collector.watch(second, name="main")
        counted += len(of_type(Window, await consume_for(second, 60)))
        windows = (await scrape(collector)).by("agora_watch_windows_total", "kind", app="shop", watch="main")
        assert windows["complete"] == counted > 20


async def test_a_collector_hears_a_hub_and_keeps_no_stream_alive():
    async with simulated("enterprise").client() as client:
        collector = Collector(client, **APP)
        watch = client.realtime.watch(USERS, start=timedelta(minutes=10))
        collector.watch(watch, name="main")
        async with broadcast(watch, size=100) as hub:
            first, second = hub.subscribe(), hub.subscribe()
            assert await anext(first) == await anext(second)
            assert (await scrape(collector)).by("agora_watch_windows_total", "kind")["complete"] >= 1
        abandoned = client.realtime.watch(USERS)
        collector.watch(abandoned, name="abandoned")
        await anext(abandoned)
        del abandoned
        gc.collect()
        await asyncio.sleep(1)
        assert await state_of(collector, "abandoned") == "stopped"


async def test_ended_streams_are_forgotten_after_the_last_hundred():
    async with simulated("enterprise").client() as client:
        collector = Collector(client, **APP, max_series=10_000)
        for number in range(130):
            watch = client.realtime.watch(USERS)
            collector.watch(watch, name=f"watch {number}")
            await watch.aclose()
        seen = await scrape(collector)
        shown = seen.by("agora_stream_state", "stream", state="stopped")
        assert len(shown) == 101
        assert "watch 129" in shown
        assert "watch 1" not in shown
        assert set(seen.by("agora_watch_windows_total", "watch", kind="gap")) == set(shown)


@pytest.mark.parametrize("arguments", [{"watch": 1}, {"watch": None}])
async def test_only_streams_can_be_watched(arguments):
    async with simulated().client() as client:
        with pytest.raises(TypeError, match="watch="):
            Collector(client).watch(**arguments)
        with pytest.raises(TypeError, match="follow="):
            Collector(client).follow(arguments["watch"])


async def test_a_collector_that_is_closed_observes_nothing_more_and_shows_what_it_has_counted():
    async with simulated("enterprise").client() as client, client.realtime.watch(USERS) as watch:
        with Collector(client, **APP) as collector:
            collector.watch(watch, name="main")
            await anext(watch)
            counted = await scrape(collector)
        for _ in range(3):
            await anext(watch)
        await client.calls.page(*client.calls.recent(60))
        found = await scrape(collector)
        for name, label in (("agora_watch_windows_total", "kind"), ("agora_requests_total", "endpoint")):
            assert found.by(name, label) == counted.by(name, label)
        with pytest.raises(RuntimeError, match="closed"):
            collector.watch(watch, name="other")
        collector.close()
