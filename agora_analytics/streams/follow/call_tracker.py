"""What is known of calls while a list of them is followed: a pure machine of calls in and events out.

A list only shows how things are. What happened follows from what was known before, so each unfinished call is kept as
it was last seen, each finished one whose sessions are still to come, and of finished ones that a search may still find,
that they are over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from agora_analytics.models import Call
from agora_analytics.spans import DAY, Span
from agora_analytics.streams.checkpoints import Checkpoint, check_known, opened
from agora_analytics.streams.events import (
    CallChanged,
    CallEvent,
    CallFinished,
    CallLost,
    CallSessions,
    CallStarted,
    Gap,
)

_LOST: Final = 30 * DAY
"""Seconds for which a call that was told as lost is known: nobody knows when a search finds it last."""

_FIELDS: Final = frozenset({"going", "look_at", "misses", "seen", "ended", "owed", "told", "since"})
MAY_FOLLOW: Final = frozenset({"quota", "outage"})
"""Why sessions did not come that may come later."""


@attrs.frozen(kw_only=True)
class Open:
    """A call that goes on, as it was seen last; when to look at it again, and how often that found nothing.

    `seen` is when it was seen first.
    """

    call: Call
    look_at: float = 0.0
    misses: int = 0
    seen: int = 0

    @property
    def began(self) -> int:
        """When it began, as far as is known: 0 and null are no time."""
        return began(self.call) or self.seen


@attrs.frozen(kw_only=True)
class Owed:
    """A finished call whose sessions are to come; whether its end was told, and what asking came to so far.

    `since` is when they could be asked for first, `next_at` when to ask again; `tries` how often that failed, `counted`
    how often while it worked for others, and `mark` how many others had worked by the last failure.
    """

    call: Call
    told: bool = False
    since: float = 0.0
    next_at: float = 0.0
    tries: int = 0
    counted: int = 0
    mark: int | None = None


def began(call: Call) -> int | None:
    """Return when a call began; None where the service does not say."""
    return call.created_ts if call.started_at else None


def seen(call: Call) -> Call:
    """Return a call without what differs at each look: until the end, `destroyed_ts` may be the last moment seen."""
    return call if call.is_over or call.destroyed_ts is None else attrs.evolve(call, destroyed_ts=None)


@attrs.define
class Tail:
    """Calls that go on, that are owed, and until when those that are over may be found; up to where was read."""

    read_to: int
    going: dict[str, Open] = attrs.field(factory=dict)
    ended: dict[str, int] = attrs.field(factory=dict)
    owed: dict[str, Owed] = attrs.field(factory=dict)
    late: bool = True
    """Whether sessions that could not be had in time are still waited for."""

    now: int = 0
    """When what is told was seen (UTC seconds)."""

    def facts(self, call: Call, oldest: int) -> Iterator[CallStarted | CallChanged | CallFinished]:
        """Yield what a call tells that was not known; one that goes on and began before `oldest` is lost from sight.

        A service that lists what was on in a span shows it again and again, long after it was told as lost.
        """
        if call.call_id in self.ended:
            self.ended[call.call_id] = max(self.ended[call.call_id], self.now)
        if call.call_id in self.ended or call.call_id in self.owed:
            return
        known = self.going.get(call.call_id)
        if known is None and not call.is_over and (began(call) or oldest) < oldest:
            return
        if known is None:
            yield CallStarted(call=call)
        if call.is_over:
            yield CallFinished(call=call)
        elif known is not None and seen(known.call) != seen(call):
            yield CallChanged(call=call, before=known.call)

    def note(self, event: CallEvent) -> None:
        """Know what an event told."""
        if isinstance(event, Gap):
            self.read_to = max(self.read_to, event.span.end)
            return
        key = event.call.call_id
        if isinstance(event, CallStarted):
            self.going[key] = Open(call=event.call, seen=self.now)
        elif isinstance(event, CallChanged):
            self.going[key] = attrs.evolve(self.going.get(key) or Open(call=event.call, seen=self.now), call=event.call)
        elif isinstance(event, CallSessions):
            self.owed.pop(key, None)
        else:
            self._end(event)

    def _end(self, event: CallFinished | CallLost) -> None:
        call = event.call
        self.going.pop(call.call_id, None)
        self.ended[call.call_id] = self._found_until(event)
        owed = self.owed.get(call.call_id)
        if owed is not None and self.late and event.reason in MAY_FOLLOW:
            self.owed[call.call_id] = attrs.evolve(owed, told=True)
        else:
            self.owed.pop(call.call_id, None)

    def _found_until(self, event: CallFinished | CallLost) -> int:
        """Return until when a search may find a call: until its end, which was no later than it was seen."""
        call = event.call
        if isinstance(event, CallLost):
            return self.now + _LOST
        end = call.destroyed_ts if call.ended_at and (call.destroyed_ts or 0) >= (began(call) or 0) else None
        return max(self.now if end is None else min(end, self.read_to + DAY), self.read_to)

    def owe(self, call: Call, since: float) -> None:
        """Note that a call is over, and that its sessions are to come."""
        self.going.pop(call.call_id, None)
        self.owed[call.call_id] = Owed(call=call, since=since, next_at=since)

    def older(self, start: int) -> list[Open]:
        """Return the calls that go on and began before a moment, oldest first."""
        found = [one for one in self.going.values() if one.began < start]
        return sorted(found, key=lambda one: (one.began, one.call.call_id))

    def advance(self, read_to: int, oldest: int) -> None:
        """Note up to where was read, and forget what no search from `oldest` on can find again."""
        self.read_to = max(self.read_to, read_to)
        self.ended = {call_id: until for call_id, until in self.ended.items() if until >= oldest}

    def after(self, event: CallEvent | None) -> Tail:
        """Return what will be known after an event."""
        tail = Tail(self.read_to, dict(self.going), dict(self.ended), dict(self.owed), self.late, self.now)
        if event is not None:
            tail.note(event)
        return tail

    def checkpoint(self, stream: str, start: int) -> Checkpoint:
        """Return it as a checkpoint."""
        known: dict[str, Mapping[str, Any]] = {
            call_id: {"going": attrs.asdict(one.call), "misses": one.misses, "look_at": one.look_at, "seen": one.seen}
            for call_id, one in self.going.items()
        }
        known |= {call_id: {"ended": until} for call_id, until in self.ended.items()}
        known |= {
            call_id: {**known.get(call_id, {}), "owed": attrs.asdict(one.call), "told": one.told, "since": one.since}
            for call_id, one in self.owed.items()
        }
        done = (Span(min(start, self.read_to - 1), self.read_to),)
        return Checkpoint(stream=stream, done=done, open=known)

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, late: bool = True) -> Tail:
        """Read it back; raises `CheckpointError` for what is none, or has fields that this version does not know."""
        for key, entry in checkpoint.open.items():
            check_known(entry, _FIELDS, f"call {key!r} in the checkpoint")
        looks, misses = opened(checkpoint, "look_at", float), opened(checkpoint, "misses", int)
        told, since = opened(checkpoint, "told", bool), opened(checkpoint, "since", float)
        seen_at = opened(checkpoint, "seen", int)
        tail = cls(checkpoint.done[-1].end, ended=opened(checkpoint, "ended", int), late=late)
        for key, call in opened(checkpoint, "going", Call).items():
            tail.going[key] = Open(
                call=call, look_at=looks.get(key, 0.0), misses=misses.get(key, 0), seen=seen_at.get(key, tail.read_to)
            )
        for key, call in opened(checkpoint, "owed", Call).items():
            due = since.get(key, 0.0)
            tail.owed[key] = Owed(call=call, told=told.get(key, False), since=due, next_at=due)
        return tail
