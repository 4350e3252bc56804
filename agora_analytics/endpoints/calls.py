"""Call Inspector: which calls there were, who was in them, and how they went.

A verb tells its cost. `…page` is one request; `search`, `sessions` and `metrics` make as many as it takes and yield
item by item; the statistics of one call are one request each, its timeline one per slice. Spans are half-open UTC
seconds or aware datetimes. All raise `ValueError` or `TypeError` for what the plan or the reference does not allow
before anything is sent, and the errors of `agora_analytics.errors` for what goes wrong afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING

import attrs

from agora_analytics._core import merge, paging, truncation, validation
from agora_analytics._core.decoding.codec import decoder, points_decoder
from agora_analytics._core.dispatcher import SpanProvider
from agora_analytics._core.redaction import fingerprint
from agora_analytics._core.wire import Param
from agora_analytics.endpoints.base import MaxRequestsReachedError, Results
from agora_analytics.endpoints.call_requests import CallRequests, sessions_params
from agora_analytics.endpoints.call_spans import id_of, sids_of
from agora_analytics.models import (
    Call,
    CallPage,
    Found,
    FreezeBucket,
    Point,
    Rows,
    Session,
    SessionMetrics,
    SessionPage,
    Statistic,
    Uid,
)
from agora_analytics.plans import CALL_FREEZE, CALL_LISTS, CALL_METRICS, CALL_SESSIONS, CALL_STATISTICS, CALL_TIMELINE
from agora_analytics.spans import MINUTE, Instant, sliced

if TYPE_CHECKING:
    from agora_analytics.streams.checkpoints import Checkpoint
    from agora_analytics.streams.follow.follow import Follow
    from agora_analytics.streams.period import Beginning

__all__ = ["Calls"]


_statistics = decoder(Rows[Statistic])
_freeze = decoder(Rows[FreezeBucket])
_timeline = points_decoder("value")


class Calls(CallRequests):
    """`client.calls`: the six endpoints of Call Inspector, and calls as they begin and end."""

    async def page(
        self, start: Instant, end: Instant, *, cname: str | None = None, page_no: int = 1, page_size: int = 100
    ) -> CallPage:
        """Return one page of the calls in a span, newest first, for one request, as the service selects them.

        `page_no` counts from 1, `page_size` is 1 to 100. `GET /beta/analytics/call/lists`.
        """
        span, tracker, _ = self._open(CALL_LISTS, start, end)
        channel = validation.optional_str("cname", cname)
        number, size = _page_of(page_no, page_size)
        return await self._fetch_page(tracker, channel, size, truncation.ListQuery(span), number)

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

        ```python
        calls = client.calls.search(start, end)
        async for call in calls:
            print(call.cname, call.started_at, call.call_video_freeze_rate)
        print(calls.requests, "requests,", "missing:", *calls.missing)
        ```

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
        channel = validation.optional_str("cname", cname)
        size = validation.int_in_range("page_size", page_size, 1, validation.PAGE_SIZE)
        most = validation.none_or(validation.int_in_range, "max_requests", max_requests, 1)
        span, tracker, limits = self._open(CALL_LISTS, start, end, whole=False, clip_start=True, most=most)

        kind = truncation.CALLS if channel is None else truncation.CALLS_OF_CHANNEL
        spans = sliced(span, limits.longest_query)
        fetch = partial(self._fetch_page, tracker, channel, size)
        calls = paging.rows(spans, fetch, kind, read_ahead=self._read_ahead, size=size)
        return Results(_begun_in(lambda: tracker.moved(span), calls), tracker)

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
        users = validation.max_length("uids", validation.uids(uids), validation.UIDS)
        servers = validation.boolean("exclude_server_user", exclude_server_user)

        tracker = self._track_call(CALL_SESSIONS, call, start, end, whole=True)
        params = sessions_params(*_page_of(page_no, page_size), users, exclude_server_user=servers)
        page = await tracker.fetch_whole(
            self._call_fetcher(tracker, CALL_SESSIONS, self._session_page, id_of(call), params)
        )
        return attrs.evolve(page, missing=tracker.missing) if tracker.missing else page

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

        ```python
        async for session in client.calls.sessions(call):
            print(session.uid, session.network, session.joined_at, session.left_at)
        ```

        `start` and `end` are needed with an id and default to the whole of a `Call` (while it goes on: to now, less the
        plan's delay). Long calls are cut by the plan's hours, `uids` (any number) are asked for ten at a time.
        `exclude_server_user` leaves out Linux users. `GET /beta/analytics/call/sessions`.

        A call that has only just ended is listed before its details can be asked for: of what is too young then, and of
        what is not kept any more, nothing comes, as the log and `missing` of what is returned tell. `wait=True` waits
        until all of a call that is over can be asked for (see `askable_at`). Raises `TooEarly` where nothing can be
        asked for yet, and `PlanRefused` where nothing is kept any more.

        Where the service cuts the list off, halves of its span are asked for; raises `IncompleteList` as `search` does.
        """
        users = validation.uids(uids)
        servers = validation.boolean("exclude_server_user", exclude_server_user)
        tracker = self._track_call(CALL_SESSIONS, call, start, end, wait=validation.boolean("wait", wait))
        return Results(self._sessions(id_of(call), users, tracker, exclude_server_user=servers), tracker)

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

        ```python
        async for metrics in client.calls.metrics(call):
            freezes = metrics.track(catalogue.MetricId.VIDEO_FREEZE_TIME)
            if freezes is not None:
                print(metrics.sid, sum(milliseconds for _, milliseconds in freezes.points))
        ```

        `sids` are ids or sessions, any number; None means all sessions of the call, which costs the requests to list
        them, without those of Linux users, such as recorders and bots, unless `exclude_server_user=False`. They are
        asked for twenty at a time, long calls cut by the plan's hours and merged. `start`, `end`, `wait` and `missing`
        as in `sessions`. `GET /beta/analytics/call/metrics`.
        """
        wanted = None if sids is None else sids_of(sids)
        servers = validation.boolean("exclude_server_user", exclude_server_user)
        tracker = self._track_call(CALL_METRICS, call, start, end, wait=validation.boolean("wait", wait))
        return Results(self._metrics(id_of(call), wanted, tracker, exclude_server_user=servers), tracker)

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
            "metric": validation.non_empty_str("metric", metric),
            "dimension": validation.non_empty_str("dimension", dimension),
        }
        tracker = self._track_call(CALL_STATISTICS, call, start, end, whole=True)
        found = await tracker.fetch_whole(
            self._call_fetcher(tracker, CALL_STATISTICS, _statistics, id_of(call), params)
        )
        return tracker.found(found.items)

    async def freeze_buckets(
        self, call: Call | str, metric: str, start: Instant | None = None, end: Instant | None = None
    ) -> Found[FreezeBucket]:
        """Return how many users froze how much, lowest bucket first, without the empty ones, for one request.

        `metric` is one of `FreezeMetric`; the span must fit one request, and `missing` tells what it lacks, as in
        `statistics`.
        `GET /beta/analytics/call/freeze/bucket`.
        """
        params: dict[str, Param] = {"metric": validation.non_empty_str("metric", metric)}
        tracker = self._track_call(CALL_FREEZE, call, start, end, whole=True)
        found = await tracker.fetch_whole(self._call_fetcher(tracker, CALL_FREEZE, _freeze, id_of(call), params))
        return tracker.found(sorted(found.items, key=lambda bucket: bucket.lowest))

    async def timeline(
        self, call: Call | str, metric: str, start: Instant | None = None, end: Instant | None = None
    ) -> Found[Point]:
        """Return a metric of a call minute by minute, in order of time, with the holes the service leaves.

        `metric` is one of `TimelineMetric`; long calls are cut by the plan's hours, at whole minutes of UTC, and
        merged. `missing` as in `statistics`. `GET /beta/analytics/call/statistics/time`.
        """
        params: dict[str, Param] = {"metric": validation.non_empty_str("metric", metric)}
        tracker = self._track_call(CALL_TIMELINE, call, start, end)
        fetch = self._call_fetcher(tracker, CALL_TIMELINE, _timeline, id_of(call), params)
        # What a service counts in a minute that is cut in two cannot be added up: one user may be in both parts.
        spans = tracker.slices(mark=MINUTE)
        nothing = Rows[Point](data=())
        parts = [(await tracker.fetch(partial(fetch, span), span, nothing)).items for span in spans]
        return tracker.found(merge.merge_points(parts))

    def follow(
        self,
        *,
        start: Beginning = None,
        stop: Instant | None = None,
        checkpoint: str | Checkpoint | None = None,
        allowed_lateness: int = 300,
        every: int = 60,
        with_sessions: bool = False,
        late_sessions: bool = True,
    ) -> Follow:
        """Yield what happens to calls, for as long as you iterate: each start, change and end once.

        ```python
        async for event in client.calls.follow(with_sessions=True):
            match event:
                case CallStarted():
                    print("started", event.call.cname)
                case CallFinished():
                    print("finished", event.call.cname, len(event.sessions or ()))
                case Gap():
                    print("nothing is known of", event.span, event.reason)
        ```

        A `CallStarted` comes when a call is first seen, a `CallChanged` when one that goes on looks different, a
        `CallFinished` when it is over, and a `CallLost` where nobody will see its end: it was deleted, or began before
        what the plan keeps. Calls that appear late are found within `allowed_lateness` seconds. What nobody can ask for
        any more is a `Gap` with the reason.

        With `with_sessions=True` a call that is over comes with its sessions, as soon as the plan lets them be asked
        for. They have a budget of their own, the day's requests for details less a tenth for people: where it is spent,
        or they are refused or fail for minutes, the call comes without and with the reason, and they follow as
        `CallSessions` if they can be had later, unless `late_sessions=False`.

        It begins where its `checkpoint` is (see `realtime.watch`), or at `start` (a moment, or a `timedelta` before the
        newest that can be asked for, by the service's clock), or with what begins from now on. It ends when all calls
        that began before `stop` are over, or never. The list is read every `every` seconds, less often where the day's
        requests do not allow it. Calls that go on are looked at again the less often the longer they last.

        Raises `ValueError` or `TypeError` for bad arguments; while iterating, `CheckpointError`, and what ends a
        stream: `BadRequest`, `NotFound`, `PlanRefused`, `LedgerError` or `Unauthorized` before anything was answered,
        and later `Unauthorized` alone, after an hour. `GET /beta/analytics/call/lists`,
        `GET /beta/analytics/call/sessions`.
        """
        from agora_analytics.endpoints.stream_sources import CallSource  # noqa: PLC0415
        from agora_analytics.streams.follow.follow import Follow  # noqa: PLC0415
        from agora_analytics.streams.follow.poller import Settings  # noqa: PLC0415
        from agora_analytics.streams.period import Period  # noqa: PLC0415
        from agora_analytics.streams.position import place_of  # noqa: PLC0415

        period = Period.of(start, stop)
        settings = Settings(
            start=period.start,
            back=period.back,
            stop=period.stop,
            allowed_lateness=validation.int_in_range("allowed_lateness", allowed_lateness, 0),
            every=validation.int_in_range("every", every, 1),
            with_sessions=validation.boolean("with_sessions", with_sessions),
            late_sessions=validation.boolean("late_sessions", late_sessions),
        )
        stream = f"follow {fingerprint(self._app())}"
        source = CallSource(self._dispatcher, self._scope)
        place = place_of(stream, checkpoint, self._scope.checkpoints)
        return Follow(source, self._dispatcher.quota, settings, place)


def _page_of(number: object, size: object) -> tuple[int, int]:
    """Check the number and the size of a page."""
    return (
        validation.int_in_range("page_no", number, 1),
        validation.int_in_range("page_size", size, 1, validation.PAGE_SIZE),
    )


async def _begun_in(within: SpanProvider, calls: AsyncGenerator[Call]) -> AsyncGenerator[Call]:
    """Yield the calls that began in a span: a service that selects by overlap, or takes the end in, lists more."""
    async with aclosing(calls):
        with suppress(MaxRequestsReachedError):
            async for call in calls:
                span = within()
                began = call.created_ts if call.started_at else None
                if began is None or span.start <= began < span.end:
                    yield call
