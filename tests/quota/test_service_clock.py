"""The service's clock as a value: when a refusal moves the aim of bursts, and when it has another reason."""

from __future__ import annotations

import pytest

from agora_analytics.quota.service_clock import ServiceClock


def searched(clock: ServiceClock, since: float) -> float:
    """Answers of a second and a half, until it is known when the service's second begins; return when that was."""
    now = since
    while clock.calibrated_at is None:
        sent = clock.next_tick(now + 0.3)
        clock.observe(sent, sent + 0.1, int(sent + 0.05))
        now = sent
    return now + 0.1


def refused(clock: ServiceClock, now: float) -> int:
    """Be refused, and return how often the aim was moved."""
    clock.on_rate_limited(clock.reading(now, now), aim_suspected=True)
    return clock.aim_moves


@pytest.mark.parametrize(("answers", "moves"), [(50, 2), (400, 1)])
def test_an_aim_is_moved_until_enough_answers_have_proven_it(answers, moves):
    clock = ServiceClock()
    now = searched(clock, 1_000.0)
    assert refused(clock, now) == 1
    for number in range(answers):
        at = now + 200 * number / answers
        clock.observe(at, at + 0.1, int(at + 0.05))
    assert refused(clock, now + 200) == moves


def test_the_aim_outlasts_a_new_calibration():
    clock = ServiceClock()
    refused(clock, searched(clock, 1_000.0))
    aim = clock.aim_shift
    for begun in range(10_000, 500_000, 50_000):
        clock.restart()
        clock.observe(begun + 0.4, begun + 0.9, begun)  # this tells little, and the next ones more
        searched(clock, begun + 1.0)
        for later in range(30, 900, 30):
            at = begun + later + 0.9 - later / 1_000
            clock.observe(at, at + 0.1, int(at + 0.05))
    assert clock.aim_shift == pytest.approx(aim, abs=0.01)


def test_a_proven_aim_is_kept_at_the_first_rate_limit_error_after_a_sleep():
    clock = ServiceClock()
    now = searched(clock, 1_000.0)
    refused(clock, now)
    for number in range(400):
        clock.observe(now + number / 2, now + number / 2 + 0.1, int(now + number / 2 + 0.05))
    clock.restart()
    later = searched(clock, 90_000.0)
    assert refused(clock, later) == 1
    assert refused(clock, later + 100) == 2  # two in a row are no accident
