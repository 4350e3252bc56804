"""`agora-analytics demo`: a tour of the library on a simulated service in this process, over HTTP on loopback."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import attrs
import typer

import agora_analytics as agora
from agora_analytics import plans
from agora_analytics.catalogue import Dimension, FreezeMetric, Product, QualityMetric, RealtimeUsageMetric
from agora_analytics.catalogue import TimelineMetric as Timeline
from agora_analytics.cli import tables
from agora_analytics.cli.commands.realtime import newest_window
from agora_analytics.cli.commands.simulate import Plan, Seed
from agora_analytics.cli.formatting import format_time, format_value
from agora_analytics.cli.options import OutputOptions, command
from agora_analytics.cli.output import Screen
from agora_analytics.cli.parsing import check_plan, unit_of
from agora_analytics.cli.sorting import CALL_ORDERS, SESSION_ORDERS, WORST, ItemT, TopN
from agora_analytics.spans import HOUR, WINDOW

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient
    from agora_analytics.models import Call, Number, Point
    from agora_analytics.quota.service_time import ServiceTime
    from agora_analytics.simulator import Service
    from agora_analytics.streams import Series

_NO_PROXY: Final = ("no_proxy", "NO_PROXY")
_SEARCH_SECONDS: Final = 8 * HOUR
_REALTIME_SECONDS: Final = 900
_ROWS: Final = 6
_REDRAW_EVERY: Final = 0.2
_TIMELINE_METRICS: Final = (Timeline.USER_COUNT, Timeline.VIDEO_FREEZE_RATE, Timeline.AUDIO_FREEZE_RATE)


@command
async def demo(
    output: OutputOptions,
    seed: Seed = 1,
    plan: Plan = "enterprise",
    windows: Annotated[int, typer.Option(help="Number of new 20-second windows to wait for.", min=0)] = 1,
) -> None:
    """Search calls, inspect one, watch real-time windows: on a simulated service, without an account.

    Example: agora-analytics demo --windows 3
    """
    from agora_analytics.simulator import Service, World  # noqa: PLC0415 - slow to load, and help does not need it
    from agora_analytics.simulator.server import serve  # noqa: PLC0415

    check_plan("--plan", plan)
    service = Service(World(seed=seed), plan)
    # Over HTTP although it is in this process: the tour shows what a program does, with its transport.
    async with serve(service) as url, _client(service, url) as client:
        tour = Tour(client, output.screen)
        tour.begin(f"A simulated service at {url}: world {seed}, plan {service.plan.name}")
        with _without_proxy(url):
            await tour.show_calls()
            await tour.show_realtime(windows)
        await tour.show_quota(sum(service.counts.values()), sum(service.refusals.values()))


def _client(service: Service, url: str) -> AnalyticsClient:
    """Return a client with the simulator's credentials: those of the environment must not be sent there."""
    from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET  # noqa: PLC0415

    return agora.AnalyticsClient(CUSTOMER_ID, CUSTOMER_SECRET, app_id=APP_ID, plan=service.plan, base_url=url)


@contextmanager
def _without_proxy(url: str) -> Iterator[None]:
    """Exclude loopback from the proxies of the environment, which the client uses."""
    before = {name: os.environ.get(name) for name in _NO_PROXY}
    host = urlsplit(url).hostname or ""
    os.environ.update({name: ",".join(filter(None, (before[name], host))) for name in _NO_PROXY})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@attrs.frozen(kw_only=True)
class WindowValue:
    """JSON of the demo: the value of a series in one window."""

    series: str
    ts: int
    value: Number | None


@attrs.frozen
class Tour:
    """The steps of the demo, on any client."""

    client: AnalyticsClient
    screen: Screen

    def begin(self, line: str) -> None:
        """Print the heading."""
        self.screen.print(line)
        self.screen.print()

    async def show_calls(self) -> None:
        """Search calls, and inspect the worst one."""
        found = await self._search()
        worst = _worst([call for call in found if self._fits_one_request(call)], CALL_ORDERS)
        step = self._step("search", f"Searched the last 8 hours: {len(found)} calls. The worst by freeze rate x users:")
        step.show(worst, tables.calls(worst))
        if worst:
            await self._inspect(worst[0])

    async def show_realtime(self, windows: int) -> None:
        """Show the last minutes, then each new window when it is complete."""
        if not self.client.plan.offers(plans.REALTIME_USAGE):
            self.screen.print(f"The plan {self.client.plan.name} has no real-time windows.")
            return
        step = self._step("realtime", "The last 15 minutes, in windows of 20 seconds:")
        # Before the series are fetched, so that no window that becomes queryable meanwhile is skipped.
        latest = newest_window(self.client.plan, plans.REALTIME_USAGE, self._time().utc_second())
        found = [(series, await self._points(series)) for series in self._affordable()]
        rows = [(str(series), unit_of(series.metric), points) for series, points in found]
        values = [
            WindowValue(series=str(series), ts=point.ts, value=point.value)
            for series, points in found
            for point in points
        ]
        step.show(values, tables.plots("", "series", rows))
        for number in range(1, windows + 1):
            latest += WINDOW
            await self._wait_for(latest, f"new window {number} of {windows}")
            await self._show_window(step, latest)
        if windows:
            self.screen.print()

    async def show_quota(self, counted: int, refused: int) -> None:
        """Show what the demo spent, as counted by the client and by the service."""
        states = [state for state in await self.client.quota.snapshot() if state.unit == "day"]
        step = self._step("quota", f"Spent of the day; the service counted {counted} requests, {refused} refused:")
        step.show(states, tables.quota(states))

    async def _search(self) -> list[Call]:
        span = self.client.calls.recent(_SEARCH_SECONDS)
        found: list[Call] = []
        with self.screen.progress("calls") as advance:
            async with aclosing(self.client.calls.search(*span)) as calls:
                async for call in calls:
                    found.append(call)
                    advance(len(found), f"{len(found):,}")
        return found

    async def _inspect(self, call: Call) -> None:
        api = self.client.calls
        freeze = FreezeMetric.AUDIO if call.call_video_freeze_rate is None else FreezeMetric.VIDEO
        dimension = Dimension.NET
        found = [session async for session in api.sessions(call)]
        sessions = _worst(found, SESSION_ORDERS)
        step = self._step("sessions", f"{call.cname} had {len(found)} sessions. Those with the highest freeze rates:")
        step.show(sessions, tables.sessions(sessions))
        step = self._step("metrics", "Measurements of the first of them:")
        async for session in api.metrics(call, sessions[:1]):
            # Its own tracks only: those about each peer would fill pages.
            own = attrs.evolve(session, data=tuple(track for track in session.data if not track.peer_uid))
            step.show([own], tables.metrics(own))
        step = self._step("call", f"Users by freeze rate, freeze rates by {dimension}, and the call minute by minute:")
        buckets = await api.freeze_buckets(call, freeze)
        step.show(buckets, tables.freeze_buckets(buckets, freeze))
        averages = await api.statistics(call, freeze, dimension)
        step.show(averages, tables.statistics(averages, freeze, dimension))
        timelines = [(metric, await api.timeline(call, metric)) for metric in _TIMELINE_METRICS]
        rows = [(metric, unit_of(metric), points) for metric, points in timelines]
        step.show([point for _, points in timelines for point in points], tables.plots("", "metric", rows))

    def _fits_one_request(self, call: Call) -> bool:
        """Whether the details of a call are queryable, and one request can cover all of it."""
        limits = self.client.plan.of_endpoint(plans.CALL_SESSIONS)
        newest = limits.queryable(self._time().utc_second()).end
        return call.span is not None and call.span.end <= newest and call.span.duration <= limits.longest_query

    def _time(self) -> ServiceTime:
        from agora_analytics.client import service_time  # noqa: PLC0415 - with a client, when one is needed

        return service_time(self.client)

    def _affordable(self) -> Sequence[Series]:
        """Return as many series as the plan can refresh for each window: one request each, every 20 seconds."""
        native = Product.NATIVE
        series = (
            agora.Series(RealtimeUsageMetric.USER_COUNT, product=native),
            agora.Series(QualityMetric.AUDIO_FREEZE_RATE, product=native),
            agora.Series(RealtimeUsageMetric.USER_COUNT, product=Product.WEBRTC),
        )
        rate = self.client.plan.of_endpoint(plans.REALTIME_USAGE).per_minute
        return series if rate is None else series[: max(1, rate * WINDOW // 60)]

    async def _points(self, series: Series) -> tuple[Point, ...]:
        """Fetch all windows shown: it costs as much as one, and brings late data too."""
        api = self.client.realtime
        fetch = api.usage if series.usage else api.quality
        return await fetch(series.metric, *api.recent(_REALTIME_SECONDS), product=series.product)

    async def _show_window(self, step: Screen, window: int) -> None:
        texts = []
        for series in self._affordable():
            value = next((point.value for point in await self._points(series) if point.ts == window), None)
            step.show([WindowValue(series=str(series), ts=window, value=value)])
            texts.append(f"{series} {format_value(value, unit_of(series.metric)) or 'not there yet'}")
        step.print(f"{format_time(window)}  {'  '.join(texts)}")

    async def _wait_for(self, window: int, what: str) -> None:
        """Wait until a window is complete and queryable."""
        # One second more, because the service's inequality is strict.
        due = window + WINDOW + self.client.plan.of_endpoint(plans.REALTIME_USAGE).delay + 1
        wait = max(0.0, due - self._time().utc())
        with self.screen.progress(what, total=wait) as advance:
            while (left := due - self._time().utc()) > 0:
                advance(wait - left, f"{left:.0f} s")
                await asyncio.sleep(min(left, _REDRAW_EVERY))

    def _step(self, name: str, line: str) -> Screen:
        self.screen.print(line)
        return attrs.evolve(self.screen, step=name)


def _worst(items: Iterable[ItemT], orders: Mapping[str, Callable[[ItemT], float | None]]) -> list[ItemT]:
    """Return the worst items, in the order of `--sort worst`."""
    top = TopN(orders[WORST], _ROWS)
    for item in items:
        top.add(item)
    return top.items()
