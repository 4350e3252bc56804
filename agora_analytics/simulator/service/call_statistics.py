"""Handlers of Call Inspector's statistics of one call: by dimension, by freeze rate, by minute."""

from __future__ import annotations

from agora_analytics.catalogue import FREEZE_BUCKETS, FreezeMetric, TimelineMetric
from agora_analytics.simulator.service.call_inspector import audio_freeze_value, mean, sessions_in
from agora_analytics.simulator.service.context import Document, RequestContext
from agora_analytics.simulator.service.params import TimeRange
from agora_analytics.simulator.world.concurrency import value_of
from agora_analytics.simulator.world.entities import SimulatedSession
from agora_analytics.simulator.world.rng import fraction, rng_for
from agora_analytics.spans import MINUTE

_MISSING_FRACTION = 0.05
_BUCKET_BOUNDS = (0.03, 0.05, 0.1)
_FREEZES = tuple(FreezeMetric)
_TIMELINES = tuple(TimelineMetric)


def by_dimension(context: RequestContext) -> Document:
    """Answer with the average freeze rate for each value of a dimension."""
    time_range = context.time_range("start_ts", "end_ts")
    metric, grouping = context.params.one_of("metric", _FREEZES), context.dimension()
    groups: dict[str, list[SimulatedSession]] = {}
    for session in _users(context, time_range):
        groups.setdefault(value_of(session.profile, grouping.name), []).append(session)
    return {"data": [_group_row(context, metric, value, group) for value, group in groups.items()]}


def freeze_buckets(context: RequestContext) -> Document:
    """Answer with the number of users in each bucket of freeze rates, highest first, without empty buckets."""
    time_range = context.time_range("start_ts", "end_ts")
    metric = context.params.one_of("metric", _FREEZES)
    counts = dict.fromkeys(FREEZE_BUCKETS, 0)
    for session in _users(context, time_range):
        rate = _rate(session, metric)
        if rate is not None:
            counts[FREEZE_BUCKETS[sum(rate >= bound for bound in _BUCKET_BOUNDS)]] += 1
    rows = [{"bucket": bucket, "user_count": counts[bucket]} for bucket in reversed(FREEZE_BUCKETS) if counts[bucket]]
    return {"data": rows}


def by_minute(context: RequestContext) -> Document:
    """Answer with a value for each minute, unordered, some minutes missing."""
    time_range = context.time_range("start_ts", "end_ts")
    metric = context.params.one_of("metric", _TIMELINES)
    users, call_id = _users(context, time_range), context.params.text("call_id")
    rows = []
    for minute in range(time_range.start // MINUTE, -(-time_range.end // MINUTE)):
        present = [session for session in users if session.overlaps(minute * MINUTE, (minute + 1) * MINUTE)]
        if present and fraction(context.world.seed, "minute", call_id, minute) >= _MISSING_FRACTION:
            rows.append({"ts": minute * MINUTE, "value": _value_at(context, metric, present, minute)})
    # As in the example of the API reference, minutes are in no order.
    rng_for(context.world.seed, call_id, metric).shuffle(rows)
    return {"data": rows}


def _users(context: RequestContext, time_range: TimeRange) -> list[SimulatedSession]:
    return [session for session in sessions_in(context, time_range) if not session.server]


def _rate(session: SimulatedSession, metric: str) -> float | None:
    return session.audio_freeze if metric.startswith("audio") else session.video_freeze


def _group_row(context: RequestContext, metric: str, value: str, group: list[SimulatedSession]) -> Document:
    rate = mean([_rate(session, metric) for session in group])
    users = len({session.uid for session in group})
    return {"dimension_value": value, "user_count": users, "value": audio_freeze_value(context, rate)}


def _value_at(context: RequestContext, metric: str, present: list[SimulatedSession], minute: int) -> float | None:
    """Return a metric's value in one minute, for the sessions present."""
    if metric == TimelineMetric.USER_COUNT:
        return len({session.uid for session in present})
    rates = [_rate_at(context, metric, session, minute) for session in present]
    if metric.endswith("user_count"):
        return sum(1 for rate in rates if rate)
    return mean(rates) or 0


def _rate_at(context: RequestContext, metric: str, session: SimulatedSession, minute: int) -> float:
    """Return a session's freeze rate in one minute: 0 in half of them, on average the session's rate."""
    # `audio` or `video`: the rate and the number of frozen users come from the same draw.
    draw = fraction(context.world.seed, metric[:5], session.sid, minute)
    return min(1.0, 8 * (_rate(session, metric) or 0.0) * max(0.0, draw - 0.5))
