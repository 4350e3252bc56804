"""What the tests of streams share: small simulations, series, and consumers that take what comes for a while."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager, suppress
from urllib.parse import parse_qs

from helpers.times import NOON

from agora_analytics import Gap, Revision, Series, Window
from agora_analytics.simulator import Simulation, Variants, World

MIDNIGHT = NOON - 43_200
HOUR = 3_600
DAY = 86_400

USERS = Series("userCount", product="Native")
WEB = Series("userCount", product="WebRTC")
CHANNELS = Series("channelCount", product="WebRTC")
FREEZES = Series("videoFreezeRate", product="Native")
NETWORKS = Series("userCount", product="Native", dimension="net")

SMALL = World(seed=7, calls_per_hour=20)
BUSY = World(seed=7, calls_per_hour=60, typical_minutes=4, long_share=0.0, large_share=0.0)


def simulated(plan="premium", *, at: float = NOON, world: World = SMALL, faults=None, **variants) -> Simulation:
    """A service over a small world, which begins at a moment."""
    return Simulation(world=world, plan=plan, clock=at, faults=faults, variants=Variants(**variants))


def passed() -> float:
    """Virtual seconds since the test began."""
    return asyncio.get_running_loop().time()


async def all_of(stream) -> list:
    async with aclosing(stream):
        return [event async for event in stream]


async def consume(stream, events: list) -> None:
    """Put the events of a stream into a list, one after the other."""
    async for event in stream:
        events.append(event)  # noqa: PERF401 - they are looked at meanwhile


@asynccontextmanager
async def within(seconds: float):
    """Leave after so many seconds at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield


@asynccontextmanager
async def taking(stream):
    """Take the events of a stream in another task, into a list that may be looked at meanwhile."""
    events: list = []
    task = asyncio.create_task(consume(stream, events))
    try:
        yield events
    finally:
        stream.stop()
        await task
        await stream.aclose()


async def taken_for(stream, seconds: float) -> list:
    """Return the events that a stream has within so many seconds."""
    async with taking(stream) as events:
        await asyncio.sleep(seconds)
    return events


class Counted:
    """A transport that notes when requests are sent, also those that never arrive."""

    def __init__(self, simulation: Simulation) -> None:
        self._transport = simulation.transport()
        self.hosts = self._transport.hosts
        self.sent: list[float] = []

    async def send(self, request, host: int = 0):
        self.sent.append(passed())
        return await self._transport.send(request, host)

    def scrub(self, body: bytes) -> bytes:
        return self._transport.scrub(body)

    async def close(self) -> None:
        await self._transport.close()

    def between(self, start: float, end: float) -> int:
        """How many requests were sent in a span of virtual seconds."""
        return sum(start <= moment < end for moment in self.sent)


def of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def stamps(events) -> list[int]:
    return [event.ts for event in of(Window, events)]


def whole(events, start: int | None = None) -> bool:
    """Whether windows and gaps follow each other without a hole or a second time."""
    due = start
    for event in (event for event in events if not isinstance(event, Revision)):
        if due not in {None, event.span.start}:
            return False
        due = event.span.end
    return True


def lost(events) -> list[tuple[int, int, str]]:
    """The gaps, as first and last second since noon, and reason."""
    return [(gap.span.start - NOON, gap.span.end - NOON, gap.reason) for gap in of(Gap, events)]


def told(events) -> dict:
    """What a table holds of each window and series after all events."""
    table: dict = {}
    for event in events:
        if isinstance(event, Window):
            table |= {(event.ts, series): groups(points) for series, points in event.values.items()}
        elif isinstance(event, Revision):
            assert groups(event.before) == table.get((event.ts, event.series), {}) != groups(event.after)
            table[event.ts, event.series] = groups(event.after)
    return table


def groups(points) -> dict:
    return {point.uid if point.uid is not None else point.dimension_value: point.value for point in points}


def spans_asked(simulation: Simulation) -> list[tuple[float, int, int]]:
    """When each request for windows or calls arrived, and the span it asked for."""
    found = []
    for entry in simulation.service.log:
        query = {name.lower().replace("_", ""): values[0] for name, values in parse_qs(entry.query).items()}
        found.append((entry.at, int(query["startts"]), int(query["endts"])))
    return found


async def nothing_left(client) -> bool:
    """Whether no task goes on but this one, and no request is kept for a stream."""
    await asyncio.sleep(0.2)
    states = await client.quota.snapshot()
    return asyncio.all_tasks() == {asyncio.current_task()} and {state.expected for state in states} == {0}
