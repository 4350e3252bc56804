"""The host's clock beside the loop's: which of its gains were sleeps of the machine."""

from __future__ import annotations

import pytest

from agora_analytics.quota.service_time import SleepDetector

HOUR = 3_600.0


def seen(*gains: tuple[float, float]) -> SleepDetector:
    """A clock that gained so many seconds at moments of the loop's, and was looked at each minute."""
    clock, rest, ahead = SleepDetector(), list(gains), 0.0
    for now in range(0, 40_000, 60):
        while rest and rest[0][0] <= now:
            ahead += rest.pop(0)[1]
        clock.observe(float(now), now + ahead)
    return clock


@pytest.mark.parametrize(
    ("gains", "since", "seconds", "sleeps"),
    [
        pytest.param([(600, HOUR)], 0, HOUR, [(600, HOUR)], id="one sleep"),
        pytest.param([(600, HOUR), (6_000, 1_800)], 0, 5_400, [(600, HOUR), (6_000, 1_800)], id="two"),
        pytest.param([(600, HOUR), (6_000, 1_800)], 600, 1_800, [(6_000, 1_800)], id="the first was told before"),
        pytest.param([(600, HOUR), (6_000, 60)], 0, HOUR, [(600, HOUR)], id="a sleep, then the clock is set on"),
        pytest.param([(600, 60), (6_000, HOUR)], 0, HOUR, [(6_000, HOUR)], id="the clock is set on, then a sleep"),
        pytest.param([(600, HOUR), (6_000, -60)], 0, HOUR, [(600, HOUR)], id="a sleep, then the clock is set back"),
        pytest.param([], 0, HOUR, [(9_000, HOUR)], id="nobody saw it"),
        pytest.param([(600, 20)], 0, HOUR, [(9_000, HOUR)], id="a step that is none"),
    ],
)
def test_what_the_clock_gained_is_a_sleep_if_it_adds_up(gains, since, seconds, sleeps):
    found = seen(*gains).sleeps(since, 9_000.0, seconds)
    assert [(woke // 60 * 60, length) for woke, length in found] == sleeps


def test_what_was_gained_since_a_moment_is_counted_until_now():
    clock = seen((600, HOUR), (6_000, 1_800), (12_000, 900))
    assert [clock.slept(since, 9_000.0) for since in (0.0, 600.0, 6_000.0)] == [5_400, 1_800, 0]
