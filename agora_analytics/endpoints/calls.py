"""Call Inspector: calls, their sessions, and their quality.

`…page` is one request; `search`, `sessions` and `metrics` send as many as needed and yield item by item; the statistics
of a call are one request each, its timeline one per slice. Spans are half-open, in UTC seconds or aware datetimes. All
methods raise `ValueError` or `TypeError` before anything is sent if the plan or the API does not allow the arguments,
and the errors of `agora_analytics.errors` afterwards.
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
from agora_analytics.endpoints.base import MaxRequestsReachedError
from agora_analytics.endpoints.call_requests import CallRequests, sessions_params
from agora_analytics.endpoints.call_spans import id_of, sids_of
from agora_analytics.endpoints.results import Results
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
    from agora_analytics.protocols import ResumableSink
    from agora_analytics.streams.checkpoints import Checkpoint
    from agora_analytics.streams.follow.follow import Follow
    from agora_analytics.streams.position import StartPoint

__all__ = ["Calls"]


_statistics = decoder(Rows[Statistic])
_freeze = decoder(Rows[FreezeBucket])
_timeline = points_decoder("value")


class Calls(CallRequests):
    """`client.calls`: the six endpoints of Call Inspector, and calls as they begin and end."""

    async def page(
        self, start: Instant, end: Instant, *, cname: str | None = None, page_no: int = 1, page_size: int = 100
    ) -> CallPage:
        """Return one page of the calls in a span, newest first, in one request, as the service selects them.

        ```python
        page = await client.calls.page(start, end, page_size=20)
        for call in page.items:
            print(call.cname, call.started_at, call.ended_at or "open")
        print(len(page.items), "of", page.total_size, "calls")
        ```

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

        Adjoining spans yield no call twice and miss none. A call that began before the span is left out; one without
        `created_ts` is yielded wherever the service lists it. The span is split into what one request may carry, oldest
        slice first (it expires soonest); calls are newest first within a slice. The next page is prefetched, unless the
        client has `read_ahead=False`. `GET /beta/analytics/call/lists`.

        What expires at the service while you iterate is left out; `missing` of the result has it, and a warning is
        logged. Where the service truncates a list, narrower lists are fetched, in pages of 100: `narrowed` of the
        result counts their requests, `requests` all. Raises `IncompleteList` for calls that cannot be fetched even so,
        after all other calls of the slice.

        It ends early at `max_requests`, retries included; then `exhausted` of the result is True.
        """
        channel = validation.optional_str("cname", cname)
        size = validation.int_in_range("page_size", page_size, 1, validation.PAGE_SIZE)
        most = validation.none_or(validation.int_in_range, "max_requests", max_requests, 1)
        span, tracker, longest = self._open(CALL_LISTS, start, end, whole=False, clip_start=True, most=most)

        spans = sliced(span, longest)
        fetch = partial(self._fetch_page, tracker, channel, size)
        calls = paging.rows(spans, fetch, truncation.calls(channel), read_ahead=self._read_ahead, size=size)
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
        """Return one page of the sessions of a call, latest to join first, in one request.

        ```python
        page = await client.calls.sessions_page(call, page_size=20)
        for session in page.items:
            print(session.uid, session.platform, session.user_video_freeze_rate)
        print(len(page.items), "of", page.total_size, "sessions")
        ```

        `start` and `end` are required with an id and default to the whole of a `Call`; what is not queryable now is
        left out, and listed in `missing` of the page. Raises `PlanRefused` for a `Call` longer than one request may
        span: `sessions` splits it. At most 10 `uids`. `GET /beta/analytics/call/sessions`.
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

        `start` and `end` are required with an id and default to the whole of a `Call` (while it is open: to now, minus
        the plan's delay). Long calls are split by the plan's hours; `uids` (any number) are sent ten at a time.
        `exclude_server_user` leaves out Linux users. `GET /beta/analytics/call/sessions`.

        A call is listed before its details are queryable. Details that are too young or have expired are left out;
        `missing` of the result has them, and the log. `wait=True` waits until all details of a finished call are
        queryable (see `queryable_at`). Raises `TooEarly` if none are queryable yet, `PlanRefused` if all have expired.

        Where the service truncates the list, its span is halved; raises `IncompleteList` as `search` does.
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
        """Yield the metrics of each session of `sids`, in that order; one without data has an empty `data`.

        ```python
        async for metrics in client.calls.metrics(call):
            freezes = metrics.track(catalogue.MetricId.VIDEO_FREEZE_TIME)
            if freezes is not None:
                print(metrics.sid, sum(milliseconds for _, milliseconds in freezes.points))
        ```

        `sids` are ids or sessions, any number. None means all sessions of the call, which costs the requests to list
        them; those of Linux users, such as recorders and bots, are left out unless `exclude_server_user=False`. Twenty
        are sent at a time; long calls are split by the plan's hours and merged. `start`, `end`, `wait` and `missing` as
        in `sessions`. `GET /beta/analytics/call/metrics`.
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
        """Return the average of a freeze rate by a dimension's values, in one request.

        ```python
        for average in await client.calls.statistics(call, "video_freeze_rate", "country"):
            print(average.dimension_value, average.user_count, "users", average.value)
        ```

        `metric` is one of `FreezeMetric`, `dimension` of `Dimension`; averages are fractions, in the service's order.
        They cannot be merged, so the span must fit one request. Raises `PlanRefused` (kind `length`, with the limit)
        for a longer `Call`: fetch parts of it then. What is not queryable now is left out, and listed in `missing` of
        the result. `GET /beta/analytics/call/statistics`.
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
        """Return a histogram of users by freeze rate, lowest bucket first, without empty ones, in one request.

        ```python
        for bucket in await client.calls.freeze_buckets(call, "audio_freeze_rate"):
            print(bucket.bucket, bucket.user_count, "users")
        ```

        `metric` is one of `FreezeMetric`. The span must fit one request; `missing` as in `statistics`.
        `GET /beta/analytics/call/freeze/bucket`.
        """
        params: dict[str, Param] = {"metric": validation.non_empty_str("metric", metric)}
        tracker = self._track_call(CALL_FREEZE, call, start, end, whole=True)
        found = await tracker.fetch_whole(self._call_fetcher(tracker, CALL_FREEZE, _freeze, id_of(call), params))
        # The service sends buckets in any order.
        return tracker.found(sorted(found.items, key=lambda bucket: bucket.lowest))

    async def timeline(
        self, call: Call | str, metric: str, start: Instant | None = None, end: Instant | None = None
    ) -> Found[Point]:
        """Return a metric of a call by minute, in order of time; minutes may be missing.

        ```python
        for point in await client.calls.timeline(call, "user_count"):
            print(point.started_at, point.value)
        ```

        `metric` is one of `TimelineMetric`. Long calls are split by the plan's hours, at whole minutes of UTC, and
        merged. `missing` as in `statistics`. `GET /beta/analytics/call/statistics/time`.
        """
        params: dict[str, Param] = {"metric": validation.non_empty_str("metric", metric)}
        tracker = self._track_call(CALL_TIMELINE, call, start, end)
        fetch = self._call_fetcher(tracker, CALL_TIMELINE, _timeline, id_of(call), params)
        # Counts of half minutes cannot be added up: one user may be in both halves.
        spans = tracker.slices(mark=MINUTE)
        nothing = Rows[Point](data=())
        # One after the other: an answer may correct the clock, by which the next slice is cut.
        parts = [(await tracker.fetch(partial(fetch, span), span, nothing)).items for span in spans]
        return tracker.found(merge.merge_points(parts))

    def follow(
        self,
        *,
        start: StartPoint = None,
        stop: Instant | None = None,
        checkpoint: str | Checkpoint | ResumableSink | None = None,
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

        A `CallStarted` comes when a call is first seen, a `CallChanged` when an open call changes, `CallFinished` when
        it is over, and a `CallLost` if its end will never be seen: it was deleted, or has expired. Calls that are
        listed late are found within `allowed_lateness` seconds. A span that was lost comes as a `Gap` with the reason.

        With `with_sessions=True` a finished call comes with its sessions, once the plan makes them queryable. They have
        a budget of their own: the day's requests for details, minus a tenth for interactive use. Where that is spent,
        or the requests fail for minutes, the call comes without sessions and with the reason; they follow as
        `CallSessions` if they become queryable, unless `late_sessions=False`.

        It resumes at its `checkpoint` (see `realtime.watch`); without one it starts at `start` (a moment, or a
        `timedelta` before the newest queryable second), or with calls that begin from now on. It ends when all calls
        that began before `stop` are over, or never. It polls every `every` seconds, or less often if the day's
        requests do not allow it; open calls are refreshed less often the longer they last.

        Raises `ValueError` or `TypeError` for bad arguments; while iterating, `CheckpointError`, and what ends a
        stream: `BadRequest`, `NotFound`, `PlanRefused`, `LedgerError` or `Unauthorized` before anything was answered,
        and later `Unauthorized` alone, after an hour. `GET /beta/analytics/call/lists`,
        `GET /beta/analytics/call/sessions`.
        """
        # Loaded at first use: most programs open no stream.
        from agora_analytics.endpoints.stream_sources import ApiCallSource  # noqa: PLC0415
        from agora_analytics.streams.follow.follow import Follow, FollowSettings  # noqa: PLC0415
        from agora_analytics.streams.position import Period, position_for  # noqa: PLC0415

        period = Period.of(start, stop)
        settings = FollowSettings(
            start=period.start,
            back=period.back,
            stop=period.stop,
            allowed_lateness=validation.int_in_range("allowed_lateness", allowed_lateness, 0),
            every=validation.int_in_range("every", every, 1),
            with_sessions=validation.boolean("with_sessions", with_sessions),
            late_sessions=validation.boolean("late_sessions", late_sessions),
        )
        # Saved in checkpoints, which must not hold the App ID.
        stream = f"follow {fingerprint(self._app())}"
        source = ApiCallSource(self._dispatcher, self._scope)
        position = position_for(stream, checkpoint, self._scope.checkpoints)
        return Follow(source, self._dispatcher.limiters, settings, position)


def _page_of(number: object, size: object) -> tuple[int, int]:
    """Check the number and the size of a page."""
    return (
        validation.int_in_range("page_no", number, 1),
        validation.int_in_range("page_size", size, 1, validation.PAGE_SIZE),
    )


async def _begun_in(within: SpanProvider, calls: AsyncGenerator[Call]) -> AsyncGenerator[Call]:
    """Filter the calls that began in a span: a service that selects by overlap, or includes the end, lists more."""
    async with aclosing(calls):
        with suppress(MaxRequestsReachedError):
            async for call in calls:
                # Each time: the first answer may have moved the span to the service's clock.
                span = within()
                # 0 and impossible times count as unknown, and such a call is kept rather than lost.
                began = call.created_ts if call.started_at else None
                if began is None or span.start <= began < span.end:
                    yield call
