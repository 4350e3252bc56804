"""What a rate-limit error teaches: spent days, blocked units, other programs; and which day it may be."""

from __future__ import annotations

import math

import pytest
from helpers.buckets import DAY, LIMIT, MIDNIGHT, NOON, TODAY, acquire, known_clock, spend

from agora_analytics.errors import RateLimited
from agora_analytics.quota.blocked_units import BlockedUnit, block
from agora_analytics.quota.bucket import WindowCounter
from agora_analytics.quota.clock_reading import ClockReading, possible_days, seconds_until_next_day, service_day
from agora_analytics.quota.learned_limits import LearnedLimits

# Rate-limit errors for the day.


def left_today(counter: WindowCounter, reading: ClockReading) -> int:
    return counter.remaining("day", LIMIT, reading)


def rate_limited(counter: WindowCounter, reading: ClockReading, limit: int | None = None) -> None:
    """Handle a rate-limit error for the day."""
    error = RateLimited("qpd limit error")
    error.unit, error.limit = "day", limit
    counter.on_rate_limited(error, reading.monotonic, LIMIT, reading)


def used_since_yesterday() -> WindowCounter:
    """Return a counter that has been in use since before midnight."""
    counter = WindowCounter()
    spend(counter, 1, known_clock(MIDNIGHT - 60))
    return counter


@pytest.mark.parametrize(("limit", "others"), [(None, LIMIT - 2), (6, 4)])
def test_the_first_daily_limit_error_shows_how_much_other_programs_used(limit, others):
    counter = used_since_yesterday()
    spend(counter, 2, known_clock(NOON))
    rate_limited(counter, known_clock(NOON + 1), limit)
    assert counter.other_programs.daily == others / 2  # half of it, after one day
    rate_limited(counter, known_clock(NOON + 2), limit)
    assert counter.other_programs.daily == others / 2


def test_a_count_that_began_at_midnight_shows_no_use_by_other_programs_on_the_new_day():
    counter = WindowCounter()
    spend(counter, 1, known_clock(MIDNIGHT - 0.005))  # the service may have counted it on either day
    rate_limited(counter, known_clock(NOON))
    assert counter.other_programs.daily == 0


def test_a_request_sent_before_a_rate_limit_error_does_not_unblock_the_unit():
    counter = WindowCounter()
    before, at = acquire(counter, 1, known_clock(MIDNIGHT + 1)), known_clock(MIDNIGHT + 2)
    rate_limited(counter, at)
    assert counter.on_accepted(before) == []
    after = acquire(counter, 2, known_clock(MIDNIGHT + 9))
    assert counter.on_accepted(after) == ["day"]


@pytest.mark.parametrize(("in_flight", "answered", "today"), [(5, 0, False), (0, 4, False), (0, 5, True)])
def test_an_error_soon_after_midnight_ends_today_only_if_half_the_limit_was_used(in_flight, answered, today):
    counter = used_since_yesterday()
    spend(counter, answered, known_clock(MIDNIGHT + 2))
    for number in range(in_flight):
        acquire(counter, 100 + number, known_clock(MIDNIGHT + 2))
    rate_limited(counter, known_clock(MIDNIGHT + 4))
    assert (counter.exhausted_day == TODAY) is today


def test_daily_limit_errors_from_midnight_on_are_taken_for_yesterdays():
    counter = used_since_yesterday()
    for at in (1, 300, 700, 1_500):
        rate_limited(counter, known_clock(MIDNIGHT + at))
    assert counter.exhausted_day is None


def test_one_request_at_a_time_probes_a_spent_day_if_the_clocks_disagree():
    counter = used_since_yesterday()
    rate_limited(counter, known_clock(MIDNIGHT - 50))
    counter.exhausted_day = TODAY - 1
    disputed = ClockReading(MIDNIGHT + 60, MIDNIGHT + 60, 0.0, math.inf, math.inf, MIDNIGHT - 3_600)
    assert left_today(counter, disputed) == 1
    acquire(counter, 7, disputed)
    assert left_today(counter, disputed) == 0


def test_a_day_ends_later_by_the_lag_of_the_counting_host():
    counter = WindowCounter()
    spend(counter, LIMIT, known_clock(NOON))
    waits = [counter.time_until("day", LIMIT, known_clock(NOON)._replace(day_lag=lag)) for lag in (0.0, 7.0)]
    assert waits[1] - waits[0] == pytest.approx(7)


# Pauses.

PAUSE = BlockedUnit(at=10.0, until=20.0, pause=10.0, growth=2.0)


@pytest.mark.parametrize(("issued", "until"), [(5.0, 20.0), (12.0, 12.0), (30.0, 20.0)])
def test_a_lost_probe_ends_the_pause(issued, until):
    assert PAUSE.probe_lost(issued).until == until


def test_a_probe_begins_the_next_pause_unless_there_was_no_pause():
    assert PAUSE.while_probing("second", known_clock(25.0)).until == 45.0
    unpaused = PAUSE._replace(until=PAUSE.at)
    assert unpaused.while_probing("second", known_clock(25.0)) == unpaused


def test_pauses_of_a_day_grow_up_to_midnight_and_start_over_on_the_next_day():
    blocked, pauses = None, []
    for at in (NOON, NOON + DAY / 4, NOON + DAY / 2 - 5, NOON + DAY / 2 + 5):
        blocked = block(blocked, "day", LIMIT, known_clock(at))
        pauses.append(blocked.until - blocked.at)
        blocked = blocked._replace(pause=blocked.pause * 30_000)
    assert pauses == [1.0, pytest.approx(DAY / 4, abs=1), pytest.approx(5, abs=1), 1.0]


@pytest.mark.parametrize(("planned", "pauses"), [(10, [0.0, 2.0, 4.0]), (0, [1.1, 8.8, 70.4])])
def test_pauses_of_a_unit_in_the_plan_are_shorter_than_of_one_outside(planned, pauses):
    blocked, actual = None, []
    for at in range(3):
        blocked = block(blocked, "second", planned, known_clock(NOON + 100.0 * at))
        actual.append(blocked.until - blocked.at)
    assert actual == pytest.approx(pauses)


@pytest.mark.parametrize(("second", "pause"), [(0, 61), (59, 2)])
def test_the_pause_of_a_minute_outside_the_plan_ends_with_the_services_minute(second, pause):
    assert block(None, "minute", 0, known_clock(NOON + second)).pause == pytest.approx(pause)


# Which day it is.


def disputed(wall: float, rival: float) -> ClockReading:
    """Return a reading at which a `Date` header says `wall`, and the host's wall clock `rival`."""
    return ClockReading(wall, wall, 0.0, math.inf, math.inf, rival)


def test_while_two_clocks_disagree_the_days_of_both_are_possible():
    assert possible_days(disputed(MIDNIGHT + 10, NOON - 3 * DAY), MIDNIGHT - 50) == (TODAY - 3, TODAY - 1, TODAY)
    assert service_day(disputed(MIDNIGHT + 10, NOON - 3 * DAY)) == TODAY
    assert service_day(disputed(MIDNIGHT + 2, NOON + 3 * DAY)) == TODAY - 1


def test_while_two_clocks_disagree_the_nearer_midnight_counts():
    waits = [seconds_until_next_day(disputed(wall, rival)) for wall, rival in ((NOON, NOON + 30), (NOON + 30, NOON))]
    assert waits == [DAY / 2 - 25, DAY / 2 - 25]


def test_midnight_has_a_margin_for_host_skew_and_the_counting_hosts_lag():
    assert seconds_until_next_day(known_clock(NOON)) == pytest.approx(DAY / 2 + 0.1)
    assert possible_days(known_clock(MIDNIGHT + 3)) == (TODAY,)
    assert possible_days(known_clock(MIDNIGHT + 3)._replace(day_lag=7.0)) == (TODAY - 1, TODAY)
    assert service_day(known_clock(MIDNIGHT + 3)._replace(day_lag=7.0)) == TODAY - 1


@pytest.mark.parametrize("days", [-365, -3, 3, 365])
def test_a_limit_learned_long_ago_or_with_a_wrong_clock_is_not_used_for_planning(days):
    learned = LearnedLimits()
    learned.learn("day", 50, 500, 1_795_521_600.0)
    assert learned.planning_limit("day", 500, 1_795_521_600.0 + 1.5 * 86_400) == 50
    assert learned.planning_limit("day", 500, 1_795_521_600.0 + days * 86_400) == 500
