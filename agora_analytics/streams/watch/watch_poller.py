"""The loop of `watch`: poll as windows become queryable, deliver them, save the checkpoint, sleep until the next.

Backfill: each poll asks for all windows from the oldest that may still change (`_span`), so the first one after an
outage or a restart brings all that was missed and that the service still keeps. Older windows become a `Gap`.

The theory (watermark, late data, checkpoints) is in docs/concepts/streams.md.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import attrs

from agora_analytics._core.dispatcher import SpanProvider
from agora_analytics._core.wire import NothingToFetchError
from agora_analytics.errors import AgoraError
from agora_analytics.models import Point
from agora_analytics.plans import REALTIME_USAGE
from agora_analytics.quota.budget import Budget
from agora_analytics.quota.limiters import Limiters, Reserve
from agora_analytics.quota.service_time import Now
from agora_analytics.spans import DAY, WINDOW, Span
from agora_analytics.streams.checkpoints import Checkpoint, unreadable
from agora_analytics.streams.error_policy import rule_for
from agora_analytics.streams.events import Event, Loss, Revision, Window
from agora_analytics.streams.health import log
from agora_analytics.streams.poller import Poller
from agora_analytics.streams.position import Position
from agora_analytics.streams.retention import RetentionBounds
from agora_analytics.streams.sources import WindowSource
from agora_analytics.streams.spreading import poll_offset
from agora_analytics.streams.watch.assembler import WindowAssembler
from agora_analytics.streams.watch.schedule import PollSchedule, max_windows_per_request
from agora_analytics.streams.watch.series import Series

_OUTAGE_FAILURES: Final = 2
"""Failures in a row, within a poll, after which the remaining queries are not tried."""

_GIVE_UP_AFTER: Final = 600.0
"""Seconds for which a query must fail, while others are answered, before windows no longer wait for its series."""

_REACH_SHARE: Final = 0.8
"""Longest polling interval, as a share of the windows that one request can bring: the rest is for retries."""

_CLOCK_CHECK: Final = 60.0
"""Seconds between two checks of the clock in a sleep."""

_FIRST_PLAN: Final = 10.0
"""Seconds after which a stream that resumes looks again at what the day's requests allow."""

_SET_BACK: Final = 30.0
"""Seconds by which the clock must have been set back to end a sleep."""

_LAG: Final = 1.0
"""Seconds between a window's becoming queryable and its poll."""

_MARGIN: Final = 5
"""Seconds by which requests stay inside the plan's retention: a request takes time."""


@attrs.frozen(kw_only=True)
class WatchSettings:
    """The arguments of `Realtime.watch`; `min_interval` is `every` in windows."""

    start: int | None
    back: int | None
    stop: int | None
    allowed_lateness: int
    final_after: int
    revisions: bool
    only_final: bool
    min_interval: int


class WatchPoller(Poller[Event]):
    """Polls the queries of a watch."""

    def __init__(
        self,
        source: WindowSource,
        limiters: Limiters,
        series: Sequence[Series],
        settings: WatchSettings,
        position: Position,
    ) -> None:
        bounds = RetentionBounds(limiters.plan.of_endpoint(REALTIME_USAGE), _MARGIN)
        super().__init__(f"watch of {len(series)} series", limiters, position, bounds)
        self._series = tuple(series)
        self._source = source
        source.on_skipped(self.monitor.rows_skipped)
        self._settings = settings
        self._schedule = PollSchedule([query.weight for query in source.queries], settings.min_interval)
        self._max_gap = _REACH_SHARE * max_windows_per_request(limiters.plan)
        self._lag = _LAG
        self._assembler: WindowAssembler | None = None
        self._failing_since: dict[int, float] = {}
        self._probe_answers: dict[int, tuple[_Request, tuple[Point, ...]]] = {}

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint once the consumer is done with `current`."""
        checkpoint = self.position.checkpoint
        if self._assembler is None:
            return checkpoint
        if self.current is not None and not isinstance(self.current, Revision):
            checkpoint = checkpoint.with_done(self.current.span)
        return attrs.evolve(checkpoint, open=self._assembler.snapshot(self.current))

    @property
    def read_to(self) -> float | None:
        """The end of the last window that was delivered."""
        last = self.monitor.health.last_window
        return None if last is None else last + WINDOW

    def final_before(self, index: int) -> int | None:
        """Return the first window in which a series may still change; None before the first poll."""
        return None if self._assembler is None else self._assembler.final_before(index)

    async def events(self) -> AsyncGenerator[Event]:
        """Yield windows, revisions and gaps."""
        # Before the first request, so that a name in use costs none.
        await self.position.resume()
        async with self.reservation(REALTIME_USAGE) as reserve:
            with poll_offset() as offset:
                self._lag = _LAG + offset
                await self.calibrate_clock()
                self.check_checkpoint_time()
                self._assembler = assembler = self._create_assembler()
                await self._save_start(assembler)
                if not self._finished(assembler):
                    await self._resume_schedule(reserve)
                while not self._finished(assembler):
                    await self.unless_stopped(self._poll(assembler))
                    for event in assembler.drain(self._bounds.oldest_accepted, self._settings.stop, self._loss_reason):
                        yield event
                        await self._mark_delivered(assembler, event)
                        if self.stopped:
                            return
                    if not self._finished(assembler):
                        await self._sleep_until_due(reserve)

    async def _save_start(self, assembler: WindowAssembler) -> None:
        """Save where the first run begins: it may end before anything is delivered, and the next one begins there."""
        checkpoint = self.position.checkpoint
        if not checkpoint.done and checkpoint.start is None and self.position.is_saved:
            await self.position.save(attrs.evolve(checkpoint, start=assembler.watermark))

    def _create_assembler(self) -> WindowAssembler:
        """Return the assembler as the checkpoint left it, or for the windows from `start` on."""
        settings, done = self._settings, self.position.checkpoint.done
        start = done[0].start if done else self.position.checkpoint.start
        if start is None:
            start = settings.start
        if start is None:
            queryable = self._queryable(self.downtime.started_at(self.read_clock()))
            start = max(queryable.start, queryable.end - (settings.back or WINDOW))
        assembler = WindowAssembler(
            self._series,
            start // WINDOW * WINDOW,
            delay=self._bounds.delay,
            allowed_lateness=settings.allowed_lateness,
            final_after=settings.final_after,
            revisions=settings.revisions,
            only_final=settings.only_final,
            done=done,
        )
        try:
            assembler.restore(self.position.checkpoint.open)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise unreadable("the checkpoint", f"windows of this watch: {error!r}") from None
        return assembler

    async def _resume_schedule(self, reserve: Reserve) -> None:
        """Wait until the last run would have polled: neither a restart nor a takeover costs a request."""
        checkpoint = self.position.checkpoint
        done = checkpoint.done[-1].end if checkpoint.done else 0
        # The answer of a probe is there, and as new as any.
        if self._probe_answers or not (done or checkpoint.open):
            return
        for index, query in enumerate(self._source.queries):
            # What only waits to be final was polled as well.
            series = {str(one) for one in query.series_indexes}
            polled = (int(ts) + WINDOW for ts, found in checkpoint.open.items() if series & found.keys())
            self._schedule.record_success(index, max(polled, default=done) // WINDOW)
        # After a takeover, what the last holder has reserved counts until it ends, soon: plan again, ever less often.
        seconds = _FIRST_PLAN
        while not (self.ending or await self._sleep_until_due(reserve, after=0, at_most=seconds)):
            seconds *= 2

    async def probe(self, number: int) -> AgoraError | None:
        """Poll one query for the newest windows; the answer is kept for the first poll."""
        request, index = _Request(), number % len(self._source.queries)
        try:
            points = await self._fetch(index, lambda: self._newest_span(request))
        except AgoraError as error:
            return error
        self._probe_answers[index] = (request, points)
        return None

    def discard_probe(self) -> None:
        """Discard the answers to probes."""
        self._probe_answers.clear()

    async def _poll(self, assembler: WindowAssembler) -> None:
        """Poll the queries that are due, and record the outcome."""
        started = self.start_poll()
        newest = self._newest_window(started.utc)
        due = self._schedule.due(newest)
        errors = await self._poll_queries(assembler, due, newest)
        answered = any(map(self._schedule.last_succeeded, due))
        # Only while others are answered: in an outage all windows wait, and are backfilled.
        assembler.excluded = self._failing_series() if answered and self._failing_since else frozenset()
        self.finish_poll(started, errors, answered=answered, recovered=not self._failing_since)
        log.info(
            "polled %d of %d series, %d requests failed; the next window is %d",
            sum(len(self._source.queries[index].series_indexes) for index in due),
            len(self._series),
            len(errors),
            assembler.watermark,
            extra={"agora_requests": len(due), "agora_failed": len(errors), "agora_due": assembler.watermark},
        )

    async def _poll_queries(self, assembler: WindowAssembler, due: Sequence[int], newest: int) -> list[AgoraError]:
        """Poll queries one by one, each for the span that is queryable at its moment; return the errors."""
        errors: list[AgoraError] = []
        failures = 0
        for index in due:
            # Several failures in a row are an outage, in which more requests would be wasted.
            error = await self._poll_query(index, assembler) if failures < _OUTAGE_FAILURES else None
            if error is None and failures < _OUTAGE_FAILURES:
                self._schedule.record_success(index, newest)
                self._failing_since.pop(index, None)
                failures = 0
            else:
                self._schedule.record_failure(index, newest)
                self._failing_since.setdefault(index, self._time.monotonic())
                # A refusal is no outage: others may be answered.
                failures += error is None or rule_for(error).state == "outage"
            errors += [error] if error is not None else []
        return errors

    def _failing_series(self) -> frozenset[int]:
        """Return the series that keep failing while others are answered: windows are delivered without them.

        Their values follow as revisions. Without revisions windows wait for them.
        """
        if self._settings.only_final or not self._settings.revisions:
            return frozenset()
        now = self._time.monotonic()
        given_up = [index for index, since in self._failing_since.items() if now - since >= _GIVE_UP_AFTER]
        return frozenset(series for index in given_up for series in self._source.queries[index].series_indexes)

    async def _poll_query(self, index: int, assembler: WindowAssembler) -> AgoraError | None:
        """Ask for all windows that may have changed, add the answer, and return the error if there was one."""
        request = _Request()
        try:
            if index in self._probe_answers:
                request, points = self._probe_answers.pop(index)
            else:
                points = await self._fetch(index, lambda: self._span(request, assembler))
        except NothingToFetchError:
            return None
        except AgoraError as error:
            return error
        if request.span is not None:
            assembler.add(self._source.queries[index].series_indexes, request.span, points, request.sent_at)
            self._bounds.accepted(request.oldest)
        return None

    def _span(self, request: _Request, assembler: WindowAssembler) -> Span:
        """Return the span to ask for: all that may be new.

        After a clock was set back that may be nothing; then the newest window, for the date of the answer.
        """
        utc = self._time.utc()
        queryable, oldest = self._queryable(utc), assembler.oldest_open()
        if oldest >= queryable.end and self._bounds.clock_went_back(utc):
            return Span(queryable.end - WINDOW, queryable.end)
        return request.send(utc, queryable, oldest)

    def _newest_span(self, request: _Request) -> Span:
        utc = self._time.utc()
        return request.send(utc, self._queryable(utc), 0)

    async def _fetch(self, index: int, span: SpanProvider) -> tuple[Point, ...]:
        return await self.request(self._source.endpoint(index), lambda: self._source.windows(index, span))

    def delay_after_quota(self) -> float:
        """Return the seconds until the next window is queryable, or 0 if one has just become so."""
        # Sent at once, it would spend the request a few seconds before there is a window more.
        since = (self._time.utc() - self._bounds.delay - self._lag) % WINDOW
        return WINDOW - since if since > 1 else 0.0

    def _loss_reason(self, ts: int) -> Loss:
        """Return why a window was not polled in time."""
        kept_until = ts + self._bounds.limits.retention
        if ts < self.oldest_at_start():
            return "before_start"
        if self._bounds.is_reduced and kept_until > self._time.utc():
            return "service"
        # If nothing else was in the way, the day's requests do not carry every window.
        return self.downtime.main_reason(ts + WINDOW + self._bounds.delay, kept_until)

    async def _mark_delivered(self, assembler: WindowAssembler, event: Event) -> None:
        """Record that the consumer is done with an event: it has come back for the next."""
        self.current = event
        assembler.mark_delivered(event)
        if isinstance(event, Window):
            self.monitor.update(last_window=event.ts)
        # A checkpoint is built for a name alone: with many groups it takes a millisecond an event.
        if self.position.named:
            await self.position.save(self.checkpoint)
        elif not isinstance(event, Revision):
            self.position.mark_done(event.span)
        self.current = None

    async def _sleep_until_due(self, reserve: Reserve, *, after: int = 1, at_most: float = math.inf) -> bool:
        """Sleep until a query is due, as the day's requests allow, and at least until `after` further windows.

        Return False, before one is, if this is to be planned again: after `at_most` seconds, or for want of requests.
        """
        budget = await self._update_reservation(reserve)
        self.monitor.update(requests_left=budget.requests)
        started = self.start_poll()
        left = math.ceil(budget.seconds / WINDOW)
        # What other programs probably use is left to them, unless it would cost a window.
        needed = self._schedule.requests_needed(left, self._max_gap)
        newest = self._newest_window(started.utc)
        due = self._schedule.next_due(newest, budget.leaving(needed), left, after)
        # Without a request for each query it waits for the next day; in an outage, for the end of the outage.
        short = budget.requests < len(self._source.queries) and not self.downtime.is_failing
        now, until = started, self._time.monotonic() + at_most
        # If another stream's answers set the clock back meanwhile, this plan was for another time.
        while self._newest_window(now.utc) < due and not self.ending and now.shift_since(started) > -_SET_BACK:
            wait = min(self._seconds_until(due, now), until - self._time.monotonic())
            if short and wait > 0:  # requests may be released, or a learned limit forgotten: check again
                await self.sleep_without_quota(wait)
            if short or wait <= 0:
                return False
            await self.pause(min(wait, _CLOCK_CHECK))
            now = self.read_clock()
        return True

    def _seconds_until(self, window: int, now: Now) -> float:
        """Return the seconds until a window is polled, never 0."""
        return max(window * WINDOW + self._bounds.delay + self._lag - now.utc, 0.01)

    async def _update_reservation(self, reserve: Reserve) -> Budget:
        count, interval = len(self._source.queries), self._settings.min_interval
        today = math.ceil((DAY - self._time.utc() % DAY) / WINDOW)
        # As many as the shortest interval takes: what is granted of that decides the real one.
        return await self.update_reservation(
            reserve, count * today // interval, count * (DAY // WINDOW) // interval, count
        )

    def _finished(self, assembler: WindowAssembler) -> bool:
        stop = self._settings.stop
        return self.ending or (stop is not None and assembler.watermark >= stop)

    def _newest_window(self, utc: float) -> int:
        """Return the number of the newest window whose end is queryable."""
        return int(utc - self._bounds.delay - self._lag) // WINDOW

    def _queryable(self, utc: float) -> Span:
        """Return the whole windows that are queryable at a time."""
        span = self._bounds.queryable(utc)
        start = math.ceil(span.start / WINDOW) * WINDOW
        return Span(start, max(start + WINDOW, span.end // WINDOW * WINDOW))


@attrs.define
class _Request:
    """A request as it was sent: its span, the time (UTC seconds), and the oldest window that was queryable."""

    span: Span | None = None
    sent_at: float = 0.0
    oldest: int = 0

    def send(self, utc: float, queryable: Span, oldest_wanted: int) -> Span:
        """Return the span to ask for; raise `NothingToFetchError` if none of it is queryable."""
        start = max(oldest_wanted, queryable.start)
        if start >= queryable.end:
            raise NothingToFetchError
        self.span, self.sent_at, self.oldest = Span(start, queryable.end), utc, queryable.start
        return self.span
