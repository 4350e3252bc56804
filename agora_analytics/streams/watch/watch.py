"""The loop of a watch: ask as a window becomes available, deliver, note what is done, rest until the next."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import attrs

from agora_analytics._core.dispatcher import NothingToAskError, SpanAtSend
from agora_analytics.errors import AgoraError
from agora_analytics.models import Point
from agora_analytics.plans import REALTIME_USAGE
from agora_analytics.quota.limiter import Budget
from agora_analytics.quota.quota import Quota, Reserve
from agora_analytics.spans import WINDOW, Span
from agora_analytics.streams.checkpoints import Checkpoint, unreadable
from agora_analytics.streams.error_policy import rule_for
from agora_analytics.streams.events import Event, Loss, Revision, Window
from agora_analytics.streams.health import log
from agora_analytics.streams.poller import Poller
from agora_analytics.streams.position import Position
from agora_analytics.streams.retention import RetentionBounds
from agora_analytics.streams.sources import WindowSource
from agora_analytics.streams.stream import Stream
from agora_analytics.streams.watch.assembler import WindowAssembler
from agora_analytics.streams.watch.schedule import PollSchedule, max_windows_per_request
from agora_analytics.streams.watch.series import Series

__all__ = ["Watch"]

_DAY: Final = 86_400
_IN_A_ROW: Final = 2
_GIVEN_UP: Final = 600.0
"""Seconds for which a series must fail, while others are answered, before their assembler wait for it no more."""

_OFTEN: Final = 0.8
"""Part of what one request can bring, after which the next must come at the latest: it may fail."""

_GLANCE: Final = 60.0
_SET_BACK: Final = 30.0
"""How often a rest looks at the clock, and by how many seconds that must have been set back to end it."""

_MARGIN: Final = 5
"""Seconds by which the oldest window asked for must be younger than the plan says: a request takes time."""


@attrs.frozen(kw_only=True)
class WatchSettings:
    """How a watch goes about it; see `Realtime.watch`."""

    start: int | None
    back: int | None
    stop: int | None
    allowed_lateness: int
    final_after: int
    revisions: bool
    only_final: bool
    min_interval: int


class Watch(Stream[Event]):
    """Real-time windows, each once and in order: iterate over it, or `async with` it; `aclose()` or `stop()` end it."""

    def __init__(
        self, source: WindowSource, quota: Quota, series: Sequence[Series], settings: WatchSettings, position: Position
    ) -> None:
        self.series = tuple(series)
        super().__init__(WatchPoller(source, quota, self.series, settings, position), quota)


class WatchPoller(Poller[Event]):
    """Polls real-time assembler; see `Realtime.watch`."""

    def __init__(
        self, source: WindowSource, quota: Quota, series: Sequence[Series], settings: WatchSettings, position: Position
    ) -> None:
        bounds = RetentionBounds(quota.plan.of_endpoint(REALTIME_USAGE), _MARGIN)
        super().__init__(f"watch of {len(series)} series", quota, position, bounds)
        self._series = tuple(series)
        self._source = source
        source.on_skipped(self.monitor.rows_skipped)
        self._settings = settings
        self._schedule = PollSchedule([query.weight for query in source.queries], settings.min_interval)
        self._assembler: WindowAssembler | None = None
        self._failing_since: dict[int, float] = {}
        self._probe_answers: dict[int, tuple[_RequestedSpan, tuple[Point, ...]]] = {}

    @property
    def checkpoint(self) -> Checkpoint:
        """Where it will be once `current` is done."""
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

    async def events(self) -> AsyncGenerator[Event]:
        """Yield windows, revisions and gaps."""
        await self.position.resume()
        async with self.reservation(REALTIME_USAGE) as kept:
            await self.calibrate_clock()
            self.check_checkpoint_time()
            self._assembler = assembler = self._create_assembler()
            while not self._finished(assembler):
                await self.unless_stopped(self._poll(assembler))
                for event in assembler.drain(self._bounds.oldest_accepted, self._settings.stop, self._loss_reason):
                    yield event
                    await self._mark_delivered(assembler, event)
                    if self.stopped:
                        return
                if not self._finished(assembler):
                    await self._sleep_until_due(kept)

    def _create_assembler(self) -> WindowAssembler:
        """Return the assembler from where it begins, which takes the service's time to know."""
        settings, done = self._settings, self.position.checkpoint.done
        start = done[0].start if done else settings.start
        if start is None:
            askable = self._queryable(self.downtime.started_at())
            start = max(askable.start, askable.end - (settings.back or WINDOW))
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
            raise unreadable("the checkpoint", f"assembler of this watch: {error!r}") from None
        return assembler

    async def probe(self, number: int) -> AgoraError | None:
        """Ask for what is due first, or for the next where that fails; an answer is kept for the first poll."""
        asked, place = _RequestedSpan(), number % len(self._source.queries)
        try:
            points = await self._fetch(place, lambda: asked.at(self._quota.utc(), self._queryable(), 0))
        except AgoraError as error:
            return error
        self._probe_answers[place] = (asked, points)
        return None

    def discard_probe(self) -> None:
        """Forget what was answered."""
        self._probe_answers.clear()

    async def _poll(self, assembler: WindowAssembler) -> None:
        """Ask for all that is due, and judge what came of it."""
        mark = self.start_poll()
        due = self._schedule.due(self._newest_window())
        errors = await self._poll_queries(assembler, due)
        answered = any(map(self._schedule.last_succeeded, due))
        assembler.excluded = self._failing_series() if answered else frozenset()
        self.record_poll(errors, answered=answered, certain=self.clock_was_known(mark), over=not self._failing_since)
        log.info(
            "asked for %d of %d series, %d requests failed; assembler are due from %d on",
            sum(len(self._source.queries[place].series_indexes) for place in due),
            len(self._series),
            len(errors),
            assembler.watermark,
            extra={"agora_requests": len(due), "agora_failed": len(errors), "agora_due": assembler.watermark},
        )

    async def _poll_queries(self, assembler: WindowAssembler, due: Sequence[int]) -> list[AgoraError]:
        """Ask one query after the other, each for the span of its own moment, and return what went wrong."""
        here = self._newest_window()
        errors: list[AgoraError] = []
        in_a_row = 0
        for place in due:
            # Failures in a row are an outage: the others are not worth their requests.
            error = await self._poll_query(place, assembler) if in_a_row < _IN_A_ROW else None
            if error is None and in_a_row < _IN_A_ROW:
                self._schedule.record_success(place, here)
                self._failing_since.pop(place, None)
                in_a_row = 0
            else:
                self._schedule.record_failure(place, here)
                self._failing_since.setdefault(place, self._quota.now())
                in_a_row += error is None or rule_for(error).state == "outage"
            errors += [error] if error is not None else []
        return errors

    def _failing_series(self) -> frozenset[int]:
        """Return the places of the series that fail while others are answered: the others' assembler come without them.

        What they miss follows as revisions; where there are to be none, assembler wait.
        """
        if self._settings.only_final or not self._settings.revisions:
            return frozenset()
        bad = [place for place, since in self._failing_since.items() if self._quota.now() - since >= _GIVEN_UP]
        return frozenset(place for number in bad for place in self._source.queries[number].series_indexes)

    async def _poll_query(self, place: int, assembler: WindowAssembler) -> AgoraError | None:
        """Ask for all that may be new to the assembler, and return what went wrong."""
        asked = _RequestedSpan()
        try:
            if place in self._probe_answers:
                asked, points = self._probe_answers.pop(place)
            else:
                points = await self._fetch(place, lambda: self._span(asked, assembler))
        except NothingToAskError:
            return None
        except AgoraError as error:
            return error
        if asked.span is not None:
            assembler.add(self._source.queries[place].series_indexes, asked.span, points, asked.moment)
            self._bounds.accepted(asked.oldest)
        return None

    def _span(self, asked: _RequestedSpan, assembler: WindowAssembler) -> Span:
        """Return what to ask for now: all that may be new; where a clock that was set back leaves nothing, the time."""
        now, askable, wanted = self._quota.utc(), self._queryable(), assembler.oldest_open()
        if wanted >= askable.end and self._bounds.clock_went_back(now):
            return Span(askable.end - WINDOW, askable.end)
        return asked.at(now, askable, wanted)

    async def _fetch(self, place: int, span: SpanAtSend) -> tuple[Point, ...]:
        return await self.request(self._source.endpoint(place), lambda: self._source.windows(place, span))

    def delay_after_quota(self) -> float:
        """Seconds until the next window can be asked for, unless one has just become so."""
        since = (self._quota.utc() - self._bounds.delay - 1) % WINDOW
        return WINDOW - since if since > 1 else 0.0

    def _loss_reason(self, ts: int) -> Loss:
        """Return why a window was not asked for in time."""
        kept_until = ts + self._bounds.limits.available
        if ts < self.oldest_at_start():
            return "before_start"
        if self._bounds.is_reduced and kept_until > self._quota.utc():
            return "service"
        # Where nothing was in the way, the day's requests do not carry every window.
        return self.downtime.main_reason(ts + WINDOW + self._bounds.delay, kept_until)

    async def _mark_delivered(self, assembler: WindowAssembler, event: Event) -> None:
        """Note that a consumer has come back for more."""
        self.current = event
        assembler.mark_delivered(event)
        if isinstance(event, Window):
            self.monitor.update(last_window=event.ts)
        if self.position.named:
            await self.position.save(self.checkpoint)
        elif not isinstance(event, Revision):
            self.position.checkpoint = self.position.checkpoint.with_done(event.span)
        self.current = None

    async def _sleep_until_due(self, kept: Reserve) -> None:
        """Rest until something is due again, as the day's requests allow."""
        budget = await self._budget(kept)
        self.monitor.update(requests_left=budget.requests)
        left = math.ceil(budget.seconds / WINDOW)
        needed = self._schedule.requests_needed(left, _OFTEN * max_windows_per_request(self._quota.plan))
        due = self._schedule.next_due(self._newest_window(), budget.leaving(needed), left)
        # With less than a request for each series it waits for the next day; in an outage it waits for the end of that.
        short = budget.requests < len(self._source.queries) and not self.downtime.is_failing
        mark = self.start_poll()
        # Another's answers may set the clock back meanwhile: then it was for another time that this was planned.
        while self._newest_window() < due and not self.stopped and self.clock_shift(mark) > -_SET_BACK:
            wait = max(due * WINDOW + self._bounds.delay + 1 - self._quota.utc(), 0.01)
            if short:  # others may give some back, or a limit be forgotten: look again
                await self.sleep_without_quota(wait)
                return
            await self.pause(min(wait, _GLANCE))

    async def _budget(self, kept: Reserve) -> Budget:
        count, least = len(self._source.queries), self._settings.min_interval
        today = math.ceil((_DAY - self._quota.utc() % _DAY) / WINDOW)
        return await self.update_reservation(kept, count * today // least, count * (_DAY // WINDOW) // least, count)

    def _finished(self, assembler: WindowAssembler) -> bool:
        stop = self._settings.stop
        return self.stopped or (stop is not None and assembler.watermark >= stop)

    def _newest_window(self) -> int:
        """Return the number of the newest window's end that can be asked for."""
        return int(self._quota.utc() - self._bounds.delay - 1) // WINDOW

    def _queryable(self, at: float | None = None) -> Span:
        """Return the whole assembler that can be asked for at a moment, or now."""
        span = self._bounds.queryable(self._quota.utc() if at is None else at)
        start = math.ceil(span.start / WINDOW) * WINDOW
        return Span(start, max(start + WINDOW, span.end // WINDOW * WINDOW))


@attrs.define
class _RequestedSpan:
    """What a request asked for in the end, when (UTC seconds), and the oldest window it could have asked for."""

    span: Span | None = None
    moment: float = 0.0
    oldest: int = 0

    def at(self, moment: float, askable: Span, wanted: int) -> Span:
        """Return what to ask for at a moment: what is wanted and can be asked for."""
        start = max(wanted, askable.start)
        if start >= askable.end:
            raise NothingToAskError
        self.span, self.moment, self.oldest = Span(start, askable.end), moment, askable.start
        return self.span
