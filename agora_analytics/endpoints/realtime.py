"""Real-time Monitoring: the last minutes in 20-second windows, and top lists of single windows.

One request may span the plan's whole retention (40 or 60 minutes) and costs the same as one window. Times are UTC
seconds or aware datetimes; windows start on multiples of 20 s; the window of `start` is included, that of `end` is not.
All methods raise `ValueError` or `TypeError` before anything is sent if the plan or the API does not allow the
arguments, and the errors of `agora_analytics.errors` afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from agora_analytics._core import validation
from agora_analytics._core.redaction import fingerprint
from agora_analytics.catalogue import RealtimeUsageMetric
from agora_analytics.endpoints.realtime_requests import RealtimeRequests
from agora_analytics.models import Found, Point, Ranked, Uid
from agora_analytics.plans import REALTIME_QUALITY_TOP, REALTIME_USAGE, REALTIME_USAGE_TOP
from agora_analytics.spans import WINDOW, Instant

if TYPE_CHECKING:
    from agora_analytics.protocols import ResumableSink
    from agora_analytics.streams.checkpoints import Checkpoint
    from agora_analytics.streams.position import Position, StartPoint
    from agora_analytics.streams.watch.schedule import Coverage
    from agora_analytics.streams.watch.series import Series
    from agora_analytics.streams.watch.watch import Watch

__all__ = ["Realtime"]


class Realtime(RealtimeRequests):
    """`client.realtime`: the four endpoints of Real-time Monitoring, and a stream of windows."""

    async def usage(
        self,
        metric: str,
        start: Instant,
        end: Instant,
        *,
        product: str,
        cname: str | None = None,
        dimension: str | None = None,
        dimension_values: Iterable[str] = (),
    ) -> Found[Point]:
        """Return users or channels in use, window by window, in order of time.

        ```python
        span = client.realtime.recent(timedelta(minutes=10))
        for point in await client.realtime.usage("userCount", *span, product="Native", dimension="os"):
            print(point.started_at, point.dimension_value, point.value)
        ```

        `metric` is one of `RealtimeUsageMetric`; a dimension works with `userCount` only. Without `cname` it counts the
        whole project. Windows may be missing. `GET /beta/realtime/usage/by_time_20sec`.
        """
        template = self._usage(metric, product, cname, dimension, dimension_values)
        return await self._by_time(template, start, end)

    async def quality(
        self,
        metric: str,
        start: Instant,
        end: Instant,
        *,
        product: str,
        cname: str | None = None,
        uids: Iterable[Uid] = (),
        dimension: str | None = None,
        dimension_values: Iterable[str] = (),
    ) -> Found[Point]:
        """Return a quality metric, window by window, in order of time.

        ```python
        span = client.realtime.recent(timedelta(minutes=10))
        points = await client.realtime.quality("videoFreezeRate", *span, product="Native")
        print(max(point.value or 0.0 for point in points))
        ```

        `metric` is one of `QualityMetric`. At most 10 `uids`, which need a `cname` and exclude a dimension; `uid` of a
        point is its user. Windows may be missing. `GET /beta/realtime/quality/by_time_20sec`.
        """
        template = self._quality(metric, product, cname, dimension, dimension_values, uids=uids)
        return await self._by_time(template, start, end)

    async def usage_top(
        self, dimension: str, at: Instant, *, product: str, metric: str = RealtimeUsageMetric.USER_COUNT
    ) -> Found[Ranked]:
        """Return the 20 values of a dimension (device: 50) with the most users in the 20 seconds from `at`.

        ```python
        window = client.realtime.recent(20).start
        for country in await client.realtime.usage_top("country", window, product="Native"):
            print(country.dimension_value, country.value, "users")
        ```

        In the service's order. `GET /beta/realtime/usage/dimension/top20`.
        """
        params = {"productType": validation.non_empty_str("product", product)}
        return await self._top(REALTIME_USAGE_TOP, at, metric, dimension, params)

    async def quality_top(
        self, metric: str, dimension: str, at: Instant, *, product: str, extra_metrics: str | None = None
    ) -> Found[Ranked]:
        """Return the top values of a dimension by a quality metric in the 20 seconds from `at`.

        ```python
        window = client.realtime.recent(20).start
        worst = await client.realtime.quality_top(
            "videoFreezeRate", "device", window, product="Native", extra_metrics="userCount"
        )
        for device in worst:
            print(device.dimension_value, device.value, device.user_count, "users")
        ```

        `extra_metrics="userCount"` adds the number of users behind each value. In the service's order.
        `GET /beta/realtime/quality/dimension/top20`.
        """
        params = {
            "productType": validation.non_empty_str("product", product),
            "extraMetrics": validation.optional_str("extra_metrics", extra_metrics),
        }
        return await self._top(REALTIME_QUALITY_TOP, at, metric, dimension, params)

    def watch(
        self,
        *series: Series,
        start: StartPoint = None,
        stop: Instant | None = None,
        checkpoint: str | Checkpoint | ResumableSink | None = None,
        allowed_lateness: int = 120,
        final_after: int = 300,
        revisions: bool = True,
        only_final: bool = False,
        every: int = WINDOW,
        gaps: bool = False,
    ) -> Watch:
        """Yield each 20-second window once and in order, with the points of all series, for as long as you iterate.

        ```python
        users = Series("userCount", product="Native")
        async for event in client.realtime.watch(users):
            match event:
                case Window():
                    print(event.ts, event.value(users))
                case Revision():
                    print(event.ts, "changed to", event.after)
                case Gap():
                    print("nothing is known of", event.span, event.reason)
        ```

        A `Window` comes once all series have it. If some lack it, it waits for late data, `allowed_lateness` seconds
        beyond the plan's delay, and then comes with those series in `missing`, each with the reason. A value that
        changes later, or a group that appears, within `final_after` seconds, comes as a `Revision` (unless
        `revisions=False`), after a restart from a checkpoint too. The order of rows does not matter, and a row that a
        later answer lacks is kept. With `only_final=True` windows come once they are final. After an outage it
        backfills as far as the plan's retention; what is lost comes as a `Gap` with the reason.

        It resumes at its `checkpoint`: a name in the client's `checkpoints`, which is saved each time you ask for the
        next event; a sink such as `PostgresSink`, in which you write the events; or a `Checkpoint` that you store
        yourself. Without one it starts at `start` (a moment, or a `timedelta` before the newest queryable second), or
        at the newest window. It ends before `stop`, or never. It polls as often as the day's requests allow, at most
        every `every` seconds; `coverage` returns how often that is.

        Raises `ValueError` or `TypeError` for invalid arguments, and for series that the plan cannot cover without gaps
        unless `gaps=True`. While iterating it raises `CheckpointError`, and what ends a stream: `BadRequest`,
        `NotFound`, `PlanRefused`, `LedgerError` or `Unauthorized` before the first answer, and afterwards only
        `Unauthorized`, after an hour. All other errors are retried; `health` says what it waits for.
        `GET /beta/realtime/{usage,quality}/by_time_20sec`.
        """
        # Loaded at first use: most programs open no stream.
        from agora_analytics.endpoints.stream_sources import ApiWindowSource  # noqa: PLC0415
        from agora_analytics.streams.position import Period  # noqa: PLC0415
        from agora_analytics.streams.watch.watch import Watch  # noqa: PLC0415
        from agora_analytics.streams.watch.watch_poller import WatchSettings  # noqa: PLC0415

        period = Period.of(start, stop)
        settings = WatchSettings(
            start=period.start,
            back=period.back,
            stop=period.stop,
            allowed_lateness=validation.int_in_range("allowed_lateness", allowed_lateness, 0),
            final_after=validation.int_in_range("final_after", final_after, 0),
            revisions=validation.boolean("revisions", revisions),
            only_final=validation.boolean("only_final", only_final),
            # Rounded up to whole windows: never more often than was requested.
            min_interval=-(-validation.int_in_range("every", every, WINDOW) // WINDOW),
        )
        self._app()
        # Before anything is sent: gaps that are certain from the start are a mistake, unless they are accepted.
        coverage = self.coverage(*series)
        if not (validation.boolean("gaps", gaps) or coverage.complete):
            raise ValueError(f"{len(series)} series: {coverage}; take fewer, or accept gaps with gaps=True (--gaps)")
        source = ApiWindowSource(self._dispatcher, self._scope, series)
        return Watch(source, self._dispatcher.limiters, series, settings, self._position(series, checkpoint))

    def coverage(self, *series: Series, every: int = WINDOW) -> Coverage:
        """Return what the plan can do for these series: requests a poll, its interval, and whether it is enough.

        ```python
        print(client.realtime.coverage(Series("userCount", product="Native")))
        ```

        This assumes that all of the day's real-time requests are theirs. Raises `ValueError` if the plan includes none.
        """
        from agora_analytics.streams.watch.schedule import coverage  # noqa: PLC0415
        from agora_analytics.streams.watch.series import Series, queries  # noqa: PLC0415

        if not validation.instances("series", series, Series):
            raise TypeError("series=(): allowed is one Series or several")
        if (twice := validation.repeated(series)) is not None:
            raise ValueError(f"series: {twice} is given twice")
        self._dispatcher.plan.of_endpoint(REALTIME_USAGE)
        # Of queries, not of series: those that one request answers cost one.
        weights = [query.weight for query in queries(series)]
        return coverage(self._dispatcher.plan, weights, -(-validation.int_in_range("every", every, WINDOW) // WINDOW))

    def _position(self, series: tuple[Series, ...], checkpoint: str | Checkpoint | ResumableSink | None) -> Position:
        from agora_analytics.streams.position import position_for  # noqa: PLC0415

        # Sorted, so that a program may list its series in another order and still resume.
        identity = "\n".join((self._app(), *sorted(map(str, series))))
        stream = f"watch {fingerprint(identity)}"
        return position_for(stream, checkpoint, self._scope.checkpoints)
