"""The details of a call as JSON, with tracks thinned out to what a chart can show."""

from __future__ import annotations

import asyncio
from typing import Final

import attrs

from agora_analytics.catalogue import MetricId
from agora_analytics.models import FreezeBucket, Point, Session, SessionMetrics, Statistic, Track

MAX_POINTS: Final = 600
"""Samples of a track that are sent: the lowest and the highest of each stretch."""


@attrs.frozen(kw_only=True)
class SessionsData:
    """One page of the sessions of a call: `total` counts all pages, `pages` is how many there are."""

    page: int
    pages: int
    total: int
    sessions: list[Session]


@attrs.frozen(kw_only=True)
class PointsData:
    """A value over time: `points` are pairs of UTC seconds and value."""

    metric: str
    points: list[tuple[int, float | None]]


@attrs.frozen(kw_only=True)
class FreezeData:
    """How many users froze how much."""

    metric: str
    buckets: tuple[FreezeBucket, ...]


@attrs.frozen(kw_only=True)
class StatisticsData:
    """The average freeze rate by a dimension's values."""

    metric: str
    dimension: str
    values: tuple[Statistic, ...]


@attrs.frozen(kw_only=True)
class TrackData:
    """One metric of a session: `points` are pairs of UTC seconds and value, of `samples` that the service sent."""

    mid: int
    name: str
    unit: str
    meaning: str
    peer_uid: int | str
    samples: int
    points: list[tuple[int, float]]


@attrs.frozen(kw_only=True)
class TracksData:
    """The metrics of one session."""

    sid: str
    tracks: list[TrackData]


def points_data(metric: str, points: tuple[Point, ...]) -> PointsData:
    """Return points as pairs."""
    return PointsData(metric=metric, points=[(point.ts, point.value) for point in points])


async def tracks_data(sid: str, parts: list[SessionMetrics]) -> TracksData:
    """Return the metrics of a session, with as many points as a screen shows; yields to the event loop."""
    merged: dict[tuple[int, int | str], list[Track]] = {}
    for track in (track for part in parts for track in part.data):
        merged.setdefault((track.mid, track.peer_uid or 0), []).append(track)
    tracks = []
    for (mid, peer), same in merged.items():
        points = [point for track in same for point in track.points]
        tracks.append(_track_data(mid, peer, points))
        await asyncio.sleep(0)
    return TracksData(sid=sid, tracks=tracks)


def _track_data(mid: int, peer: int | str, points: list[tuple[int, float]]) -> TrackData:
    known = MetricId(mid) if mid in MetricId._value2member_map_ else None
    return TrackData(
        mid=mid,
        name=MetricId.name_of(mid),
        unit=known.unit if known else "",
        meaning=known.meaning if known else "",
        peer_uid=peer,
        samples=len(points),
        points=thinned(points),
    )


def thinned(points: list[tuple[int, float]], most: int = MAX_POINTS) -> list[tuple[int, float]]:
    """Return at most so many points: the lowest and the highest of each stretch, so that no peak is lost."""
    if len(points) <= most:
        return points
    count = most // 2
    found = []
    for at in range(count):
        stretch = points[at * len(points) // count : (at + 1) * len(points) // count]
        # A set: in a flat stretch both are the same point.
        ends = {min(stretch, key=_value), max(stretch, key=_value)}
        found += sorted(ends)
    return found


def _value(point: tuple[int, float]) -> float:
    return point[1]
