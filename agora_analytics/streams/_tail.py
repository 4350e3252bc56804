"""What is known of calls while a list of them is followed: a pure machine of calls in and facts out.

A list only shows how things are. What happened follows from what was known before, so each unfinished call is kept as
it was last seen, and of finished ones that a search may still find, that they are over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from agora_analytics.models import Call, Session
from agora_analytics.spans import Span
from agora_analytics.streams._checkpoints import Checkpoint
from agora_analytics.streams._windows import Gap


@attrs.frozen(kw_only=True)
class CallStarted:
    """A call that was not known before; it may be over already, which is told next."""

    call: Call


@attrs.frozen(kw_only=True)
class CallChanged:
    """A call that goes on, and looks different from `before`."""

    call: Call
    before: Call


@attrs.frozen(kw_only=True)
class CallFinished:
    """A call that is over; `sessions` where they were asked for."""

    call: Call
    sessions: tuple[Session, ...] | None = None


CallEvent = CallStarted | CallChanged | CallFinished | Gap
"""What following calls yields."""


def over(call: Call) -> bool:
    """Whether a call has ended, by whichever of its fields the service sent."""
    return call.finished is True or (call.finished is None and call.ended_at is not None)


@attrs.define
class Tail:
    """Calls that go on, as they were seen last; until when those that are over may be found; up to where was read."""

    read_to: int
    going: dict[str, Call] = attrs.field(factory=dict)
    ended: dict[str, int] = attrs.field(factory=dict)

    def facts(self, call: Call) -> Iterator[CallStarted | CallChanged | CallFinished]:
        """Yield what a call tells that was not known."""
        if call.call_id in self.ended:
            return
        known = self.going.get(call.call_id)
        if known is None:
            yield CallStarted(call=call)
        if over(call):
            yield CallFinished(call=call)
        elif known is not None and known != call:
            yield CallChanged(call=call, before=known)

    def note(self, event: CallEvent) -> None:
        """Know what an event told."""
        if isinstance(event, Gap):
            self.read_to = event.span.end
        elif isinstance(event, CallFinished):
            self.going.pop(event.call.call_id, None)
            self.ended[event.call.call_id] = max(event.call.destroyed_ts or 0, event.call.created_ts or 0)
        else:
            self.going[event.call.call_id] = event.call

    def forget(self, call: Call, now: int) -> None:
        """Give a call up without knowing its end."""
        del self.going[call.call_id]
        self.ended[call.call_id] = now

    def older(self, start: int) -> list[Call]:
        """Return the calls that go on and began before a moment, oldest first."""
        found = [call for call in self.going.values() if call.created_ts is not None and call.created_ts < start]
        return sorted(found, key=lambda call: call.created_ts or 0)

    def advance(self, read_to: int, oldest: int) -> None:
        """Note up to where was read, and forget what no search from `oldest` on can find again."""
        self.read_to = read_to
        self.ended = {call_id: until for call_id, until in self.ended.items() if until >= oldest}

    def after(self, event: CallEvent | None) -> Tail:
        """Return what will be known after an event."""
        tail = Tail(self.read_to, dict(self.going), dict(self.ended))
        if event is not None:
            tail.note(event)
        return tail

    def checkpoint(self, stream: str, start: int) -> Checkpoint:
        """Return it as a checkpoint."""
        known: dict[str, Mapping[str, Any]] = {
            call_id: {"going": attrs.asdict(call)} for call_id, call in self.going.items()
        }
        known |= {call_id: {"ended": until} for call_id, until in self.ended.items()}
        done = (Span(min(start, self.read_to - 1), self.read_to),)
        return Checkpoint(stream=stream, done=done, open=known)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Tail:
        """Read it back."""
        going = {key: Call(**one["going"]) for key, one in checkpoint.open.items() if "going" in one}
        ended = {key: one["ended"] for key, one in checkpoint.open.items() if "ended" in one}
        return cls(checkpoint.done[-1].end, going, ended)
