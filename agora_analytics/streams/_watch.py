"""The loop of a watch: ask as a window becomes available, deliver, note what is done, rest until the next."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import attrs

from agora_analytics.endpoints import Realtime
from agora_analytics.errors import AgoraError
from agora_analytics.models import Point
from agora_analytics.plans import REALTIME_QUALITY, REALTIME_USAGE, Plan
from agora_analytics.quota import Budget, Quota, Reserve
from agora_analytics.spans import WINDOW, Span
from agora_analytics.streams._cadence import Schedule
from agora_analytics.streams._checkpoints import Checkpoint
from agora_analytics.streams._place import Place
from agora_analytics.streams._series import Query, Series, queries
from agora_analytics.streams._stream import Stream, log
from agora_analytics.streams._windows import Event, Revision, Window, Windows

_DAY: Final = 86_400
_IN_A_ROW: Final = 2

_MARGIN: Final = 5
"""Seconds by which the oldest window asked for must be younger than the plan says: a request takes time."""


@attrs.frozen(kw_only=True)
class Settings:
    """How a watch goes about it; see `Realtime.watch`."""

    start: int | None
    stop: int | None
    allowance: int
    settling: int
    revisions: bool
    final: bool
    least: int


class Watch(Stream[Event]):
    """Real-time windows, each once and in order: iterate over it; `aclose()` or `stop()` end it."""

    _length = WINDOW

    def __init__(
        self, realtime: Realtime, quota: Quota, series: Sequence[Series], settings: Settings, place: Place
    ) -> None:
        super().__init__(quota, place)
        self.series = tuple(series)
        self._realtime = realtime
        self._settings = settings
        self._queries = queries(self.series)
        self._schedule = Schedule([query.weight for query in self._queries], settings.least)
        self._current: Span | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """Where it will be once the event being worked on is done: for a sink that keeps that with what it writes."""
        return self._place.checkpoint if self._current is None else self._place.checkpoint.with_done(self._current)

    async def _run(self) -> AsyncGenerator[Event]:
        windows = await self._begin()
        async with self._quota.reserve(REALTIME_USAGE) as kept:
            while not self._over(windows):
                await self._poll(windows)
                for event in windows.events(self._askable().start, self._settings.stop):
                    self._current = None if isinstance(event, Revision) else event.span
                    yield event
                    await self._note(event)
                    if self._stopped.is_set():
                        return
                if not self._over(windows):
                    await self._rest(kept)

    async def _begin(self) -> Windows:
        settings = self._settings
        done = await self._place.resume()
        start = done[0].start if done else settings.start
        if start is None:
            start = self._askable().end - WINDOW
        return Windows(
            self.series,
            start // WINDOW * WINDOW,
            delay=self._delay,
            allowance=settings.allowance,
            settling=settings.settling,
            revisions=settings.revisions,
            final=settings.final,
            done=done,
        )

    async def _poll(self, windows: Windows) -> None:
        """Ask for all that is due, one query after the other, each for the span of its own moment."""
        here = self._index()
        due = self._schedule.due(here)
        errors: list[AgoraError] = []
        in_a_row = 0
        for place in due:
            # Failures in a row are an outage: the others are not worth their requests.
            error = await self._ask(self._queries[place], windows) if in_a_row < _IN_A_ROW else None
            if error is None and in_a_row < _IN_A_ROW:
                self._schedule.answered(place, here)
                in_a_row = 0
            else:
                self._schedule.failed(place, here)
                in_a_row += 1
            errors += [error] if error is not None else []
        self._judge(errors)
        log.info(
            "asked for %d of %d series, %d requests failed; windows are due from %d on",
            sum(len(self._queries[place].serves) for place in due),
            len(self.series),
            len(errors),
            windows.due,
            extra={"agora_requests": len(due), "agora_failed": len(errors), "agora_due": windows.due},
        )

    async def _ask(self, query: Query, windows: Windows) -> AgoraError | None:
        """Ask for all that may be new to the windows, and return what went wrong."""
        endpoint = REALTIME_USAGE if query.usage else REALTIME_QUALITY
        wait = (await self._quota.forecast(1, endpoint)).seconds
        if wait:
            # Rather than in line, where the span would grow old; and on to the next window, which is near.
            begun = self._quota.utc() + wait - self._delay - 1
            await self._pause(wait + (-begun % WINDOW if begun % WINDOW > 1 else 0))
        askable = self._askable()
        start = max(windows.wanted(), askable.start)
        if start < askable.end and not self._stopped.is_set():
            at = self._quota.utc()
            span = Span(start, askable.end)
            try:
                points = await self._fetch(query, span)
            except AgoraError as error:
                return error
            windows.absorb(query.serves, span, points, at)
        return None

    async def _fetch(self, query: Query, span: Span) -> tuple[Point, ...]:
        if query.usage:
            return await self._realtime.usage(
                query.metric,
                *span,
                product=query.product,
                cname=query.cname,
                dimension=query.dimension,
                dimension_values=query.dimension_values,
            )
        return await self._realtime.quality(
            query.metric,
            *span,
            product=query.product,
            cname=query.cname,
            uids=query.uids,
            dimension=query.dimension,
            dimension_values=query.dimension_values,
        )

    async def _note(self, event: Event) -> None:
        """Note that a consumer has come back for more."""
        if isinstance(event, Window):
            self._health = attrs.evolve(self._health, last_window=event.ts)
        if self._current is not None:
            await self._place.done(self._current)
            self._current = None

    async def _rest(self, kept: Reserve) -> None:
        """Rest until something is due again, as the day's requests allow."""
        budget = await self._budget(kept)
        self._health = attrs.evolve(self._health, requests_left=budget.requests)
        left = math.ceil(budget.seconds / WINDOW)
        due = self._schedule.next(self._index(), budget.requests, left)
        while self._index() < due and not self._stopped.is_set():
            await self._pause(max(due * WINDOW + self._delay + 1 - self._quota.utc(), 0.01))

    async def _budget(self, kept: Reserve) -> Budget:
        count, least = len(self._queries), self._settings.least
        today = math.ceil((_DAY - self._quota.utc() % _DAY) / WINDOW)
        return await kept.keep(count * today // least, count * (_DAY // WINDOW) // least, count)

    def _over(self, windows: Windows) -> bool:
        stop = self._settings.stop
        return self._stopped.is_set() or (stop is not None and windows.due >= stop)

    @property
    def _plan(self) -> Plan:
        return self._quota.plan

    @property
    def _delay(self) -> int:
        return self._plan.of_endpoint(REALTIME_USAGE).delay

    def _index(self) -> int:
        """Return the number of the newest window's end that can be asked for."""
        return int(self._quota.utc() - self._delay - 1) // WINDOW

    def _askable(self) -> Span:
        """Return the whole windows that can be asked for now."""
        limits = self._plan.of_endpoint(REALTIME_USAGE)
        span = limits.askable(int(self._quota.utc()))
        start = math.ceil((span.start + _MARGIN) / WINDOW) * WINDOW
        return Span(start, max(start + WINDOW, span.end // WINDOW * WINDOW))
