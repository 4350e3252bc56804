"""Watching real-time windows: each once, in order, with the world's true values, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from agora_analytics import (
    Checkpoint,
    CheckpointError,
    Gap,
    MemoryCheckpoints,
    Revision,
    Series,
    Unauthorized,
    Window,
)
from agora_analytics.simulator import Fault, Faults, Service, Simulation, Variants, World

NOON = 1_795_521_600
MIDNIGHT = NOON - 43_200
DAY = 86_400
USERS = Series("userCount", product="Native")
CHANNELS = Series("channelCount", product="WebRTC")
FREEZES = Series("videoFreezeRate", product="Native")
FIVE = (
    USERS,
    CHANNELS,
    FREEZES,
    Series("userCount", product="WebRTC"),
    Series("audioFreezeRate", product="Native"),
)
EVERY_WAY = [
    Fault("status", status=502),
    Fault("status", status=503),
    Fault("html", status=504),
    Fault("html", status=200),
    Fault("busy"),
    Fault("garbage"),
    Fault("refused"),
    Fault("reset"),
    Fault("reset_after"),
    Fault("cut"),
    Fault("slow", seconds=5),
    Fault("slow", seconds=90),
]


def truth(world: World, series: Series, ts: int) -> float | None:
    """What the world holds of a series; None where there is nobody of whom it could be told."""
    users = world.users(series.product, ts, None)[""]
    if series.metric == "userCount":
        return users
    if series.metric == "channelCount":
        return world.channels(series.product, ts)
    return world.rate(series.metric, series.product, ts, "") if users else None


def later(simulation: Simulation, begun: int = NOON):
    """A wall clock that begins at another time."""
    loop = asyncio.get_running_loop()
    simulation.service.clock = lambda: begun + loop.time()
    return simulation.service.clock


async def all_of(watch) -> list:
    async with aclosing(watch):
        return [event async for event in watch]


def stamps(events) -> list[int]:
    return [event.ts for event in events if isinstance(event, Window)]


@pytest.mark.parametrize(("plan", "lost"), [("premium", True), ("enterprise", False)])
async def test_a_day_with_faults_loses_only_what_the_service_dropped(simulation, plan, lost):
    world = World(seed=7)
    loop = asyncio.get_running_loop()
    service = Service(world, plan, clock=lambda: MIDNIGHT + 5 + loop.time(), variants=Variants(late_windows=0.03))
    simulation = Simulation(service)
    outages = [(MIDNIGHT + hour * 3_600, minutes * 60) for hour, minutes in ((3, 5), (9, 30), (15, 50))]
    service.faults = sum(
        (Faults.outage(start, start + seconds) for start, seconds in outages), Faults.chance(0.05, EVERY_WAY)
    )

    def host() -> float:
        """The host's clock, which is set wrong by minutes twice."""
        return service.clock() + (0 if loop.time() < 20_000 else 400 if loop.time() < 60_000 else -250)

    async with simulation.client(plan=plan, clock=host, quotas=True) as client:
        events = await all_of(client.realtime.watch(*FIVE, start=MIDNIGHT, stop=MIDNIGHT + DAY, revisions=False))

    windows = {event.ts: event for event in events if isinstance(event, Window)}
    gaps = [event.span for event in events if isinstance(event, Gap)]
    assert stamps(events) == sorted(windows)
    gone = {ts for span in gaps for ts in range(span.start, span.end, 20)}
    assert gone | set(windows) == set(range(MIDNIGHT, MIDNIGHT + DAY, 20))
    assert not gone & set(windows)
    for ts, window in windows.items():
        for series in FIVE:
            if series in window.values:
                assert window.value(series) == truth(world, series, ts)
    # Nothing is missing but what was not asked for when an outage began, and forgotten soon after it was over.
    kept = client.plan.limits["realtime"].available
    paced = client.realtime.coverage(*FIVE).interval
    unheard = gone | {ts for ts, window in windows.items() if window.missing}
    out = [(start - 1.5 * paced, start + seconds + paced / 3 - kept) for start, seconds in outages]
    assert all(any(first <= ts <= last for first, last in out) for ts in unheard)
    assert bool(unheard) is lost
    assert service.refusals == {}
    assert sum(service.counts.values()) <= client.plan.rates("realtime")["day"] + 10


async def test_a_day_of_one_series_stays_within_the_daily_quota(simulation):
    clock = later(simulation, MIDNIGHT + 2)
    async with simulation.client(clock=clock) as client:
        events = await all_of(client.realtime.watch(USERS, start=MIDNIGHT, stop=MIDNIGHT + DAY - 60))
    assert stamps(events) == list(range(MIDNIGHT, MIDNIGHT + DAY - 60, 20))
    assert simulation.service.counts["realtime_usage"] <= 480
    assert simulation.service.refusals == {}


async def test_a_watch_started_late_in_the_day_requests_every_window(simulation):
    clock = later(simulation, MIDNIGHT + DAY - 7_200)
    ages = []
    async with simulation.client(clock=clock) as client, aclosing(client.realtime.watch(USERS)) as watch:
        async for event in watch:
            ages.append(clock() - event.ts - 20)
            if len(ages) == 200:
                break
    # One window old and as much as the plan's delay, nearly always.
    assert sorted(ages)[len(ages) * 9 // 10] < 44, ages


async def test_a_changed_value_is_a_revision_until_the_window_is_final(simulation):
    simulation.service.variants = Variants(revised_windows=0.3, late_by=60)
    world = simulation.world
    async with simulation.client() as client:
        events = await all_of(client.realtime.watch(USERS, stop=NOON + 3_600, every=60))
    delivered = {event.ts: event for event in events if isinstance(event, Window)}
    revisions = [event for event in events if isinstance(event, Revision)]
    assert revisions
    for change in revisions:
        assert delivered[change.ts].values[change.series] == change.before
        assert change.after[0].value == truth(world, USERS, change.ts) != change.before[0].value
    changed = {change.ts for change in revisions}
    assert len(changed) == len(revisions)
    last = max(delivered) - 400
    same = [event for ts, event in delivered.items() if ts not in changed and ts < last]
    assert all(event.value(USERS) == truth(world, USERS, event.ts) for event in same)


async def test_only_final_delivers_windows_that_cannot_change(simulation):
    simulation.service.variants = Variants(revised_windows=0.3, late_by=60)
    async with simulation.client() as client:
        events = await all_of(client.realtime.watch(USERS, stop=NOON + 1_800, only_final=True, final_after=100))
    assert {type(event) for event in events} == {Window}
    assert all(event.final and event.value(USERS) == truth(simulation.world, USERS, event.ts) for event in events)
    assert stamps(events) == list(range(stamps(events)[0], NOON + 1_800, 20))


async def test_a_late_window_is_awaited_for_the_allowed_lateness(simulation):
    simulation.service.variants = Variants(late_windows=0.1, late_by=300)
    async with simulation.client() as client:
        waited = await all_of(client.realtime.watch(USERS, CHANNELS, stop=NOON + 3_600, allowed_lateness=300))
        impatient = await all_of(
            client.realtime.watch(USERS, start=NOON + 3_600, stop=NOON + 7_200, allowed_lateness=0, revisions=True)
        )
    assert [event for event in waited if isinstance(event, Window) and event.missing] == []
    lacking = [event for event in impatient if isinstance(event, Window) and event.missing]
    assert lacking
    assert all(event.missing == {USERS: "no data"} and event.value(USERS) is None for event in lacking)
    came = {event.ts: event for event in impatient if isinstance(event, Revision)}
    assert {event.ts for event in lacking if event.ts < NOON + 6_000} <= set(came)
    assert {event.before for event in came.values()} == {()}
    assert all(event.after[0].value == truth(simulation.world, USERS, ts) for ts, event in came.items())


async def test_a_start_in_the_past_is_backfilled_and_expired_windows_are_a_gap(simulation):
    async with simulation.client() as client:
        events = await all_of(client.realtime.watch(USERS, start=NOON - 7_200, stop=NOON))
    gap, *windows = events
    assert isinstance(gap, Gap)
    assert gap.span.start == NOON - 7_200
    assert gap.span.end == windows[0].ts
    assert NOON - 2_400 < gap.span.end < NOON - 2_360
    assert stamps(windows) == list(range(gap.span.end, NOON, 20))


async def test_a_watch_resumes_and_repeats_unacknowledged_windows(simulation):
    store = MemoryCheckpoints()
    seen = []
    async with simulation.client(checkpoints=store) as client:
        watch = client.realtime.watch(USERS, checkpoint="prod")
        async for event in watch:
            seen.append(event.ts)
            if len(seen) == 20:
                break
        await watch.aclose()  # the twentieth was being worked on
        await asyncio.sleep(600)
        again = [event.ts for event in await all_of(client.realtime.watch(USERS, checkpoint="prod", stop=NOON + 3_000))]
    assert again[0] == seen[-1]
    assert again == list(range(seen[-1], NOON + 3_000, 20))
    with pytest.raises(CheckpointError, match="belongs to another stream"):
        await all_of(client.realtime.watch(CHANNELS, checkpoint="prod"))


async def test_a_sink_can_store_the_checkpoint_with_its_rows(simulation):
    table: list[int] = []
    kept = ""
    async with simulation.client() as client:
        for _ in range(5):
            given = Checkpoint.decode(kept) if kept else None
            async with aclosing(client.realtime.watch(USERS, checkpoint=given)) as watch:
                async for event in watch:
                    table, kept = [*table, event.ts], watch.checkpoint.encode()  # one transaction
                    if len(table) % 7 == 0:
                        break  # killed
    assert table == list(range(table[0], table[0] + 35 * 20, 20))


async def test_stop_ends_the_watch_after_the_current_event(simulation):
    store = MemoryCheckpoints()
    seen = []
    async with simulation.client(checkpoints=store) as client:
        watch = client.realtime.watch(USERS, checkpoint="prod")
        async for event in watch:
            seen.append(event.ts)
            if len(seen) == 5:
                watch.stop()
    saved = await store.load("prod")
    assert saved.done[0].end == seen[-1] + 20
    assert watch.health.last_window == seen[-1]


async def test_stop_ends_a_sleep(simulation):
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, every=3_600)
        asyncio.get_running_loop().call_later(100, watch.stop)
        assert len(await all_of(watch)) == 1
    assert asyncio.get_running_loop().time() == pytest.approx(100, abs=1)


async def test_a_cancelled_watch_leaves_nothing_behind(simulation):
    async with simulation.client() as client:
        task = asyncio.create_task(all_of(client.realtime.watch(USERS)))
        await asyncio.sleep(500)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        states = {state.unit: state for state in await client.quota.snapshot() if state.counter == "realtime"}
    assert states["day"].expected == 0
    assert states["day"].waiting == 0


async def test_two_streams_share_the_daily_quota(simulation):
    clock = later(simulation, MIDNIGHT + 2)
    async with simulation.client(clock=clock) as client, asyncio.TaskGroup() as group:
        both = [
            group.create_task(all_of(client.realtime.watch(one, start=MIDNIGHT, stop=MIDNIGHT + DAY - 700)))
            for one in (USERS, FREEZES)
        ]
    assert all(stamps(task.result()) == list(range(MIDNIGHT, MIDNIGHT + DAY - 700, 20)) for task in both)
    assert sum(simulation.service.counts.values()) <= 480
    spent = simulation.service.counts
    assert abs(spent["realtime_usage"] - spent["realtime_quality"]) < 30


async def test_a_series_with_more_windows_per_request_limit_is_polled_more_often(simulation):
    heavy = Series("userCount", product="Native", weight=4)
    async with simulation.client() as client:
        await all_of(client.realtime.watch(heavy, FREEZES, stop=NOON + 36_000))
    assert simulation.service.counts["realtime_usage"] > 3 * simulation.service.counts["realtime_quality"]


async def test_series_share_a_request_that_serves_them(simulation):
    countries = [
        Series("userCount", product="Native", dimension="country", dimension_values=[value])
        for value in ("China", "India")
    ]
    async with simulation.client() as client:
        assert client.realtime.coverage(*countries, USERS).requests_per_poll == 2
        events = await all_of(client.realtime.watch(*countries, stop=NOON + 600, allowed_lateness=0))
    assert simulation.service.counts == {"realtime_usage": len(simulation.service.log)}
    values = {point.dimension_value for event in events for point in event.values.get(countries[0], ())}
    assert values == {"China"}


@pytest.mark.parametrize(("plan", "most"), [("premium", 12), ("enterprise", 57)])
async def test_coverage_says_how_many_series_fit(simulation, plan, most):
    many = [Series(f"metric{number}", product="Native") for number in range(most + 1)]
    async with simulation.client(plan=plan) as client:
        assert client.realtime.coverage(*many[:-1]).complete
        told = client.realtime.coverage(*many)
        assert (told.complete, told.most) == (False, most)
        with pytest.raises(ValueError, match=f"at most {most} fit"):
            client.realtime.watch(*many)
        assert client.realtime.watch(*many, gaps=True)
        assert str(client.realtime.coverage(USERS)).endswith("s old on average")


async def test_wrong_arguments_raise_before_any_request(simulation):
    async with simulation.client() as client:
        watch = client.realtime.watch
        for wrong, told in (
            (watch, "one Series or several"),
            (lambda: watch(USERS, USERS), "twice"),
            (lambda: watch(USERS, start=NOON, stop=NOON), "must be after"),
            (lambda: watch(USERS, start=1.5), "start=1.5"),
            (lambda: watch(USERS, every=5), "every=5"),
            (lambda: watch(USERS, allowed_lateness=-1), "allowed_lateness=-1"),
            (lambda: watch(USERS, checkpoint="prod"), "checkpoints="),
            (lambda: watch(USERS, checkpoint="../prod"), "checkpoint='../prod'"),
            (lambda: Series("", product="Native"), "metric=''"),
            (lambda: Series("joinSuccessRate", product="Native", uids=[1]), "need a cname"),
            (lambda: Series("userCount", product="Native", weight=0), "weight=0"),
        ):
            with pytest.raises((ValueError, TypeError), match=told):
                wrong()
    async with simulation.client(plan="standard") as client:
        with pytest.raises(ValueError, match="standard"):
            client.realtime.watch(USERS)
    assert simulation.service.counts == {}


async def test_an_error_that_a_retry_cannot_fix_ends_the_watch(simulation):
    async with simulation.client() as client:
        simulation.service.faults = Faults.chance(1, [Fault("status", status=401)])
        with pytest.raises(Unauthorized):
            await all_of(client.realtime.watch(USERS))


async def test_windows_that_the_service_drops_before_the_plan_says_are_a_gap(simulation):
    service = Service(World(seed=7), "premium", clock=simulation.service.clock)
    simulation = Simulation(service)
    async with simulation.client(plan="enterprise") as client:  # keeps more than premium does
        events = await all_of(client.realtime.watch(USERS, start=NOON - 3_500, stop=NOON))
    gap, *windows = events
    assert isinstance(gap, Gap)
    assert gap.span.end - NOON in range(-2_400, -2_200)
    assert stamps(windows) == list(range(gap.span.end, NOON, 20))
    assert sum(service.counts.values()) <= 8


async def test_health_serves_a_liveness_probe(simulation):
    async with simulation.client() as client, aclosing(client.realtime.watch(USERS)) as watch:
        assert watch.health.last_window is None
        await anext(watch)
        await anext(watch)
        health = watch.health
        assert health.lag == pytest.approx(NOON + asyncio.get_running_loop().time() - health.last_window - 20, abs=1)
        assert 470 < health.requests_left < 480
        simulation.service.faults = Faults.outage(0, 2**40)
        asking = asyncio.create_task(all_of(watch))
        await asyncio.sleep(900)
        assert watch.health.failures > 3
        assert watch.health.lag > 800
        asking.cancel()
        await asyncio.wait([asking])
