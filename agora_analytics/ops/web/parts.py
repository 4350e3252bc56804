"""The details of a call that a viewer can load, part by part, and what each costs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import attrs

from agora_analytics._core import merge
from agora_analytics._core.decoding.json import encode
from agora_analytics._core.validation import PAGE_SIZE, SIDS
from agora_analytics.catalogue import Dimension, FreezeMetric, TimelineMetric
from agora_analytics.client import AnalyticsClient, with_fixed_cost
from agora_analytics.errors import AgoraError
from agora_analytics.models import Call, SessionMetrics, SessionPage
from agora_analytics.ops.web.details import FreezeData, SessionsData, StatisticsData, points_data, tracks_data
from agora_analytics.ops.web.loads import Load
from agora_analytics.ops.web.replies import RefusalError, choice_of, int_of, text_of
from agora_analytics.plans import (
    CALL_FREEZE,
    CALL_METRICS,
    CALL_SESSIONS,
    CALL_STATISTICS,
    CALL_TIMELINE,
    Endpoint,
)
from agora_analytics.spans import MINUTE, Span, sliced

T = TypeVar("T")

FailureCallback = Callable[[Span, AgoraError], None]
"""Called with a slice of a load whose request failed after another one was answered."""

MAX_WAIT: Final = 120.0
"""Seconds that each request of a load waits for its quota at most: some counters allow three a minute."""

_MAX_PAGES: Final = 100
_MAX_TOTALS: Final = 100
"""Calls whose number of sessions is remembered: it is the price of their further pages."""

_LASTS: Final = 6 * 3_600.0
_OPEN_LASTS: Final = 60.0
"""Seconds for which the details of a call are kept, and of an open one."""

_MARGIN: Final = 5
"""Seconds between what is requested and what expires."""

FREEZES: Final = tuple(map(str, FreezeMetric))
TIMELINES: Final = tuple(map(str, TimelineMetric))
DIMENSIONS: Final = tuple(map(str, Dimension))

ENDPOINTS: Final = {
    "sessions": CALL_SESSIONS,
    "timeline": CALL_TIMELINE,
    "freeze": CALL_FREEZE,
    "statistics": CALL_STATISTICS,
    "metrics": CALL_METRICS,
}
"""The parts, and the endpoint of each."""


@attrs.frozen
class _Queryable:
    """What of a call is queryable now, in slices of one request each; a reason if nothing."""

    span: Span | None
    longest: int
    reason: str = ""
    available_at: int | None = None

    def slices(self, mark: int = 1, start: int | None = None, end: int | None = None) -> list[Span]:
        """Return the requests for a part of it."""
        if self.span is None:
            return []
        first, last = max(start or 0, self.span.start), min(end or self.span.end, self.span.end)
        return list(sliced(Span(first, last), self.longest, mark)) if first < last else []


class CallParts:
    """Makes the loads of calls; each request is sent once, so that the price is exact.

    With `on_failure` a load whose first slice was answered has what was answered; without it, any failure raises.
    """

    def __init__(
        self, client: AnalyticsClient, now: Callable[[], float], *, on_failure: FailureCallback | None = None
    ) -> None:
        self._calls = with_fixed_cost(client, MAX_WAIT).calls
        self._plan = client.plan
        self._now = now
        self._on_failure = on_failure
        self._totals: dict[str, tuple[int, ...]] = {}

    def standard(self, call: Call) -> list[Load]:
        """Return the loads that a page shows for a call at first; metrics need sessions, so they come later."""
        wanted: list[tuple[str, Mapping[str, Any]]] = [("sessions", {})]
        wanted += [("timeline", {"metric": metric}) for metric in TIMELINES]
        wanted += [("freeze", {"metric": metric}) for metric in FREEZES]
        wanted += [("statistics", {"metric": metric, "dimension": "net"}) for metric in FREEZES]
        return [self.load(call, part, params) for part, params in wanted]

    def load(self, call: Call, part: str, values: Mapping[str, Any]) -> Load:
        """Return a load of a call; raises `RefusalError` for parameters that are not allowed."""
        if part not in ENDPOINTS:
            raise RefusalError(404, "part", f"allowed are {', '.join(ENDPOINTS)}")
        builders = {
            "sessions": self._sessions,
            "timeline": self._timeline,
            "freeze": self._freeze,
            "statistics": self._statistics,
            "metrics": self._metrics,
        }
        have = self._queryable(call, ENDPOINTS[part])
        made = builders[part](call, values, have)
        return attrs.evolve(
            made,
            params={"call": call.call_id, "part": part, **made.params},
            lasts=_LASTS if call.is_over else _OPEN_LASTS,
            reason=have.reason or made.reason,
            available_at=have.available_at,
        )

    def _queryable(self, call: Call, endpoint: Endpoint) -> _Queryable:
        """Return what is queryable: of a finished call everything or nothing, of an open one what there is."""
        if not self._plan.offers(endpoint):
            return _Queryable(None, 1, f"the plan {self._plan.name} has no details of calls")
        limits, now = self._plan.of_endpoint(endpoint), int(self._now())
        if not call.created_ts or not call.started_at:
            return _Queryable(None, 1, "the service sent no start of this call")
        end = call.span.end if call.span else max(limits.newest(now), call.created_ts + 1)
        # Otherwise a part of the call would be paid for, and be outdated as soon as the rest is there.
        if end > limits.newest(now):
            at = limits.queryable_at(end)
            return _Queryable(None, 1, "details come some minutes after a call", at)
        start = max(call.created_ts, limits.oldest(now) + _MARGIN)
        if start >= end:
            return _Queryable(None, 1, "the plan no longer keeps this call")
        return _Queryable(Span(start, end), limits.longest_query)

    def _sessions(self, call: Call, values: Mapping[str, Any], have: _Queryable) -> Load:
        page = int_of(values, "page", 1, 1, _MAX_PAGES) or 1
        slices, totals = have.slices(), self._totals.get(call.call_id, ())
        # Only slices that have such a page: an empty one would cost a request.
        if page > 1:
            slices = [span for span, total in zip(slices, totals, strict=False) if total > (page - 1) * PAGE_SIZE]
        return Load(
            params={"page": page},
            title="sessions" if page == 1 else f"sessions, page {page}",
            endpoint=CALL_SESSIONS,
            requests=len(slices),
            fetch=partial(self._fetch_sessions, call.call_id, slices, page),
            reason="" if slices else "there is no such page, as far as is known: load those before it",
        )

    async def _fetch_sessions(self, call_id: str, slices: list[Span], page: int) -> bytes:
        pages = await self._each(slices, lambda span: self._calls.sessions_page(call_id, *span, page_no=page))
        if page == 1:
            # So that it is the newest again, and the last to be forgotten.
            self._totals.pop(call_id, None)
            self._totals[call_id] = tuple(map(_total, pages))
            while len(self._totals) > _MAX_TOTALS:
                del self._totals[next(iter(self._totals))]
        totals = self._totals.get(call_id, ())
        return encode(
            SessionsData(
                page=page,
                pages=-(-max((*totals, 1)) // PAGE_SIZE),
                total=sum(totals),
                # Each slice of a call lists the sessions that last beyond its end.
                sessions=list({one.sid: one for found in pages for one in found.items}.values()),
            )
        )

    async def _each(self, slices: Sequence[Span], fetch: Callable[[Span], Awaitable[T]]) -> list[T]:
        """Return the answers for slices, one after the other."""
        found: list[T] = []
        for span in slices:
            try:
                found.append(await fetch(span))
            except AgoraError as error:
                if self._on_failure is None or not found:
                    raise
                self._on_failure(span, error)
        return found

    def _timeline(self, call: Call, values: Mapping[str, Any], have: _Queryable) -> Load:
        metric = choice_of(values, "metric", TIMELINES)
        slices = have.slices(MINUTE)

        async def fetch() -> bytes:
            # Slice by slice with given ends, which the client neither clips nor sends again: so the price is exact.
            parts = await self._each(slices, lambda span: self._calls.timeline(call.call_id, metric, *span))
            return encode(points_data(metric, merge.merge_points(parts)))

        return Load(
            params={"metric": metric},
            title=f"{metric} by minute",
            endpoint=CALL_TIMELINE,
            requests=len(slices),
            fetch=fetch,
        )

    def _freeze(self, call: Call, values: Mapping[str, Any], have: _Queryable) -> Load:
        metric, slices = choice_of(values, "metric", FREEZES), have.slices()

        async def fetch() -> bytes:
            found = await self._calls.freeze_buckets(call.call_id, metric, *slices[0])
            return encode(FreezeData(metric=metric, buckets=found))

        return Load(
            params={"metric": metric},
            title=f"{metric} by users",
            endpoint=CALL_FREEZE,
            requests=1,
            fetch=fetch,
            reason=_too_long(slices),
        )

    def _statistics(self, call: Call, values: Mapping[str, Any], have: _Queryable) -> Load:
        metric, dimension = choice_of(values, "metric", FREEZES), choice_of(values, "dimension", DIMENSIONS)
        slices = have.slices()

        async def fetch() -> bytes:
            found = await self._calls.statistics(call.call_id, metric, dimension, *slices[0])
            return encode(StatisticsData(metric=metric, dimension=dimension, values=found))

        return Load(
            params={"metric": metric, "dimension": dimension},
            title=f"{metric} by {dimension}",
            endpoint=CALL_STATISTICS,
            requests=1,
            fetch=fetch,
            reason=_too_long(slices),
        )

    def _metrics(self, call: Call, values: Mapping[str, Any], have: _Queryable) -> Load:
        sids = sids_of(values)
        start, end = (int_of(values, name, None, 0, 2**33) for name in ("start", "end"))
        slices = have.slices(1, start, end)
        if not slices and not have.reason:
            raise RefusalError(400, "start", "start and end lie outside of the call")

        async def fetch() -> bytes:
            found: dict[str, list[SessionMetrics]] = {sid: [] for sid in sids}
            for span in slices:
                async for one in self._calls.metrics(call.call_id, sids, *span):
                    if one.sid in found:
                        found[one.sid].append(one)
            encoded = [encode(await tracks_data(sid, parts)) for sid, parts in found.items()]
            return b'{"sessions":[%s]}' % b",".join(encoded)

        return Load(
            params={"sids": list(sids), "start": start, "end": end},
            title="metrics of a session" if len(sids) == 1 else f"metrics of {len(sids)} sessions",
            endpoint=CALL_METRICS,
            requests=len(slices),
            fetch=fetch,
        )


def _total(page: SessionPage) -> int:
    """Return how many sessions a list has by its first page; at least, if the service sends no total."""
    has_more = len(page.items) >= PAGE_SIZE if page.has_more is None else page.has_more
    return len(page.items) + has_more if page.total_size is None else max(page.total_size, len(page.items))


def _too_long(slices: list[Span]) -> str:
    """Return why one request cannot carry a call, whose averages cannot be merged; empty if it can."""
    return f"the call is longer than one request may span ({slices[0].duration} s)" if len(slices) > 1 else ""


def sids_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ids of sessions in a query (with commas) or in a body (a list)."""
    given = values.get("sids")
    listed = given.split(",") if isinstance(given, str) else given
    if not isinstance(listed, list) or not 0 < len(listed) <= SIDS:
        raise RefusalError(400, "sids", f"allowed are 1 to {SIDS} ids of sessions")
    found = [text_of({"sids": sid}, "sids") or "" for sid in listed]
    if any("," in sid or not sid.strip() for sid in found):
        raise RefusalError(400, "sids", "an id of a session has no comma")
    return tuple(dict.fromkeys(found))
