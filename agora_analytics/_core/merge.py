"""Merges answers about adjoining slices: nothing lost, nothing duplicated, in order of time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

from agora_analytics._core.decoding.scanner import Steps
from agora_analytics.models import Point, SessionMetrics, Track, Uid

_by_time = attrgetter("ts")


def merge_points(parts: Sequence[Iterable[Point]]) -> tuple[Point, ...]:
    """Return all points in order of time; where parts overlap, the later part wins."""
    if len(parts) == 1:
        # Sorted all the same: the service sends minutes of a timeline in any order.
        return tuple(sorted(parts[0], key=_by_time))
    # Parts are in order of time: where they overlap, the later request has a bucket whole, or newer.
    last = {(point.ts, point.dimension_value, point.uid): point for part in parts for point in part}
    return tuple(sorted(last.values(), key=_by_time))


def merge_tracks(sid: str, parts: Sequence[SessionMetrics]) -> Steps[SessionMetrics]:
    """Return the merged metrics of one session, in steps of one track; without parts they have no data."""
    if len(parts) == 1:
        return parts[0]
    values: dict[tuple[int, Uid | None], dict[int, float | None]] = {}
    for part in parts:
        for track in part.data:
            values.setdefault((track.mid, track.peer_uid), {}).update(track.kvs)
            yield None
    merged = []
    for (mid, peer), kvs in values.items():
        merged.append(Track(mid=mid, kvs=tuple(sorted(kvs.items())), peer_uid=peer))
        yield None
    return SessionMetrics(sid=sid, data=tuple(merged))
