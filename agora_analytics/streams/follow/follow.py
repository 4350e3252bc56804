"""The loop of following calls: read what is new, look again at what goes on, tell the facts, rest.

New calls are found by reading on, a little of what was read before with it, for some appear late.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

import attrs

from agora_analytics._core.dispatcher import NothingToAskError
from agora_analytics.errors import AgoraError, DecodeError, IncompleteList
from agora_analytics.models import Call
from agora_analytics.plans import CALL_LISTS, CALL_SESSIONS
from agora_analytics.quota.quota import Quota, Reserve
from agora_analytics.spans import Span
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
from agora_analytics.streams.sources import CallSource
from agora_analytics.streams.stream import Stream

__all__ = ["Follow"]

_SLICE: Final = 3_600
"""Seconds read at a time: what is read is held until it is told."""

_MARGIN: Final = 60
_DAY: Final = 86_400
_LOOKS: Final = 3
"""Calls that are looked up singly in one round, for each request that reading on takes."""

_SLOWEST: Final = 900.0
"""Seconds between two looks at most, while they fail."""

_OWED: Final = 1_000
"""Finished calls whose end waits for their sessions, above which no more is read before these are told."""


@attrs.frozen(kw_only=True)
class FollowSettings:
    """How calls are followed; see `Calls.follow`."""

    start: int | None
    back: int | None
    stop: int | None
    allowed_lateness: int
    every: int
    with_sessions: bool
    late_sessions: bool


class Follow(Stream[CallEvent]):
    """What happens to calls, each fact once: iterate over it, or `async with` it; `aclose()` or `stop()` end it."""

    def __init__(self, source: CallSource, quota: Quota, settings: FollowSettings, position: Position) -> None:
        super().__init__(FollowPoller(source, quota, settings, position), quota)


class FollowPoller(Poller[CallEvent]):
    """Polls the lists of calls; see `Calls.follow`."""

    def __init__(self, source: CallSource, quota: Quota, settings: FollowSettings, position: Position) -> None:
        super().__init__("follow", quota, position, RetentionBounds(quota.plan.of_endpoint(CALL_LISTS), _MARGIN))
        source.on_skipped(self.monitor.rows_skipped)
        self._settings = settings
        self._lists = CallListReader(source, self._bounds, quota.utc, self.request)
        self._open_calls = OpenCallRefresher(self._lists, settings.every)
        self._session_fetcher = SessionFetcher(source, quota) if settings.with_sessions else None
        self._tracker: CallTracker | None = None
        self._first = 0
        self._calls_per_second = 0.0
        self._slice = _SLICE
        self._read_to: int | None = None
        self._incomplete: list[IncompleteList] = []
        self._resume()
        if self._tracker is None and settings.start is not None:
            self._first, self._tracker = (
                settings.start,
                CallTracker(settings.start, late_sessions=settings.late_sessions),
            )

    @property
    def checkpoint(self) -> Checkpoint:
        """Where it will be once `current` is done."""
        if self._tracker is None:
            return self.position.checkpoint
        return self._tracker.preview(self.current).to_checkpoint(self.position.stream, self._first)

    @property
    def read_to(self) -> float | None:
        """The moment up to which calls were read."""
        return self.monitor.health.last_window

    def _resume(self) -> None:
        checkpoint = self.position.checkpoint
        if checkpoint.done:
            self._tracker = CallTracker.from_checkpoint(checkpoint, late_sessions=self._settings.late_sessions)
            self._first = checkpoint.done[0].start

    async def events(self) -> AsyncGenerator[CallEvent]:
        """Yield what happens to calls."""
        await self.position.resume()
        self._resume()
        async with self.reservation(CALL_LISTS) as lists, self.reservation(CALL_SESSIONS) as details:
            await self.calibrate_clock()
            self.check_checkpoint_time()
            if self._tracker is None:
                askable = self._bounds.queryable(self.downtime.started_at())
                self._first = max(askable.start, askable.end - (self._settings.back or 0))
                self._tracker = CallTracker(self._first, late_sessions=self._settings.late_sessions)
            tracker = self._tracker
            try:
                async with aclosing(self._poll_loop(tracker, lists, details)) as events:
                    async for event in events:
                        yield event
            finally:  # also where its consumer leaves: what that has worked on is done
                await self._save(tracker)

    async def _poll_loop(self, tracker: CallTracker, lists: Reserve, details: Reserve) -> AsyncGenerator[CallEvent]:
        while not self._finished(tracker):
            async with aclosing(self._poll_once(tracker, details)) as events:
                async for event in events:
                    yield event
                    tracker.apply(event)
                    self.current = None
                    if self.stopped:
                        return
            if self._read_to is not None:
                tracker.advance(self._read_to, self._read_to - self._settings.allowed_lateness)
                self.monitor.update(last_window=self._read_to)
            await self._save(tracker)
            if not self._finished(tracker):
                await self._sleep_until_due(tracker, lists)

    async def _poll_once(self, tracker: CallTracker, kept: Reserve) -> AsyncGenerator[CallEvent]:
        """Read on and yield what is lost, what happened, oldest call first, and then the sessions that are owed."""
        begun = self._quota.utc()
        self._read_to, tracker.now = None, int(begun)
        calls: list[Call] = []
        if self._session_fetcher is None or sum(not one.end_reported for one in tracker.pending.values()) < _OWED:
            calls = await self.unless_stopped(self._read_calls(tracker))
        for gap in self._expired_gaps(tracker.read_to, self._lists.lost_before):
            yield gap
        for call in sorted(calls, key=lambda one: (one.created_ts or 0, one.call_id)):
            for fact in tracker.diff(call, self._bounds.oldest_accepted):
                if self._session_fetcher is not None and isinstance(fact, CallFinished):
                    tracker.add_pending(call, self._session_fetcher.available_at(call))
                else:
                    yield fact
        for gap in self._incomplete_gaps(tracker):  # after the calls of its span, since the place goes past it
            yield gap
        for lost in self._lost_calls(tracker):
            yield lost
        if self._session_fetcher is not None:
            self._session_fetcher.oldest_accepted = self._bounds.oldest_accepted
            async for event in self.iterate_until_stopped(
                self._session_fetcher.fetch_pending(tracker, kept, begun + self._settings.every)
            ):
                yield event

    async def _read_calls(self, tracker: CallTracker) -> list[Call]:
        """Read on, and look at the calls that go on; what fails is done again."""
        mark, span = self.start_poll(), self._next_span(tracker)
        self._lists.lost_before, self._incomplete = 0, []
        try:
            calls = await self._read_span(span)
        except NothingToAskError:
            return []  # the next round begins where the plan does by then
        except AgoraError as error:
            # A list of which no row can be read is an error; a longer span has some that can, and the rest is left out.
            unfit = isinstance(error, DecodeError) and error.path
            self._slice = min(2 * self._slice, self._bounds.limits.longest_query) if unfit else _SLICE
            self.record_poll([error], answered=False, certain=self.clock_was_known(mark))
            return []
        self._slice = _SLICE
        self._read_to = tracker.read_to if span is None else max(span.end, self._lists.lost_before)
        reads_on = span is not None and span.end > tracker.read_to
        start = span.start if span and reads_on else self._lookups_before(tracker)
        seen = await self._open_calls.refresh(tracker, start, calls, self._calls_per_second)
        calls += seen.calls
        self.record_poll(seen.errors, answered=True, certain=self.clock_was_known(mark))
        self._log(tracker, span, calls)
        return calls

    async def _read_span(self, span: Span | None) -> list[Call]:
        """Return the calls of a span; without one, which may mean that a clock was set back, ask for the time."""
        if span is not None:
            calls = await self._lists.search(span, incomplete=self._incomplete)
            self._calls_per_second = len(calls) / span.duration
            self._lists.lost_before = max(self._lists.lost_before, span.start)
            return calls
        if self._bounds.clock_went_back(self._quota.utc()):
            await self._lists.request_time()
        return []

    def _log(self, tracker: CallTracker, span: Span | None, calls: Sequence[Call]) -> None:
        log.info(
            "read %d calls of %s; %d go on",
            len(calls),
            span or "nothing new",
            len(tracker.open),
            extra={"agora_calls": len(calls), "agora_going": len(tracker.open), "agora_read_to": self._read_to},
        )

    def _next_span(self, tracker: CallTracker) -> Span | None:
        """Return what is to be read next, from a little before where was read to; None where that is nothing."""
        askable = self._queryable()
        start = max(tracker.read_to - self._settings.allowed_lateness, self._first, askable.start)
        end = min(askable.end, max(tracker.read_to, askable.start) + self._slice, self._settings.stop or askable.end)
        return Span(start, end) if start < end else None

    def _lookups_before(self, tracker: CallTracker) -> int:
        """Return what calls that go on began before where nothing more is read: one may have moved behind the end."""
        last = max((one.began for one in tracker.open.values()), default=0)
        return max(tracker.read_to, min(last + 1, self._queryable().end))

    def _incomplete_gaps(self, tracker: CallTracker) -> list[Gap]:
        """Return gaps for what lists lacked of what was read for the first time."""
        found = [(error.span, error) for error in self._incomplete if error.span and error.span.end > tracker.read_to]
        for _, error in found:
            log.warning("follow: calls are missing: %s", error)
        return [Gap(span=span, reason="service") for span, _ in sorted(found, key=lambda one: one[0].start)]

    def _lost_calls(self, tracker: CallTracker) -> list[CallLost]:
        """Return the calls whose end nobody will see."""
        oldest = self._bounds.oldest_accepted
        expired = [CallLost(call=one.call, reason="expired") for one in tracker.opened_before(oldest)]
        gone = [
            CallLost(call=one.call, reason="gone")
            for one in tracker.open.values()
            if one.misses >= MAX_MISSES and one.began >= oldest
        ]
        return [*expired, *gone]

    def _expired_gaps(self, start: int, end: int) -> list[Gap]:
        """Return gaps for what cannot be read any more: what was lost when the stream began, and what was since."""
        kept = self.oldest_at_start()
        kept = end if end <= kept + _MARGIN else max(start, kept)
        parts: list[tuple[int, int, Loss]] = [(start, kept, "before_start"), (kept, end, self._loss_reason(kept))]
        return [Gap(span=Span(begun, over), reason=why) for begun, over, why in parts if begun < over]

    def _loss_reason(self, start: int) -> Loss:
        if self._bounds.is_reduced and start + self._bounds.limits.available > self._quota.utc():
            return "service"
        return self.downtime.main_reason(start + self._bounds.delay, self._quota.utc())

    async def probe(self, number: int) -> AgoraError | None:  # noqa: ARG002 - there is one kind of request
        """Read the first of what is due."""
        askable = self._queryable()
        try:
            await self._lists.search(Span(max(askable.end - self._settings.every, 0), askable.end))
        except NothingToAskError:
            return None
        except AgoraError as error:
            return error
        return None

    def discard_probe(self) -> None:
        """Forget what was answered."""
        self._bounds.forget_accepted()
        self._lists.lost_before = 0

    async def _save(self, tracker: CallTracker) -> None:
        if self.position.named:
            await self.position.save(tracker.to_checkpoint(self.position.stream, self._first))

    async def _sleep_until_due(self, tracker: CallTracker, kept: Reserve) -> None:
        """Rest as the day's requests allow; not at all while there is more to read."""
        cost, self._lists.requests_made = max(self._lists.requests_made, 1.0), 0.0
        every, failures = self._settings.every, self.monitor.health.failures
        budget = await self.update_reservation(kept, round(_DAY / every), round(_DAY / every))
        self.monitor.update(requests_left=budget.requests)
        requests = budget.leaving(budget.seconds * cost / _SLOWEST)
        pace = budget.seconds * cost / requests if requests else 0.0
        newest = min(self._queryable().end, self._settings.stop or self._queryable().end)
        behind = newest - tracker.read_to > every and not failures
        slower = min(every * 2.0 ** min(failures, 10), _SLOWEST) if failures else 0.0
        await self.pause(max(pace, 0.0 if behind else every, slower, 0.01))

    def _finished(self, tracker: CallTracker) -> bool:
        stop = self._settings.stop
        owed = tracker.pending if self._session_fetcher is not None else {}
        ended = stop is not None and tracker.read_to >= stop and not tracker.open and not owed
        return self.stopped or ended

    def _queryable(self) -> Span:
        return self._bounds.queryable(self._quota.utc())
