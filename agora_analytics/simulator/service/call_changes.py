"""Calls as the service reports them if that differs from what happened: deleted, endless and moved calls.

Affects lists and details of calls. Real-time Monitoring and Data Insights count what happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import attrs

from agora_analytics.simulator.service.variants import Odds, Variants
from agora_analytics.simulator.world.entities import CallChange, SimulatedCall, SimulatedSession
from agora_analytics.simulator.world.rng import fraction
from agora_analytics.simulator.world.world import World
from agora_analytics.spans import HOUR

NEVER = 10_000_000_000
"""The end of a call that never ends, in UTC seconds."""

_MOVED_WITHIN = 600
"""Seconds after its start within which a random move of a call takes effect."""


def changes_of(world: World, variants: Variants, call: SimulatedCall) -> tuple[CallChange, ...]:
    """Return all changes of a call: those named in `variants.changes`, and random ones."""
    random_changes = _changes_of_hour(world, variants.odds, call.created // HOUR).changes if variants.odds else {}
    return (*variants.changes_of(call.call_id), *random_changes.get(call.call_id, ()))


def as_shown(world: World, variants: Variants, call: SimulatedCall, now: float) -> SimulatedCall | None:
    """Return a call as the service reports it at `now`, or None if it was deleted."""
    if not variants.changes_calls:
        return call
    moved = 0
    for change in changes_of(world, variants, call):
        if change.at > now:
            continue
        if change.deleted:
            return None
        moved += change.moved
        call = attrs.evolve(call, destroyed=NEVER) if change.endless else call
    # A call has to last at least a second.
    return attrs.evolve(call, created=min(call.created + moved, call.destroyed - 1)) if moved else call


def sessions(world: World, call: SimulatedCall, shown: SimulatedCall) -> tuple[SimulatedSession, ...]:
    """Return the sessions of a call that the service reports as `shown`."""
    actual = world.sessions(call)
    if shown.destroyed == call.destroyed:
        return actual
    return tuple(
        attrs.evolve(session, leave=NEVER) if session.leave == call.destroyed else session for session in actual
    )


def shown_elsewhere(world: World, variants: Variants, start: int, end: int) -> Iterator[SimulatedCall]:
    """Yield calls of other times that may be reported in `[start, end)`; may yield a call twice."""
    if variants.moved_calls:
        # A call that moved by at most that much may be reported in the span.
        yield from world.calls(start - variants.moved_by, end + variants.moved_by)
    for change in variants.changes:
        call = world.call(change.call_id) if change.moved or change.endless else None
        if call is not None:
            yield call


def endless_calls(world: World, variants: Variants, start: int, end: int) -> Iterator[SimulatedCall]:
    """Yield the calls created in the hours of `[start, end)` that randomly never end."""
    for hour in range(start // HOUR, -(-end // HOUR)) if variants.endless_calls else ():
        yield from _changes_of_hour(world, variants.odds, hour).endless


@attrs.frozen
class _Hour:
    """The random changes of the calls created in an hour."""

    changes: Mapping[str, tuple[CallChange, ...]]
    endless: tuple[SimulatedCall, ...]


@lru_cache(maxsize=512)
def _changes_of_hour(world: World, odds: Odds, hour: int) -> _Hour:
    calls = world.calls(hour * HOUR, (hour + 1) * HOUR)
    by_call = {call.call_id: changes for call in calls if (changes := tuple(_draw(world, odds, call)))}
    return _Hour(by_call, tuple(call for call in calls if _is_hit(world, "endless", odds.endless, call)))


def _draw(world: World, odds: Odds, call: SimulatedCall) -> Iterator[CallChange]:
    seed, call_id = world.seed, call.call_id
    if _is_hit(world, "moved", odds.moved, call):
        distance = 1 + int(odds.moved_by * fraction(seed, "moved by", call_id))
        later = fraction(seed, "moved later", call_id) < 0.5  # noqa: PLR2004 - half of them
        at = call.created + _MOVED_WITHIN * fraction(seed, "moved at", call_id)
        yield CallChange(call_id, at, moved=distance if later else -distance)
    if _is_hit(world, "endless", odds.endless, call):
        yield CallChange(call_id, endless=True)
    if _is_hit(world, "deleted", odds.deleted, call):
        # Over twice its length: half of them vanish while they are open.
        at = call.created + 2 * call.duration * fraction(seed, "deleted at", call_id)
        yield CallChange(call_id, at, deleted=True)


def _is_hit(world: World, change: str, rate: float, call: SimulatedCall) -> bool:
    return rate > 0 and fraction(world.seed, change, call.call_id) < rate
