"""What a refusal teaches a counter: which day is spent, when a unit is open again, and which day it may be at all."""

from __future__ import annotations

import math

import pytest
from helpers.buckets import DAY, LIMIT, MIDNIGHT, NOON, TODAY, spend, sure, take

from agora_analytics.errors import RateLimited
from agora_analytics.quota.blocked_units import BlockedUnit, block
from agora_analytics.quota.bucket import WindowCounter
from agora_analytics.quota.clock_reading import ClockReading, possible_days, seconds_until_next_day, service_day
from agora_analytics.quota.learned_limits import LearnedLimits

# Refusals for the day.


def left(counter: WindowCounter, reading: ClockReading) -> int:
    return counter.remaining("day", LIMIT, reading)


def refused(counter: WindowCounter, reading: ClockReading, limit: int | None = None) -> None:
    """Be refused for the day."""
    error = RateLimited("qpd limit error")
    error.unit, error.limit = "day", limit
    counter.on_rate_limited(error, reading.monotonic, LIMIT, reading)


def since_yesterday() -> WindowCounter:
    """A counter that has counted all of today."""
    counter = WindowCounter()
    spend(counter, 1, sure(MIDNIGHT - 60))
    return counter


@pytest.mark.parametrize(("limit", "others"), [(None, LIMIT - 2), (6, 4)])
def test_the_use_of_other_programs_follows_from_the_first_error_of_a_day_and_the_limit_it_names(limit, others):
    counter = since_yesterday()
    spend(counter, 2, sure(NOON))
    refused(counter, sure(NOON + 1), limit)
    assert counter.other_programs.daily == others / 2  # half, for it was one day
    refused(counter, sure(NOON + 2), limit)
    assert counter.other_programs.daily == others / 2


def test_a_request_sent_before_a_rate_limit_error_does_not_unblock_the_unit():
    counter = WindowCounter()
    before, at = take(counter, 1, sure(MIDNIGHT + 1)), sure(MIDNIGHT + 2)
    refused(counter, at)
    assert counter.on_accepted(before) == []
    after = take(counter, 2, sure(MIDNIGHT + 9))
    assert counter.on_accepted(after) == ["day"]


@pytest.mark.parametrize(("out", "answered", "today"), [(5, 0, False), (0, 4, False), (0, 5, True)])
def test_an_error_soon_after_midnight_is_of_today_only_if_half_of_the_day_was_used(out, answered, today):
    counter = since_yesterday()
    spend(counter, answered, sure(MIDNIGHT + 2))
    for number in range(out):
        take(counter, 100 + number, sure(MIDNIGHT + 2))
    refused(counter, sure(MIDNIGHT + 4))
    assert (counter.exhausted_day == TODAY) is today


def test_a_day_refused_from_midnight_on_stays_yesterday_until_a_request_is_accepted():
    counter = since_yesterday()
    for at in (1, 300, 700, 1_500):
        refused(counter, sure(MIDNIGHT + at))
    assert counter.exhausted_day is None


def test_where_the_host_disputes_the_day_one_request_at_a_time_probes():
    counter = since_yesterday()
    refused(counter, sure(MIDNIGHT - 50))
    counter.exhausted_day = TODAY - 1
    disputed = ClockReading(MIDNIGHT + 60, MIDNIGHT + 60, 0.0, math.inf, math.inf, MIDNIGHT - 3_600)
    assert left(counter, disputed) == 1
    take(counter, 7, disputed)
    assert left(counter, disputed) == 0


def test_a_day_ends_later_where_the_counting_host_lags():
    counter = WindowCounter()
    spend(counter, LIMIT, sure(NOON))
    waits = [counter.time_until("day", LIMIT, sure(NOON)._replace(day_lag=behind)) for behind in (0.0, 7.0)]
    assert waits[1] - waits[0] == pytest.approx(7)


# Pauses.

PAUSE = BlockedUnit(at=10.0, until=20.0, pause=10.0, growth=2.0)


@pytest.mark.parametrize(("issued", "until"), [(5.0, 20.0), (12.0, 12.0), (30.0, 20.0)])
def test_a_pause_ends_with_a_probe_that_has_no_answer(issued, until):
    assert PAUSE.probe_lost(issued).until == until


def test_the_next_pause_begins_with_the_probe_unless_there_was_none():
    assert PAUSE.while_probing("second", sure(25.0)).until == 45.0
    none = PAUSE._replace(until=PAUSE.at)
    assert none.while_probing("second", sure(25.0)) == none


def test_pauses_for_a_day_grow_until_midnight_and_begin_anew_with_the_next():
    found, pauses = None, []
    for at in (NOON, NOON + DAY / 4, NOON + DAY / 2 - 5, NOON + DAY / 2 + 5):
        found = block(found, "day", LIMIT, sure(at))
        pauses.append(found.until - found.at)
        found = found._replace(pause=found.pause * 30_000)
    assert pauses == [1.0, pytest.approx(DAY / 4, abs=1), pytest.approx(5, abs=1), 1.0]


@pytest.mark.parametrize(("planned", "pauses"), [(10, [0.0, 2.0, 4.0]), (0, [1.1, 8.8, 70.4])])
def test_pauses_in_a_unit_of_the_plan_are_shorter(planned, pauses):
    found, waited = None, []
    for at in range(3):
        found = block(found, "second", planned, sure(NOON + 100.0 * at))
        waited.append(found.until - found.at)
    assert waited == pytest.approx(pauses)


@pytest.mark.parametrize(("at", "wait"), [(0, 61), (59, 2)])
def test_a_minute_outside_the_plan_ends_with_the_services_minute(at, wait):
    assert block(None, "minute", 0, sure(NOON + at)).pause == pytest.approx(wait)


# Which day it is.


def disputed(wall: float, rival: float) -> ClockReading:
    """A reading at which an answer says one time, and the host another."""
    return ClockReading(wall, wall, 0.0, math.inf, math.inf, rival)


def test_while_two_clocks_disagree_it_may_be_the_day_of_either_then_and_now():
    assert possible_days(disputed(MIDNIGHT + 10, NOON - 3 * DAY), MIDNIGHT - 50) == (TODAY - 3, TODAY - 1, TODAY)
    assert service_day(disputed(MIDNIGHT + 10, NOON - 3 * DAY)) == TODAY
    assert service_day(disputed(MIDNIGHT + 2, NOON + 3 * DAY)) == TODAY - 1


def test_while_two_clocks_disagree_the_nearer_midnight_is_waited_for():
    hours = [seconds_until_next_day(disputed(wall, rival)) for wall, rival in ((NOON, NOON + 30), (NOON + 30, NOON))]
    assert hours == [DAY / 2 - 25, DAY / 2 - 25]


def test_midnight_has_room_for_hosts_that_differ_and_a_counting_host_that_lags():
    assert seconds_until_next_day(sure(NOON)) == pytest.approx(DAY / 2 + 0.1)
    assert possible_days(sure(MIDNIGHT + 3)) == (TODAY,)
    assert possible_days(sure(MIDNIGHT + 3)._replace(day_lag=7.0)) == (TODAY - 1, TODAY)
    assert service_day(sure(MIDNIGHT + 3)._replace(day_lag=7.0)) == TODAY - 1


@pytest.mark.parametrize("days", [-365, -3, 3, 365])
def test_a_limit_learned_long_ago_or_with_a_wrong_clock_is_not_planned_with(days):
    named = LearnedLimits()
    named.learn("day", 50, 500, 1_795_521_600.0)
    assert named.planning_limit("day", 500, 1_795_521_600.0 + 1.5 * 86_400) == 50
    assert named.planning_limit("day", 500, 1_795_521_600.0 + days * 86_400) == 500
