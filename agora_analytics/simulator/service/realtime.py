"""Handlers of Real-time Monitoring: users, channels and quality by 20-second window, and top lists of a window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from agora_analytics.catalogue import Product, QualityMetric, RealtimeUsageMetric
from agora_analytics.simulator.service.context import Document, Grouping, RequestContext
from agora_analytics.simulator.service.params import TimeRange
from agora_analytics.simulator.world.concurrency import Interval, count_concurrent, value_of
from agora_analytics.simulator.world.entities import SimulatedSession
from agora_analytics.simulator.world.rng import fraction, rng_for
from agora_analytics.spans import WINDOW

_MAX_DIGITS = 20
_REVISED_FACTOR = 0.9
"""A window that gets revised shows this fraction of its final value before."""

Counts = Callable[[int], Mapping[str, int]]
"""Returns the users in a window by group; the group of all users is the empty string."""

_ValueAt = Callable[[int, str, Mapping[str, int]], float]
"""Returns the value of a window and a group, given the users by group in that window."""


@attrs.frozen
class _SeriesQuery:
    """A request for a series: one metric by window, optionally of one channel or by dimension."""

    metric: str
    product: Product
    cname: str | None
    grouping: Grouping | None
    values: tuple[str, ...]

    @classmethod
    def of(cls, context: RequestContext, metric: str) -> _SeriesQuery:
        """Parse a request; by the API reference, only `userCount` and quality have a dimension."""
        product = Product(context.params.one_of("productType", tuple(Product)))
        grouped = context.params.optional_text("dimension") is not None and metric != RealtimeUsageMetric.CHANNEL_COUNT
        values = context.params.quoted_list("dimensionValues") if grouped else ()
        return cls(
            metric, product, context.params.optional_text("cname"), context.dimension() if grouped else None, values
        )


def usage(context: RequestContext) -> Document:
    """Answer with users or channels by window."""
    time_range = context.time_range("startTs", "endTs")
    series = _SeriesQuery.of(context, context.params.one_of("metric", tuple(RealtimeUsageMetric)))
    counts = _user_counts(context, series, time_range)
    if series.metric == RealtimeUsageMetric.CHANNEL_COUNT:
        counts = _channel_counts(context, series, counts)
    return {"data": _rows(context, series, time_range, counts, lambda _, group, users: users[group])}


def quality(context: RequestContext) -> Document:
    """Answer with quality by window, and by user if a channel and users are given."""
    time_range = context.time_range("startTs", "endTs")
    series = _SeriesQuery.of(context, context.params.one_of("metric", tuple(QualityMetric)))
    uids = context.params.csv_list("uids", 10)
    # Without a channel the service ignores users, and does not refuse them.
    if uids and series.cname:
        return {"data": _shuffled(context, [_user_row(context, series, time_range, uid) for uid in uids])}
    counts = _without_empty_groups(_user_counts(context, series, time_range))
    return {"data": _rows(context, series, time_range, counts, _rate_of(context, series))}


def usage_top(context: RequestContext) -> Document:
    """Answer with the values of a dimension that have the most users in one window."""
    context.params.one_of("metric", (RealtimeUsageMetric.USER_COUNT,))
    window, product, grouping = _top_params(context)
    users = context.world.users(product, window // WINDOW * WINDOW, grouping.name)
    # By name where equal, so that the same question has the same answer.
    ranked = sorted(users.items(), key=lambda pair: (-pair[1], pair[0]))[: grouping.max_groups]
    return _top_list(
        context,
        [{grouping.echo: value, "userCount": count, **_window_fields(context, window)} for value, count in ranked],
    )


def quality_top(context: RequestContext) -> Document:
    """Answer with the values of a dimension that have the highest quality metric in one window."""
    metric = context.params.one_of("metric", tuple(QualityMetric))
    with_users = "extraMetrics" in context.params.values and context.params.one_of("extraMetrics", ("userCount",))
    window, product, grouping = _top_params(context)
    users = context.world.users(product, window // WINDOW * WINDOW, grouping.name)
    rates = {value: context.world.rate(metric, product, window, value) for value in users}
    ranked = sorted(rates.items(), key=lambda pair: (-pair[1], pair[0]))[: grouping.max_groups]
    rows = []
    for value, rate in ranked:
        extra: Document = {"userCount": users[value]} if with_users else {}
        rows.append({metric: rate, **extra, grouping.echo: value, **_window_fields(context, window)})
    return _top_list(context, rows)


def _top_params(context: RequestContext) -> tuple[int, Product, Grouping]:
    ts = context.params.timestamp("ts")
    context.check_limits(TimeRange(ts, ts + WINDOW))
    return ts, Product(context.params.one_of("productType", tuple(Product))), context.dimension()


def _window_fields(context: RequestContext, ts: int) -> Document:
    start = ts // WINDOW * WINDOW if context.variants.aligned_echo else ts
    return {"windowStartTs": start, "windowEndTs": start + WINDOW}


def _top_list(context: RequestContext, rows: list[Document]) -> Document:
    return {"data": rows if context.variants.bare_top_list else {"list": rows}}


def _windows(context: RequestContext, time_range: TimeRange, metric: str) -> Iterator[int]:
    """Yield the queryable windows of a time range, from that of its start to the one before that of its end."""
    for window in range(time_range.start // WINDOW * WINDOW, time_range.end // WINDOW * WINDOW, WINDOW):
        if not _is_pending(context, window, metric, "late", context.variants.late_windows):
            yield window


def _is_pending(context: RequestContext, window: int, metric: str, change: str, rate: float) -> bool:
    """Whether a window is due to arrive late or to be revised, and this has not happened yet."""
    if not rate or context.known_until >= window + WINDOW + context.variants.late_by:
        return False
    return fraction(context.world.seed, change, metric, window) < rate


def _user_counts(context: RequestContext, series: _SeriesQuery, time_range: TimeRange) -> Counts:
    """Return the users by window: of the whole App ID, or of one channel."""
    name = series.grouping.name if series.grouping else None
    if series.cname is None:
        return lambda window: context.world.users(series.product, window, name)
    groups: dict[str, list[Interval]] = {} if name else {"": []}
    for session in _channel_sessions(context, series, time_range):
        value = value_of(session.profile, name) if name else ""
        groups.setdefault(value, []).append(Interval(session.join, session.leave))
    return _count_table(groups, time_range)


def _count_table(groups: Mapping[str, list[Interval]], time_range: TimeRange) -> Counts:
    first = time_range.start // WINDOW
    count = time_range.end // WINDOW - first + 1
    tables = {value: count_concurrent(intervals, first * WINDOW, count) for value, intervals in groups.items()}
    return lambda window: {value: counts[window // WINDOW - first] for value, counts in tables.items()}


def _channel_sessions(
    context: RequestContext, series: _SeriesQuery, time_range: TimeRange
) -> Iterator[SimulatedSession]:
    for call in context.world.calls_during(time_range.start // WINDOW * WINDOW, time_range.end):
        if call.cname == series.cname:
            yield from (
                session
                for session in context.world.sessions(call)
                if session.profile.product is series.product and not session.server
            )


def _channel_counts(context: RequestContext, series: _SeriesQuery, users: Counts) -> Counts:
    """Return the channels by window; with a channel name, 1 while it is in use, otherwise 0."""
    if series.cname is None:
        return lambda window: {"": context.world.channels(series.product, window)}
    # Of a single channel, the number of channels is whether anybody is in it.
    return lambda window: {"": min(1, users(window)[""])}


def _without_empty_groups(counts: Counts) -> Counts:
    """Leave out groups without users: they have no quality."""
    return lambda window: {group: count for group, count in counts(window).items() if count}


def _rate_of(context: RequestContext, series: _SeriesQuery, uid: str = "") -> _ValueAt:
    prefix = "/".join(filter(None, (series.cname, uid)))
    return lambda window, group, _: context.world.rate(series.metric, series.product, window, prefix + group)


def _rows(
    context: RequestContext, series: _SeriesQuery, time_range: TimeRange, counts: Counts, value_at: _ValueAt
) -> list[Document]:
    groups = _groups(context, series, time_range, counts)
    rows = []
    for window in _windows(context, time_range, series.metric):
        users = counts(window)
        unrevised = _is_pending(context, window, series.metric, "revised", context.variants.revised_windows)
        for group in _visible_groups(context, series, window, groups):
            # Requested values without a user have no row.
            if group in users:
                dimension: Document = {series.grouping.echo: group} if series.grouping else {}
                value = value_at(window, group, users)
                rows.append({series.metric: _before_revision(value) if unrevised else value, **dimension, "ts": window})
    return _shuffled(context, rows)


def _shuffled(context: RequestContext, rows: list[Document]) -> list[Document]:
    """Return the rows unchanged, or in a different order in each answer; see `Variants.shuffled_rows`."""
    if context.variants.shuffled_rows:
        rng_for(context.world.seed, "rows", context.number).shuffle(rows)
    return rows


def _visible_groups(
    context: RequestContext, series: _SeriesQuery, window: int, groups: tuple[str, ...]
) -> Iterable[str]:
    """Return the groups whose row of a window has not vanished; see `Variants.vanishing_rows`."""
    rate, seed = context.variants.vanishing_rows, context.world.seed
    # Later than late and revised windows settle: a client has to survive a row that it has already seen.
    if not rate or context.known_until < window + WINDOW + 2 * context.variants.late_by:
        return groups
    return [group for group in groups if fraction(seed, "vanishing", series.metric, window, group) >= rate]


def _groups(context: RequestContext, series: _SeriesQuery, time_range: TimeRange, counts: Counts) -> tuple[str, ...]:
    """Return the requested groups, or those with the most users over the time range."""
    if series.grouping is None:
        return ("",)
    if series.values:
        return series.values
    totals: Counter[str] = Counter()
    for window in _windows(context, time_range, series.metric):
        totals.update(counts(window))
    return tuple(group for group, _ in totals.most_common(series.grouping.max_groups))


def _before_revision(value: float) -> float:
    return int(value * _REVISED_FACTOR) if isinstance(value, int) else round(value * _REVISED_FACTOR, 6)


def _user_row(context: RequestContext, series: _SeriesQuery, time_range: TimeRange, uid: str) -> Document:
    intervals = [
        Interval(session.join, session.leave)
        for session in _channel_sessions(context, series, time_range)
        if str(session.uid) == uid
    ]
    ungrouped = attrs.evolve(series, grouping=None, values=())
    counts = _without_empty_groups(_count_table({"": intervals}, time_range))
    values = _rows(context, ungrouped, time_range, counts, _rate_of(context, ungrouped, uid))
    return {
        "uid": int(uid) if uid.isdecimal() and len(uid) < _MAX_DIGITS and not context.variants.uid_as_text else uid,
        "values": values,
    }
