"""Merging the responses for neighbouring slices."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agora_analytics._core import merge
from agora_analytics._core.decoding import scanner
from agora_analytics.models import Point, SessionMetrics, Track


def merged_tracks(sid: str, parts: list[SessionMetrics]) -> SessionMetrics:
    return scanner.finish(merge.merge_tracks(sid, parts))


def users(ts: int, value: float | None, *, sdk: str | None = None, uid: int | None = None) -> Point:
    return Point.of(ts, value, metric="userCount", dimension="sdk" if sdk else None, dimension_value=sdk, uid=uid)


def metrics(*tracks: Track) -> SessionMetrics:
    return SessionMetrics(sid="s", data=tracks)


def track(mid: int, *kvs: tuple[int, float | None], peer: int | None = None) -> Track:
    return Track(mid=mid, kvs=kvs, peer_uid=peer)


def test_merged_points_are_sorted_by_time_whatever_the_order_of_the_slices():
    assert merge.merge_points([]) == ()
    assert merge.merge_points([[users(40, 1), users(20, 2)]]) == (users(20, 2), users(40, 1))
    assert merge.merge_points([[users(60, 3)], [], [users(40, 1), users(20, 2)]]) == (
        users(20, 2),
        users(40, 1),
        users(60, 3),
    )


def test_where_slices_overlap_the_later_slice_wins():
    assert merge.merge_points([[users(20, 1), users(40, 1)], [users(40, 2), users(60, 2)]]) == (
        users(20, 1),
        users(40, 2),
        users(60, 2),
    )


def test_points_of_different_groups_or_users_at_the_same_time_are_kept_apart():
    one, two, three = users(20, 1, sdk="4.1"), users(20, 2, sdk="4.2"), users(20, 3, uid=7)
    assert set(merge.merge_points([[one], [two], [three], [users(20, 9, uid=7)]])) == {one, two, users(20, 9, uid=7)}


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=8), min_size=2, max_size=5))
def test_merging_keeps_the_last_value_of_each_time(parts):
    expected = {ts: value for part in parts for ts, value in part}
    merged = merge.merge_points([[users(ts, value) for ts, value in part] for part in parts])
    assert [(point.ts, point.value) for point in merged] == sorted(expected.items())


def test_tracks_of_a_session_are_merged_by_metric_and_peer():
    first = metrics(track(1, (20, 1.0), (10, 0.5)), track(1, (10, 7.0), peer=5))
    second = metrics(track(2, (30, 4.0)), track(1, (30, 2.0), (20, 1.5)))
    assert merged_tracks("s", [first, second]) == metrics(
        track(1, (10, 0.5), (20, 1.5), (30, 2.0)), track(1, (10, 7.0), peer=5), track(2, (30, 4.0))
    )


def test_a_sample_without_a_value_is_kept():
    merged = merged_tracks("s", [metrics(track(1, (10, 1.0))), metrics(track(1, (20, None)))])
    assert merged == metrics(track(1, (10, 1.0), (20, None)))


def test_a_session_without_samples_in_any_slice_has_no_data():
    assert merged_tracks("s", []) == SessionMetrics(sid="s")
    assert merged_tracks("s", [metrics(), metrics()]) == SessionMetrics(sid="s")
    only = metrics(track(1, (20, 1.0), (10, 0.5)))
    assert merged_tracks("s", [only]) is only
