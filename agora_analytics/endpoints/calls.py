"""Call Inspector: which calls there were, who was in them, and how they went.

A verb tells its cost. `…page` is one request; `search`, `sessions` and `metrics` make as many as it takes and yield
item by item; the statistics of one call are one request each, its timeline one per slice. Spans are half-open UTC
seconds or aware datetimes. All raise `ValueError` or `TypeError` for what the plan or the reference does not allow
before anything is sent, and the errors of `agora_analytics.errors` for what goes wrong afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, TypeVar

import attrs

from agora_analytics import _checks, _listing, _merge, _paging
from agora_analytics._codec import Decode, decoder, points_decoder
from agora_analytics._session import in_turns
from agora_analytics._wire import Param, joined
from agora_analytics.endpoints._call_spans import CallKept, CallSpans, id_of, sids_of
from agora_analytics.endpoints._group import Timely
from agora_analytics.endpoints._kept import Kept, Results, SpentError
from agora_analytics.models import (
    Call,
    CallPage,
    Found,
    FreezeBucket,
    MetricsAnswer,
    Point,
    Rows,
    Session,
    SessionMetrics,
    SessionPage,
    Statistic,
    Uid,
)
from agora_analytics.plans import (
    CALL_FREEZE,
    CALL_LISTS,
    CALL_METRICS,
    CALL_SESSIONS,
    CALL_STATISTICS,
    CALL_TIMELINE,
    Endpoint,
)
from agora_analytics.spans import Instant, Span

T = TypeVar("T")
RowT = TypeVar("RowT")

_MINUTE = 60

_call_page = decoder(CallPage)
_metrics = decoder(MetricsAnswer)
_statistics = decoder(Rows[Statistic])
_freeze = decoder(Rows[FreezeBucket])
_timeline = points_decoder("value")


class Calls(CallSpans):
    """`client.calls`: the six endpoints of Call Inspector."""

    _latest = CALL_LISTS
    _session_page = decoder(SessionPage)

    async def page(
        self, start: Instant, end: Instant, *, cname: str | None = None, page_no: int = 1, page_size: int = 100
    ) -> CallPage:
        """Return one page of the calls in a span, newest first, for one request, as the service selects them.

        `page_no` counts from 1, `page_size` is 1 to 100. `GET /beta/analytics/call/lists`.
        """
        span, kept = self._span(CALL_LISTS, start, end), self._meant(CALL_LISTS, start, end)
        channel = _checks.optional("cname", cname)
        return await self._kept_page(kept, span, page_no, channel, page_size)

    def search(
        self,
        start: Instant,
        end: Instant,
        *,
        cname: str | None = None,
        page_size: int = 100,
        max_requests: int | None = None,
    ) -> Results[Call]:
        """Yield every call that began in a span once, however long the span and however many pages.

        Spans laid side by side repeat nothing and miss nothing, whichever way the service selects: a call that began
        earlier and was still on is not among them, one whose `created_ts` is unknown is, wherever the service lists it.
        The span is cut into what one request may carry, oldest slice first (it expires soonest); calls are newest first
        within a slice. The next page is fetched while you work on this one, unless the client was made with
        `read_ahead=False`. `GET /beta/analytics/call/lists`.

        What becomes older than the plan keeps while you work is left out: the log tells it, and `missing` of what is
        returned, so `found = client.calls.search(…)`, `async for call in found`, `if found.missing`.

        Where the service cuts a list off, the rest is asked for over less time, in pages of 100. `requests` of what is
        returned tells how many requests there were, `narrowed` and the log how many of them that took. Raises
        `IncompleteList` for what cannot be had even so, after all other calls of its slice.

        It ends early where it would take more than `max_requests`, repeated attempts among them: `exhausted` of what is
        returned tells that.
        """
        span = self._span(CALL_LISTS, start, end, whole=False)
        channel = _checks.optional("cname", cname)
        size = _checks.number("page_size", page_size, 1, _checks.PAGE_SIZE)
        most = _checks.none_or(_checks.number, "max_requests", max_requests, 1)
        kept = self._kept(CALL_LISTS, start, end, most)
        found = _paging.rows(
            span.slices(self._longest(CALL_LISTS)),
            lambda part, number: self._kept_part(kept, part, number, channel, size),
            _listing.calls(channel),
            read_ahead=self._read_ahead,
            size=size,
        )
        return Results(_begun_in(lambda: kept.moved(span), found), kept)

    async def sessions_page(
        self,
        call: Call | str,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        uids: Iterable[Uid] = (),
        exclude_server_user: bool = True,
        page_no: int = 1,
        page_size: int = 100,
    ) -> SessionPage:
        """Return one page of the sessions of a call, latest to join first, for one request.

        `start` and `end` are needed with an id and default to the whole of a `Call`; what of that cannot be asked for
        now is left out, and `missing` of the page tells it. A `Call` longer than one request may be about is
        `PlanRefused`: `sessions` cuts it. At most 10 `uids`. `GET /beta/analytics/call/sessions`.
        """
        users = _checks.at_most("uids", _checks.uids(uids), _checks.UIDS)
        servers = _checks.flag("exclude_server_user", exclude_server_user)

        kept = self._of_call(CALL_SESSIONS, call, start, end, whole=True)

        def fetch(span: Span) -> Coroutine[Any, Any, SessionPage]:
            timely = partial(kept.left, span)
            return self._sessions_page(id_of(call), timely, page_no, page_size, users, exclude_server_user=servers)

        page = await kept.one(fetch)
        return attrs.evolve(page, missing=kept.missing) if kept.missing else page

    def sessions(
        self,
        call: Call | str,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        uids: Iterable[Uid] = (),
        exclude_server_user: bool = True,
        wait: bool = False,
    ) -> Results[Session]:
        """Yield every session of a call once, by `sid`, in as many requests as it takes.

        `start` and `end` are needed with an id and default to the whole of a `Call` (while it goes on: to now, less the
        plan's delay). Long calls are cut by the plan's hours, `uids` (any number) are asked for ten at a time.
        `exclude_server_user` leaves out Linux users. `GET /beta/analytics/call/sessions`.

        A call that has only just ended is listed before its details can be asked for: of what is too young then, and of
        what is not kept any more, nothing comes, as the log and `missing` of what is returned tell. `wait=True` waits
        until all of a call that is over can be asked for (see `askable_at`). Raises `TooEarly` where nothing can be
        asked for yet, and `PlanRefused` where nothing is kept any more.

        Where the service cuts the list off, halves of its span are asked for; raises `IncompleteList` as `search` does.
        """
        users = _checks.uids(uids)
        servers = _checks.flag("exclude_server_user", exclude_server_user)
        kept = self._of_call(CALL_SESSIONS, call, start, end, wait=_checks.flag("wait", wait))
        return Results(self._sessions(id_of(call), users, kept, exclude_server_user=servers), kept)

    def metrics(
        self,
        call: Call | str,
        sids: Iterable[str | Session] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        exclude_server_user: bool = True,
        wait: bool = False,
    ) -> Results[SessionMetrics]:
        """Yield the metrics of each session asked for, in that order; one without data has an empty `data`.

        `sids` are ids or sessions, any number; None means all sessions of the call, which costs the requests to list
        them, without those of Linux users, such as recorders and bots, unless `exclude_server_user=False`. They are
        asked for twenty at a time, long calls cut by the plan's hours and merged. `start`, `end`, `wait` and `missing`
        as in `sessions`. `GET /beta/analytics/call/metrics`.
        """
        wanted = None if sids is None else sids_of(sids)
        servers = _checks.flag("exclude_server_user", exclude_server_user)
        kept = self._of_call(CALL_METRICS, call, start, end, wait=_checks.flag("wait", wait))
        return Results(self._metrics(id_of(call), wanted, kept, exclude_server_user=servers), kept)

    async def statistics(
        self,
        call: Call | str,
        metric: str,
        dimension: str,
        start: Instant | None = None,
        end: Instant | None = None,
    ) -> Found[Statistic]:
        """Return the average of a freeze rate by a dimension's values, for one request.

        `metric` is one of `FreezeMetric`, `dimension` of `Dimension`; averages cannot be merged, so the span must fit
        one request: a longer `Call` is `PlanRefused` (kind `length`, with the limit), ask about parts of it then. What
        of a `Call` cannot be asked for now is left out: `missing` of what is returned tells it.
        `GET /beta/analytics/call/statistics`.
        """
        params: dict[str, Param] = {
            "metric": _checks.text("metric", metric),
            "dimension": _checks.text("dimension", dimension),
        }
        kept = self._of_call(CALL_STATISTICS, call, start, end, whole=True)
        found = await kept.one(self._about_call(kept, CALL_STATISTICS, _statistics, id_of(call), params))
        return kept.found(found.items)

    async def freeze_buckets(
        self, call: Call | str, metric: str, start: Instant | None = None, end: Instant | None = None
    ) -> Found[FreezeBucket]:
        """Return how many users froze how much, lowest bucket first, without the empty ones, for one request.

        `metric` is one of `FreezeMetric`; the span must fit one request, and `missing` tells what it lacks, as in
        `statistics`.
        `GET /beta/analytics/call/freeze/bucket`.
        """
        params: dict[str, Param] = {"metric": _checks.text("metric", metric)}
        kept = self._of_call(CALL_FREEZE, call, start, end, whole=True)
        found = await kept.one(self._about_call(kept, CALL_FREEZE, _freeze, id_of(call), params))
        return kept.found(sorted(found.items, key=lambda bucket: bucket.lowest))

    async def timeline(
        self, call: Call | str, metric: str, start: Instant | None = None, end: Instant | None = None
    ) -> Found[Point]:
        """Return a metric of a call minute by minute, in order of time, with the holes the service leaves.

        `metric` is one of `TimelineMetric`; long calls are cut by the plan's hours, at whole minutes of UTC, and
        merged. `missing` as in `statistics`. `GET /beta/analytics/call/statistics/time`.
        """
        params: dict[str, Param] = {"metric": _checks.text("metric", metric)}
        kept = self._of_call(CALL_TIMELINE, call, start, end)
        fetch = self._about_call(kept, CALL_TIMELINE, _timeline, id_of(call), params)
        # What a service counts in a minute that is cut in two cannot be added up: one user may be in both parts.
        spans = kept.slices(mark=_MINUTE)
        nothing = Rows[Point](data=())
        parts = [(await kept.ask(partial(fetch, span), span, nothing)).items for span in spans]
        return kept.found(_merge.points(parts))

    def _about_call(
        self,
        kept: CallKept,
        endpoint: Endpoint,
        decode: Decode[Rows[RowT]],
        call_id: str,
        params: Mapping[str, Param],
    ) -> Callable[[Span], Coroutine[Any, Any, Rows[RowT]]]:
        """Return what fetches what is left of a span of a call."""
        return lambda span: self._fetch_timely(endpoint, decode, lambda: {**_about(call_id, kept.left(span)), **params})

    def _page(self, span: Timely, number: int, cname: str | None, size: int) -> Coroutine[Any, Any, CallPage]:
        paging = _paging_params(number, size)
        return self._fetch_timely(CALL_LISTS, _call_page, lambda: {**_from_to(span()), "cname": cname, **paging})

    def _kept_page(
        self, kept: Kept, span: Span, number: int, cname: str | None, size: int
    ) -> Coroutine[Any, Any, CallPage]:
        def fetch() -> Coroutine[Any, Any, CallPage]:
            return self._page(lambda: kept.left(span), number, cname, size)

        return kept.ask(fetch, span, CallPage(call_lists=(), total_size=0, has_more=False))

    def _kept_part(
        self, kept: Kept, part: _listing.Part, number: int, channel: str | None, size: int
    ) -> Coroutine[Any, Any, CallPage]:
        kept.narrowed += bool(part.handed)
        return self._kept_page(kept, part.span, number, part.cname or channel, part.page_size(size))

    def _sessions_page(
        self, call_id: str, span: Timely, number: int, size: int, users: tuple[Uid, ...], *, exclude_server_user: bool
    ) -> Coroutine[Any, Any, SessionPage]:
        params: dict[str, Param] = {
            **_paging_params(number, size),
            "uids": joined(users),
            "exclude_server_user": exclude_server_user,
        }
        return self._fetch_timely(CALL_SESSIONS, self._session_page, lambda: {**_about(call_id, span()), **params})

    async def _sessions(
        self,
        call_id: str,
        users: tuple[Uid, ...],
        kept: CallKept,
        *,
        exclude_server_user: bool,
    ) -> AsyncGenerator[Session]:
        seen: set[str] = set()
        for batch in _batches(users, _checks.UIDS) or [()]:
            fetch = partial(self._sessions_of, call_id, batch, kept, exclude_server_user=exclude_server_user)
            spans = kept.slices(self._longest(CALL_SESSIONS))
            pages = _paging.rows(spans, fetch, _listing.SESSIONS, read_ahead=self._read_ahead)
            async with aclosing(pages) as found:
                async for session in found:
                    if session.sid not in seen:
                        yield session
                    if len(users) > _checks.UIDS:  # pages of one batch repeat nothing
                        seen.add(session.sid)

    def _sessions_of(
        self,
        call_id: str,
        users: tuple[Uid, ...],
        kept: Kept,
        part: _listing.Part,
        number: int,
        *,
        exclude_server_user: bool,
    ) -> Coroutine[Any, Any, SessionPage]:
        def fetch() -> Coroutine[Any, Any, SessionPage]:
            span = partial(kept.left, part.span)
            return self._sessions_page(
                call_id, span, number, _checks.PAGE_SIZE, users, exclude_server_user=exclude_server_user
            )

        kept.narrowed += bool(part.handed)
        return kept.ask(fetch, part.span, SessionPage(call_info=(), total_size=0, has_more=False))

    async def _metrics(
        self,
        call_id: str,
        wanted: tuple[str, ...] | None,
        kept: CallKept,
        *,
        exclude_server_user: bool,
    ) -> AsyncGenerator[SessionMetrics]:
        if wanted is None:
            listed = self._sessions(call_id, (), kept, exclude_server_user=exclude_server_user)
            wanted = tuple([session.sid async for session in listed])
        for batch in _batches(wanted, _checks.SIDS):
            parts: dict[str, list[SessionMetrics]] = {sid: [] for sid in batch}
            for span in kept.slices() if any(map(_checks.is_spelled, batch)) else ():
                answer = await self._metrics_of(call_id, span, batch, kept)
                for part in answer.metrics or ():
                    parts.setdefault(part.sid, []).append(part)
                del answer
            while parts:
                sid = next(iter(parts))
                yield await in_turns(_merge.tracks(sid, parts.pop(sid)))
                await asyncio.sleep(0)  # to free the samples of 20 sessions takes 30 ms: one in a turn

    def _metrics_of(
        self, call_id: str, span: Span, sids: tuple[str, ...], kept: Kept
    ) -> Coroutine[Any, Any, MetricsAnswer]:
        asked = joined(sid for sid in sids if _checks.is_spelled(sid))

        def fetch() -> Coroutine[Any, Any, MetricsAnswer]:
            return self._fetch_timely(
                CALL_METRICS, _metrics, lambda: {**_about(call_id, kept.left(span)), "sids": asked}
            )

        return kept.ask(fetch, span, MetricsAnswer(metrics=()))


async def _begun_in(within: Timely, calls: AsyncGenerator[Call]) -> AsyncGenerator[Call]:
    """Yield the calls that began in a span: a service that selects by overlap, or takes the end in, lists more."""
    async with aclosing(calls):
        with suppress(SpentError):
            async for call in calls:
                span = within()
                began = call.created_ts if call.started_at else None
                if began is None or span.start <= began < span.end:
                    yield call


def _from_to(span: Span) -> dict[str, Param]:
    return {"start_ts": span.start, "end_ts": span.end}


def _about(call_id: str, span: Span) -> dict[str, Param]:
    return {"call_id": call_id, **_from_to(span)}


def _paging_params(number: int, size: int) -> dict[str, Param]:
    return {
        "page_no": _checks.number("page_no", number, 1),
        "page_size": _checks.number("page_size", size, 1, _checks.PAGE_SIZE),
    }


def _batches(values: tuple[T, ...], size: int) -> list[tuple[T, ...]]:
    return [values[at : at + size] for at in range(0, len(values), size)]
