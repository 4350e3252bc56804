"""Real-time Monitoring: users, channels and quality by 20-second windows, and top lists of one window."""

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

_DIGITS = 20
_LOW = 0.9
"""Part of its final value that a window shows before it is revised."""

Counts = Callable[[int], Mapping[str, int]]
"""Users by group in a window; the one group of all is the empty text."""

_Value = Callable[[int, str, Mapping[str, int]], float]
"""A value in a window, of a group, with the users by group there."""


@attrs.frozen
class _Series:
    """What is asked for over time."""

    metric: str
    product: Product
    cname: str | None
    grouping: Grouping | None
    values: tuple[str, ...]

    @classmethod
    def of(cls, context: RequestContext, metric: str) -> _Series:
        """Read a request; usage has a dimension for `userCount` only, by the reference."""
        product = Product(context.params.one_of("productType", tuple(Product)))
        grouped = context.params.optional_text("dimension") is not None and metric != RealtimeUsageMetric.CHANNEL_COUNT
        values = context.params.quoted_list("dimensionValues") if grouped else ()
        return cls(
            metric, product, context.params.optional_text("cname"), context.dimension() if grouped else None, values
        )


def usage(context: RequestContext) -> Document:
    """Answer with users or channels by window."""
    time_range = context.time_range("startTs", "endTs")
    series = _Series.of(context, context.params.one_of("metric", tuple(RealtimeUsageMetric)))
    counts = _counts(context, series, time_range)
    if series.metric == RealtimeUsageMetric.CHANNEL_COUNT:
        counts = _channels(context, series, counts)
    return {"data": _rows(context, series, time_range, counts, lambda _, group, there: there[group])}


def quality(context: RequestContext) -> Document:
    """Answer with quality by window, and by user where a channel and users are given."""
    time_range = context.time_range("startTs", "endTs")
    series = _Series.of(context, context.params.one_of("metric", tuple(QualityMetric)))
    uids = context.params.csv_list("uids", 10)
    if uids and series.cname:
        return {"data": _shuffled(context, [_user_row(context, series, time_range, uid) for uid in uids])}
    counts = _present(_counts(context, series, time_range))
    return {"data": _rows(context, series, time_range, counts, _rater(context, series))}


def usage_top(context: RequestContext) -> Document:
    """Answer with the values of a dimension that have most users in one window."""
    context.params.one_of("metric", (RealtimeUsageMetric.USER_COUNT,))
    window, product, grouping = _moment(context)
    users = context.world.users(product, window // WINDOW * WINDOW, grouping.name)
    ranked = sorted(users.items(), key=lambda pair: (-pair[1], pair[0]))[: grouping.most]
    return _top(
        context, [{grouping.echo: value, "userCount": count, **_echo(context, window)} for value, count in ranked]
    )


def quality_top(context: RequestContext) -> Document:
    """Answer with the values of a dimension where a quality metric is highest in one window."""
    metric = context.params.one_of("metric", tuple(QualityMetric))
    with_users = "extraMetrics" in context.params.values and context.params.one_of("extraMetrics", ("userCount",))
    window, product, grouping = _moment(context)
    users = context.world.users(product, window // WINDOW * WINDOW, grouping.name)
    rates = {value: context.world.rate(metric, product, window, value) for value in users}
    ranked = sorted(rates.items(), key=lambda pair: (-pair[1], pair[0]))[: grouping.most]
    rows = []
    for value, rate in ranked:
        extra: Document = {"userCount": users[value]} if with_users else {}
        rows.append({metric: rate, **extra, grouping.echo: value, **_echo(context, window)})
    return _top(context, rows)


def _moment(context: RequestContext) -> tuple[int, Product, Grouping]:
    ts = context.params.timestamp("ts")
    context.within(TimeRange(ts, ts + WINDOW))
    return ts, Product(context.params.one_of("productType", tuple(Product))), context.dimension()


def _echo(context: RequestContext, ts: int) -> Document:
    start = ts // WINDOW * WINDOW if context.variants.aligned_echo else ts
    return {"windowStartTs": start, "windowEndTs": start + WINDOW}


def _top(context: RequestContext, rows: list[Document]) -> Document:
    return {"data": rows if context.variants.bare_top_list else {"list": rows}}


def _windows(context: RequestContext, time_range: TimeRange, metric: str) -> Iterator[int]:
    """Yield the windows of a time frame that the service shows yet: that of the start is in, that of the end is out."""
    for window in range(time_range.start // WINDOW * WINDOW, time_range.end // WINDOW * WINDOW, WINDOW):
        if not _pending(context, window, metric, "late", context.variants.late_windows):
            yield window


def _pending(context: RequestContext, window: int, metric: str, what: str, part: float) -> bool:
    """Whether a window is one of those that come late or get revised, and has not come or been revised yet."""
    if not part or context.known_until >= window + WINDOW + context.variants.late_by:
        return False
    return fraction(context.world.seed, what, metric, window) < part


def _counts(context: RequestContext, series: _Series, time_range: TimeRange) -> Counts:
    """Return the users by window: of everybody, or of one channel."""
    name = series.grouping.name if series.grouping else None
    if series.cname is None:
        return lambda window: context.world.users(series.product, window, name)
    groups: dict[str, list[Interval]] = {} if name else {"": []}
    for session in _of_channel(context, series, time_range):
        value = value_of(session.profile, name) if name else ""
        groups.setdefault(value, []).append(Interval(session.join, session.leave))
    return _table(groups, time_range)


def _table(groups: Mapping[str, list[Interval]], time_range: TimeRange) -> Counts:
    first = time_range.start // WINDOW
    count = time_range.end // WINDOW - first + 1
    tables = {value: count_concurrent(stays, first * WINDOW, count) for value, stays in groups.items()}
    return lambda window: {value: counts[window // WINDOW - first] for value, counts in tables.items()}


def _of_channel(context: RequestContext, series: _Series, time_range: TimeRange) -> Iterator[SimulatedSession]:
    for call in context.world.calls_during(time_range.start // WINDOW * WINDOW, time_range.end):
        if call.cname == series.cname:
            yield from (
                one for one in context.world.sessions(call) if one.profile.product is series.product and not one.server
            )


def _channels(context: RequestContext, series: _Series, users: Counts) -> Counts:
    """Return the channels by window; one channel is in use or not."""
    if series.cname is None:
        return lambda window: {"": context.world.channels(series.product, window)}
    return lambda window: {"": min(1, users(window)[""])}


def _present(counts: Counts) -> Counts:
    """Leave out groups without users: there is no quality where nobody is."""
    return lambda window: {group: count for group, count in counts(window).items() if count}


def _rater(context: RequestContext, series: _Series, uid: str = "") -> _Value:
    prefix = "/".join(filter(None, (series.cname, uid)))
    return lambda window, group, _: context.world.rate(series.metric, series.product, window, prefix + group)


def _rows(
    context: RequestContext, series: _Series, time_range: TimeRange, counts: Counts, value_at: _Value
) -> list[Document]:
    chosen = _chosen(context, series, time_range, counts)
    rows = []
    for window in _windows(context, time_range, series.metric):
        there = counts(window)
        low = _pending(context, window, series.metric, "revised", context.variants.revised_windows)
        for group in _kept(context, series, window, chosen):
            if group in there:
                named: Document = {series.grouping.echo: group} if series.grouping else {}
                value = value_at(window, group, there)
                rows.append({series.metric: _before_revision(value) if low else value, **named, "ts": window})
    return _shuffled(context, rows)


def _shuffled(context: RequestContext, rows: list[Document]) -> list[Document]:
    """Return rows as they are, or in an order that is another one in each answer."""
    if context.variants.shuffled_rows:
        rng_for(context.world.seed, "rows", context.number).shuffle(rows)
    return rows


def _kept(context: RequestContext, series: _Series, window: int, groups: tuple[str, ...]) -> Iterable[str]:
    """Return the groups whose rows of a window have not vanished from answers."""
    part, seed = context.variants.vanishing_rows, context.world.seed
    if not part or context.known_until < window + WINDOW + 2 * context.variants.late_by:
        return groups
    return [group for group in groups if fraction(seed, "vanishing", series.metric, window, group) >= part]


def _chosen(context: RequestContext, series: _Series, time_range: TimeRange, counts: Counts) -> tuple[str, ...]:
    """Return the groups asked for, or those with most users over the time frame."""
    if series.grouping is None:
        return ("",)
    if series.values:
        return series.values
    totals: Counter[str] = Counter()
    for window in _windows(context, time_range, series.metric):
        totals.update(counts(window))
    return tuple(group for group, _ in totals.most_common(series.grouping.most))


def _before_revision(value: float) -> float:
    return int(value * _LOW) if isinstance(value, int) else round(value * _LOW, 6)


def _user_row(context: RequestContext, series: _Series, time_range: TimeRange, uid: str) -> Document:
    stays = [Interval(one.join, one.leave) for one in _of_channel(context, series, time_range) if str(one.uid) == uid]
    alone = attrs.evolve(series, grouping=None, values=())
    counts = _present(_table({"": stays}, time_range))
    values = _rows(context, alone, time_range, counts, _rater(context, alone, uid))
    return {
        "uid": int(uid) if uid.isdecimal() and len(uid) < _DIGITS and not context.variants.uid_as_text else uid,
        "values": values,
    }
