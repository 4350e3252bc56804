"""Simulations, series, consumers and checks that the tests of streams share."""

from __future__ import annotations

import asyncio
from collections import Counter
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

DEFAULT = World(seed=7)
SMALL = World(seed=7, calls_per_hour=20)
BUSY = World(seed=7, calls_per_hour=60, typical_minutes=4, long_share=0.0, large_share=0.0)
# In one window of fifty nobody is in a call of that world: a test that starts at the time of day cannot build on it.
FULL = World(seed=7, calls_per_hour=240, typical_minutes=4, long_share=0.0, large_share=0.0)


def simulated(plan="premium", *, at: float = NOON, world: World = SMALL, faults=None, **variants) -> Simulation:
    """Return a simulation whose clock starts at `at`."""
    return Simulation(world=world, plan=plan, clock=at, faults=faults, variants=Variants(**variants))


def elapsed() -> float:
    """Return the virtual seconds since the test began."""
    return asyncio.get_running_loop().time()


# Consumers.


async def collect(stream) -> list:
    """Return all events of a stream that ends."""
    async with aclosing(stream):
        return [event async for event in stream]


async def consume(stream, events: list) -> None:
    """Append the events of a stream to a list as they come."""
    async for event in stream:
        events.append(event)  # noqa: PERF401 - tests look at the list meanwhile


@asynccontextmanager
async def stop_after(seconds: float):
    """Leave the block after at most so many seconds, without an error."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield


@asynccontextmanager
async def consuming(stream):
    """Consume a stream in another task; yields the list that this task appends to."""
    events: list = []
    task = asyncio.create_task(consume(stream, events))
    try:
        yield events
    finally:
        stream.stop()
        await task
        await stream.aclose()


async def consume_for(stream, seconds: float) -> list:
    """Return the events that a stream delivers within so many seconds."""
    async with consuming(stream) as events:
        await asyncio.sleep(seconds)
    return events


class CountingTransport:
    """A transport that records when requests are sent, also those that never reach the service."""

    def __init__(self, simulation: Simulation) -> None:
        self._transport = simulation.transport()
        self.hosts = self._transport.hosts
        self.sent: list[float] = []

    async def send(self, request, host: int = 0):
        self.sent.append(elapsed())
        return await self._transport.send(request, host)

    def scrub(self, body: bytes) -> bytes:
        return self._transport.scrub(body)

    async def close(self) -> None:
        await self._transport.close()

    def sent_between(self, start: float, end: float) -> int:
        """Return how many requests were sent between two moments of virtual time."""
        return sum(start <= moment < end for moment in self.sent)


# Events.


def of_type(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def timestamps(events) -> list[int]:
    """Return the starts of all windows."""
    return [event.ts for event in of_type(Window, events)]


def is_contiguous(events, start: int | None = None) -> bool:
    """Whether there are windows or gaps, and each starts where the one before ends; the first at `start`."""
    spans = [event.span for event in events if not isinstance(event, Revision)]
    expected = start
    for span in spans:
        if expected not in {None, span.start}:
            return False
        expected = span.end
    return bool(spans)


def gaps_since_noon(events) -> list[tuple[int, int, str]]:
    """Return start, end and reason of each gap, in seconds since noon."""
    return [(gap.span.start - NOON, gap.span.end - NOON, gap.reason) for gap in of_type(Gap, events)]


def latest_values(events) -> dict:
    """Return the values by group of each window and series after all revisions."""
    table: dict = {}
    for event in events:
        if isinstance(event, Window):
            table |= {(event.ts, series): values_by_group(points) for series, points in event.values.items()}
        elif isinstance(event, Revision):
            before, after = values_by_group(event.before), values_by_group(event.after)
            assert before == table.get((event.ts, event.series), {}) != after
            table[event.ts, event.series] = after
    return table


def values_by_group(points) -> dict:
    """Return the value of each user, or else of each value of the dimension."""
    return {point.uid if point.uid is not None else point.dimension_value: point.value for point in points}


def count_by_call(kind, events) -> Counter[str]:
    """Return how often each call has an event of a kind."""
    return Counter(event.call.call_id for event in of_type(kind, events))


def calls_started(world: World, start: int, end: int) -> Counter[str]:
    """Return the ids of all calls that start in a span, each counted once."""
    return Counter(call.call_id for call in world.calls(start, end))


# Simulations.


def native_users_throughout(world: World, start: int, end: int, count: int) -> tuple[str, list[int]]:
    """Return a channel with at least `count` native users who stay from start to end, and those users."""
    for call in world.calls_during(start, end):
        users = {
            session.uid
            for session in world.sessions(call)
            if session.join < start and session.leave > end and session.profile.product == "Native"
            if not session.server
        }
        if len(users) >= count:
            return call.cname, sorted(users)
    raise LookupError("the world has no such call")


def requested_spans(simulation: Simulation) -> list[tuple[float, int, int]]:
    """Return the arrival, start and end of each request for windows or calls."""
    found = []
    for entry in simulation.service.log:
        query = {name.lower().replace("_", ""): values[0] for name, values in parse_qs(entry.query).items()}
        found.append((entry.at, int(query["startts"]), int(query["endts"])))
    return found


async def left_nothing_behind(client) -> bool:
    """Whether no other task runs and no quota is reserved for a stream."""
    await asyncio.sleep(0.2)
    states = await client.quota.snapshot()
    return asyncio.all_tasks() == {asyncio.current_task()} and {state.expected for state in states} == {0}
