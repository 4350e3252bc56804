"""Call Inspector's statistics of one call: by dimension, by freeze bucket, by minute."""

from __future__ import annotations

from agora_analytics.catalogue import FREEZE_BUCKETS, FreezeMetric, TimelineMetric
from agora_analytics.simulator.service.call_inspector import audio_rate, sessions_in
from agora_analytics.simulator.service.call_users import mean
from agora_analytics.simulator.service.context import Case, Document
from agora_analytics.simulator.service.params import Frame
from agora_analytics.simulator.world.concurrency import value_of
from agora_analytics.simulator.world.entities import SimulatedSession
from agora_analytics.simulator.world.rng import share, stream
from agora_analytics.spans import MINUTE

_MISSING = 0.05
_BOUNDS = (0.03, 0.05, 0.1)
_FREEZES = tuple(FreezeMetric)
_TIMELINES = tuple(TimelineMetric)


def by_dimension(case: Case) -> Document:
    """Answer with the average freeze rate of the users that share a dimension's value."""
    frame = case.frame("start_ts", "end_ts")
    metric, grouping = case.asked.one_of("metric", _FREEZES), case.dimension()
    groups: dict[str, list[SimulatedSession]] = {}
    for session in _users(case, frame):
        groups.setdefault(value_of(session.profile, grouping.name), []).append(session)
    return {"data": [_group_row(case, metric, value, group) for value, group in groups.items()]}


def freeze_buckets(case: Case) -> Document:
    """Answer with the number of users in each bucket of freeze rates, worst first, without empty buckets."""
    frame = case.frame("start_ts", "end_ts")
    metric = case.asked.one_of("metric", _FREEZES)
    counts = dict.fromkeys(FREEZE_BUCKETS, 0)
    for session in _users(case, frame):
        rate = _rate(session, metric)
        if rate is not None:
            counts[FREEZE_BUCKETS[sum(rate >= bound for bound in _BOUNDS)]] += 1
    rows = [{"bucket": bucket, "user_count": counts[bucket]} for bucket in reversed(FREEZE_BUCKETS) if counts[bucket]]
    return {"data": rows}


def by_minute(case: Case) -> Document:
    """Answer with a value for each minute, in no order, some minutes missing."""
    frame = case.frame("start_ts", "end_ts")
    metric = case.asked.one_of("metric", _TIMELINES)
    users, call_id = _users(case, frame), case.asked.text("call_id")
    rows = []
    for minute in range(frame.start // MINUTE, -(-frame.end // MINUTE)):
        there = [one for one in users if one.overlaps(minute * MINUTE, (minute + 1) * MINUTE)]
        if there and share(case.world.seed, "minute", call_id, minute) >= _MISSING:
            rows.append({"ts": minute * MINUTE, "value": _at(case, metric, there, minute)})
    stream(case.world.seed, call_id, metric).shuffle(rows)
    return {"data": rows}


def _users(case: Case, frame: Frame) -> list[SimulatedSession]:
    return [session for session in sessions_in(case, frame) if not session.server]


def _rate(session: SimulatedSession, metric: str) -> float | None:
    return session.audio_freeze if metric.startswith("audio") else session.video_freeze


def _group_row(case: Case, metric: str, value: str, group: list[SimulatedSession]) -> Document:
    rate = mean([_rate(session, metric) for session in group])
    users = len({session.uid for session in group})
    return {"dimension_value": value, "user_count": users, "value": audio_rate(case, rate)}


def _at(case: Case, metric: str, there: list[SimulatedSession], minute: int) -> float | None:
    """Return a call's value in one minute."""
    if metric == TimelineMetric.USER_COUNT:
        return len({session.uid for session in there})
    rates = [_rate_at(case, metric, session, minute) for session in there]
    if metric.endswith("user_count"):
        return sum(1 for rate in rates if rate)
    return mean(rates) or 0


def _rate_at(case: Case, metric: str, session: SimulatedSession, minute: int) -> float:
    """Return a session's freeze rate in one minute: none in half of them, the session's own on average."""
    luck = share(case.world.seed, metric[:5], session.sid, minute)
    return min(1.0, 8 * (_rate(session, metric) or 0.0) * max(0.0, luck - 0.5))
