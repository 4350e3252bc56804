"""Changes of the state by rules of fetching: expired spans, open calls, invalid times, scores."""

from __future__ import annotations

import attrs

from agora_analytics.export.fetch.sources import CallSource, Slice, Source
from agora_analytics.export.selection import worst
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.slices import PendingSlice, SpanStatus
from agora_analytics.export.state.staging import serialized
from agora_analytics.export.write.column_batch import ColumnBatch
from agora_analytics.models import Call
from agora_analytics.spans import Span


def drop_expired(state: ExportState, source: Source, one: PendingSlice, begin: int) -> PendingSlice | None:
    """Mark the part of a slice before `begin` as expired, and return the rest; None if nothing is left."""
    span, keep = one.slice.span, one.slice.owned_until
    gone = Span(span.start, min(begin, keep))
    if not one.again:
        _mark_expired(state, one, gone)
    elif isinstance(source, CallSource):
        _skip_never_ended(state, source, one.app, gone)
    if keep <= begin:
        state.delete_slice(one)
        return None
    return attrs.evolve(one, slice=Slice(Span(begin, span.end), keep))


def _mark_expired(state: ExportState, one: PendingSlice, gone: Span) -> None:
    """Mark a span as expired. Provisional rows in it become final."""
    # Read first: marking the whole span as expired replaces these spans.
    kept = [
        Span(max(span.start, gone.start), min(span.end, gone.end))
        for span in state.spans(one.app, one.source, SpanStatus.UNSETTLED)
        if span.start < gone.end and gone.start < span.end
    ]
    state.mark_span(one.app, one.source, gone, SpanStatus.EXPIRED)
    for span in kept:
        state.mark_span(one.app, one.source, span, SpanStatus.READ)
    name = f"{one.app} {one.source}"
    for app, day, rows in state.take_provisional(name) if kept else ():
        final = rows.filter("ts", gone.__contains__)
        state.stage(app, day, serialized(final.with_constant("provisional", value=False)))
        others = rows.filter("ts", lambda ts: ts not in gone)
        state.stage(app, day, serialized(others), source=name, provisional=True)


def _skip_never_ended(state: ExportState, source: CallSource, app: str, gone: Span) -> None:
    """Skip the calls that started in an expired span and were never seen to end."""
    for number, first in open_calls(state, app, source):
        if first in gone:
            state.skip_call(number, "never seen to end")
            # Its rows become final: the service will never show newer ones.
            for _, day, rows in state.take_provisional(f"call {number}"):
                state.stage(app, day, serialized(rows))


def count_invalid_times(state: ExportState, app: str, batch: ColumnBatch) -> None:
    """Count times outside of the calendar, which no file could hold."""
    if batch.invalid_times:
        state.add_misfits(app, batch.dataset.name, batch.invalid_times, "a time that is no date, null here")


def open_calls(state: ExportState, app: str, source: CallSource) -> list[tuple[int, int]]:
    """Return id and start of a source's open calls, oldest first."""
    return [
        (number, first)
        for number, call_app, cname, first in state.open_calls()
        if call_app == app and source.cname in {None, cname}
    ]


def part_before(one: Slice, moment: int) -> Span | None:
    """Return the part of a slice before a moment; None if there is none."""
    end = min(one.owned_until, moment)
    return Span(one.span.start, end) if one.span.start < end else None


def score(call: Call) -> float:
    """Return how much a call suffered: freeze rate times users times seconds."""
    length = call.span.duration - 1 if call.span else 0
    return worst(call) * (call.call_pcu or 0) * length
