"""The wall clock compared with the loop's clock: which of its jumps were sleeps of the machine."""

from __future__ import annotations

import pytest

from agora_analytics.quota.service_time import SleepDetector

HOUR = 3_600.0


def observed(*jumps: tuple[float, float]) -> SleepDetector:
    """Return a detector that observed, once a minute, a wall clock with these jumps: (loop time, seconds) each."""
    detector, remaining, ahead = SleepDetector(), list(jumps), 0.0
    for now in range(0, 40_000, 60):
        while remaining and remaining[0][0] <= now:
            ahead += remaining.pop(0)[1]
        detector.observe(float(now), now + ahead)
    return detector


@pytest.mark.parametrize(
    ("jumps", "since", "seconds", "sleeps"),
    [
        pytest.param([(600, HOUR)], 0, HOUR, [(600, HOUR)], id="one sleep"),
        pytest.param([(600, HOUR), (6_000, 1_800)], 0, 5_400, [(600, HOUR), (6_000, 1_800)], id="two sleeps"),
        pytest.param([(600, HOUR), (6_000, 1_800)], 600, 1_800, [(6_000, 1_800)], id="one sleep before the start"),
        pytest.param([(600, HOUR), (6_000, 60)], 0, HOUR, [(600, HOUR)], id="a sleep, then a step forward"),
        pytest.param([(600, 60), (6_000, HOUR)], 0, HOUR, [(6_000, HOUR)], id="a step forward, then a sleep"),
        pytest.param([(600, HOUR), (6_000, -60)], 0, HOUR, [(600, HOUR)], id="a sleep, then a step back"),
        pytest.param([], 0, HOUR, [(9_000, HOUR)], id="no jump observed"),
        pytest.param([(600, 20)], 0, HOUR, [(9_000, HOUR)], id="a jump too small"),
    ],
)
def test_jumps_of_the_wall_clock_are_sleeps_if_they_add_up(jumps, since, seconds, sleeps):
    found = observed(*jumps).sleeps(since, 9_000.0, seconds)
    assert [(woke // 60 * 60, length) for woke, length in found] == sleeps


def test_the_time_slept_is_the_sum_of_the_jumps_since_a_moment():
    detector = observed((600, HOUR), (6_000, 1_800), (12_000, 900))
    assert [detector.slept(since, 9_000.0) for since in (0.0, 600.0, 6_000.0)] == [5_400, 1_800, 0]
