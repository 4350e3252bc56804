"""Which slices of a selection are pending: what is missing of each source, split into spans of one request."""

from __future__ import annotations

from typing import Final

from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.export.fetch.fetcher import RETENTION_MARGIN
from agora_analytics.export.fetch.sources import CallSource, Slice, Source
from agora_analytics.export.selection import Selection
from agora_analytics.export.state import marks
from agora_analytics.export.state.calls import NEARBY_SECONDS
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.slices import PendingSlice, SpanStatus
from agora_analytics.spans import DAY, Span, without

_SPLIT_AT_ONCE: Final = 64
"""Requests into which a span is split at once."""

_RUN_START: Final = 60
"""Seconds from the start of a run whose data gets no request of its own."""


class SlicePlanner:
    """Adds pending slices to the state. Its methods run on the state's thread, in one transaction each."""

    def __init__(self, dispatcher: Dispatcher, selection: Selection) -> None:
        self._dispatcher = dispatcher
        self._selection = selection
        self._newest_at_start: dict[Source, int] = {}

    def plan(self, state: ExportState, app: str, source: Source) -> None:
        """Add all that is missing of a source, even what has expired by the clock: the service decides that."""
        for missing in self._missing(state, app, source):
            self._add(state, app, source, missing)

    def first_due(self, state: ExportState, app: str, source: Source) -> PendingSlice | None:
        """Return a slice that is due by a clock that may be wrong, and add it; None if there is none."""
        self._newest_at_start.setdefault(source, self._newest(source))
        if not self._fitting(state, app, source):
            # By that clock all of it may lie in the future, or have expired.
            wanted = source.expand(self._selection.span)
            missing = self._missing(state, app, source) or self._not_covered(state, app, source, wanted)
            if missing:
                start = source.earliest(max(missing[0].start, self._oldest(source)))
                span = Span(start, missing[0].end) if start < missing[0].end else missing[0]
                state.add_slices(app, str(source), self.split_beginning(source, span)[:1])
        return next(iter(self._fitting(state, app, source)), None)

    def add_open_calls(self, state: ExportState, app: str, source: CallSource) -> None:
        """Add the spans in which calls began that were open when last seen."""
        spans: list[Span] = []
        for _, start in marks.open_calls(state, app, source):
            # Calls that began close together cost one request instead of one each.
            if spans and start < spans[-1].end + NEARBY_SECONDS:
                spans[-1] = Span(spans[-1].start, start + 1)
            else:
                spans.append(Span(start, start + 1))
        added = {one.slice for one in state.slices() if one.again and (one.app, one.source) == (app, str(source))}
        new = [one for span in spans for one in self._split(source, span) if one not in added]
        state.add_slices(app, str(source), new, again=True)

    def split_beginning(self, source: Source, span: Span) -> tuple[Slice, ...]:
        """Split the beginning of a span, which may cover years, into slices of one request."""
        end = min(span.end, span.start + _SPLIT_AT_ONCE * (self._longest(source) + DAY))
        return self._split(source, Span(span.start, end))

    def _split(self, source: Source, span: Span) -> tuple[Slice, ...]:
        return source.split(span, self._longest(source))

    def _longest(self, source: Source) -> int:
        return self._dispatcher.plan.of_endpoint(source.endpoint).longest_query

    def _oldest(self, source: Source) -> int:
        """Return the oldest second that the plan keeps by the clock, and will when the request arrives."""
        limits = self._dispatcher.plan.of_endpoint(source.endpoint)
        return limits.oldest(self._dispatcher.time.utc_second()) + RETENTION_MARGIN

    def _newest(self, source: Source) -> int:
        """Return the latest end that can be requested by the clock; at the start of a run, as of its start."""
        newest = self._dispatcher.plan.of_endpoint(source.endpoint).newest(self._dispatcher.time.utc_second())
        # A run that began a moment ago would otherwise end each source with a request for the seconds since.
        at_start = self._newest_at_start.get(source, newest)
        return at_start if at_start <= newest < at_start + _RUN_START else newest

    def _fitting(self, state: ExportState, app: str, source: Source) -> list[PendingSlice]:
        """Return the pending slices that fit into one request."""
        longest = self._longest(source)
        return [one for one in self._pending(state, app, source) if one.slice.span.duration <= longest]

    def _pending(self, state: ExportState, app: str, source: Source) -> list[PendingSlice]:
        return [one for one in state.slices() if (one.app, one.source) == (app, str(source)) and not one.again]

    def _missing(self, state: ExportState, app: str, source: Source) -> tuple[Span, ...]:
        """Return what of a source is queryable by now, and neither read nor pending."""
        wanted = source.expand(self._selection.span)
        start, end = wanted.start, min(wanted.end, self._newest(source))
        self._drop_outdated(state, app, source)
        return self._not_covered(state, app, source, Span(start, end)) if start < end else ()

    def _not_covered(self, state: ExportState, app: str, source: Source, span: Span) -> tuple[Span, ...]:
        """Return what of a span is neither read, nor expired, nor pending."""
        pending = (Span(one.slice.span.start, one.slice.owned_until) for one in self._pending(state, app, source))
        # Not those that are unsettled or truncated: these are read again.
        done = (*state.spans(app, str(source), SpanStatus.READ), *state.spans(app, str(source), SpanStatus.EXPIRED))
        return without(span, *done, *pending)

    def _drop_outdated(self, state: ExportState, app: str, source: Source) -> None:
        """Remove pending slices that another plan or clock allowed: `_missing` finds them again."""
        limits = self._dispatcher.plan.of_endpoint(source.endpoint)
        newest = limits.newest(self._dispatcher.time.utc_second())
        for one in self._pending(state, app, source):
            if one.slice.span.duration > limits.longest_query or one.slice.span.end > newest:
                state.delete_slice(one)

    def _add(self, state: ExportState, app: str, source: Source, missing: Span) -> None:
        """Add a missing span. What has expired by the clock is one slice, split only if the service still has it."""
        oldest = self._oldest(source)
        begin = missing.start if oldest <= missing.start else min(source.earliest(oldest), missing.end)
        if missing.start < begin:
            state.add_slices(app, str(source), [Slice(Span(missing.start, begin), begin)])
        if begin < missing.end:
            state.add_slices(app, str(source), self._split(source, Span(begin, missing.end)))
