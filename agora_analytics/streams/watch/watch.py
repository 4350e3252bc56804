"""The loop of a watch: ask as a window becomes available, deliver, note what is done, rest until the next."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import attrs

from agora_analytics._core.dispatcher import NothingToFetchError, SpanProvider
from agora_analytics.errors import AgoraError
from agora_analytics.models import Point
from agora_analytics.plans import REALTIME_USAGE
from agora_analytics.quota.limiter import Budget
from agora_analytics.quota.quota import Quota, Reserve
from agora_analytics.spans import DAY, WINDOW, Span
from agora_analytics.streams.checkpoints import Checkpoint, unreadable
from agora_analytics.streams.error_policy import rule_of
from agora_analytics.streams.events import Event, Loss, Revision, Window
from agora_analytics.streams.health import log
from agora_analytics.streams.poller import Poller
from agora_analytics.streams.position import Place
from agora_analytics.streams.retention import Edges
from agora_analytics.streams.sources import WindowSource
from agora_analytics.streams.stream import Stream
from agora_analytics.streams.watch.assembler import Windows
from agora_analytics.streams.watch.schedule import Schedule, reach
from agora_analytics.streams.watch.series import Series

__all__ = ["Watch"]

_IN_A_ROW: Final = 2
_GIVEN_UP: Final = 600.0
"""Seconds for which a series must fail, while others are answered, before their windows wait for it no more."""

_OFTEN: Final = 0.8
"""Part of what one request can bring, after which the next must come at the latest: it may fail."""

_GLANCE: Final = 60.0
_SET_BACK: Final = 30.0
"""How often a rest looks at the clock, and by how many seconds that must have been set back to end it."""

_MARGIN: Final = 5
"""Seconds by which the oldest window asked for must be younger than the plan says: a request takes time."""


@attrs.frozen(kw_only=True)
class Settings:
    """How a watch goes about it; see `Realtime.watch`."""

    start: int | None
    back: int | None
    stop: int | None
    allowed_lateness: int
    final_after: int
    revisions: bool
    only_final: bool
    least: int


class Watch(Stream[Event]):
    """Real-time windows, each once and in order: iterate over it, or `async with` it; `aclose()` or `stop()` end it."""

    def __init__(
        self, source: WindowSource, quota: Quota, series: Sequence[Series], settings: Settings, place: Place
    ) -> None:
        self.series = tuple(series)
        super().__init__(WatchPoller(source, quota, self.series, settings, place), quota)


class WatchPoller(Poller[Event]):
    """Polls real-time windows; see `Realtime.watch`."""

    def __init__(
        self, source: WindowSource, quota: Quota, series: Sequence[Series], settings: Settings, place: Place
    ) -> None:
        edges = Edges(quota.plan.of_endpoint(REALTIME_USAGE), _MARGIN)
        super().__init__(f"watch of {len(series)} series", quota, place, edges)
        self._series = tuple(series)
        self._source = source
        source.on_skipped(self.monitor.skipped)
        self._settings = settings
        self._schedule = Schedule([query.weight for query in source.queries], settings.least)
        self._windows: Windows | None = None
        self._bad_since: dict[int, float] = {}
        self._early: dict[int, tuple[_Asked, tuple[Point, ...]]] = {}

    @property
    def checkpoint(self) -> Checkpoint:
        """Where it will be once `current` is done."""
        checkpoint = self.place.checkpoint
        if self._windows is None:
            return checkpoint
        if self.current is not None and not isinstance(self.current, Revision):
            checkpoint = checkpoint.with_done(self.current.span)
        return attrs.evolve(checkpoint, open=self._windows.unsettled(self.current))

    @property
    def read_to(self) -> float | None:
        """The end of the last window that was delivered."""
        last = self.monitor.health.last_window
        return None if last is None else last + WINDOW

    async def events(self) -> AsyncGenerator[Event]:
        """Yield windows, revisions and gaps."""
        await self.place.resume()
        async with self.reserved(REALTIME_USAGE) as kept:
            await self.learn()
            self.check_time()
            self._windows = windows = self._begin()
            while not self._over(windows):
                await self.unless_stopped(self._poll(windows))
                for event in windows.events(self._edges.proved, self._settings.stop, self._why):
                    yield event
                    await self._note(windows, event)
                    if self.stopped:
                        return
                if not self._over(windows):
                    await self._rest(kept)

    def _begin(self) -> Windows:
        """Return the windows from where it begins, which takes the service's time to know."""
        settings, done = self._settings, self.place.checkpoint.done
        start = done[0].start if done else settings.start
        if start is None:
            askable = self._askable(self.times.began_at())
            start = max(askable.start, askable.end - (settings.back or WINDOW))
        windows = Windows(
            self._series,
            start // WINDOW * WINDOW,
            delay=self._edges.delay,
            allowed_lateness=settings.allowed_lateness,
            final_after=settings.final_after,
            revisions=settings.revisions,
            only_final=settings.only_final,
            done=done,
        )
        try:
            windows.restore(self.place.checkpoint.open)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise unreadable("the checkpoint", f"windows of this watch: {error!r}") from None
        return windows

    async def lesson(self, number: int) -> AgoraError | None:
        """Ask for what is due first, or for the next where that fails; an answer is kept for the first poll."""
        asked, place = _Asked(), number % len(self._source.queries)
        try:
            points = await self._fetch(place, lambda: asked.at(self._quota.utc(), self._askable(), 0))
        except AgoraError as error:
            return error
        self._early[place] = (asked, points)
        return None

    def forget_lesson(self) -> None:
        """Forget what was answered."""
        self._early.clear()

    async def _poll(self, windows: Windows) -> None:
        """Ask for all that is due, and judge what came of it."""
        mark = self.mark()
        due = self._schedule.due(self._index())
        errors = await self._ask_all(windows, due)
        answered = any(map(self._schedule.worked, due))
        windows.absent = self._absent() if answered else frozenset()
        self.judge(errors, answered=answered, certain=self.certain(mark), over=not self._bad_since)
        log.info(
            "asked for %d of %d series, %d requests failed; windows are due from %d on",
            sum(len(self._source.queries[place].serves) for place in due),
            len(self._series),
            len(errors),
            windows.due,
            extra={"agora_requests": len(due), "agora_failed": len(errors), "agora_due": windows.due},
        )

    async def _ask_all(self, windows: Windows, due: Sequence[int]) -> list[AgoraError]:
        """Ask one query after the other, each for the span of its own moment, and return what went wrong."""
        here = self._index()
        errors: list[AgoraError] = []
        in_a_row = 0
        for place in due:
            # Failures in a row are an outage: the others are not worth their requests.
            error = await self._ask(place, windows) if in_a_row < _IN_A_ROW else None
            if error is None and in_a_row < _IN_A_ROW:
                self._schedule.answered(place, here)
                self._bad_since.pop(place, None)
                in_a_row = 0
            else:
                self._schedule.failed(place, here)
                self._bad_since.setdefault(place, self._quota.now())
                in_a_row += error is None or rule_of(error).state == "outage"
            errors += [error] if error is not None else []
        return errors

    def _absent(self) -> frozenset[int]:
        """Return the places of the series that fail while others are answered: the others' windows come without them.

        What they miss follows as revisions; where there are to be none, windows wait.
        """
        if self._settings.only_final or not self._settings.revisions:
            return frozenset()
        bad = [place for place, since in self._bad_since.items() if self._quota.now() - since >= _GIVEN_UP]
        return frozenset(place for number in bad for place in self._source.queries[number].serves)

    async def _ask(self, place: int, windows: Windows) -> AgoraError | None:
        """Ask for all that may be new to the windows, and return what went wrong."""
        asked = _Asked()
        try:
            if place in self._early:
                asked, points = self._early.pop(place)
            else:
                points = await self._fetch(place, lambda: self._span(asked, windows))
        except NothingToFetchError:
            return None
        except AgoraError as error:
            return error
        if asked.span is not None:
            windows.absorb(self._source.queries[place].serves, asked.span, points, asked.moment)
            self._edges.accepted(asked.oldest)
        return None

    def _span(self, asked: _Asked, windows: Windows) -> Span:
        """Return what to ask for now: all that may be new; where a clock that was set back leaves nothing, the time."""
        now, askable, wanted = self._quota.utc(), self._askable(), windows.wanted()
        if wanted >= askable.end and self._edges.set_back(now):
            return Span(askable.end - WINDOW, askable.end)
        return asked.at(now, askable, wanted)

    async def _fetch(self, place: int, span: SpanProvider) -> tuple[Point, ...]:
        return await self.ask(self._source.endpoint(place), lambda: self._source.windows(place, span))

    def after_quota(self) -> float:
        """Seconds until the next window can be asked for, unless one has just become so."""
        since = (self._quota.utc() - self._edges.delay - 1) % WINDOW
        return WINDOW - since if since > 1 else 0.0

    def _why(self, ts: int) -> Loss:
        """Return why a window was not asked for in time."""
        kept_until = ts + self._edges.limits.available
        if ts < self.first():
            return "before_start"
        if self._edges.reduced and kept_until > self._quota.utc():
            return "service"
        # Where nothing was in the way, the day's requests do not carry every window.
        return self.times.main(ts + WINDOW + self._edges.delay, kept_until)

    async def _note(self, windows: Windows, event: Event) -> None:
        """Note that a consumer has come back for more."""
        self.current = event
        windows.note(event)
        if isinstance(event, Window):
            self.monitor.saw(last_window=event.ts)
        if self.place.named:
            await self.place.keep(self.checkpoint)
        elif not isinstance(event, Revision):
            self.place.checkpoint = self.place.checkpoint.with_done(event.span)
        self.current = None

    async def _rest(self, kept: Reserve) -> None:
        """Rest until something is due again, as the day's requests allow."""
        budget = await self._budget(kept)
        self.monitor.saw(requests_left=budget.requests)
        left = math.ceil(budget.seconds / WINDOW)
        needed = self._schedule.needed(left, _OFTEN * reach(self._quota.plan))
        due = self._schedule.next(self._index(), budget.leaving(needed), left)
        # With less than a request for each series it waits for the next day; in an outage it waits for the end of that.
        short = budget.requests < len(self._source.queries) and not self.times.failing
        mark = self.mark()
        # Another's answers may set the clock back meanwhile: then it was for another time that this was planned.
        while self._index() < due and not self.stopped and self.shift(mark) > -_SET_BACK:
            wait = max(due * WINDOW + self._edges.delay + 1 - self._quota.utc(), 0.01)
            if short:  # others may give some back, or a limit be forgotten: look again
                await self.without_quota(wait)
                return
            await self.pause(min(wait, _GLANCE))

    async def _budget(self, kept: Reserve) -> Budget:
        count, least = len(self._source.queries), self._settings.least
        today = math.ceil((DAY - self._quota.utc() % DAY) / WINDOW)
        return await self.budget(kept, count * today // least, count * (DAY // WINDOW) // least, count)

    def _over(self, windows: Windows) -> bool:
        stop = self._settings.stop
        return self.stopped or (stop is not None and windows.due >= stop)

    def _index(self) -> int:
        """Return the number of the newest window's end that can be asked for."""
        return int(self._quota.utc() - self._edges.delay - 1) // WINDOW

    def _askable(self, at: float | None = None) -> Span:
        """Return the whole windows that can be asked for at a moment, or now."""
        span = self._edges.askable(self._quota.utc() if at is None else at)
        start = math.ceil(span.start / WINDOW) * WINDOW
        return Span(start, max(start + WINDOW, span.end // WINDOW * WINDOW))


@attrs.define
class _Asked:
    """What a request asked for in the end, when (UTC seconds), and the oldest window it could have asked for."""

    span: Span | None = None
    moment: float = 0.0
    oldest: int = 0

    def at(self, moment: float, askable: Span, wanted: int) -> Span:
        """Return what to ask for at a moment: what is wanted and can be asked for."""
        start = max(wanted, askable.start)
        if start >= askable.end:
            raise NothingToFetchError
        self.span, self.moment, self.oldest = Span(start, askable.end), moment, askable.start
        return self.span
