"""Calls and incidents: when they start and how long they last, drawn with one seeded generator per hour or day."""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from itertools import chain
from math import log, pi, sin
from operator import attrgetter
from random import Random

from agora_analytics.simulator.world.entities import Incident, SimulatedCall
from agora_analytics.simulator.world.parameters import WorldParameters
from agora_analytics.simulator.world.population import COUNTRIES
from agora_analytics.simulator.world.rng import fraction, rng_for
from agora_analytics.spans import DAY, HOUR

MAX_DURATION = 12 * HOUR
"""No call is longer (seconds): a search for calls in use need not look further back."""

_MIN_DURATION = 20
_MAX_ORDINARY_DURATION = 5 * HOUR
_MIN_DURATION_OF_REJOINS = 300
"""Users leave and come back only in calls that last at least this many seconds."""
_CHANNELS = 400
# Names with blanks, `&`, `+`, `%` and other alphabets: what a client must encode in a query.
_ODD_CHANNELS = ("standup", "klass-7å", "room #5 + tea", "50%&more=less", "комната-1")
# The ID encodes the hour, so that `World.call` draws one hour and not all; masked, so that IDs do not look ordered.
_ID_MASK = 0x5A_C3_91_7E
_HOUR_DIGITS = 8

_created = attrgetter("created")


# A week, which a Premium plan keeps, and the 12 hours before it that `during` looks back.
@lru_cache(maxsize=192)
def of_hour(world: WorldParameters, hour: int) -> tuple[SimulatedCall, ...]:
    """Return the calls created in an hour (counted since 1970), oldest first."""
    rng = rng_for(world.seed, "calls", hour)
    # Rounded at random, so that the average is met even if it is below one call.
    count = int(world.calls_per_hour * daily_curve(hour * HOUR) + rng.random())
    moments = sorted(hour * HOUR + int(rng.random() * HOUR) for _ in range(count))
    return tuple(_call(world, rng, hour, created) for created in moments)


def daily_curve(ts: int) -> float:
    """Return the load at a time of day relative to the average: lowest at 02:00 UTC, highest at 14:00."""
    return 1 + 0.6 * sin(2 * pi * (ts % DAY / DAY - 1 / 3))


def created(world: WorldParameters, start: int, end: int) -> tuple[SimulatedCall, ...]:
    """Return the calls created in `[start, end)`, oldest first."""
    hours = range(start // HOUR, -(-end // HOUR))
    candidates = tuple(chain.from_iterable(of_hour(world, hour) for hour in hours))
    first, last = (bisect_left(candidates, ts, key=_created) for ts in (start, end))
    return candidates[first:last]


def during(world: WorldParameters, start: int, end: int) -> tuple[SimulatedCall, ...]:
    """Return the calls that overlap `[start, end)`, oldest first."""
    return tuple(call for call in created(world, start - MAX_DURATION, end) if call.destroyed > start)


def hour_of(world: WorldParameters, call_id: str) -> int | None:
    """Return the hour of a call's start, which its ID encodes, or None if the ID is malformed."""
    try:
        return int(call_id[:_HOUR_DIGITS], 16) ^ _mask(world)
    except ValueError:
        return None


def _mask(world: WorldParameters) -> int:
    return _ID_MASK ^ int(fraction(world.seed, "mask") * 2**16)


def _call(world: WorldParameters, rng: Random, hour: int, created: int) -> SimulatedCall:
    duration = _duration(world, rng)
    users = rng.randint(101, 260) if rng.random() < world.large_share else 1 + min(int(rng.expovariate(0.3)), 60)
    rejoins = int(users * world.rejoin_share + rng.random()) if duration >= _MIN_DURATION_OF_REJOINS else 0
    return SimulatedCall(
        call_id=f"{hour ^ _mask(world):0{_HOUR_DIGITS}X}{rng.getrandbits(96):024X}",
        cname=_channel(rng),
        created=created,
        destroyed=created + duration,
        users=users,
        rejoins=min(rejoins, users - 1),
        recorded=rng.random() < 0.1,  # noqa: PLR2004 - a share
        video=rng.random() < 0.7,  # noqa: PLR2004 - a share
    )


def _duration(world: WorldParameters, rng: Random) -> int:
    if rng.random() < world.long_share:
        return rng.randint(6 * HOUR, MAX_DURATION - HOUR // 2)
    return min(
        max(_MIN_DURATION, int(60 * rng.lognormvariate(log(world.typical_minutes), 1.0))), _MAX_ORDINARY_DURATION
    )


def _channel(rng: Random) -> str:
    number = int(rng.random() * _CHANNELS)
    return _ODD_CHANNELS[number] if number < len(_ODD_CHANNELS) else f"room-{number}"


@lru_cache(maxsize=512)
def _incidents_of_day(world: WorldParameters, day: int) -> tuple[Incident, ...]:
    rng = rng_for(world.seed, "incidents", day)
    drawn = []
    for _ in range(int(world.incidents_per_day + rng.random())):
        start = day * DAY + int(rng.random() * DAY)
        everywhere = rng.random() < 0.5  # noqa: PLR2004 - a share
        # The six largest, so that it shows in overall figures.
        country = None if everywhere else rng.choice(list(COUNTRIES)[:6])
        drawn.append(Incident(start, start + rng.randint(300, 2_400), round(rng.uniform(0.3, 1.0), 2), country))
    return tuple(sorted(drawn, key=lambda incident: incident.start))


def incidents(world: WorldParameters, start: int, end: int) -> tuple[Incident, ...]:
    """Return the incidents that overlap `[start, end)`, oldest first."""
    # From the day before: its last incident may reach over midnight.
    days = range(start // DAY - 1, -(-end // DAY))
    return tuple(
        incident
        for day in days
        for incident in _incidents_of_day(world, day)
        if incident.start < end and incident.end > start
    )


def severity(world: WorldParameters, ts: int, country: str | None = None) -> float:
    """Return how bad quality is at `ts`, 0 to 1; overall, an incident in one country counts a fifth."""
    worst = 0.0
    for incident in incidents(world, ts, ts + 1):
        weight = 1.0 if incident.country in {None, country} else 0.2 if country is None else 0.0
        worst = max(worst, incident.severity * weight)
    return worst
