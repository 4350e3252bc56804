"""Real-time Monitoring: users, channels and quality by 20-second windows, and top lists of one window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from agora_analytics.catalogue import Product, QualityMetric, RealtimeUsageMetric
from agora_analytics.simulator.service.context import Case, Document, Grouping
from agora_analytics.simulator.service.params import Frame
from agora_analytics.simulator.world.concurrency import Stay, presence, value_of
from agora_analytics.simulator.world.entities import SimulatedSession
from agora_analytics.simulator.world.rng import share, stream
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
    def of(cls, case: Case, metric: str) -> _Series:
        """Read a request; usage has a dimension for `userCount` only, by the reference."""
        product = Product(case.asked.one_of("productType", tuple(Product)))
        grouped = case.asked.maybe_text("dimension") is not None and metric != RealtimeUsageMetric.CHANNEL_COUNT
        values = case.asked.quoted("dimensionValues") if grouped else ()
        return cls(metric, product, case.asked.maybe_text("cname"), case.dimension() if grouped else None, values)


def usage(case: Case) -> Document:
    """Answer with users or channels by window."""
    frame = case.frame("startTs", "endTs")
    series = _Series.of(case, case.asked.one_of("metric", tuple(RealtimeUsageMetric)))
    counts = _counts(case, series, frame)
    if series.metric == RealtimeUsageMetric.CHANNEL_COUNT:
        counts = _channels(case, series, counts)
    return {"data": _rows(case, series, frame, counts, lambda _, group, there: there[group])}


def quality(case: Case) -> Document:
    """Answer with quality by window, and by user where a channel and users are given."""
    frame = case.frame("startTs", "endTs")
    series = _Series.of(case, case.asked.one_of("metric", tuple(QualityMetric)))
    uids = case.asked.several("uids", 10)
    if uids and series.cname:
        return {"data": _shuffled(case, [_user_row(case, series, frame, uid) for uid in uids])}
    counts = _present(_counts(case, series, frame))
    return {"data": _rows(case, series, frame, counts, _rater(case, series))}


def usage_top(case: Case) -> Document:
    """Answer with the values of a dimension that have most users in one window."""
    case.asked.one_of("metric", (RealtimeUsageMetric.USER_COUNT,))
    window, product, grouping = _moment(case)
    users = case.world.users(product, window // WINDOW * WINDOW, grouping.name)
    ranked = sorted(users.items(), key=lambda pair: (-pair[1], pair[0]))[: grouping.most]
    return _top(case, [{grouping.echo: value, "userCount": count, **_echo(case, window)} for value, count in ranked])


def quality_top(case: Case) -> Document:
    """Answer with the values of a dimension where a quality metric is highest in one window."""
    metric = case.asked.one_of("metric", tuple(QualityMetric))
    with_users = "extraMetrics" in case.asked.values and case.asked.one_of("extraMetrics", ("userCount",))
    window, product, grouping = _moment(case)
    users = case.world.users(product, window // WINDOW * WINDOW, grouping.name)
    rates = {value: case.world.rate(metric, product, window, value) for value in users}
    ranked = sorted(rates.items(), key=lambda pair: (-pair[1], pair[0]))[: grouping.most]
    rows = []
    for value, rate in ranked:
        extra: Document = {"userCount": users[value]} if with_users else {}
        rows.append({metric: rate, **extra, grouping.echo: value, **_echo(case, window)})
    return _top(case, rows)


def _moment(case: Case) -> tuple[int, Product, Grouping]:
    ts = case.asked.moment("ts")
    case.within(Frame(ts, ts + WINDOW))
    return ts, Product(case.asked.one_of("productType", tuple(Product))), case.dimension()


def _echo(case: Case, ts: int) -> Document:
    start = ts // WINDOW * WINDOW if case.quirks.aligned_echo else ts
    return {"windowStartTs": start, "windowEndTs": start + WINDOW}


def _top(case: Case, rows: list[Document]) -> Document:
    return {"data": rows if case.quirks.bare_top_list else {"list": rows}}


def _windows(case: Case, frame: Frame, metric: str) -> Iterator[int]:
    """Yield the windows of a time frame that the service shows yet: that of the start is in, that of the end is out."""
    for window in range(frame.start // WINDOW * WINDOW, frame.end // WINDOW * WINDOW, WINDOW):
        if not _pending(case, window, metric, "late", case.quirks.late_windows):
            yield window


def _pending(case: Case, window: int, metric: str, what: str, part: float) -> bool:
    """Whether a window is one of those that come late or get revised, and has not come or been revised yet."""
    if not part or case.known_until >= window + WINDOW + case.quirks.late_by:
        return False
    return share(case.world.seed, what, metric, window) < part


def _counts(case: Case, series: _Series, frame: Frame) -> Counts:
    """Return the users by window: of everybody, or of one channel."""
    name = series.grouping.name if series.grouping else None
    if series.cname is None:
        return lambda window: case.world.users(series.product, window, name)
    groups: dict[str, list[Stay]] = {} if name else {"": []}
    for session in _of_channel(case, series, frame):
        value = value_of(session.profile, name) if name else ""
        groups.setdefault(value, []).append(Stay(session.join, session.leave))
    return _table(groups, frame)


def _table(groups: Mapping[str, list[Stay]], frame: Frame) -> Counts:
    first = frame.start // WINDOW
    count = frame.end // WINDOW - first + 1
    tables = {value: presence(stays, first * WINDOW, count) for value, stays in groups.items()}
    return lambda window: {value: counts[window // WINDOW - first] for value, counts in tables.items()}


def _of_channel(case: Case, series: _Series, frame: Frame) -> Iterator[SimulatedSession]:
    for call in case.world.calls_during(frame.start // WINDOW * WINDOW, frame.end):
        if call.cname == series.cname:
            yield from (
                one for one in case.world.sessions(call) if one.profile.product is series.product and not one.server
            )


def _channels(case: Case, series: _Series, users: Counts) -> Counts:
    """Return the channels by window; one channel is in use or not."""
    if series.cname is None:
        return lambda window: {"": case.world.channels(series.product, window)}
    return lambda window: {"": min(1, users(window)[""])}


def _present(counts: Counts) -> Counts:
    """Leave out groups without users: there is no quality where nobody is."""
    return lambda window: {group: count for group, count in counts(window).items() if count}


def _rater(case: Case, series: _Series, uid: str = "") -> _Value:
    prefix = "/".join(filter(None, (series.cname, uid)))
    return lambda window, group, _: case.world.rate(series.metric, series.product, window, prefix + group)


def _rows(case: Case, series: _Series, frame: Frame, counts: Counts, value_at: _Value) -> list[Document]:
    chosen = _chosen(case, series, frame, counts)
    rows = []
    for window in _windows(case, frame, series.metric):
        there = counts(window)
        low = _pending(case, window, series.metric, "revised", case.quirks.revised_windows)
        for group in _kept(case, series, window, chosen):
            if group in there:
                named: Document = {series.grouping.echo: group} if series.grouping else {}
                value = value_at(window, group, there)
                rows.append({series.metric: _before_revision(value) if low else value, **named, "ts": window})
    return _shuffled(case, rows)


def _shuffled(case: Case, rows: list[Document]) -> list[Document]:
    """Return rows as they are, or in an order that is another one in each answer."""
    if case.quirks.shuffled_rows:
        stream(case.world.seed, "rows", case.number).shuffle(rows)
    return rows


def _kept(case: Case, series: _Series, window: int, groups: tuple[str, ...]) -> Iterable[str]:
    """Return the groups whose rows of a window have not vanished from answers."""
    part, seed = case.quirks.vanishing_rows, case.world.seed
    if not part or case.known_until < window + WINDOW + 2 * case.quirks.late_by:
        return groups
    return [group for group in groups if share(seed, "vanishing", series.metric, window, group) >= part]


def _chosen(case: Case, series: _Series, frame: Frame, counts: Counts) -> tuple[str, ...]:
    """Return the groups asked for, or those with most users over the time frame."""
    if series.grouping is None:
        return ("",)
    if series.values:
        return series.values
    totals: Counter[str] = Counter()
    for window in _windows(case, frame, series.metric):
        totals.update(counts(window))
    return tuple(group for group, _ in totals.most_common(series.grouping.most))


def _before_revision(value: float) -> float:
    return int(value * _LOW) if isinstance(value, int) else round(value * _LOW, 6)


def _user_row(case: Case, series: _Series, frame: Frame, uid: str) -> Document:
    stays = [Stay(one.join, one.leave) for one in _of_channel(case, series, frame) if str(one.uid) == uid]
    alone = attrs.evolve(series, grouping=None, values=())
    counts = _present(_table({"": stays}, frame))
    values = _rows(case, alone, frame, counts, _rater(case, alone, uid))
    return {
        "uid": int(uid) if uid.isdecimal() and len(uid) < _DIGITS and not case.quirks.uid_as_text else uid,
        "values": values,
    }
