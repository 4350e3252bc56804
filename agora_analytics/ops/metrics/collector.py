"""`ops.Collector`: the metrics of a client, for a Prometheus registry or as text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from itertools import chain
from types import TracebackType
from typing import Final, Self

from prometheus_client import Counter, Metric

from agora_analytics._core import validation
from agora_analytics._core.decoding.scanner import Steps, finish
from agora_analytics._core.dispatcher import in_turns
from agora_analytics.client import AnalyticsClient, dispatcher_of
from agora_analytics.export.report import ProgressCallback
from agora_analytics.ops.fleet.monitor import FleetMonitor
from agora_analytics.ops.metrics import (
    export_metrics,
    fleet_metrics,
    page_metrics,
    quota_metrics,
    realtime_metrics,
    stream_metrics,
)
from agora_analytics.ops.metrics.export_metrics import ExportObserver
from agora_analytics.ops.metrics.exposition import encode
from agora_analytics.ops.metrics.families import Family, Value, family_of, label, values_of
from agora_analytics.ops.metrics.page_metrics import PageCounts
from agora_analytics.ops.metrics.quota_metrics import QuotaReader
from agora_analytics.ops.metrics.realtime_metrics import SeriesValues, newest_values
from agora_analytics.ops.metrics.request_metrics import RequestMetrics
from agora_analytics.ops.metrics.stream_metrics import FollowObserver, StreamCounters, WatchObserver
from agora_analytics.streams.follow.follow import Follow
from agora_analytics.streams.watch.watch import Watch

__all__ = ["Collector"]

_BUILD = Family("agora_build", "The version of the library and the plan of the client.", "info", "_info")

_PATIENCE: Final = 5.0
"""Seconds that a scrape in another thread waits for the client's event loop."""

_MAX_ENDED: Final = 100
"""Ended streams that are still shown at most; also exports."""

_LEAST_SERIES: Final = 1_000
"""More samples than those that do not depend on streams: a smaller limit could cut a histogram."""

_SLICE: Final = 100
"""Samples between two breaks."""


class Collector:
    """The quota, requests, streams, exports and real-time values of a client, as Prometheus metrics.

    Register it with a registry of prometheus_client, or call `render`:

    ```python
    from prometheus_client import CollectorRegistry, generate_latest

    from agora_analytics.ops import Collector

    users = Series("userCount", product="Native")
    async with AnalyticsClient.from_env() as client:
        collector = Collector(client, apps={"<App ID>": "shop"})
        registry = CollectorRegistry()
        registry.register(collector)
        async with client.realtime.watch(users) as watch:
            collector.watch(watch, name="users")
            async for _ in watch:
                print(generate_latest(registry).decode())
    ```

    It observes the client until `close()`, or until its `with` block ends.

    A scrape sends no request. It reads the quota from a ledger in memory at once. For any other ledger it waits a
    quarter of a second at most, and then shows the quota that an earlier scrape has read, whose time is
    `agora_quota_snapshot_timestamp_seconds`. `collect()` in the client's own event loop cannot wait at all, so it shows
    the quota of the scrape before.

    Real-time values are those of the newest final window of each series, without a timestamp of their own;
    `agora_realtime_window_timestamp_seconds` is the start of that window.

    Args:
        client: the client; those of `with_app` and `with_priority` share its quota and its requests.
        account: the `account` label; by default the fingerprint under which a ledger keeps the account.
        apps: the `app` label by App ID; an App ID that is missing is its own label.
        channels: whether to show series of a channel, with the label `channel`. Series of users are never shown.
        max_series: samples that a scrape may have, 1,000 or more; `agora_series_dropped_total` counts what is left out.

    """

    def __init__(
        self,
        client: AnalyticsClient,
        *,
        account: str | None = None,
        apps: Mapping[str, str] | None = None,
        channels: bool = False,
        max_series: int = 2_000,
    ) -> None:
        dispatcher = dispatcher_of(validation.instance("client", client, AnalyticsClient))
        self._time = dispatcher.time
        self._apps = validation.none_or(validation.mapping, "apps", apps, str) or {}
        self._channels = validation.boolean("channels", channels)
        self._max_series = validation.int_in_range("max_series", max_series, _LEAST_SERIES)
        self._account = label(
            validation.none_or(validation.non_empty_str, "account", account) or dispatcher.limiters.account
        )
        self._plan = label(client.plan.name)
        self._quota = QuotaReader(dispatcher.limiters, self._account)
        self._requests = RequestMetrics()
        self._counters = StreamCounters()
        self._dropped = Counter(
            "agora_series_dropped", "Samples that were left out because there were more than max_series.", registry=None
        )
        self._streams: dict[tuple[str, str], WatchObserver | FollowObserver] = {}
        self._exports: dict[str, ExportObserver] = {}
        self._page: PageCounts | None = None
        self._fleet: FleetMonitor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bind()
        self._closed = False
        self._observers = dispatcher.observers
        self._observers.add(self._requests)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Observe the client and its streams no longer; what was counted so far is still shown.

        Unregister it from your registry yourself. Closing it twice does nothing.
        """
        self._closed = True
        self._observers.remove(self._requests)
        for stream in self._streams.values():
            stream.detach()

    def watch(self, watch: Watch, *, name: str = "watch") -> None:
        """Show a watch from now on; its consumer iterates over it as before.

        Raises `ValueError` for a name that another running stream of the App ID has.
        """
        app, name = self._names(validation.instance("watch", watch, Watch).app_id, name)
        observer = WatchObserver(watch, app, name, self._counters, channels=self._channels)
        self._streams[app, name] = observer

    def follow(self, follow: Follow, *, name: str = "follow") -> None:
        """Show a follow from now on; its consumer iterates over it as before.

        Raises `ValueError` for a name that another running stream of the App ID has.
        """
        app, name = self._names(validation.instance("follow", follow, Follow).app_id, name)
        self._streams[app, name] = FollowObserver(follow, app, name, self._counters)

    def export(self, name: str = "export") -> ProgressCallback:
        """Return the `on_progress` of an export that is shown under a name: `client.export.run(…, on_progress=…)`."""
        name = label(validation.non_empty_str("name", name))
        observer = ExportObserver(name, self._time.utc)
        # So that it becomes the newest again, and is the last to be dropped.
        self._exports.pop(name, None)
        self._exports[name] = observer
        while len(self._exports) > _MAX_ENDED:
            del self._exports[next(iter(self._exports))]
        return observer

    def page(self, counts: PageCounts) -> None:
        """Show a live page from now on; `counts` returns its connected viewers, and the events that viewers missed."""
        self._page = validation.function("counts", counts, "a function that returns two numbers")

    def fleet(self, monitor: FleetMonitor) -> None:
        """Show a fleet from now on: its workers, its jobs and how old their data is, in a few hundred samples."""
        self._fleet = validation.instance("monitor", monitor, FleetMonitor)

    async def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """Return all metrics as text, and its content type.

        `accept` is the `Accept` header of the scrape: OpenMetrics if it allows that, else Prometheus' text format.
        Yields to the event loop every few milliseconds.
        """
        metrics = await self._collect_in_turns()
        return await in_turns(encode(metrics, validation.optional_str("accept", accept) or ""))

    def collect(self) -> Iterable[Metric]:
        """Return all metrics, for a registry.

        A call in another thread collects them in the client's event loop and waits for the result. Raises
        `TimeoutError` if the loop does not return it within five seconds.
        """
        loop, here = self._loop, _running_loop()
        # Where no other thread runs the loop, nothing can change while the metrics are read.
        if loop is None or loop is here or not loop.is_running():
            # In the client's own loop, which cannot wait here: read for the next scrape.
            if loop is here is not None:
                self._quota.refresh_now()
            return finish(self._collect())
        collecting = asyncio.run_coroutine_threadsafe(self._collect_in_turns(), loop)
        try:
            return collecting.result(_PATIENCE)
        finally:
            # Or a loop that is stuck would collect for each scrape that has given up.
            collecting.cancel()

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without samples: a registry refuses a second collector of the same names."""
        # Without it a registry would collect at once, in a loop that may not run yet.
        return [Metric(family.name, family.help, family.kind) for family in self._families()]

    def _names(self, app_id: str, name: str) -> tuple[str, str]:
        """Return the labels of a stream; raises `ValueError` if a running stream has them."""
        if self._closed:
            raise RuntimeError("this collector is closed: it observes no further stream")
        self._bind()
        app, name = label(self._apps.get(app_id, app_id)), label(validation.non_empty_str("name", name))
        # A stream that was restarted takes the place, and the counters, of the one before.
        before = self._streams.pop((app, name), None)
        if before is not None and before.health.state != "stopped":
            # It was taken out so that a name that is used again moves to the end, and is the last to be forgotten.
            self._streams[app, name] = before
            raise ValueError(f"name={name!r} is the name of another stream that is running: give each its own")
        ended = [key for key, stream in self._streams.items() if stream.health.state == "stopped"]
        for key in ended[: max(0, len(ended) - _MAX_ENDED)]:
            self._streams.pop(key).forget()
        return app, name

    def _bind(self) -> None:
        """Remember the event loop in which the client is used."""
        self._loop = _running_loop() or self._loop

    async def _collect_in_turns(self) -> list[Metric]:
        self._bind()
        await self._quota.refresh()
        return await in_turns(self._collect())

    def _collect(self) -> Steps[list[Metric]]:
        """Return the metrics, with `max_series` samples at most; real-time values come last."""
        realtime: list[tuple[str, SeriesValues]] = []
        for stream in list(self._streams.values()):
            if isinstance(stream, WatchObserver):
                found = yield from stream.series_values()
                realtime += [(stream.app, one) for one in found]
            yield None
        # Real-time values last: they alone may be any number, so the cap never cuts the quota or a histogram.
        samples = chain(self._values(), newest_values(realtime))
        metrics: dict[str, Metric] = {}
        number = 0
        for number, value in enumerate(samples, 1):
            if number <= self._max_series:
                value.add_to(metrics)
            if not number % _SLICE:
                yield None
        # Added once the others are counted, so that it is never cut itself.
        self._dropped.inc(max(0, number - self._max_series))
        for value in values_of(self._dropped):
            value.add_to(metrics)
        return list(metrics.values())

    def _values(self) -> Iterator[Value]:
        """Yield all samples but the real-time values."""
        build = {"version": version("agora-analytics"), "plan": self._plan, "account": self._account}
        yield Value(_BUILD, build, 1)
        yield from self._quota.values()
        yield from self._requests.values()
        for stream in list(self._streams.values()):
            yield from stream.values()
        yield from self._counters.values()
        for export in list(self._exports.values()):
            yield from export.values()
        if self._page is not None:
            yield from page_metrics.values(self._page)
        if self._fleet is not None:
            yield from fleet_metrics.values(self._fleet)

    def _families(self) -> Iterator[Family]:
        yield _BUILD
        for part in (quota_metrics, stream_metrics, export_metrics, page_metrics, fleet_metrics, realtime_metrics):
            yield from part.FAMILIES
        yield from map(family_of, (*self._requests.all(), *self._counters.all(), self._dropped))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None
