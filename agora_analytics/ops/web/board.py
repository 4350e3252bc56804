"""The newest and the worst calls, as a follow reports them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import attrs

from agora_analytics.models import Call
from agora_analytics.ops.alerts.ranking import freeze_impact
from agora_analytics.streams.events import (
    CallChanged,
    CallEvent,
    CallFinished,
    CallLost,
    CallSessions,
    CallStarted,
    Gap,
)

_NEWEST: Final = 800
_WORST: Final = 200
"""Calls that a follow reported: the newest, and those with the greatest impact."""

_FOUND: Final = 200
"""Calls that a search found last: they may be neither new nor bad, but a viewer is looking at them."""

_SLACK: Final = 200
"""Calls beyond those that are kept, before the others are dropped: sorting for each one would be slow."""

CallState = Literal["open", "finished", "lost"]


@attrs.frozen(kw_only=True)
class CallEntry:
    """A call as JSON: what the service lists of it, its state, and when that was learned (UTC seconds).

    `impact` is the higher freeze rate times the peak of users, null where the service sent no rate. `sessions` is how
    many sessions were fetched with it. `reason` says why the end of a lost call will not be seen.
    """

    call: Call
    state: CallState
    impact: float | None
    updated: int
    sessions: int | None = None
    reason: str = ""


@attrs.frozen(kw_only=True)
class CallGap:
    """A span in which calls may have been missed, as JSON."""

    start: int
    end: int
    reason: str


def entry_of(event: CallEvent, now: int) -> CallEntry | None:
    """Return what an event says of its call; None for a gap."""
    if isinstance(event, Gap):
        return None
    # By the event first: a call may be over though the service says nothing of its end.
    over = isinstance(event, CallFinished | CallSessions) or event.call.is_over
    state: CallState = "finished" if over else "open"
    sessions = event.sessions if isinstance(event, CallFinished | CallSessions) else None
    lost = isinstance(event, CallLost)
    return CallEntry(
        call=event.call,
        state="lost" if lost else state,
        impact=freeze_impact(event.call),
        updated=now,
        sessions=None if sessions is None else len(sessions),
        reason="" if isinstance(event, CallStarted | CallChanged) else event.reason,
    )


def listed(call: Call, now: int) -> CallEntry:
    """Return the entry of a call that a search found."""
    return CallEntry(call=call, state="finished" if call.is_over else "open", impact=freeze_impact(call), updated=now)


class CallBoard:
    """Keeps the newest calls, the worst ones, and those that were found last: about a thousand."""

    def __init__(self) -> None:
        self._entries: dict[str, CallEntry] = {}
        self._found: deque[str] = deque(maxlen=_FOUND)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: CallEntry) -> None:
        """Add a call, or replace what was known of it."""
        self._entries[entry.call.call_id] = entry
        if len(self._entries) > _NEWEST + _WORST + _FOUND + _SLACK:
            found = [one for call_id in self._found if (one := self._entries.get(call_id)) is not None]
            # A call may be in several of the three: it is kept once.
            kept = [*self.sorted("newest")[:_NEWEST], *self.sorted("worst")[:_WORST], *found]
            self._entries = {one.call.call_id: one for one in kept}

    def add_found(self, entry: CallEntry) -> None:
        """Add a call that a search found, unless it is known: what a follow reported says more."""
        self._found.append(entry.call.call_id)
        if entry.call.call_id not in self._entries:
            self.add(entry)

    def get(self, call_id: str) -> CallEntry | None:
        """Return a call, None if it is not known."""
        return self._entries.get(call_id)

    def sorted(self, order: Literal["newest", "worst"]) -> list[CallEntry]:
        """Return all calls: the newest first, or those with the greatest impact."""
        key: Callable[[CallEntry], float] = _start if order == "newest" else _impact
        return sorted(self._entries.values(), key=key, reverse=True)


def _start(entry: CallEntry) -> float:
    return entry.call.created_ts or 0


def _impact(entry: CallEntry) -> float:
    return entry.impact or 0.0
