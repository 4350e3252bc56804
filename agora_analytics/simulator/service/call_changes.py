"""What the service tells of a call where that is not what happened: calls that are deleted, that never end, that move.

Lists and details of calls follow this; real-time numbers and Data Insights count what happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import attrs

from agora_analytics.simulator.service.variants import Odds, Quirks
from agora_analytics.simulator.world.entities import CallChange, SimulatedCall, SimulatedSession
from agora_analytics.simulator.world.rng import share
from agora_analytics.simulator.world.world import World
from agora_analytics.spans import HOUR

NEVER = 10_000_000_000
"""The end of a call that does not end."""

_SOON = 600
"""Seconds after its start by which a call has moved, if chance moves it."""


def of_call(world: World, quirks: Quirks, call: SimulatedCall) -> tuple[CallChange, ...]:
    """Return all that befalls a call: what the settings name, and what chance adds."""
    drawn = _of_hour(world, quirks.odds, call.created // HOUR).changes if quirks.odds else {}
    return (*quirks.changes_of(call.call_id), *drawn.get(call.call_id, ()))


def told(world: World, quirks: Quirks, call: SimulatedCall, now: float) -> SimulatedCall | None:
    """Return a call as the service tells of it at `now`; None where it was deleted."""
    if not quirks.changes_calls:
        return call
    moved = 0
    for change in of_call(world, quirks, call):
        if change.at > now:
            continue
        if change.deleted:
            return None
        moved += change.moved
        call = attrs.evolve(call, destroyed=NEVER) if change.endless else call
    return attrs.evolve(call, created=min(call.created + moved, call.destroyed - 1)) if moved else call


def sessions(world: World, call: SimulatedCall, shown: SimulatedCall) -> tuple[SimulatedSession, ...]:
    """Return the sessions of a call that is told of as `shown`."""
    found = world.sessions(call)
    if shown.destroyed == call.destroyed:
        return found
    return tuple(attrs.evolve(one, leave=NEVER) if one.leave == call.destroyed else one for one in found)


def astray(world: World, quirks: Quirks, start: int, end: int) -> Iterator[SimulatedCall]:
    """Yield the calls that may be told of in `[start, end)` though they happened at another time; some twice."""
    if quirks.moved_calls:
        yield from world.calls(start - quirks.moved_by, end + quirks.moved_by)
    for change in quirks.changes:
        call = world.call(change.call_id) if change.moved or change.endless else None
        if call is not None:
            yield call


def endless(world: World, quirks: Quirks, start: int, end: int) -> Iterator[SimulatedCall]:
    """Yield the calls of the hours of `[start, end)` that chance keeps from ending."""
    for hour in range(start // HOUR, -(-end // HOUR)) if quirks.endless_calls else ():
        yield from _of_hour(world, quirks.odds, hour).endless


@attrs.frozen
class _Hour:
    """What chance changes of the calls that begin in an hour."""

    changes: Mapping[str, tuple[CallChange, ...]]
    endless: tuple[SimulatedCall, ...]


@lru_cache(maxsize=512)
def _of_hour(world: World, odds: Odds, hour: int) -> _Hour:
    calls = world.calls(hour * HOUR, (hour + 1) * HOUR)
    found = {call.call_id: change for call in calls if (change := tuple(_drawn(world, odds, call)))}
    return _Hour(found, tuple(call for call in calls if _chosen(world, "endless", odds.endless, call)))


def _drawn(world: World, odds: Odds, call: SimulatedCall) -> Iterator[CallChange]:
    seed, call_id = world.seed, call.call_id
    if _chosen(world, "moved", odds.moved, call):
        by = 1 + int(odds.moved_by * share(seed, "moved by", call_id))
        later = share(seed, "moved later", call_id) < 0.5  # noqa: PLR2004 - half of them
        at = call.created + _SOON * share(seed, "moved at", call_id)
        yield CallChange(call_id, at, moved=by if later else -by)
    if _chosen(world, "endless", odds.endless, call):
        yield CallChange(call_id, endless=True)
    if _chosen(world, "deleted", odds.deleted, call):
        at = call.created + 2 * call.duration * share(seed, "deleted at", call_id)
        yield CallChange(call_id, at, deleted=True)


def _chosen(world: World, what: str, part: float, call: SimulatedCall) -> bool:
    return part > 0 and share(world.seed, what, call.call_id) < part
