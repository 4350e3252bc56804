"""The JSON of the events of streams, as `watch`, `follow` and `fleet worker` print it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

import agora_analytics as agora
from agora_analytics.spans import WINDOW

if TYPE_CHECKING:
    from agora_analytics.models import Call, Point, Session
    from agora_analytics.streams import CallEvent, Event


@attrs.frozen(kw_only=True)
class WatchRow:
    """JSON of an event: a `window`, a `revision` of the window at `ts`, or a `gap` from `ts` to `end`.

    `missing` maps each series that a window lacks to the reason. `reason` is why there is a gap.
    """

    event: str
    ts: int
    end: int
    values: dict[str, tuple[Point, ...]] = attrs.field(factory=dict)
    missing: dict[str, str] = attrs.field(factory=dict)
    final: bool = False
    reason: str = ""


@attrs.frozen(kw_only=True)
class FollowRow:
    """JSON of an event: `started`, `changed`, `finished`, `sessions` or `lost` with its call, or a `gap`.

    A gap is from `start` to `end`. `reason` is why a call or a span is lost, or why there are no sessions.
    """

    event: str
    call: Call | None = None
    sessions: Sequence[Session] | None = None
    start: int | None = None
    end: int | None = None
    reason: str = ""


def watch_row(event: Event) -> WatchRow:
    """Return the JSON of an event of a watch."""
    if isinstance(event, agora.Gap):
        return WatchRow(event="gap", ts=event.span.start, end=event.span.end, reason=event.reason)
    if isinstance(event, agora.Revision):
        values = {str(event.series): event.after}
        return WatchRow(event="revision", ts=event.ts, end=event.ts + WINDOW, values=values, final=event.final)
    return WatchRow(
        event="window",
        ts=event.ts,
        end=event.span.end,
        values={str(series): points for series, points in event.values.items()},
        missing={str(series): reason for series, reason in event.missing.items()},
        final=event.final,
    )


def follow_row(event: CallEvent) -> FollowRow:
    """Return the JSON of an event of a follow."""
    match event:
        case agora.Gap():
            return FollowRow(event="gap", start=event.span.start, end=event.span.end, reason=event.reason)
        case agora.CallStarted():
            return FollowRow(event="started", call=event.call)
        case agora.CallChanged():
            return FollowRow(event="changed", call=event.call)
        case agora.CallLost():
            return FollowRow(event="lost", call=event.call, reason=event.reason)
        case agora.CallFinished() | agora.CallSessions():
            kind = "finished" if isinstance(event, agora.CallFinished) else "sessions"
            return FollowRow(event=kind, call=event.call, sessions=event.sessions, reason=event.reason)


def event_row(event: Event | CallEvent) -> WatchRow | FollowRow:
    """Return the JSON of an event of either; a gap is as in a watch."""
    if isinstance(event, agora.Window | agora.Revision | agora.Gap):
        return watch_row(event)
    return follow_row(event)
