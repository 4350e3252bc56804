"""The loop of `follow`: read new calls, look up open ones, deliver events, fetch sessions, sleep.

Call lists are read forward, with an overlap (the allowed lateness), because some calls appear late. Backfill: after an
outage or a restart they are read from where they were read to, an hour at a time (`_next_span`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

import attrs

from agora_analytics._core.retry import backoff
from agora_analytics._core.wire import NothingToFetchError
from agora_analytics.errors import AgoraError, DecodeError, IncompleteList
from agora_analytics.models import Call
from agora_analytics.plans import CALL_LISTS, CALL_SESSIONS
from agora_analytics.quota.limiters import Limiters, Reserve
from agora_analytics.spans import DAY, HOUR, Span
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.events import CallEvent, CallFinished, CallLost, Gap, Loss
from agora_analytics.streams.follow.call_lists import CallListReader
from agora_analytics.streams.follow.call_tracker import CallTracker
from agora_analytics.streams.follow.open_calls import MAX_MISSES, OpenCallRefresher
from agora_analytics.streams.follow.sessions import SessionFetcher
from agora_analytics.streams.health import log
from agora_analytics.streams.poller import Poller
from agora_analytics.streams.position import Position
from agora_analytics.streams.retention import RetentionBounds
from agora_analytics.streams.sources import CallPageSource
from agora_analytics.streams.stream import Stream

__all__ = ["Follow"]

_SLICE: Final = HOUR
"""Seconds read at a time, because the calls are held in memory until they are delivered."""

_MARGIN: Final = 60
"""Seconds by which requests stay inside the plan's retention: a request takes time."""

_MAX_INTERVAL: Final = 900.0
"""Seconds between two polls, at most."""

_MAX_PENDING: Final = 1_000
"""Finished calls that wait for their sessions, above which no further calls are read."""


@attrs.frozen(kw_only=True)
class FollowSettings:
    """The arguments of `Calls.follow`."""

    start: int | None
    back: int | None
    stop: int | None
    allowed_lateness: int
    every: int
    with_sessions: bool
    late_sessions: bool


class Follow(Stream[CallEvent]):
    """A stream of what happens to calls, each event once; made by `client.calls.follow(…)`.

    Iterate over it, and end it with `aclose()`, `async with` or `stop()`:

    ```python
    async with AnalyticsClient.from_env() as client, client.calls.follow(start=timedelta(hours=1)) as calls:
        async for event in calls:
            match event:
                case CallStarted(call=call):
                    print(call.call_id, "started")
                case CallFinished(call=call):
                    print(call.call_id, "finished")
                    break
    ```
    """

    def __init__(
        self, source: CallPageSource, limiters: Limiters, settings: FollowSettings, position: Position
    ) -> None:
        self._calls = FollowPoller(source, limiters, settings, position)
        super().__init__(self._calls, limiters.time, source.app_id)

    @property
    def open_calls(self) -> int:
        """The number of calls that are open, as the consumer knows them."""
        return self._calls.open_calls


class FollowPoller(Poller[CallEvent]):
    """Polls call lists, looks up open calls and fetches sessions."""

    def __init__(
        self, source: CallPageSource, limiters: Limiters, settings: FollowSettings, position: Position
    ) -> None:
        super().__init__("follow", limiters, position, RetentionBounds(limiters.plan.of_endpoint(CALL_LISTS), _MARGIN))
        source.on_skipped(self.monitor.rows_skipped)
        self._settings = settings
        self._lists = CallListReader(source, self._bounds, limiters.time.utc, self.request)
        self._open_calls = OpenCallRefresher(self._lists, settings.every)
        self._session_fetcher = SessionFetcher(source, limiters) if settings.with_sessions else None
        self._tracker: CallTracker | None = None
        self._first = 0
        self._calls_per_second = 0.0
        self._slice = _SLICE
        self._read_to: int | None = None
        self._incomplete: list[IncompleteList] = []
        # Here too, for a checkpoint that was passed in: its state may be read before the first event.
        self._restore()
        if self._tracker is None and settings.start is not None:
            self._first, self._tracker = settings.start, self._new_tracker(settings.start)

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint once the consumer is done with `current`."""
        if self._tracker is None:
            return self.position.checkpoint
        return self._tracker.preview(self.current).to_checkpoint(self.position.stream, self._first)

    @property
    def read_to(self) -> float | None:
        """UTC seconds up to which calls were read."""
        return self.monitor.health.last_window

    @property
    def open_calls(self) -> int:
        """The number of open calls that were delivered."""
        return 0 if self._tracker is None else len(self._tracker.open)

    def _new_tracker(self, start: int) -> CallTracker:
        return CallTracker(start, late_sessions=self._settings.late_sessions)

    def _restore(self) -> None:
        checkpoint = self.position.checkpoint
        if checkpoint.done:
            self._tracker = CallTracker.from_checkpoint(checkpoint, late_sessions=self._settings.late_sessions)
            self._first = checkpoint.done[0].start

    async def events(self) -> AsyncGenerator[CallEvent]:
        """Yield what happens to calls."""
        await self.position.resume()
        self._restore()
        async with self.reservation(CALL_LISTS) as lists, self.reservation(CALL_SESSIONS) as sessions:
            await self.calibrate_clock()
            self.check_checkpoint_time()
            if self._tracker is None:
                queryable = self._bounds.queryable(self.downtime.started_at(self.read_clock()))
                self._first = max(queryable.start, queryable.end - (self._settings.back or 0))
                self._tracker = self._new_tracker(self._first)
                # Before the first event: a run that ends with it does not begin later when it is resumed.
                await self._save_progress(self._tracker)
            elif self.position.checkpoint.done and not self._finished(self._tracker):
                # When the last run would have: neither a restart nor a takeover costs a request. By a host's clock that
                # was set back the last poll lies in the future: it is not waited for, as the clock may be put right.
                since = max(self._lists.queryable().end - self._tracker.read_to, 0)
                await self._sleep_until_due(self._tracker, lists, since=since)
            tracker = self._tracker
            try:
                async with aclosing(self._poll_loop(tracker, lists, sessions)) as events:
                    async for event in events:
                        yield event
            finally:  # even if the consumer leaves: what it has processed is done
                if self.position.named:
                    await self._save_progress(tracker)

    async def _poll_loop(self, tracker: CallTracker, lists: Reserve, sessions: Reserve) -> AsyncGenerator[CallEvent]:
        while not self._finished(tracker):
            async with aclosing(self._poll_once(tracker, sessions)) as events:
                async for event in events:
                    yield event
                    tracker.apply(event)
                    self.current = None
                    if self.stopped:
                        return
            if self._read_to is not None:
                tracker.advance(self._read_to, self._read_to - self._settings.allowed_lateness)
                self.monitor.update(last_window=self._read_to)
            await self._save_progress(tracker)
            if not self._finished(tracker):
                await self._sleep_until_due(tracker, lists)

    async def _poll_once(self, tracker: CallTracker, sessions: Reserve) -> AsyncGenerator[CallEvent]:
        """Read calls, and yield gaps, events (oldest call first), lost calls, and then sessions."""
        started = self._time.utc()
        self._read_to, tracker.now = None, int(started)
        calls: list[Call] = []
        # Otherwise a spent quota for sessions would fill the memory with calls that wait for theirs.
        if self._session_fetcher is None or tracker.unreported() < _MAX_PENDING:
            calls = await self.unless_stopped(self._read_calls(tracker))
        # Before the calls, as what they report as lost lies before them.
        for gap in self._expired_gaps(tracker.read_to, self._lists.lost_before):
            yield gap
        for call in sorted(calls, key=lambda call: (call.created_ts or 0, call.call_id)):
            for event in tracker.diff(call, self._bounds.oldest_accepted):
                if self._session_fetcher is not None and isinstance(event, CallFinished):
                    tracker.add_pending(call, self._session_fetcher.queryable_at(call))
                else:
                    yield event
        for gap in self._incomplete_gaps(tracker):  # after the calls of their span, because a gap moves the checkpoint
            yield gap
        # Only now: a call that was just read again is not lost.
        for lost in self._lost_calls(tracker):
            yield lost
        if self._session_fetcher is not None:
            self._session_fetcher.oldest_accepted = self._bounds.oldest_accepted
            pending = self._session_fetcher.fetch_pending(tracker, sessions, started + self._settings.every)
            async for fetched in self.iterate_until_stopped(pending):
                yield fetched

    async def _read_calls(self, tracker: CallTracker) -> list[Call]:
        """Read the next span and look up open calls; what fails is retried by the next poll."""
        started = self.start_poll()
        span = self._next_span(tracker, started.utc)
        self._lists.lost_before, self._incomplete = 0, []
        try:
            calls = await self._read_span(span)
        except NothingToFetchError:
            return []  # the span expired; the next poll starts where the plan does by then
        except AgoraError as error:
            # A list without a readable row is an error. A longer span may have readable rows, and skips the others.
            unreadable = isinstance(error, DecodeError) and error.path
            self._slice = min(2 * self._slice, self._bounds.limits.longest_query) if unreadable else _SLICE
            self.finish_poll(started, [error], answered=False)
            return []
        self._slice = _SLICE
        # What expired while the request waited counts as read: a gap reports it.
        self._read_to = tracker.read_to if span is None else max(span.end, self._lists.lost_before)
        reads_on = span is not None and span.end > tracker.read_to
        lookups_before = span.start if span and reads_on else self._lookups_before(tracker)
        found = await self._open_calls.refresh(tracker, lookups_before, calls, self._calls_per_second)
        calls += found.calls
        self.finish_poll(started, found.errors, answered=True)
        self._log(tracker, span, calls)
        return calls

    async def _read_span(self, span: Span | None) -> list[Call]:
        """Return the calls of a span; without one, which may mean that a clock was set back, ask for the time."""
        if span is not None:
            calls = await self._lists.search(span, incomplete=self._incomplete)
            self._calls_per_second = len(calls) / span.duration
            self._lists.lost_before = max(self._lists.lost_before, span.start)
            return calls
        if self._bounds.clock_went_back(self._time.utc()):
            await self._lists.request_time()
        return []

    def _log(self, tracker: CallTracker, span: Span | None, calls: Sequence[Call]) -> None:
        log.info(
            "read %d calls of %s; %d are open",
            len(calls),
            span or "nothing new",
            len(tracker.open),
            extra={"agora_calls": len(calls), "agora_open_calls": len(tracker.open), "agora_read_to": self._read_to},
        )

    def _next_span(self, tracker: CallTracker, utc: float) -> Span | None:
        """Return the span to read next, which overlaps the last one; None if nothing is new."""
        queryable = self._bounds.queryable(utc)
        start = max(tracker.read_to - self._settings.allowed_lateness, self._first, queryable.start)
        stop = self._settings.stop or queryable.end
        end = min(queryable.end, max(tracker.read_to, queryable.start) + self._slice, stop)
        return Span(start, end) if start < end else None

    def _lookups_before(self, tracker: CallTracker) -> int:
        """Return the time before which open calls are looked up when nothing new is read: one may have moved on."""
        last = max((known.began for known in tracker.open.values()), default=0)
        return max(tracker.read_to, min(last + 1, self._lists.queryable().end))

    def _incomplete_gaps(self, tracker: CallTracker) -> list[Gap]:
        """Return gaps for what lists lacked of spans that were read for the first time."""
        lacking = [(error.span, error) for error in self._incomplete if error.span and error.span.end > tracker.read_to]
        for _, error in lacking:
            log.warning("follow: calls are missing: %s", error)
        return [Gap(span=span, reason="service") for span, _ in sorted(lacking, key=lambda pair: pair[0].start)]

    def _lost_calls(self, tracker: CallTracker) -> list[CallLost]:
        """Return the open calls whose end will not be seen."""
        oldest = self._bounds.oldest_accepted
        expired = [CallLost(call=known.call, reason="expired") for known in tracker.opened_before(oldest)]
        gone = [
            CallLost(call=known.call, reason="gone")
            for known in tracker.open.values()
            if known.misses >= MAX_MISSES and known.began >= oldest
        ]
        return [*expired, *gone]

    def _expired_gaps(self, start: int, end: int) -> list[Gap]:
        """Return gaps for what is no longer queryable: lost before the stream started, and lost since."""
        kept = self.oldest_at_start()
        # What expired in the first minute counts as lost before the start, not as a gap of a few seconds of its own.
        kept = end if end <= kept + _MARGIN else max(start, kept)
        parts: list[tuple[int, int, Loss]] = [(start, kept, "before_start"), (kept, end, self._loss_reason(kept))]
        return [Gap(span=Span(first, last), reason=reason) for first, last, reason in parts if first < last]

    def _loss_reason(self, start: int) -> Loss:
        utc = self._time.utc()
        if self._bounds.is_reduced and start + self._bounds.limits.retention > utc:
            return "service"
        return self.downtime.main_reason(start + self._bounds.delay, utc)

    async def probe(self, number: int) -> AgoraError | None:  # noqa: ARG002 - there is one kind of request
        """Read the newest span."""
        queryable = self._lists.queryable()
        try:
            await self._lists.search(Span(max(queryable.end - self._settings.every, 0), queryable.end))
        except NothingToFetchError:
            return None
        except AgoraError as error:
            return error
        return None

    def discard_probe(self) -> None:
        """Forget what the service accepted."""
        self._bounds.forget_accepted()
        self._lists.lost_before = 0

    async def _save_progress(self, tracker: CallTracker) -> None:
        # In a sink too: without calls there is no event to save it with, and each turn of a job would read it again.
        if self.position.is_saved:
            await self.position.save(tracker.to_checkpoint(self.position.stream, self._first))

    async def _sleep_until_due(self, tracker: CallTracker, reserve: Reserve, *, since: float = 0.0) -> None:
        """Sleep as the day's requests allow, and not at all while there is more to read.

        `since` are the seconds since the last poll.
        """
        # The last poll is the best estimate of the next: as many pages, and as many lookups.
        cost, self._lists.requests_made = max(self._lists.requests_made, 1.0), 0.0
        every, failures = self._settings.every, self.monitor.health.failures
        budget = await self.update_reservation(reserve, round(DAY / every), round(DAY / every))
        self.monitor.update(requests_left=budget.requests)
        # What other programs probably use is left to them, but a poll each quarter of an hour stays.
        requests = budget.leaving(budget.seconds * cost / _MAX_INTERVAL)
        affordable = budget.seconds * cost / requests if requests else 0.0
        newest = self._lists.queryable().end
        # Behind after an outage: read on at once, as far as the requests allow.
        is_behind = min(newest, self._settings.stop or newest) - tracker.read_to > every and not failures
        pause = backoff(every, failures, _MAX_INTERVAL) if failures else 0.0
        # At least a moment, so that a loop without anything to wait for gives others their turn.
        await self.pause(max(max(affordable, 0.0 if is_behind else every, pause) - since, 0.01))

    def _finished(self, tracker: CallTracker) -> bool:
        stop = self._settings.stop
        pending = tracker.pending if self._session_fetcher is not None else {}
        ended = stop is not None and tracker.read_to >= stop and not tracker.open and not pending
        return self.ending or ended
