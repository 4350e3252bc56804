"""What to export: datasets, App IDs, a span, and filters."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import attrs

from agora_analytics._core import validation
from agora_analytics.catalogue import Dimension, FreezeMetric, QualityMetric, UsageMetric
from agora_analytics.export.schema import DATASETS
from agora_analytics.models import Call
from agora_analytics.spans import DAY, Instant, Span, moment
from agora_analytics.streams.watch.series import Series

__all__ = ["Breakdown", "Insight", "Selection", "Shard"]

SHARD_NAMES: Final = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]-*d-[0-9]*"
"""The names of shards, as a pattern of files."""

_USAGE: Final = frozenset(UsageMetric)
_QUALITY: Final = frozenset(QualityMetric)
_OF_CALLS: Final = ("calls", "sessions", "metrics", "statistics")


@attrs.frozen
class Breakdown:
    """A freeze rate of each call by the values of a dimension; costs one request for each call.

    `metric` is one of `FreezeMetric`, `dimension` one of `Dimension`; other strings are passed on.
    """

    metric: str
    dimension: str

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(self, metric=validation.non_empty_str, dimension=validation.non_empty_str)


@attrs.frozen
class Insight:
    """A series of Data Insights: a usage metric, or a quality metric of a `product`.

    Either over time in steps of `granularity`, or for each UTC day by the top values of a `dimension`, which costs one
    request for each day. Raises `ValueError` or `TypeError` for a combination that the service does not offer.
    """

    metric: str
    product: str | None = attrs.field(default=None, kw_only=True)
    granularity: str = attrs.field(default="1d", kw_only=True)
    dimension: str | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(self, metric=validation.non_empty_str, granularity=validation.granularity)
        validation.apply_rules(self, product=validation.optional_str, dimension=validation.optional_str)
        if self.dimension is not None and self.granularity != "1d":
            raise ValueError(f"granularity={self.granularity!r}: with a dimension only '1d' is allowed")
        if self.metric in _QUALITY and self.product is None:
            raise ValueError(f"metric={self.metric!r} is a quality metric: give a product")
        if self.metric in _USAGE and self.product is not None:
            raise ValueError(f"product={self.product!r}: the usage metric {self.metric!r} has none")

    @property
    def usage(self) -> bool:
        """Whether the metric is one of usage."""
        return self.product is None


BREAKDOWNS: Final = tuple(
    Breakdown(metric, dimension) for metric in FreezeMetric for dimension in (Dimension.COUNTRY, Dimension.SDK)
)
"""The default of `statistics`."""


def _datasets(values: Iterable[str]) -> tuple[str, ...]:
    """Return the datasets in the order of `DATASETS`; raises `ValueError` for an unknown one."""
    names = validation.non_empty_strs("datasets", values)
    unknown = [name for name in names if name not in DATASETS]
    if unknown or not names:
        value = validation.short_repr(unknown[0]) if unknown else "()"
        raise ValueError(f"datasets={value}: allowed are {', '.join(DATASETS)}")
    return tuple(name for name in DATASETS if name in names)


def _apps(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(validation.app_ids("apps", values)))


def _channels(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(validation.non_empty_strs("channels", values)))


def _fraction(name: str, value: object) -> float | None:
    return None if value is None else validation.number_in_range(name, value, below=1)


def _mids(values: Iterable[int]) -> frozenset[int]:
    return frozenset(validation.ints_from("mids", values, 0))


def _statistics(values: Iterable[Breakdown]) -> tuple[Breakdown, ...]:
    return tuple(dict.fromkeys(validation.instances("statistics", values, Breakdown)))


def _insights(values: Iterable[Insight]) -> tuple[Insight, ...]:
    return tuple(dict.fromkeys(validation.instances("insights", values, Insight)))


def _series(values: Iterable[Series]) -> tuple[Series, ...]:
    return tuple(dict.fromkeys(validation.instances("series", values, Series)))


@attrs.frozen
class Selection:
    """The rows to export.

    ```python
    async with AnalyticsClient.from_env() as client:
        start, end = client.calls.recent(timedelta(hours=6))
        bad_calls = Selection(
            start,
            end,
            datasets=("calls", "sessions", "statistics"),
            min_freeze_rate=0.05,
            finished=True,
            statistics=[Breakdown("audio_freeze_rate", "network")],
        )
        daily = Selection(start, end, datasets=("insights",), insights=[Insight("audioFreezeRate", product="Native")])
        print(bad_calls.span, bad_calls.datasets, daily.insights)
    ```

    Attributes:
        start, end: the span `[start, end)`, as aware datetimes or UTC seconds; a call counts if it began in it.
        datasets: of `calls`, `sessions`, `metrics`, `statistics`, `insights` and `realtime`.
        apps: App IDs (empty: the client's own).
        channels: only calls of these channels (empty: all).
        min_freeze_rate: only calls whose audio or video froze more than this fraction of the time.
        finished: only calls that are over.
        mids: ids of the metrics in the dataset `metrics` (empty: all).
        statistics: what the dataset `statistics` consists of (empty: both freeze rates by country and by SDK).
        insights: what the dataset `insights` consists of.
        series: what the dataset `realtime` consists of.

    Raises `ValueError` or `TypeError` for a bad argument.
    """

    start: Instant
    end: Instant
    datasets: tuple[str, ...] = attrs.field(default=("calls",), converter=_datasets, kw_only=True)
    apps: tuple[str, ...] = attrs.field(default=(), converter=_apps, kw_only=True)
    channels: tuple[str, ...] = attrs.field(default=(), converter=_channels, kw_only=True)
    min_freeze_rate: float | None = attrs.field(default=None, kw_only=True)
    finished: bool = attrs.field(default=False, kw_only=True)
    mids: frozenset[int] = attrs.field(default=frozenset(), converter=_mids, kw_only=True)
    statistics: tuple[Breakdown, ...] = attrs.field(default=(), converter=_statistics, kw_only=True)
    insights: tuple[Insight, ...] = attrs.field(default=(), converter=_insights, kw_only=True)
    series: tuple[Series, ...] = attrs.field(default=(), converter=_series, kw_only=True)

    def __attrs_post_init__(self) -> None:
        start, end = Span.of(self.start, self.end)
        # Frozen, so set in this way: as seconds, so that the same span is equal however it was given.
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)
        validation.apply_rules(self, min_freeze_rate=_fraction, finished=validation.boolean)
        for dataset, name in (("insights", "insights"), ("realtime", "series")):
            if (dataset in self.datasets) != bool(getattr(self, name)):
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: it goes with the dataset {dataset!r}: give both or neither"
                )

    @property
    def span(self) -> Span:
        """The span from `start` to `end`."""
        return Span.of(self.start, self.end)

    @property
    def breakdowns(self) -> tuple[Breakdown, ...]:
        """What the dataset `statistics` consists of; empty if it is not selected."""
        return (self.statistics or BREAKDOWNS) if "statistics" in self.datasets else ()

    @property
    def of_calls(self) -> bool:
        """Whether calls must be listed."""
        return any(name in self.datasets for name in _OF_CALLS)

    @property
    def details(self) -> bool:
        """Whether each call needs requests of its own."""
        return any(name in self.datasets for name in _OF_CALLS[1:])

    @property
    def sessions(self) -> bool:
        """Whether the sessions of each call must be listed."""
        return "sessions" in self.datasets or self.metrics

    @property
    def metrics(self) -> bool:
        """Whether the metrics of each session are selected."""
        return "metrics" in self.datasets

    def shards(self, *, apps: int = 20, days: int = 7) -> tuple[Shard, ...]:
        """Divide the selection among workers, and return its shards: disjoint, and together all of it; oldest first.

        ```python
        async with AnalyticsClient.from_env() as client:
            shards = Selection(*client.calls.recent(timedelta(hours=6)), datasets=("calls", "sessions")).shards()
            for shard in shards:  # or one for each worker
                await client.export.run(shard.selection, shard.place("data"), format="jsonl")
            report = await client.export.merge(shards, "data")
            print(report.complete, report.rows, report.missing)
        ```

        Each is an ordinary export into a place of its own: any worker may run it, stop, and leave it to another one.
        The same selection always has the same shards. If it grows by later days, or by App IDs at the end of `apps`,
        shards that are full stay as they are, and those at the edge keep their names and are run again.

        Args:
            apps: App IDs of a shard, in the order of the selection.
            days: UTC days of a shard, counted from 1 January 1970.

        """
        apps, days = (validation.int_in_range(name, value, 1) for name, value in (("apps", apps), ("days", days)))
        groups = [self.apps[first : first + apps] for first in range(0, len(self.apps), apps)] or [()]
        first, length = self.span.start // (days * DAY), days * DAY
        return tuple(
            self._shard(group, number, Span(max(self.span.start, start), min(self.span.end, start + length)), days)
            for start in range(first * length, self.span.end, length)
            for number, group in enumerate(groups, 1)
        )

    def _shard(self, apps: tuple[str, ...], number: int, span: Span, days: int) -> Shard:
        # Named by the days that it may have, not by those that it has, so that it may grow in its place.
        day = moment(span.start // (days * DAY) * days * DAY + 1)
        name = f"{day:%Y-%m-%d}-{days}d-{number:04d}"  # as `SHARD_NAMES` has it
        return Shard(name, attrs.evolve(self, start=span.start, end=span.end, apps=apps))

    def identity(self) -> dict[str, Any]:
        """Return the settings that must be the same in every run into a place: all but the span and the App IDs.

        States and manifests contain them: another name makes an export of an earlier version another export.
        """
        return {
            "datasets": list(self.datasets),
            "channels": sorted(self.channels),
            "min_freeze_rate": self.min_freeze_rate,
            "finished": self.finished,
            "mids": sorted(self.mids),
            "statistics": [f"{one.metric} by {one.dimension}" for one in self.breakdowns],
            "insights": [attrs.asdict(one) for one in self.insights],
            "series": [str(one) for one in self.series],
        }


@attrs.frozen
class Shard:
    """A share of a selection that is exported by itself; see `Selection.shards`.

    Attributes:
        name: its folder, and a stable key for a work queue.
        selection: what it exports.

    """

    name: str
    selection: Selection

    def place(self, to: str | Path) -> str:
        """Return where it goes below the folder or URL of all shards."""
        return f"{str(to).rstrip('/')}/{self.name}"


def wants(selection: Selection, call: Call) -> bool:
    """Whether a call passes the filters of a selection."""
    if selection.finished and not call.is_over:
        return False
    return selection.min_freeze_rate is None or worst(call) > selection.min_freeze_rate


def worst(call: Call) -> float:
    """Return the higher of a call's freeze rates."""
    return max(call.call_audio_freeze_rate or 0.0, call.call_video_freeze_rate or 0.0)
