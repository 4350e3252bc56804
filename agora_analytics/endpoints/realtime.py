"""Real-time Monitoring: the last minutes in 20-second windows, and who leads each window.

One request may span all that the plan keeps (40 or 60 minutes) and costs the same as one window. Times are UTC seconds
or aware datetimes; a window begins on a multiple of 20 s; the window of `start` is in, the window of `end` is out. All
raise `ValueError` or `TypeError` for what the plan or the reference does not allow before anything is sent, and the
errors of `agora_analytics.errors` for what goes wrong afterwards.
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
    from agora_analytics.streams.checkpoints import Checkpoint
    from agora_analytics.streams.period import Beginning
    from agora_analytics.streams.position import Place
    from agora_analytics.streams.watch.schedule import Coverage
    from agora_analytics.streams.watch.series import Series
    from agora_analytics.streams.watch.watch import Watch

__all__ = ["Realtime"]


class Realtime(RealtimeRequests):
    """`client.realtime`: the four endpoints of Real-time Monitoring, and windows without end."""

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

        `metric` is one of `RealtimeUsageMetric`; a dimension works with `userCount` only. Without `cname` the whole
        project is counted. A window may be missing. `GET /beta/realtime/usage/by_time_20sec`.
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

        `metric` is one of `QualityMetric`. At most 10 `uids`, which need a `cname` and exclude a dimension; their
        points tell them apart by `uid`. A window may be missing. `GET /beta/realtime/quality/by_time_20sec`.
        """
        template = self._quality(metric, product, cname, dimension, dimension_values, uids=uids)
        return await self._by_time(template, start, end)

    async def usage_top(
        self, dimension: str, at: Instant, *, product: str, metric: str = RealtimeUsageMetric.USER_COUNT
    ) -> Found[Ranked]:
        """Return the 20 values of a dimension (device: 50) with the most users in the 20 seconds from `at`.

        In the service's order. `GET /beta/realtime/usage/dimension/top20`.
        """
        params = {"productType": validation.non_empty_str("product", product)}
        return await self._top(REALTIME_USAGE_TOP, at, metric, dimension, params)

    async def quality_top(
        self, metric: str, dimension: str, at: Instant, *, product: str, extra_metrics: str | None = None
    ) -> Found[Ranked]:
        """Return the top values of a dimension by a quality metric in the 20 seconds from `at`.

        `extra_metrics="userCount"` adds the users each value rests on. In the service's order.
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
        start: Beginning = None,
        stop: Instant | None = None,
        checkpoint: str | Checkpoint | None = None,
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

        A `Window` comes as soon as all series have it; one that some lack is waited for, `allowed_lateness` seconds
        beyond the plan's delay, and then comes with those as `missing`, each with the reason. A value that changes
        after that, or a group that appears, within `final_after` seconds, comes as a `Revision` (unless
        `revisions=False`), also after a restart from a checkpoint; the order of rows means nothing, and a row that a
        later answer lacks stays. With `only_final=True` windows wait until they are settled. An outage is made up for
        as far back as the plan keeps windows; what is lost is a `Gap` with the reason.

        It begins where its `checkpoint` is: a name in the client's `checkpoints`, saved whenever you come back for
        more, or a `Checkpoint` that you keep yourself. Without one yet, at `start` (a moment, or a `timedelta` before
        the newest that can be asked for, by the service's clock), or the newest window. It ends before `stop`, or
        never. It asks as often as the day's requests allow, and not more often than `every` seconds; `coverage` tells
        beforehand how often that is.

        Raises `ValueError` or `TypeError` for bad arguments, and for series that the plan cannot carry without gaps
        unless `gaps=True`; while iterating, `CheckpointError`, and what ends a stream: `BadRequest`, `NotFound`,
        `PlanRefused`, `LedgerError` or `Unauthorized` before anything was answered, and later `Unauthorized` alone,
        after an hour. All else is sat out; `health` says what it waits for.
        `GET /beta/realtime/{usage,quality}/by_time_20sec`.
        """
        from agora_analytics.endpoints.stream_sources import WindowSource  # noqa: PLC0415
        from agora_analytics.streams.period import Period  # noqa: PLC0415
        from agora_analytics.streams.watch.watch import Settings, Watch  # noqa: PLC0415

        period = Period.of(start, stop)
        settings = Settings(
            start=period.start,
            back=period.back,
            stop=period.stop,
            allowed_lateness=validation.int_in_range("allowed_lateness", allowed_lateness, 0),
            final_after=validation.int_in_range("final_after", final_after, 0),
            revisions=validation.boolean("revisions", revisions),
            only_final=validation.boolean("only_final", only_final),
            least=-(-validation.int_in_range("every", every, WINDOW) // WINDOW),
        )
        self._app()
        told = self.coverage(*series)
        if not (validation.boolean("gaps", gaps) or told.complete):
            raise ValueError(f"{len(series)} series: {told}; take fewer, or accept them with gaps=True (--gaps)")
        source = WindowSource(self._dispatcher, self._scope, series)
        return Watch(source, self._dispatcher.quota, series, settings, self._place(series, checkpoint))

    def coverage(self, *series: Series, every: int = WINDOW) -> Coverage:
        """Return what the plan can do for these series: requests a poll, interval, freshness, and whether it is enough.

        ```python
        print(client.realtime.coverage(Series("userCount", product="Native")))
        ```

        That is if all of the day's real-time requests are theirs. Raises `ValueError` where the plan offers none.
        """
        from agora_analytics.streams.watch.schedule import coverage  # noqa: PLC0415
        from agora_analytics.streams.watch.series import Series, queries  # noqa: PLC0415

        if not validation.instances("series", series, Series):
            raise TypeError("series=(): allowed is one Series or several")
        if len(set(series)) < len(series):
            twice = next(one for one in series if series.count(one) > 1)
            raise ValueError(f"series: {twice} is there twice")
        self._dispatcher.plan.of_endpoint(REALTIME_USAGE)
        weights = [query.weight for query in queries(series)]
        return coverage(self._dispatcher.plan, weights, -(-validation.int_in_range("every", every, WINDOW) // WINDOW))

    def _place(self, series: tuple[Series, ...], checkpoint: str | Checkpoint | None) -> Place:
        from agora_analytics.streams.position import place_of  # noqa: PLC0415

        told = "\n".join((self._app(), *sorted(map(str, series))))
        stream = f"watch {fingerprint(told)}"
        return place_of(stream, checkpoint, self._scope.checkpoints)
