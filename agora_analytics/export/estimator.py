"""Estimates an export from a handful of requests: pages of call lists for their totals, a few calls for their size.

```text
calls    = totals of up to 6 slices of each list, scaled by time, times the share of up to 6 pages that filters pass
sessions = of up to 3 sampled calls, per user;        scaled by the users of all sampled calls
points   = of the same calls, per user and second;    scaled by the users times the seconds of all sampled calls
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from math import ceil
from typing import Final

import attrs

from agora_analytics._core import validation
from agora_analytics._core.decoding import json
from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.errors import AgoraError
from agora_analytics.export import costs
from agora_analytics.export.estimate import DatasetEstimate, ExportEstimate
from agora_analytics.export.estimate_lists import ListSample, ListSampler, calls_range
from agora_analytics.export.fetch.fetcher import RETENTION_MARGIN, RetentionExpired, RetryingFetcher
from agora_analytics.export.fetch.skip_reasons import APP, may_be_own, reason_of
from agora_analytics.export.fetch.sources import CallSource, EndpointSet, Source, sources
from agora_analytics.export.report import Skipped
from agora_analytics.export.schema import DATASETS
from agora_analytics.export.selection import Selection
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import ColumnBatch
from agora_analytics.models import Call, Session, SessionMetrics, SessionPage
from agora_analytics.plans import CALL_LISTS, CALL_SESSIONS, Endpoint, Limits
from agora_analytics.quota.priority import Priority
from agora_analytics.spans import Span

_SAMPLE_ID: Final = "x" * 32
"""As long as an App ID, or the id of a call."""

_SAMPLED_CALLS: Final = 3
"""Calls whose size is measured."""


@attrs.frozen(kw_only=True)
class CallSizeEstimate:
    """The mean size of a call: measured on a few, scaled by the users and seconds of many."""

    sessions: float = 0.0
    points: float = 0.0
    bytes_of_call: float = 0.0
    bytes_of_session: float = 0.0
    bytes_of_point: float = 0.0


class Estimator:
    """Makes the estimate of one export."""

    def __init__(
        self, dispatcher: Dispatcher, selection: Selection, *, order_worst: bool, max_requests: int | None
    ) -> None:
        self._dispatcher = dispatcher
        self._selection = selection
        self._worst = order_worst
        self._max_requests = max_requests
        # `max_requests` is the budget of the export, and not of its estimate.
        self._fetcher = RetryingFetcher(None)

    async def estimate(self, endpoints: Mapping[str, EndpointSet]) -> ExportEstimate:
        """Sample the lists and a few calls, and extrapolate."""
        requests: dict[str, int] = {}
        expired: list[Skipped] = []
        for app in endpoints:
            for source in sources(self._selection):
                if not isinstance(source, CallSource):
                    self._add(requests, source.endpoint, len(self._slices(app, source, expired)))
        samples = await self._sample_lists(endpoints, expired) if self._selection.of_calls else {}
        slices = [wanted for sample in samples.values() for wanted in sample.wanted]
        calls = sum(count for _, count in slices)
        size = await self._size(endpoints, samples)
        per_call = self._requests_per_call(size)
        self._add(requests, CALL_LISTS, costs.list_pages(count for one in samples.values() for _, count in one.slices))
        self._add(requests, CALL_SESSIONS, ceil(calls * per_call))
        if per_call and calls:
            expired += await self._will_expire(slices, per_call)
        return ExportEstimate(
            calls=round(calls),
            calls_range=calls_range(list(samples.values())),
            counted=all(sample.counted for sample in samples.values()),
            requests={name: self._within_budget(count) for name, count in requests.items() if count},
            spent=self._fetcher.requests_made,
            estimates=self._estimates(calls, size),
            done_at=await self._done_at(requests),
            expired=tuple(expired),
        )

    def _add(self, requests: dict[str, int], endpoint: Endpoint, count: int) -> None:
        counter = self._dispatcher.plan.counter(endpoint)
        requests[counter] = requests.get(counter, 0) + count

    def _within_budget(self, count: int) -> int:
        return count if self._max_requests is None else min(count, self._max_requests)

    def _slices(self, app: str, source: Source, expired: list[Skipped]) -> Sequence[Span]:
        """Return the spans that will be requested of a source; what has expired is added to `expired`."""
        limits, now = self._limits(source), self._dispatcher.time.utc_second()
        start, end = self._selection.span.start, min(self._selection.span.end, limits.newest(now))
        oldest = limits.oldest(now)
        if start < min(oldest, self._selection.span.end):
            gone = Span(start, min(oldest, self._selection.span.end))
            expired.append(Skipped(app_id=app, what=str(source), reason="expired", span=gone))
        start = max(start, oldest)
        slices = source.split(Span(start, end), limits.longest_query) if start < end else ()
        return [each.span for each in slices]

    def _limits(self, source: Source) -> Limits:
        return self._dispatcher.plan.of_endpoint(source.endpoint)

    # Samples of lists

    async def _sample_lists(
        self, endpoints: Mapping[str, EndpointSet], expired: list[Skipped]
    ) -> dict[str, ListSample]:
        """Sample the lists of all App IDs. A refused App ID is added to `expired`; raises if all are refused."""
        samples: dict[str, ListSample] = {}
        refused: list[AgoraError] = []
        sampler = ListSampler(self._dispatcher, self._fetcher, self._selection)
        channel = self._selection.channels[0] if self._selection.channels else None
        for app in endpoints:
            try:
                spans = self._slices(app, CallSource(channel), expired)
                samples[app] = await sampler.sample(endpoints[app], spans)
            except AgoraError as error:
                if not may_be_own(error):
                    raise
                refused.append(error)
                expired.append(Skipped(app_id=app, what=APP, reason=reason_of(error), span=self._selection.span))
        if not samples:
            raise refused[0]
        return samples

    # Samples of calls

    async def _size(self, endpoints: Mapping[str, EndpointSet], samples: Mapping[str, ListSample]) -> CallSizeEstimate:
        """Measure a few calls that are over, from short to long, and scale by the users and seconds of all."""
        # Sums over the same few calls, each used once in the result: longer than 25 lines for that.
        pairs = [(app, call) for app, sample in samples.items() for call in sample.calls]
        bytes_of_call = _bytes_per_row(column_batch.calls(_SAMPLE_ID, [call for _, call in pairs]))
        over = sorted((pair for pair in pairs if self._has_details(pair[1])), key=lambda pair: _length(pair[1]))
        # The quartiles by length: the shortest and the longest call would say little about the others.
        places = [round((step + 1) * (len(over) - 1) / (_SAMPLED_CALLS + 1)) for step in range(_SAMPLED_CALLS)]
        chosen = [over[place] for place in places] if over else []
        if not chosen or not self._selection.sessions:
            return CallSizeEstimate(bytes_of_call=bytes_of_call)
        sessions: list[Session] = []
        metrics: list[SessionMetrics] = []
        total, users, points, user_seconds = 0.0, 0.0, 0.0, 0.0
        for app, call in dict.fromkeys(chosen):
            page, measured = await self._sample_call(endpoints[app], call)
            # The first page is enough: its total says how many sessions there are.
            count = page.total_size or len(page.items)
            sessions += page.items
            total += count
            users += (call.call_pcu or 1) if page.items else 0
            if measured:
                metrics += measured
                points += sum(len(track.kvs) for one in measured for track in one.data) * count / len(measured)
                user_seconds += _user_seconds(call)
        return CallSizeEstimate(
            sessions=total / (users or 1) * _mean([call.call_pcu or 1 for _, call in over]),
            points=points / (user_seconds or 1) * _mean([_user_seconds(call) for _, call in over]),
            bytes_of_call=bytes_of_call,
            bytes_of_session=_bytes_per_row(column_batch.sessions(_SAMPLE_ID, _SAMPLE_ID, sessions)),
            bytes_of_point=_bytes_per_row(column_batch.metrics(_SAMPLE_ID, _SAMPLE_ID, metrics)),
        )

    async def _sample_call(self, endpoints: EndpointSet, call: Call) -> tuple[SessionPage, Sequence[SessionMetrics]]:
        """Return the first sessions of a call and the metrics of a few; nothing if the service refuses them."""
        try:
            page = await self._fetcher(partial(endpoints.calls.sessions_page, call, *self._first_part(call)))
            wanted = page.items[: validation.SIDS] if self._selection.metrics else ()
            return page, await self._metrics(endpoints, call, wanted) if wanted else ()
        except AgoraError as error:
            if not may_be_own(error):
                raise
        except RetentionExpired:
            pass
        return SessionPage(sessions=()), ()

    async def _metrics(self, endpoints: EndpointSet, call: Call, sessions: Sequence[Session]) -> list[SessionMetrics]:
        sids = [session.sid for session in sessions]

        async def send() -> list[SessionMetrics]:
            return [metrics async for metrics in endpoints.calls.metrics(call, sids, *self._first_part(call))]

        return await self._fetcher(send)

    def _first_part(self, call: Call) -> Span:
        """Return the first part of a call that fits into one request."""
        span = call.span or Span(0, 1)
        return span.slices(self._dispatcher.plan.of_endpoint(CALL_SESSIONS).longest_query)[0]

    def _has_details(self, call: Call) -> bool:
        kept = self._dispatcher.plan.of_endpoint(CALL_SESSIONS).queryable(self._dispatcher.time.utc_second())
        return call.span is not None and kept.start + RETENTION_MARGIN < call.span.start and call.span.end <= kept.end

    # Extrapolation

    def _requests_per_call(self, size: CallSizeEstimate) -> float:
        wanted = self._selection
        return costs.requests_per_call(
            size.sessions, sessions=wanted.sessions, metrics=wanted.metrics, breakdowns=len(wanted.breakdowns)
        )

    def _estimates(self, calls: float, size: CallSizeEstimate) -> tuple[DatasetEstimate, ...]:
        rows = {
            "calls": (calls, size.bytes_of_call),
            "sessions": (calls * size.sessions, size.bytes_of_session),
            "metrics": (calls * size.points, size.bytes_of_point),
        }
        wanted = [(name, *rows[name]) for name in DATASETS if name in rows and name in self._selection.datasets]
        return tuple(
            DatasetEstimate(dataset=name, rows=round(count), bytes=round(count * each)) for name, count, each in wanted
        )

    async def _will_expire(self, slices: Sequence[tuple[Span, float]], per_call: float) -> list[Skipped]:
        """Return the calls that will expire before their turn."""
        quota, retention = self._dispatcher.quota, self._dispatcher.plan.of_endpoint(CALL_SESSIONS).retention
        if not quota.enforced:
            return []

        async def done_at(requests: int) -> float:
            return (await quota.forecast(requests, CALL_SESSIONS, priority=Priority.EXPORT)).at.timestamp()

        lost = await costs.expiring(slices, per_call, retention, done_at, worst=self._worst)
        if not lost:
            return []
        when = Span(lost[0][0].start, lost[-1][0].end)
        calls = round(sum(count for _, count in lost))
        return [Skipped(app_id="", what="details", reason="expires first", span=when, calls=calls)]

    async def _done_at(self, requests: Mapping[str, int]) -> datetime | None:
        quota = self._dispatcher.quota
        if not quota.enforced:
            return None
        times = [
            (await quota.forecast(self._within_budget(count), counter, priority=Priority.EXPORT)).at
            for counter, count in requests.items()
            if count
        ]
        return max(times, default=None)


def _length(call: Call) -> int:
    return call.span.duration if call.span else 0


def _user_seconds(call: Call) -> float:
    """Return the seconds that all users together may have been in a call."""
    return float(_length(call) * (call.call_pcu or 1))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _bytes_per_row(rows: ColumnBatch) -> float:
    """Return the mean bytes of a row as JSON Lines."""
    if not rows.rows:
        return 0.0
    row = json.row_struct("row", rows.dataset.names)
    return len(json.encode_lines(map(row, *rows.columns))) / rows.rows
