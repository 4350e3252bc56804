"""How far a resource has read one App ID: a dictionary in dlt's resource state, changed in place.

dlt saves the state with the rows that were yielded before, or neither of them. So a row is noted here only after it was
yielded: a run that dies repeats requests, and the merge by primary key replaces their rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from typing import Any, Final

from agora_analytics.models import Call
from agora_analytics.spans import HOUR, Span, merged, without

_MAX_MISSING: Final = 1_000
"""Losses that are kept for the report: the state is stored with every load."""

_NEARBY: Final = 600
"""Seconds between the starts of two open calls that are looked up in one list."""

_LONGEST_SLICE: Final = 6 * HOUR
"""Seconds of calls that are listed at once: a run that ends keeps what was listed, and memory holds one list."""

_FEW_REQUESTS, _MANY_REQUESTS = 4, 16
"""Requests for a list after which the next one is of twice, or half, as many seconds."""


class LoadProgress:
    """What was read, and what is to be read again.

    The state has `done` (spans that are listed and final), `pending` (calls that are open, or whose details are still
    to come: start and end by id, the end 0 while open), `seen` (start by id of loaded calls that the next run will
    list again), `missing` (what is lost, and why), `cut` (why the last run ended early) and `ran_at`.
    """

    def __init__(self, states: MutableMapping[str, Any], key: str, now: int) -> None:
        state: MutableMapping[str, Any] = states.setdefault(key, {})
        self._state = state
        self.pending: dict[str, list[int]] = state.setdefault("pending", {})
        self._seen: dict[str, int] = state.setdefault("seen", {})
        self._missing: list[list[Any]] = state.setdefault("missing", [])
        state["ran_at"], state["cut"] = now, None

    def unread(self, span: Span) -> tuple[Span, ...]:
        """Return what of a span is not final yet, oldest first."""
        return without(span, *self._done())

    def mark_done(self, span: Span, final_before: int) -> None:
        """Note that a span was listed; what lies from `final_before` on will be listed again."""
        if span.start < final_before:
            final = Span(span.start, min(span.end, final_before))
            # As plain numbers: the marked ones of a span by the host's clock are not JSON.
            self._state["done"] = [[int(one.start), int(one.end)] for one in merged((*self._done(), final))]
        end = max((one.end for one in self._done()), default=0)
        # Earlier ones are not listed again, and would make the state grow with every run.
        for call_id in [call_id for call_id, start in self._seen.items() if start < end]:
            del self._seen[call_id]

    @property
    def slice_length(self) -> int:
        """Seconds of calls to list at once."""
        return int(self._state.get("slice", _LONGEST_SLICE))

    def resize_slice(self, span: Span, requests: int, *, is_whole: bool) -> None:
        """Note how many requests the list of a span took, or took before it ended early."""
        length = self.slice_length
        if requests > _MANY_REQUESTS or (requests and not is_whole):
            length = max(1, min(length, span.duration) // 2)
        elif is_whole and requests <= _FEW_REQUESTS and span.duration >= length:
            length = min(_LONGEST_SLICE, length * 2)
        self._state["slice"] = length

    def add(self, call: Call) -> None:
        """Note a call that is to be loaded, or loaded again, unless that is done."""
        if call.call_id not in self._seen:
            self.pending[call.call_id] = list(call.span or (call.created_ts or 0, 0))

    def is_seen(self, call: Call) -> bool:
        """Whether a call was loaded for good, as far as it may be listed again."""
        return call.call_id in self._seen

    def mark_loaded(self, call_id: str, start: int) -> None:
        """Note that the rows of a call are loaded for good."""
        self.pending.pop(call_id, None)
        self._seen[call_id] = start

    def ended_calls(self) -> list[Call]:
        """Return the pending calls that are over, oldest first: as far as requests for their details need them."""
        ended = sorted((start, end, call_id) for call_id, (start, end) in self.pending.items() if end)
        return [
            Call(call_id=call_id, created_ts=start, destroyed_ts=end - 1, finished=True)
            for start, end, call_id in ended
        ]

    def open_spans(self, but: Collection[str] = ()) -> list[Span]:
        """Return the spans in which pending calls began, except some, that were open when last seen; oldest first."""
        spans: list[Span] = []
        pending = (one for call_id, one in self.pending.items() if call_id not in but)
        for start in sorted(start for start, end in pending if start and not end):
            # Calls that began close together cost one request instead of one each.
            near = spans and start < spans[-1].end + _NEARBY
            begin = spans.pop().start if near else start
            spans.append(Span(begin, start + 1))
        return spans

    def open_in(self, span: Span) -> set[str]:
        """Return the ids of pending open calls that began in a span."""
        return {call_id for call_id, (start, end) in self.pending.items() if not end and start in span}

    def lose(self, reason: str, spans: Iterable[Span] = (), call_id: str | None = None) -> None:
        """Note what will never be loaded."""
        lost = [(int(span.start), int(span.end)) for span in spans]
        for start, end in lost or ([(0, 0)] if call_id else ()):
            self._lose(start, end, reason, call_id)

    def _lose(self, start: int, end: int, reason: str, call_id: str | None) -> None:
        last = self._missing[-1] if self._missing else [0, 0, "", None]
        # What has expired over the years comes slice by slice, and is one loss.
        if start and last[1:] == [start, reason, call_id]:
            last[1] = end
        elif [start, end, reason, call_id] not in self._missing:
            self._missing.append([start, end, reason, call_id])
            del self._missing[:-_MAX_MISSING]

    def lose_rows(self, rows: Mapping[str | None, int], reason: str) -> None:
        """Note rows that cannot be loaded, by the id of their call."""
        for call_id, count in rows.items():
            self._lose(0, 0, f"{count} {'row' if count == 1 else 'rows'} {reason}", call_id)

    def cut(self, reason: str) -> None:
        """Note why the run ends before everything was requested."""
        self._state["cut"] = reason

    def _done(self) -> tuple[Span, ...]:
        return tuple(Span(*one) for one in self._state.get("done", ()))
