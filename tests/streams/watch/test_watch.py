"""Watching real-time windows: each is delivered once, in order and with its true value, despite failures."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from helpers.streaming import (
    CHANNELS,
    DAY,
    FREEZES,
    HOUR,
    MIDNIGHT,
    NOON,
    USERS,
    WEB,
    collect,
    of_type,
    timestamps,
)

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

FIVE_SERIES = (USERS, CHANNELS, FREEZES, WEB, Series("audioFreezeRate", product="Native"))
EVERY_FAULT = [
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


def true_value(world: World, series: Series, ts: int) -> float | None:
    """Return the value of a series in the simulated world; None if there are no users to measure."""
    users = world.users(series.product, ts, None)[""]
    if series.metric == "userCount":
        return users
    if series.metric == "channelCount":
        return world.channels(series.product, ts)
    return world.rate(series.metric, series.product, ts, "") if users else None


def start_clock_at(simulation: Simulation, start: int):
    """Let the service's clock start at another time, and return this clock."""
    loop = asyncio.get_running_loop()
    simulation.service.clock = lambda: start + loop.time()
    return simulation.service.clock


@pytest.mark.slow_except("premium-True")
@pytest.mark.parametrize(("plan", "loses_windows"), [("premium", True), ("enterprise", False)])
async def test_a_day_with_faults_loses_only_what_the_service_dropped(simulation, plan, loses_windows):
    world = World(seed=7)
    loop = asyncio.get_running_loop()
    service = Service(world, plan, clock=lambda: MIDNIGHT + 5 + loop.time(), variants=Variants(late_windows=0.03))
    simulation = Simulation(service)
    outages = [(MIDNIGHT + hour * HOUR, minutes * 60) for hour, minutes in ((3, 5), (9, 30), (15, 50))]
    service.faults = sum(
        (Faults.outage(start, start + seconds) for start, seconds in outages), Faults.chance(0.05, EVERY_FAULT)
    )

    def host() -> float:
        """Return the time of the host, whose clock is set wrong by minutes twice."""
        return service.clock() + (0 if loop.time() < 20_000 else 400 if loop.time() < 60_000 else -250)

    async with simulation.client(plan=plan, clock=host, quotas=True) as client:
        watch = client.realtime.watch(*FIVE_SERIES, start=MIDNIGHT, stop=MIDNIGHT + DAY, revisions=False)
        events = await collect(watch)

    windows = {window.ts: window for window in of_type(Window, events)}
    gaps = [gap.span for gap in of_type(Gap, events)]
    assert timestamps(events) == sorted(windows)
    expired = {ts for span in gaps for ts in range(span.start, span.end, 20)}
    assert expired | set(windows) == set(range(MIDNIGHT, MIDNIGHT + DAY, 20))
    assert not expired & set(windows)
    for ts, window in windows.items():
        for series in FIVE_SERIES:
            if series in window.values:
                assert window.value(series) == true_value(world, series, ts)
    # Data are missing only for windows not yet requested when an outage began and expired soon after its end.
    retention = client.plan.limits["realtime"].retention
    interval = client.realtime.coverage(*FIVE_SERIES).poll_interval
    without_data = expired | {ts for ts, window in windows.items() if window.missing}
    outage_losses = [(start - 1.5 * interval, start + seconds + interval / 3 - retention) for start, seconds in outages]
    assert all(any(first <= ts <= last for first, last in outage_losses) for ts in without_data)
    assert bool(without_data) is loses_windows
    assert service.refusals == {}
    assert sum(service.counts.values()) <= client.plan.rates("realtime")["day"] + 10


async def test_a_day_of_one_series_stays_within_the_daily_quota(simulation):
    clock = start_clock_at(simulation, MIDNIGHT + 2)
    async with simulation.client(clock=clock) as client:
        events = await collect(client.realtime.watch(USERS, start=MIDNIGHT, stop=MIDNIGHT + DAY - 60))
    assert timestamps(events) == list(range(MIDNIGHT, MIDNIGHT + DAY - 60, 20))
    assert simulation.service.counts["realtime_usage"] <= 480
    assert simulation.service.refusals == {}


async def test_a_watch_started_late_in_the_day_requests_every_window(simulation):
    clock = start_clock_at(simulation, MIDNIGHT + DAY - 7_200)
    ages = []
    async with simulation.client(clock=clock) as client, aclosing(client.realtime.watch(USERS)) as watch:
        async for event in watch:
            ages.append(clock() - event.ts - 20)
            if len(ages) == 200:
                break
    # Nearly always at most one window and the plan's delay old.
    assert sorted(ages)[len(ages) * 9 // 10] < 44, ages


async def test_a_changed_value_is_a_revision_until_the_window_is_final(simulation):
    simulation.service.variants = Variants(revised_windows=0.3, late_by=60)
    world = simulation.world
    async with simulation.client() as client:
        events = await collect(client.realtime.watch(USERS, stop=NOON + 3_600, every=60))
    delivered = {window.ts: window for window in of_type(Window, events)}
    revisions = of_type(Revision, events)
    assert revisions
    for change in revisions:
        assert delivered[change.ts].values[change.series] == change.before
        assert change.after[0].value == true_value(world, USERS, change.ts) != change.before[0].value
    changed = {change.ts for change in revisions}
    assert len(changed) == len(revisions)
    last = max(delivered) - 400
    same = [event for ts, event in delivered.items() if ts not in changed and ts < last]
    assert all(event.value(USERS) == true_value(world, USERS, event.ts) for event in same)


async def test_only_final_delivers_windows_that_cannot_change(simulation):
    simulation.service.variants = Variants(revised_windows=0.3, late_by=60)
    async with simulation.client() as client:
        events = await collect(client.realtime.watch(USERS, stop=NOON + 1_800, only_final=True, final_after=100))
    assert {type(event) for event in events} == {Window}
    assert all(event.final and event.value(USERS) == true_value(simulation.world, USERS, event.ts) for event in events)
    assert timestamps(events) == list(range(timestamps(events)[0], NOON + 1_800, 20))


async def test_a_late_window_is_awaited_for_the_allowed_lateness(simulation):
    simulation.service.variants = Variants(late_windows=0.1, late_by=300)
    async with simulation.client() as client:
        waited = await collect(client.realtime.watch(USERS, CHANNELS, stop=NOON + 3_600, allowed_lateness=300))
        impatient = await collect(
            client.realtime.watch(USERS, start=NOON + 3_600, stop=NOON + 7_200, allowed_lateness=0, revisions=True)
        )
    assert len(timestamps(waited)) >= 180
    assert [window for window in of_type(Window, waited) if window.missing] == []
    incomplete = [window for window in of_type(Window, impatient) if window.missing]
    assert incomplete
    assert all(event.missing == {USERS: "no data"} and event.value(USERS) is None for event in incomplete)
    revisions = {event.ts: event for event in of_type(Revision, impatient)}
    assert {event.ts for event in incomplete if event.ts < NOON + 6_000} <= set(revisions)
    assert {event.before for event in revisions.values()} == {()}
    assert all(event.after[0].value == true_value(simulation.world, USERS, ts) for ts, event in revisions.items())


async def test_a_start_in_the_past_is_backfilled_and_expired_windows_are_a_gap(simulation):
    async with simulation.client() as client:
        events = await collect(client.realtime.watch(USERS, start=NOON - 7_200, stop=NOON))
    gap, *windows = events
    assert isinstance(gap, Gap)
    assert gap.span.start == NOON - 7_200
    assert gap.span.end == windows[0].ts
    assert NOON - 2_400 < gap.span.end < NOON - 2_360
    assert timestamps(windows) == list(range(gap.span.end, NOON, 20))


async def test_a_watch_resumes_and_repeats_unacknowledged_windows(simulation):
    store = MemoryCheckpoints()
    seen = []
    async with simulation.client(checkpoints=store) as client:
        watch = client.realtime.watch(USERS, checkpoint="prod")
        async for event in watch:
            seen.append(event.ts)
            if len(seen) == 20:
                break
        await watch.aclose()  # the consumer was processing the twentieth
        await asyncio.sleep(600)
        resumed = timestamps(await collect(client.realtime.watch(USERS, checkpoint="prod", stop=NOON + 3_000)))
    assert resumed[0] == seen[-1]
    assert resumed == list(range(seen[-1], NOON + 3_000, 20))
    with pytest.raises(CheckpointError, match="belongs to another stream"):
        await collect(client.realtime.watch(CHANNELS, checkpoint="prod"))


async def test_a_sink_can_store_the_checkpoint_with_its_rows(simulation):
    table: list[int] = []
    saved = ""
    async with simulation.client() as client:
        for _ in range(5):
            given = Checkpoint.decode(saved) if saved else None
            async with aclosing(client.realtime.watch(USERS, checkpoint=given)) as watch:
                async for event in watch:
                    table, saved = [*table, event.ts], watch.checkpoint.encode()  # in one transaction
                    if len(table) % 7 == 0:
                        break  # the process is killed
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
        assert len(await collect(watch)) == 1
    assert asyncio.get_running_loop().time() == pytest.approx(100, abs=1)


async def test_a_cancelled_watch_leaves_nothing_behind(simulation):
    async with simulation.client() as client:
        task = asyncio.create_task(collect(client.realtime.watch(USERS)))
        await asyncio.sleep(500)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        states = {state.unit: state for state in await client.quota.snapshot() if state.counter == "realtime"}
    assert states["day"].expected == 0
    assert states["day"].waiting == 0


async def test_two_streams_share_the_daily_quota(simulation):
    clock = start_clock_at(simulation, MIDNIGHT + 2)
    async with simulation.client(clock=clock) as client, asyncio.TaskGroup() as group:
        both = [
            group.create_task(collect(client.realtime.watch(series, start=MIDNIGHT, stop=MIDNIGHT + DAY - 700)))
            for series in (USERS, FREEZES)
        ]
    assert all(timestamps(task.result()) == list(range(MIDNIGHT, MIDNIGHT + DAY - 700, 20)) for task in both)
    assert sum(simulation.service.counts.values()) <= 480
    spent = simulation.service.counts
    assert abs(spent["realtime_usage"] - spent["realtime_quality"]) < 30


async def test_a_series_of_higher_weight_is_polled_more_often(simulation):
    heavy = Series("userCount", product="Native", weight=4)
    async with simulation.client() as client:
        await collect(client.realtime.watch(heavy, FREEZES, stop=NOON + 36_000))
    assert simulation.service.counts["realtime_usage"] > 3 * simulation.service.counts["realtime_quality"]


async def test_series_share_a_request_that_serves_them(simulation):
    countries = [
        Series("userCount", product="Native", dimension="country", dimension_values=[value])
        for value in ("China", "India")
    ]
    async with simulation.client() as client:
        assert client.realtime.coverage(*countries, USERS).requests_per_poll == 2
        events = await collect(client.realtime.watch(*countries, stop=NOON + 600, allowed_lateness=0))
    assert simulation.service.counts == {"realtime_usage": len(simulation.service.log)}
    values = {point.dimension_value for event in events for point in event.values.get(countries[0], ())}
    assert values == {"China"}


@pytest.mark.parametrize(("plan", "most"), [("premium", 12), ("enterprise", 57)])
async def test_coverage_reports_how_many_series_fit(simulation, plan, most):
    many = [Series(f"metric{number}", product="Native") for number in range(most + 1)]
    async with simulation.client(plan=plan) as client:
        assert client.realtime.coverage(*many[:-1]).complete
        coverage = client.realtime.coverage(*many)
        assert (coverage.complete, coverage.max_requests_per_poll) == (False, most)
        with pytest.raises(ValueError, match=f"at most {most} fit"):
            client.realtime.watch(*many)
        assert client.realtime.watch(*many, gaps=True)
        assert str(client.realtime.coverage(USERS)).endswith("s old on average")
        # Rounded up to whole windows.
        assert client.realtime.coverage(USERS, every=290).poll_interval == 300


async def test_wrong_arguments_raise_before_any_request(simulation):
    async with simulation.client() as client:
        watch = client.realtime.watch
        for wrong, message in (
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
            with pytest.raises((ValueError, TypeError), match=message):
                wrong()
    async with simulation.client(plan="standard") as client:
        with pytest.raises(ValueError, match="standard"):
            client.realtime.watch(USERS)
    assert simulation.service.counts == {}


async def test_an_error_that_a_retry_cannot_fix_ends_the_watch(simulation):
    async with simulation.client() as client:
        simulation.service.faults = Faults.chance(1, [Fault("status", status=401)])
        with pytest.raises(Unauthorized):
            await collect(client.realtime.watch(USERS))


async def test_windows_that_the_service_drops_before_the_plan_says_are_a_gap(simulation):
    async with simulation.client(plan="enterprise") as client:  # its retention is longer than that of Premium
        events = await collect(client.realtime.watch(USERS, start=NOON - 3_500, stop=NOON))
    gap, *windows = events
    assert isinstance(gap, Gap)
    assert gap.span.end - NOON in range(-2_400, -2_200)
    assert timestamps(windows) == list(range(gap.span.end, NOON, 20))
    assert sum(simulation.service.counts.values()) <= 8


async def test_health_serves_a_liveness_probe(simulation):
    async with simulation.client() as client, aclosing(client.realtime.watch(USERS)) as watch:
        assert watch.health.last_window is None
        await anext(watch)
        await anext(watch)
        health = watch.health
        assert health.lag == pytest.approx(NOON + asyncio.get_running_loop().time() - health.last_window - 20, abs=1)
        assert 470 < health.requests_left < 480
        simulation.service.faults = Faults.outage(0, 2**40)
        task = asyncio.create_task(collect(watch))
        await asyncio.sleep(900)
        assert watch.health.failures > 3
        assert watch.health.lag > 800
        task.cancel()
        await asyncio.wait([task])
