"""The steps of the demo: what a person would do first with the library, on any client."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import attrs

from agora_analytics import AnalyticsClient, plans
from agora_analytics.catalogue import Dimension, FreezeMetric, Product, QualityMetric, RealtimeUsageMetric
from agora_analytics.catalogue import TimelineMetric as Timeline
from agora_analytics.cli import tables, times
from agora_analytics.cli.formatting import clock, measured
from agora_analytics.cli.output import Screen
from agora_analytics.cli.parsing import unit_of
from agora_analytics.client import service_time
from agora_analytics.models import Call, Number, Point, Session
from agora_analytics.spans import WINDOW
from agora_analytics.streams import Series

_SEARCHED = 8 * 3_600
_WATCHED = 900
_COMPANY = 3
_SHOWN = 6
_TICK = 0.2


@attrs.frozen(kw_only=True)
class Reading:
    """A series' value in one window, for JSON."""

    series: str
    ts: int
    value: Number | None


_SERIES = (
    Series(RealtimeUsageMetric.USER_COUNT, product=Product.NATIVE),
    Series(QualityMetric.AUDIO_FREEZE_RATE, product=Product.NATIVE),
    Series(RealtimeUsageMetric.USER_COUNT, product=Product.WEBRTC),
)
_COURSE = (Timeline.USER_COUNT, Timeline.VIDEO_FREEZE_RATE, Timeline.AUDIO_FREEZE_RATE)


@attrs.frozen
class Tour:
    """A client shown around."""

    client: AnalyticsClient
    screen: Screen

    def begin(self, line: str) -> None:
        """Say where this is."""
        self.screen.say(line)
        self.screen.say()

    async def calls(self) -> None:
        """Search calls, and look into the one that froze most."""
        found = await self._search()
        worst = _worst([call for call in found if self._open(call)])
        step = self._step("search", f"Searched the last 8 hours: {len(found)} calls. Those that froze most:")
        step.show(worst[:_SHOWN], tables.calls(worst[:_SHOWN]))
        if worst:
            await self._drill(next((call for call in worst if (call.call_pcu or 0) >= _COMPANY), worst[0]))

    async def realtime(self, windows: int) -> None:
        """Show the last minutes, then each new window as it comes; nothing where the plan has no real time."""
        if not self.client.plan.offers(plans.REALTIME_USAGE):
            self.screen.say(f"The plan {self.client.plan.name} has no real-time windows.")
            return
        step = self._step("realtime", "The last 15 minutes, in windows of 20 seconds:")
        latest = self._newest()
        found = [(series, await self._points(series)) for series in self._affordable()]
        rows = [(str(series), unit_of(series.metric), points) for series, points in found]
        step.show(
            [_reading(series, one) for series, points in found for one in points], tables.plots("", "series", rows)
        )
        for number in range(1, windows + 1):
            latest += WINDOW
            await self._until(latest, f"new window {number} of {windows}")
            await self._tell(step, latest)
        if windows:
            self.screen.say()

    async def spent(self, counted: int, refused: int) -> None:
        """Show what all this cost, by the client's count and by the service's."""
        states = [state for state in await self.client.quota.snapshot() if state.unit == "day"]
        step = self._step("quota", f"Spent of the day; the service counted {counted} requests, {refused} refused:")
        step.show(states, tables.quota(states))

    async def _search(self) -> list[Call]:
        span = self.client.calls.recent(_SEARCHED)
        found: list[Call] = []
        with self.screen.progress("calls") as advance:
            async with aclosing(self.client.calls.search(*span)) as calls:
                async for call in calls:
                    found.append(call)
                    advance(len(found), f"{len(found):,}")
        return found

    async def _drill(self, call: Call) -> None:
        api = self.client.calls
        freeze, seen = FreezeMetric.VIDEO, Dimension.NET
        found = _frozen([session async for session in api.sessions(call)])
        step = self._step("sessions", f"{call.cname} had {len(found)} sessions. Those that froze most:")
        step.show(found[:_SHOWN], tables.sessions(found[:_SHOWN]))
        step = self._step("metrics", "What was measured in the first of them:")
        async for session in api.metrics(call, found[:1]):
            own = attrs.evolve(session, data=tuple(track for track in session.data if not track.peer_uid))
            step.show([own], tables.metrics(own))
        step = self._step("call", f"Video that froze, by users and by {seen}, and the call minute by minute:")
        buckets = await api.freeze_buckets(call, freeze)
        step.show(buckets, tables.freeze_buckets(buckets, freeze))
        averages = await api.statistics(call, freeze, seen)
        step.show(averages, tables.statistics(averages, freeze, seen))
        course = [(metric, await api.timeline(call, metric)) for metric in _COURSE]
        points = [point for _, found in course for point in found]
        step.show(points, tables.plots("", "metric", [(one, unit_of(one), found) for one, found in course]))

    def _open(self, call: Call) -> bool:
        """Whether the details of a call can be asked, all of them in one request."""
        limits = self.client.plan.of_endpoint(plans.CALL_SESSIONS)
        newest = limits.askable(service_time(self.client).utc_second()).end
        return call.span is not None and call.span.end <= newest and call.span.duration <= limits.longest_query

    def _affordable(self) -> Sequence[Series]:
        """Return as many series as can be asked anew for each window: one request each, every 20 seconds."""
        rate = self.client.plan.of_endpoint(plans.REALTIME_USAGE).per_minute
        return _SERIES if rate is None else _SERIES[: max(1, rate * WINDOW // 60)]

    async def _points(self, series: Series) -> tuple[Point, ...]:
        """Ask for all windows shown: it costs the same as one, and brings late ones too."""
        api = self.client.realtime
        ask = api.usage if series.usage else api.quality
        return await ask(series.metric, *api.recent(_WATCHED), product=series.product)

    async def _tell(self, step: Screen, window: int) -> None:
        told = []
        for series in self._affordable():
            value = next((one.value for one in await self._points(series) if one.ts == window), None)
            step.show([Reading(series=str(series), ts=window, value=value)])
            told.append(f"{series} {measured(value, unit_of(series.metric)) or 'not there yet'}")
        step.say(f"{clock(window)}  {'  '.join(told)}")

    async def _until(self, window: int, what: str) -> None:
        """Wait until a window is over and may be asked for."""
        due = window + WINDOW + self.client.plan.of_endpoint(plans.REALTIME_USAGE).delay + 1
        wait = max(0.0, due - service_time(self.client).utc())
        with self.screen.progress(what, total=wait) as advance:
            while (left := due - service_time(self.client).utc()) > 0:
                advance(wait - left, f"{left:.0f} s")
                await asyncio.sleep(min(left, _TICK))

    def _newest(self) -> int:
        return times.newest_window(self.client.plan, plans.REALTIME_USAGE, service_time(self.client).utc_second())

    def _step(self, name: str, line: str) -> Screen:
        self.screen.say(line)
        return attrs.evolve(self.screen, step=name)


def _worst(calls: Sequence[Call]) -> list[Call]:
    rates = {call.call_id: (call.call_video_freeze_rate or 0) + (call.call_audio_freeze_rate or 0) for call in calls}
    return sorted(calls, key=lambda call: rates[call.call_id], reverse=True)


def _reading(series: Series, point: Point) -> Reading:
    return Reading(series=str(series), ts=point.ts, value=point.value)


def _frozen(sessions: Sequence[Session]) -> list[Session]:
    return sorted(
        sessions,
        key=lambda one: (one.user_video_freeze_rate or 0) + (one.user_audio_freeze_rate or 0),
        reverse=True,
    )
