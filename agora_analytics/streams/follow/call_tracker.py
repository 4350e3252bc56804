"""Tracks calls while their list is followed: a state machine without I/O that takes calls and yields events.

A list only shows how calls are now. What happened follows from what was known before: each open call as it was last
seen, each finished call whose sessions are still to be fetched, and the ids of recently closed calls, for
deduplication while a search may still find them.
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

_REMEMBER_LOST: Final = 30 * DAY
"""Seconds for which a lost call is remembered: a search may find it again at any time."""

# Stored checkpoints have these names.
_FIELDS: Final = frozenset(
    {"open", "next_lookup", "misses", "first_seen", "closed", "pending", "end_reported", "queryable_at"}
)
_RETRIABLE_REASONS: Final = frozenset({"quota", "outage"})
"""Reasons of missing sessions that may be fetched later."""


@attrs.frozen(kw_only=True)
class OpenCall:
    """An open call as it was last seen, when to look it up, and the number of lookups in a row that missed it.

    `first_seen` is in UTC seconds.
    """

    call: Call
    next_lookup: float = 0.0
    misses: int = 0
    first_seen: int = 0

    @property
    def began(self) -> int:
        """When it began, or was first seen if the service does not say."""
        return start_of(self.call) or self.first_seen


@attrs.frozen(kw_only=True)
class PendingSessions:
    """A finished call whose sessions are to be fetched.

    Attributes:
        end_reported: whether its `CallFinished` was delivered.
        queryable_at: when all sessions are queryable.
        next_at: when to try again.
        tries: failed attempts.
        own_failures: failed attempts while other calls were answered.
        successes_before: answers for other calls up to the last failure.

    """

    call: Call
    end_reported: bool = False
    queryable_at: float = 0.0
    next_at: float = 0.0
    tries: int = 0
    own_failures: int = 0
    successes_before: int | None = None


def start_of(call: Call) -> int | None:
    """Return when a call began; None if the service does not say."""
    return call.created_ts if call.started_at else None


def comparable(call: Call) -> Call:
    """Return a call without what differs each time: `destroyed_ts` of an open call may be when it was last seen."""
    return call if call.is_over or call.destroyed_ts is None else attrs.evolve(call, destroyed_ts=None)


@attrs.define
class CallTracker:
    """The state of a `follow`: open calls, recently closed ones, pending sessions, and how far lists were read."""

    read_to: int
    open: dict[str, OpenCall] = attrs.field(factory=dict)
    recently_closed: dict[str, int] = attrs.field(factory=dict)
    pending: dict[str, PendingSessions] = attrs.field(factory=dict)
    late_sessions: bool = True
    """Whether sessions that were not fetched in time are fetched later."""

    now: int = 0
    """UTC seconds of the list that is being read."""

    def diff(self, call: Call, oldest: int) -> Iterator[CallStarted | CallChanged | CallFinished]:
        """Yield what is new about a call.

        An unknown call that is open and began before `oldest` yields nothing: a service that selects calls by overlap
        shows it again and again, long after it was reported as lost.
        """
        if call.call_id in self.recently_closed:
            # It was listed just now, so searches still find it, whatever its end says.
            self.recently_closed[call.call_id] = max(self.recently_closed[call.call_id], self.now)
        if call.call_id in self.recently_closed or call.call_id in self.pending:
            return
        known = self.open.get(call.call_id)
        if known is None and not call.is_over and (start_of(call) or oldest) < oldest:
            return
        if known is None:
            yield CallStarted(call=call)
        if call.is_over:
            yield CallFinished(call=call)
        elif known is not None and comparable(known.call) != comparable(call):
            yield CallChanged(call=call, before=known.call)

    def apply(self, event: CallEvent) -> None:
        """Apply an event that was delivered."""
        if isinstance(event, Gap):
            self.read_to = max(self.read_to, event.span.end)
            return
        key = event.call.call_id
        if isinstance(event, CallStarted):
            self.open[key] = OpenCall(call=event.call, first_seen=self.now)
        elif isinstance(event, CallChanged):
            self.open[key] = attrs.evolve(self.open[key], call=event.call)
        elif isinstance(event, CallSessions):
            self.pending.pop(key, None)
        else:
            self._close(event)

    def _close(self, event: CallFinished | CallLost) -> None:
        call_id = event.call.call_id
        self.open.pop(call_id, None)
        self.recently_closed[call_id] = self._findable_until(event)
        pending = self.pending.get(call_id)
        if pending is not None and self.late_sessions and event.reason in _RETRIABLE_REASONS:
            self.pending[call_id] = attrs.evolve(pending, end_reported=True)
        else:
            self.pending.pop(call_id, None)

    def _findable_until(self, event: CallFinished | CallLost) -> int:
        """Return until when a search may find a call: its end, or now if that is unknown; a lost call for 30 days."""
        call = event.call
        if isinstance(event, CallLost):
            return self.now + _REMEMBER_LOST
        end = call.destroyed_ts if call.ended_at and (call.destroyed_ts or 0) >= (start_of(call) or 0) else None
        # Bounded: a wrong end in the far future would keep the id for ever.
        return max(self.now if end is None else min(end, self.read_to + DAY), self.read_to)

    def add_pending(self, call: Call, queryable_at: float) -> None:
        """Record that a call is over, and that its sessions are to be fetched."""
        self.open.pop(call.call_id, None)
        self.pending[call.call_id] = PendingSessions(call=call, queryable_at=queryable_at, next_at=queryable_at)

    def unreported(self) -> int:
        """Return the number of finished calls whose end waits for their sessions."""
        return sum(not pending.end_reported for pending in self.pending.values())

    def opened_before(self, start: int) -> list[OpenCall]:
        """Return the open calls that began before a time, oldest first."""
        older = [known for known in self.open.values() if known.began < start]
        return sorted(older, key=lambda known: (known.began, known.call.call_id))

    def advance(self, read_to: int, oldest: int) -> None:
        """Record how far lists were read, and forget closed calls that no search from `oldest` on can find."""
        self.read_to = max(self.read_to, read_to)
        self.recently_closed = {call_id: until for call_id, until in self.recently_closed.items() if until >= oldest}

    def preview(self, event: CallEvent | None) -> CallTracker:
        """Return a copy in which an event is applied."""
        copy = CallTracker(
            self.read_to, dict(self.open), dict(self.recently_closed), dict(self.pending), self.late_sessions, self.now
        )
        if event is not None:
            copy.apply(event)
        return copy

    def to_checkpoint(self, stream: str, start: int) -> Checkpoint:
        """Return the state as a checkpoint."""
        entries: dict[str, Mapping[str, Any]] = {
            call_id: {
                "open": attrs.asdict(known.call),
                "misses": known.misses,
                "next_lookup": known.next_lookup,
                "first_seen": known.first_seen,
            }
            for call_id, known in self.open.items()
        }
        entries |= {call_id: {"closed": until} for call_id, until in self.recently_closed.items()}
        entries |= {
            call_id: {
                # A finished call may be remembered and owe its sessions: one entry has both.
                **entries.get(call_id, {}),
                "pending": attrs.asdict(pending.call),
                "end_reported": pending.end_reported,
                "queryable_at": pending.queryable_at,
            }
            for call_id, pending in self.pending.items()
        }
        # Of one second at least, as a span cannot be empty: a follow from now has read nothing yet.
        done = (Span(min(start, self.read_to - 1), self.read_to),)
        return Checkpoint(stream=stream, done=done, open=entries)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, late_sessions: bool = True) -> CallTracker:
        """Read the state back; raises `CheckpointError` for unknown fields and for what is no such state."""
        for key, entry in checkpoint.open.items():
            check_known(entry, _FIELDS, f"call {key!r} in the checkpoint")
        lookups, misses = opened(checkpoint, "next_lookup", float), opened(checkpoint, "misses", int)
        reported, queryable_from = opened(checkpoint, "end_reported", bool), opened(checkpoint, "queryable_at", float)
        first_seen = opened(checkpoint, "first_seen", int)
        closed = opened(checkpoint, "closed", int)
        tracker = cls(checkpoint.done[-1].end, recently_closed=closed, late_sessions=late_sessions)
        for key, call in opened(checkpoint, "open", Call).items():
            tracker.open[key] = OpenCall(
                call=call,
                next_lookup=lookups.get(key, 0.0),
                misses=misses.get(key, 0),
                first_seen=first_seen.get(key, tracker.read_to),
            )
        for key, call in opened(checkpoint, "pending", Call).items():
            queryable_at = queryable_from.get(key, 0.0)
            tracker.pending[key] = PendingSessions(
                call=call, end_reported=reported.get(key, False), queryable_at=queryable_at, next_at=queryable_at
            )
        return tracker
