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
from agora_analytics.spans import Span
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

_DAY: Final = 86_400
_LOST: Final = 30 * _DAY
"""Seconds for which a call that was told as lost is known: nobody knows when a search finds it last."""

_FIELDS: Final = frozenset({"going", "look_at", "misses", "seen", "ended", "owed", "told", "since"})
RETRIABLE_REASONS: Final = frozenset({"quota", "outage"})
"""Why sessions did not come that may come later."""


@attrs.frozen(kw_only=True)
class OpenCall:
    """A call that goes on, as it was seen last; when to look at it again, and how often that found nothing.

    `seen` is when it was seen first.
    """

    call: Call
    next_lookup: float = 0.0
    misses: int = 0
    first_seen: int = 0

    @property
    def began(self) -> int:
        """When it began, as far as is known: 0 and null are no time."""
        return start_of(self.call) or self.first_seen


@attrs.frozen(kw_only=True)
class PendingSessions:
    """A finished call whose sessions are to come; whether its end was told, and what asking came to so far.

    `since` is when they could be asked for first, `next_at` when to ask again; `tries` how often that failed, `counted`
    how often while it worked for others, and `mark` how many others had worked by the last failure.
    """

    call: Call
    end_reported: bool = False
    available_at: float = 0.0
    next_at: float = 0.0
    tries: int = 0
    own_failures: int = 0
    successes_before: int | None = None


def is_over(call: Call) -> bool:
    """Whether a call has ended, by whichever of its fields the service sent."""
    return call.finished is True or (call.finished is None and call.ended_at is not None)


def start_of(call: Call) -> int | None:
    """Return when a call began; None where the service does not say."""
    return call.created_ts if call.started_at else None


def comparable(call: Call) -> Call:
    """Return a call without what differs at each look: until the end, `destroyed_ts` may be the last moment seen."""
    return call if is_over(call) or call.destroyed_ts is None else attrs.evolve(call, destroyed_ts=None)


@attrs.define
class CallTracker:
    """Calls that go on, that are owed, and until when those that are over may be found; up to where was read."""

    read_to: int
    open: dict[str, OpenCall] = attrs.field(factory=dict)
    recently_closed: dict[str, int] = attrs.field(factory=dict)
    pending: dict[str, PendingSessions] = attrs.field(factory=dict)
    late_sessions: bool = True
    """Whether sessions that could not be had in time are still waited for."""

    now: int = 0
    """When what is told was seen (UTC seconds)."""

    def diff(self, call: Call, oldest: int) -> Iterator[CallStarted | CallChanged | CallFinished]:
        """Yield what a call tells that was not known; one that goes on and began before `oldest` is lost from sight.

        A service that lists what was on in a span shows it again and again, long after it was told as lost.
        """
        if call.call_id in self.recently_closed:
            self.recently_closed[call.call_id] = max(self.recently_closed[call.call_id], self.now)
        if call.call_id in self.recently_closed or call.call_id in self.pending:
            return
        known = self.open.get(call.call_id)
        if known is None and not is_over(call) and (start_of(call) or oldest) < oldest:
            return
        if known is None:
            yield CallStarted(call=call)
        if is_over(call):
            yield CallFinished(call=call)
        elif known is not None and comparable(known.call) != comparable(call):
            yield CallChanged(call=call, before=known.call)

    def apply(self, event: CallEvent) -> None:
        """Know what an event told."""
        if isinstance(event, Gap):
            self.read_to = max(self.read_to, event.span.end)
            return
        key = event.call.call_id
        if isinstance(event, CallStarted):
            self.open[key] = OpenCall(call=event.call, first_seen=self.now)
        elif isinstance(event, CallChanged):
            self.open[key] = attrs.evolve(
                self.open.get(key) or OpenCall(call=event.call, first_seen=self.now), call=event.call
            )
        elif isinstance(event, CallSessions):
            self.pending.pop(key, None)
        else:
            self._close(event)

    def _close(self, event: CallFinished | CallLost) -> None:
        call = event.call
        self.open.pop(call.call_id, None)
        self.recently_closed[call.call_id] = self._findable_until(event)
        owed = self.pending.get(call.call_id)
        if owed is not None and self.late_sessions and event.reason in RETRIABLE_REASONS:
            self.pending[call.call_id] = attrs.evolve(owed, end_reported=True)
        else:
            self.pending.pop(call.call_id, None)

    def _findable_until(self, event: CallFinished | CallLost) -> int:
        """Return until when a search may find a call: until its end, which was no later than it was seen."""
        call = event.call
        if isinstance(event, CallLost):
            return self.now + _LOST
        end = call.destroyed_ts if call.ended_at and (call.destroyed_ts or 0) >= (start_of(call) or 0) else None
        return max(self.now if end is None else min(end, self.read_to + _DAY), self.read_to)

    def add_pending(self, call: Call, since: float) -> None:
        """Note that a call is over, and that its sessions are to come."""
        self.open.pop(call.call_id, None)
        self.pending[call.call_id] = PendingSessions(call=call, available_at=since, next_at=since)

    def opened_before(self, start: int) -> list[OpenCall]:
        """Return the calls that go on and began before a moment, oldest first."""
        found = [one for one in self.open.values() if one.began < start]
        return sorted(found, key=lambda one: (one.began, one.call.call_id))

    def advance(self, read_to: int, oldest: int) -> None:
        """Note up to where was read, and forget what no search from `oldest` on can find again."""
        self.read_to = max(self.read_to, read_to)
        self.recently_closed = {call_id: until for call_id, until in self.recently_closed.items() if until >= oldest}

    def preview(self, event: CallEvent | None) -> CallTracker:
        """Return what will be known after an event."""
        tracker = CallTracker(
            self.read_to, dict(self.open), dict(self.recently_closed), dict(self.pending), self.late_sessions, self.now
        )
        if event is not None:
            tracker.apply(event)
        return tracker

    def to_checkpoint(self, stream: str, start: int) -> Checkpoint:
        """Return it as a checkpoint."""
        known: dict[str, Mapping[str, Any]] = {
            call_id: {
                "going": attrs.asdict(one.call),
                "misses": one.misses,
                "look_at": one.next_lookup,
                "seen": one.first_seen,
            }
            for call_id, one in self.open.items()
        }
        known |= {call_id: {"ended": until} for call_id, until in self.recently_closed.items()}
        known |= {
            call_id: {
                **known.get(call_id, {}),
                "owed": attrs.asdict(one.call),
                "told": one.end_reported,
                "since": one.available_at,
            }
            for call_id, one in self.pending.items()
        }
        done = (Span(min(start, self.read_to - 1), self.read_to),)
        return Checkpoint(stream=stream, done=done, open=known)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, late_sessions: bool = True) -> CallTracker:
        """Read it back; raises `CheckpointError` for what is none, or has fields that this version does not know."""
        for key, entry in checkpoint.open.items():
            check_known(entry, _FIELDS, f"call {key!r} in the checkpoint")
        looks, misses = opened(checkpoint, "look_at", float), opened(checkpoint, "misses", int)
        told, since = opened(checkpoint, "told", bool), opened(checkpoint, "since", float)
        seen_at = opened(checkpoint, "seen", int)
        tracker = cls(
            checkpoint.done[-1].end, recently_closed=opened(checkpoint, "ended", int), late_sessions=late_sessions
        )
        for key, call in opened(checkpoint, "going", Call).items():
            tracker.open[key] = OpenCall(
                call=call,
                next_lookup=looks.get(key, 0.0),
                misses=misses.get(key, 0),
                first_seen=seen_at.get(key, tracker.read_to),
            )
        for key, call in opened(checkpoint, "owed", Call).items():
            due = since.get(key, 0.0)
            tracker.pending[key] = PendingSessions(
                call=call, end_reported=told.get(key, False), available_at=due, next_at=due
            )
        return tracker
