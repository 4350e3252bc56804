"""The service's clock as a value: which rate-limit errors move the aim of bursts, and which have another cause."""

from __future__ import annotations

import pytest

from agora_analytics.quota.service_clock import ServiceClock


def calibrate(clock: ServiceClock, start: float) -> float:
    """Observe probes from `start` on until the clock is calibrated; return when that was."""
    now = start
    while clock.calibrated_at is None:
        sent = clock.next_tick(now + 0.3)
        clock.observe(sent, sent + 0.1, int(sent + 0.05))
        now = sent
    return now + 0.1


def rate_limited(clock: ServiceClock, now: float) -> int:
    """Handle a rate-limit error; return how often the aim has moved."""
    clock.on_rate_limited(clock.reading(now, now), aim_suspected=True)
    return clock.aim_moves


@pytest.mark.parametrize(("answers", "moves"), [(50, 2), (400, 1)])
def test_errors_move_the_aim_until_enough_answers_have_proven_it(answers, moves):
    clock = ServiceClock()
    now = calibrate(clock, 1_000.0)
    assert rate_limited(clock, now) == 1
    for number in range(answers):
        at = now + 200 * number / answers
        clock.observe(at, at + 0.1, int(at + 0.05))
    assert rate_limited(clock, now + 200) == moves


def test_the_aim_survives_a_new_calibration():
    clock = ServiceClock()
    rate_limited(clock, calibrate(clock, 1_000.0))
    aim = clock.aim_shift
    for start in range(10_000, 500_000, 50_000):
        clock.restart()
        clock.observe(start + 0.4, start + 0.9, start)  # gives wide bounds, which the next answers tighten
        calibrate(clock, start + 1.0)
        for later in range(30, 900, 30):
            at = start + later + 0.9 - later / 1_000
            clock.observe(at, at + 0.1, int(at + 0.05))
    assert clock.aim_shift == pytest.approx(aim, abs=0.01)


def test_a_proven_aim_is_kept_at_the_first_rate_limit_error_after_a_sleep():
    clock = ServiceClock()
    now = calibrate(clock, 1_000.0)
    rate_limited(clock, now)
    for number in range(400):
        clock.observe(now + number / 2, now + number / 2 + 0.1, int(now + number / 2 + 0.05))
    clock.restart()
    later = calibrate(clock, 90_000.0)
    assert rate_limited(clock, later) == 1
    assert rate_limited(clock, later + 100) == 2  # two in a row are no coincidence
