"""Watching real-time windows: each once, in order, with the world's true values, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from agora_analytics import (
    Gap,
    Series,
    Window,
)
from agora_analytics.simulator import Fault, Faults, Quirks, Service, Simulation, World

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
async def test_a_day_under_faults_loses_nothing_but_what_the_service_forgot(simulation, plan, lost):
    world = World(seed=7)
    loop = asyncio.get_running_loop()
    service = Service(world, plan, clock=lambda: MIDNIGHT + 5 + loop.time(), quirks=Quirks(late_windows=0.03))
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
    paced = client.realtime.plan(*FIVE).interval
    unheard = gone | {ts for ts, window in windows.items() if window.missing}
    out = [(start - 1.5 * paced, start + seconds + paced / 3 - kept) for start, seconds in outages]
    assert all(any(first <= ts <= last for first, last in out) for ts in unheard)
    assert bool(unheard) is lost
    assert service.refusals == {}
    assert sum(service.counts.values()) <= client.plan.rates("realtime")["day"] + 10


async def test_a_whole_day_of_one_series_takes_no_more_than_the_days_requests(simulation):
    clock = later(simulation, MIDNIGHT + 2)
    async with simulation.client(clock=clock) as client:
        events = await all_of(client.realtime.watch(USERS, start=MIDNIGHT, stop=MIDNIGHT + DAY - 60))
    assert stamps(events) == list(range(MIDNIGHT, MIDNIGHT + DAY - 60, 20))
    assert simulation.service.counts["realtime_usage"] <= 480
    assert simulation.service.refusals == {}


async def test_started_late_in_the_day_it_asks_for_every_window(simulation):
    clock = later(simulation, MIDNIGHT + DAY - 7_200)
    ages = []
    async with simulation.client(clock=clock) as client, aclosing(client.realtime.watch(USERS)) as watch:
        async for event in watch:
            ages.append(clock() - event.ts - 20)
            if len(ages) == 200:
                break
    # One window old and as much as the plan's delay, nearly always.
    assert sorted(ages)[len(ages) * 9 // 10] < 44, ages
