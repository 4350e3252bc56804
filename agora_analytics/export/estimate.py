"""What an export will take, from a handful of requests: a few pages for their totals, a few calls for their size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from math import ceil
from typing import Final

import attrs

from agora_analytics._core import validation
from agora_analytics._core.decoding import json
from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.errors import AgoraError
from agora_analytics.export.fetch.fetcher import EDGE, Asking, TooOldError
from agora_analytics.export.fetch.skip_reasons import APP, may_be_own, reason_of
from agora_analytics.export.fetch.sources import CallSource, Groups, Source, sources
from agora_analytics.export.report import Skipped
from agora_analytics.export.schema import DATASETS
from agora_analytics.export.selection import Selection, wants
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import Batch
from agora_analytics.models import Call, CallPage, Session, SessionMetrics, SessionPage
from agora_analytics.plans import CALL_LISTS, CALL_SESSIONS, Endpoint, Limits
from agora_analytics.spans import Span

__all__ = ["DatasetEstimate", "ExportEstimate"]

_APP: Final = "x" * 32
"""As long as an App ID, or the id of a call."""

_PAGES: Final = 6
"""Slices of a list that are looked at for their totals."""

_TRIES: Final = 3
"""Questions about one slice, where the clock is found to be wrong."""

_CALLS: Final = 3
"""Calls that are looked at for their size."""


@attrs.frozen(kw_only=True)
class DatasetEstimate:
    """What one dataset will come to; `bytes` as plain JSON Lines."""

    dataset: str
    rows: int
    bytes: int


@attrs.frozen(kw_only=True)
class ExportEstimate:
    """What an export will take.

    `calls` that are wanted: `counted` by the service where all slices were looked at and no filter applies, else
    estimated; `requests` by
    counter of the plan, and `spent` on finding out; `estimates` by dataset; `done_at` when all of it will be there if
    nobody else spends; `expired` is what cannot be had: too old already, too old before its turn comes, or of an App ID
    that is refused.
    """

    calls: int
    counted: bool
    requests: Mapping[str, int]
    spent: int
    estimates: tuple[DatasetEstimate, ...]
    done_at: datetime | None
    expired: tuple[Skipped, ...]


@attrs.frozen
class _Looked:
    """What a look at a list showed: calls by slice, and of a page of them those that are wanted, and their share."""

    slices: Sequence[tuple[Span, float]]
    counted: bool
    sample: Sequence[Call]
    share: float

    @property
    def wanted(self) -> list[tuple[Span, float]]:
        """The calls that the filters may let through, by slice."""
        return [(span, count * self.share) for span, count in self.slices]


@attrs.frozen(kw_only=True)
class _Size:
    """What a call comes to, on average: what was seen of a few calls, by the users and the seconds of many."""

    sessions: float = 0.0
    points: float = 0.0
    bytes_of_call: float = 0.0
    bytes_of_session: float = 0.0
    bytes_of_point: float = 0.0


class Planner:
    """Finds out what an export will take."""

    def __init__(
        self, session: Dispatcher, selection: Selection, *, order_worst: bool, max_requests: int | None
    ) -> None:
        self._session = session
        self._selection = selection
        self._worst = order_worst
        self._most = max_requests
        self._ask = Asking(None)

    async def plan(self, groups: Mapping[str, Groups]) -> ExportEstimate:
        """Ask a little, and reckon the rest."""
        requests: dict[str, int] = {}
        expired: list[Skipped] = []
        for app in groups:
            for source in sources(self._selection):
                if not isinstance(source, CallSource):
                    self._add(requests, source.endpoint, len(self._slices(app, source, expired)))
        looks = await self._looks(groups, expired) if self._selection.of_calls else {}
        listed = [count for look in looks.values() for _, count in look.slices]
        slices = [one for look in looks.values() for one in look.wanted]
        calls = sum(count for _, count in slices)
        size = await self._size(groups, looks)
        self._add(requests, CALL_LISTS, sum(max(1, ceil(count / validation.PAGE_SIZE)) for count in listed))
        each = self._requests_of_call(size)
        self._add(requests, CALL_SESSIONS, ceil(calls * each))
        if each and calls:
            expired += await self._late(slices, each)
        return ExportEstimate(
            calls=round(calls),
            counted=all(look.counted for look in looks.values()),
            requests={name: self._bounded(count) for name, count in requests.items() if count},
            spent=self._ask.made,
            estimates=self._estimates(calls, size),
            done_at=await self._done_at(requests),
            expired=tuple(expired),
        )

    def _add(self, requests: dict[str, int], endpoint: Endpoint, count: int) -> None:
        counter = self._session.plan.counter(endpoint)
        requests[counter] = requests.get(counter, 0) + count

    def _bounded(self, count: int) -> int:
        return count if self._most is None else min(count, self._most)

    def _slices(self, app: str, source: Source, expired: list[Skipped]) -> Sequence[Span]:
        """Return what will be asked of a source; what is too old is noted."""
        limits, now = self._limits(source), self._session.now()
        start, end = self._selection.span.start, min(self._selection.span.end, limits.newest(now))
        oldest = limits.oldest(now)
        if start < min(oldest, self._selection.span.end):
            gone = Span(start, min(oldest, self._selection.span.end))
            expired.append(Skipped(app_id=app, what=str(source), reason="expired", span=gone))
        start = max(start, oldest)
        return [one.span for one in source.cut(Span(start, end), limits.longest_query)] if start < end else []

    def _limits(self, source: Source) -> Limits:
        return self._session.plan.of_endpoint(source.endpoint)

    async def _looks(self, groups: Mapping[str, Groups], expired: list[Skipped]) -> dict[str, _Looked]:
        """Look at the lists of all App IDs; one that is refused is noted, but raised where none is answered."""
        looks: dict[str, _Looked] = {}
        refused: list[AgoraError] = []
        for app in groups:
            try:
                looks[app] = await self._look(groups[app], app, expired)
            except AgoraError as error:
                if not may_be_own(error):
                    raise
                refused.append(error)
                expired.append(Skipped(app_id=app, what=APP, reason=reason_of(error), span=self._selection.span))
        if not looks:
            raise refused[0]
        return looks

    async def _look(self, groups: Groups, app: str, expired: list[Skipped]) -> _Looked:
        """Ask a few slices of a list for their totals, evenly spread; the first page of the middle one whole."""
        channel = self._selection.channels[0] if self._selection.channels else None
        spans = self._slices(app, CallSource(channel), expired)
        places = sorted({round(step * (len(spans) - 1) / (_PAGES - 1)) for step in range(_PAGES)}) if spans else []
        totals: dict[int, float] = {}
        exact = True
        sample: Sequence[Call] = ()
        for place in places:
            whole = place == places[len(places) // 2]
            size = validation.PAGE_SIZE if whole or not exact else 1
            page = await self._page(groups, spans[place], channel, size)
            if page.total_size is None and exact:
                # Without totals a page tells no more than its rows; whether there are more, only the export finds out.
                exact = False
                page = await self._page(groups, spans[place], channel, validation.PAGE_SIZE)
            totals[place] = len(page.items) if page.total_size is None else page.total_size
            sample = sample or (page.items if whole else ())
        density = sum(totals.values()) / max(1, sum(spans[place].duration for place in totals))
        times = max(1, len(self._selection.channels))
        counts = [(span, totals.get(at, density * span.duration) * times) for at, span in enumerate(spans)]
        wanted = [call for call in sample if wants(self._selection, call)]
        # Of none that were seen there may be some.
        share = max(len(wanted), 0.5) / len(sample) if len(wanted) < len(sample) else 1.0
        counted = exact and len(places) == len(spans) and times == 1 and not self._filters
        return _Looked(counts, counted, wanted or sample, share)

    @property
    def _filters(self) -> bool:
        return self._selection.finished or self._selection.min_freeze_rate is not None

    async def _page(self, groups: Groups, span: Span, channel: str | None, size: int) -> CallPage:
        """Return a page of what can be asked for of a span; asked again where only the answer told the time."""
        for _ in range(_TRIES):
            with suppress(TooOldError):
                return await self._ask(lambda: groups.calls.page(*self._now_of(span), cname=channel, page_size=size))
        return CallPage(calls=(), total_size=0)

    def _now_of(self, span: Span) -> Span:
        askable = self._session.plan.of_endpoint(CALL_LISTS).askable(self._session.now())
        end = max(min(span.end, askable.end), span.start + 1)
        return Span(min(max(span.start, askable.start + EDGE), end - 1), end)

    async def _size(self, groups: Mapping[str, Groups], looks: Mapping[str, _Looked]) -> _Size:
        """Look into a few calls that are over, from short to long, for what a call comes to."""
        pairs = [(app, call) for app, look in looks.items() for call in look.sample]
        bytes_of_call = _each(column_batch.calls(_APP, [call for _, call in pairs]))
        over = sorted((pair for pair in pairs if self._can_be_asked(pair[1])), key=lambda pair: _length(pair[1]))
        chosen = [over[round((step + 1) * (len(over) - 1) / (_CALLS + 1))] for step in range(_CALLS)] if over else []
        if not chosen or not self._selection.sessions:
            return _Size(bytes_of_call=bytes_of_call)
        sessions: list[Session] = []
        metrics: list[SessionMetrics] = []
        total, users, points, stays = 0.0, 0.0, 0.0, 0.0
        for app, call in dict.fromkeys(chosen):
            page, found = await self._sample(groups[app], call)
            many = page.total_size or len(page.items)
            sessions += page.items
            total += many
            users += (call.call_pcu or 1) if page.items else 0
            if found:
                metrics += found
                points += sum(len(track.kvs) for one in found for track in one.data) * many / len(found)
                stays += _stay(call)
        return _Size(
            sessions=total / (users or 1) * _mean([call.call_pcu or 1 for _, call in over]),
            points=points / (stays or 1) * _mean([_stay(call) for _, call in over]),
            bytes_of_call=bytes_of_call,
            bytes_of_session=_each(column_batch.sessions(_APP, _APP, sessions)),
            bytes_of_point=_each(column_batch.metrics(_APP, _APP, metrics)),
        )

    async def _sample(self, groups: Groups, call: Call) -> tuple[SessionPage, Sequence[SessionMetrics]]:
        """Return the first sessions of a call and the metrics of a few; nothing where the service refuses it."""
        try:
            page = await self._ask(partial(groups.calls.sessions_page, call, *self._part(call)))
            wanted = page.items[: validation.SIDS] if self._selection.metrics else ()
            return page, await self._metrics(groups, call, wanted) if wanted else ()
        except AgoraError as error:
            if not may_be_own(error):
                raise
        except TooOldError:
            pass
        return SessionPage(sessions=()), ()

    async def _metrics(self, groups: Groups, call: Call, sessions: Sequence[Session]) -> list[SessionMetrics]:
        sids = [one.sid for one in sessions]

        async def ask() -> list[SessionMetrics]:
            return [one async for one in groups.calls.metrics(call, sids, *self._part(call))]

        return await self._ask(ask)

    def _part(self, call: Call) -> Span:
        """Return the part of a call that one request can be asked about."""
        span = call.span or Span(0, 1)
        return span.slices(self._session.plan.of_endpoint(CALL_SESSIONS).longest_query)[0]

    def _can_be_asked(self, call: Call) -> bool:
        askable = self._session.plan.of_endpoint(CALL_SESSIONS).askable(self._session.now())
        return call.span is not None and askable.start + 2 < call.span.start and call.span.end <= askable.end

    def _requests_of_call(self, size: _Size) -> float:
        found = float(len(self._selection.breakdowns))
        if self._selection.sessions:
            found += max(1.0, ceil(size.sessions / validation.PAGE_SIZE))
        if self._selection.metrics:
            found += max(1.0, size.sessions / validation.SIDS)
        return found

    def _estimates(self, calls: float, size: _Size) -> tuple[DatasetEstimate, ...]:
        rows = {
            "calls": (calls, size.bytes_of_call),
            "sessions": (calls * size.sessions, size.bytes_of_session),
            "metrics": (calls * size.points, size.bytes_of_point),
        }
        wanted = [(name, *rows[name]) for name in DATASETS if name in rows and name in self._selection.datasets]
        return tuple(
            DatasetEstimate(dataset=name, rows=round(count), bytes=round(count * each)) for name, count, each in wanted
        )

    async def _late(self, slices: Sequence[tuple[Span, float]], each: float) -> list[Skipped]:
        """Reckon which calls will be too old before it is their turn; with the worst first, that any may be."""
        quota, available = self._session.quota, self._session.plan.of_endpoint(CALL_SESSIONS).available
        if not quota.enforced:
            return []
        lost, spans, before = 0.0, [], 0.0
        for span, count in sorted(slices, key=lambda pair: pair[0].start):
            upto = before + count * each
            done = await quota.forecast(max(1, ceil(upto)), CALL_SESSIONS)
            expiry = span.start + available if not self._worst else slices[0][0].start + available
            if count and done.at.timestamp() > expiry:
                share = min(1.0, (done.at.timestamp() - expiry) / max(1.0, span.duration))
                lost += count * share
                spans.append(span)
                before += count * each * (1 - share)
            else:
                before = upto
        if not lost:
            return []
        when = Span(spans[0].start, spans[-1].end)
        return [Skipped(app_id="", what="details", reason="expires first", span=when, calls=round(lost))]

    async def _done_at(self, requests: Mapping[str, int]) -> datetime | None:
        if not self._session.quota.enforced:
            return None
        times = [
            (await self._session.quota.forecast(self._bounded(count), counter)).at
            for counter, count in requests.items()
            if count
        ]
        return max(times, default=None)


def _length(call: Call) -> int:
    return call.span.duration if call.span else 0


def _stay(call: Call) -> float:
    """Return the seconds that all users together may have been in a call."""
    return float(_length(call) * (call.call_pcu or 1))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _each(rows: Batch) -> float:
    """Return bytes of a row as JSON Lines, on average."""
    if not rows.rows:
        return 0.0
    row = json.row_struct("row", rows.dataset.names)
    return len(json.encode_lines(map(row, *rows.columns))) / rows.rows
