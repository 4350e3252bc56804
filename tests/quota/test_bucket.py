"""The bucket of one counter: the permits left in a window or a day, around midnight and with an uncertain clock."""

from __future__ import annotations

import math
from collections import Counter
from heapq import heappop, heappush

import pytest
from helpers.buckets import (
    DAY,
    HOST_SKEW,
    LIMIT,
    MIDNIGHT,
    NOON,
    RATES,
    TODAY,
    WINDOWS,
    acquire,
    known_clock,
    spend,
    unknown_clock,
)
from hypothesis import given
from hypothesis import strategies as st

from agora_analytics.quota.bucket import ClockReading, WindowCounter
from agora_analytics.quota.permit import Permit, Rejection, Reservation


def left_today(counter: WindowCounter, reading: ClockReading) -> int:
    return counter.remaining("day", LIMIT, reading)


# Days.


def test_a_day_allows_the_requests_of_the_plan_and_the_next_day_starts_at_zero():
    counter = WindowCounter()
    spend(counter, LIMIT, known_clock(NOON))
    assert left_today(counter, known_clock(NOON + 1)) == 0
    assert isinstance(counter.acquire(99, RATES, known_clock(NOON + 1)), Rejection)
    assert left_today(counter, known_clock(MIDNIGHT + DAY - 1)) == 0
    assert left_today(counter, known_clock(MIDNIGHT + DAY)) == LIMIT


def test_a_spent_day_rejects_requests_until_the_next_has_certainly_begun():
    counter = WindowCounter()
    spend(counter, LIMIT, known_clock(NOON))
    rejection = counter.acquire(99, RATES, known_clock(NOON + 60))
    assert isinstance(rejection, Rejection)
    assert (rejection.unit, rejection.limit) == ("day", LIMIT)
    assert rejection.wait == pytest.approx(DAY / 2 - 60, abs=2 * HOST_SKEW)
    assert rejection.wait > DAY / 2 - 60
    assert isinstance(counter.acquire(99, RATES, known_clock(NOON + 60 + rejection.wait)), Permit)


def test_with_an_unknown_clock_the_next_day_begins_five_seconds_later():
    assert WindowCounter(used_per_day={TODAY: LIMIT}).time_until("day", LIMIT, unknown_clock(NOON)) == pytest.approx(
        DAY / 2 + 5
    )


def test_the_wait_behind_queued_requests_includes_the_days_that_they_fill():
    counter = WindowCounter()
    spend(counter, LIMIT, known_clock(NOON))
    days = [
        counter.time_until("day", LIMIT, known_clock(NOON), ahead) // DAY for ahead in (0, LIMIT - 1, LIMIT, 3 * LIMIT)
    ]
    assert days == [0, 0, 1, 3]
    assert [
        WindowCounter().time_until("day", LIMIT, known_clock(NOON), ahead) > 0 for ahead in (0, LIMIT - 1, LIMIT)
    ] == [
        False,
        False,
        True,
    ]


def test_yesterdays_count_is_kept_after_midnight():
    counter = WindowCounter()
    spend(counter, LIMIT - 1, known_clock(MIDNIGHT - 10))
    spend(counter, 1, known_clock(MIDNIGHT + 1))
    assert left_today(counter, known_clock(MIDNIGHT + 2)) == LIMIT - 1
    # The clock is lost, so the service may be in either day: the one with fewer permits left decides.
    assert left_today(counter, unknown_clock(MIDNIGHT + 2)) == 1


def test_counts_survive_a_wall_clock_that_is_set_a_day_ahead_and_back():
    counter = WindowCounter()
    spend(counter, 5, unknown_clock(NOON))
    spend(counter, 1, unknown_clock(NOON + 1, wall=NOON + 1 + DAY))
    spend(counter, 1, unknown_clock(NOON + 2, wall=NOON + 2))
    assert left_today(counter, unknown_clock(NOON + 3)) == LIMIT - 6


@pytest.mark.parametrize("days", [3, 400])
def test_counts_of_old_days_are_pruned(days):
    counter = WindowCounter()
    for day in range(days):
        spend(counter, 1, known_clock(NOON + day * DAY))
    assert len(counter.used_per_day) <= 4


def test_a_request_that_may_be_counted_on_either_side_of_midnight_is_charged_to_both_days():
    counter = WindowCounter()
    acquire(counter, 1, unknown_clock(MIDNIGHT + 2))
    assert [left_today(counter, known_clock(MIDNIGHT + at)) for at in (-2, 2)] == [LIMIT - 1, LIMIT - 1]


def test_a_request_that_may_be_counted_on_two_days_is_rejected_if_one_is_spent():
    counter = WindowCounter()
    spend(counter, LIMIT, known_clock(MIDNIGHT - 60))
    rejection = counter.acquire(99, RATES, unknown_clock(MIDNIGHT + 2))
    assert isinstance(rejection, Rejection)
    assert isinstance(counter.acquire(99, RATES, unknown_clock(MIDNIGHT + 6)), Permit)


@pytest.mark.parametrize(("at", "yesterday", "today"), [(2, LIMIT, LIMIT - 1), (-2, LIMIT - 1, LIMIT)])
def test_a_request_charged_to_two_days_is_refunded_on_one_once_the_clock_is_known(at, yesterday, today):
    counter = WindowCounter()
    now = MIDNIGHT + at
    permit = acquire(counter, 1, unknown_clock(now))
    counter.settle(permit, now + 0.1, known_clock(now + 0.1))
    assert (left_today(counter, known_clock(MIDNIGHT - 9)), left_today(counter, known_clock(MIDNIGHT + 9))) == (
        yesterday,
        today,
    )


def test_a_request_that_is_answered_after_midnight_is_charged_to_both_days():
    counter = WindowCounter()
    permit = acquire(counter, 1, known_clock(MIDNIGHT - 0.2))
    assert left_today(counter, known_clock(MIDNIGHT + 0.05)) == LIMIT
    counter.settle(permit, MIDNIGHT + 0.1, known_clock(MIDNIGHT + 0.1))
    assert (left_today(counter, known_clock(MIDNIGHT - 0.2)), left_today(counter, known_clock(MIDNIGHT + 0.2))) == (
        LIMIT - 1,
        LIMIT - 1,
    )


def test_a_request_charged_to_a_wrong_day_is_moved_to_the_right_one_by_its_answer():
    counter = WindowCounter()
    permit = acquire(counter, 1, unknown_clock(NOON, wall=NOON + 3 * DAY))
    counter.settle(permit, NOON + 0.1, known_clock(NOON + 0.1))
    assert (left_today(counter, known_clock(NOON + 1)), left_today(counter, known_clock(NOON + 3 * DAY))) == (
        LIMIT - 1,
        LIMIT,
    )


@pytest.mark.parametrize("reading", [known_clock(NOON), unknown_clock(MIDNIGHT)])
def test_releasing_a_permit_twice_refunds_it_once(reading):
    counter = WindowCounter()
    spend(counter, 2, reading)
    permit = acquire(counter, 7, reading)
    counter.release(permit)
    counter.release(permit)
    assert left_today(counter, reading) == LIMIT - 2
    assert counter.remaining("second", 100, reading) == 98


def test_settling_a_permit_twice_charges_it_once():
    counter = WindowCounter()
    permit = acquire(counter, 1, known_clock(NOON))
    for at in (0.1, 0.2):
        counter.settle(permit, NOON + at, known_clock(NOON + at))
    counter.release(permit)
    assert left_today(counter, known_clock(NOON + 0.3)) == LIMIT - 1
    assert counter.remaining("second", 100, known_clock(NOON + 0.3)) == 99


@given(
    limit=st.integers(1, 4),
    start=st.floats(-12, 0),
    requests=st.lists(
        st.tuples(st.floats(0, 4), st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.01, 1.0, math.inf])),
        max_size=20,
    ),
    skew=st.floats(-4.9, 4.9),
)
def test_the_service_never_counts_more_than_the_limit_in_a_day(limit, start, requests, skew):
    counter, now, counted = WindowCounter(), MIDNIGHT + start, Counter()
    for number, (pause, outbound, inbound, error) in enumerate(requests, 1):
        now += pause
        reading = ClockReading(now, now + skew, -error / 2 if error < math.inf else -1e15, error, error)
        result = counter.acquire(number, {"second": 100, "day": limit}, reading)
        if isinstance(result, Permit):
            counted[(now + outbound) // DAY] += 1
            now += outbound + inbound
            low = -error / 2 if error < math.inf else -1e15
            counter.settle(result, now, ClockReading(now, now + skew, low, error, error))
    assert max(counted.values(), default=0) <= limit


# Windows.

pauses, latencies = st.one_of(st.floats(0, 1.5), st.sampled_from([0.0, 0.75, 2.85])), st.floats(0.001, 0.6)
host_offsets = st.floats(-0.04, 0.04)


@given(
    unit=st.sampled_from(["second", "minute"]),
    limit=st.integers(1, 4),
    ahead=st.floats(0, 1),
    error=st.sampled_from([0.02, 0.3, 0.9, math.inf]),
    requests=st.lists(st.tuples(pauses, latencies, latencies, host_offsets), min_size=5, max_size=25),
)
def test_the_service_never_counts_more_than_the_limit_in_a_window_and_no_permit_is_lost(
    unit, limit, ahead, error, requests
):
    window, rates = WINDOWS[unit], {unit: limit, "day": 10_000}
    offset = ahead if error == math.inf else ahead * error
    counter, now = WindowCounter(), float(NOON)
    in_flight: list[tuple[float, Permit]] = []
    answers: list[float] = []
    counted: Counter[float] = Counter()

    def reading() -> ClockReading:
        return ClockReading(now, now, 0.0 if error < math.inf else -1e15, error, error)

    for number, (pause, outbound, inbound, host_offset) in enumerate(requests, 1):
        now = requested = now + pause * window / 3
        while True:
            while in_flight and in_flight[0][0] <= now:
                at, permit = heappop(in_flight)
                counter.settle(permit, at, reading())
            result = counter.acquire(number, rates, reading())
            if isinstance(result, Permit):
                break
            assert (result.unit, result.limit) == (unit, limit)
            assert result.wait > 0
            now += max(result.wait, 1e-3)
        counted[(now + outbound + offset + host_offset) // window] += 1
        free = sorted(answers)[-limit] + window + HOST_SKEW if len(answers) >= limit else 0.0
        assert now <= max(requested, free) + 2e-3, "a permit is free one window after its answer, at the latest"
        heappush(in_flight, (now + outbound + inbound, result))
        answers.append(now + outbound + inbound)
    assert max(counted.values()) <= limit


def test_with_a_known_clock_all_permits_of_a_window_are_free_soon_after_it_begins():
    counter, rates = WindowCounter(), {"second": 3, "day": 1_000}
    spend(counter, 3, known_clock(NOON + 0.5), rates)
    assert counter.remaining("second", 3, known_clock(NOON + 0.9)) == 0
    assert counter.time_until("second", 3, known_clock(NOON + 0.9)) == pytest.approx(0.2, abs=0.02)
    assert [counter.remaining("second", 3, known_clock(NOON + 1 + at)) for at in (-0.05, 0.05, 0.15)] == [0, 0, 3]


def test_with_a_calibrated_clock_early_permits_are_free_sooner_than_late_ones():
    rates = {"second": 3, "day": 1_000}
    calibrated = lambda at: ClockReading(NOON + at, NOON + at, 0.0, 0.2, 0.6)  # noqa: E731
    early, late = WindowCounter(), WindowCounter()
    for counter, at in ((early, 0.15), (late, 0.25)):
        for number in range(3):
            counter.settle(acquire(counter, number, calibrated(at), rates), NOON + 0.5, calibrated(0.5))
    assert [early.remaining("second", 3, calibrated(at)) for at in (1.05, 1.15)] == [0, 3]
    assert [late.remaining("second", 3, calibrated(at)) for at in (1.15, 1.55, 1.65)] == [0, 0, 3]
    assert (
        early.time_until("second", 3, calibrated(0.5)),
        late.time_until("second", 3, calibrated(0.5)),
    ) == pytest.approx((0.6, 1.1))


def test_with_an_unknown_clock_a_permit_is_free_one_window_after_its_answer():
    counter, rates = WindowCounter(), {"second": 3, "day": 1_000}
    spend(counter, 2, unknown_clock(NOON), rates)
    spend(counter, 1, unknown_clock(NOON + 0.5), rates)
    assert counter.time_until("second", 3, unknown_clock(NOON + 0.5)) == pytest.approx(0.6)
    assert [counter.remaining("second", 3, unknown_clock(NOON + at)) for at in (1.05, 1.15, 1.55, 1.65)] == [0, 2, 2, 3]


def test_a_request_in_flight_holds_its_permit_until_it_is_answered():
    counter, rates = WindowCounter(), {"second": 1, "day": 1_000}
    permit = acquire(counter, 1, known_clock(NOON), rates)
    assert isinstance(counter.acquire(2, rates, known_clock(NOON + 100)), Rejection)
    counter.settle(permit, NOON + 200, known_clock(NOON + 200))
    assert isinstance(counter.acquire(2, rates, known_clock(NOON + 202)), Permit)


def test_a_permit_that_is_never_settled_expires_after_five_minutes():
    counter, rates = WindowCounter(), {"second": 1, "day": 1_000}
    acquire(counter, 1, known_clock(NOON), rates)
    assert isinstance(counter.acquire(2, rates, known_clock(NOON + 299)), Rejection)
    counter.acquire(2, rates, known_clock(NOON + 300))  # the first permit expires
    assert isinstance(counter.acquire(2, rates, known_clock(NOON + 302)), Permit)


def test_an_abandoned_request_is_charged_as_if_answered_two_seconds_later():
    counter, rates = WindowCounter(), {"second": 1, "day": 1_000}
    counter.settle(acquire(counter, 1, unknown_clock(NOON), rates), None, unknown_clock(NOON + 1))
    assert counter.remaining("second", 1, unknown_clock(NOON + 4)) == 0
    assert counter.remaining("second", 1, unknown_clock(NOON + 4.2)) == 1


def test_the_wait_behind_queued_requests_includes_the_windows_that_they_fill():
    counter, rates = WindowCounter(), {"minute": 3, "day": 1_000}
    spend(counter, 3, unknown_clock(NOON), rates)
    waits = [counter.time_until("minute", 3, unknown_clock(NOON), ahead) for ahead in (0, 2, 3, 5, 6)]
    assert waits == pytest.approx([60.1, 60.1, 120.1, 120.1, 180.1])


def test_a_rejection_in_one_unit_charges_nothing_to_the_others():
    counter, rates = WindowCounter(), {"second": 1, "minute": 10, "day": 10}
    permit = acquire(counter, 1, known_clock(NOON), rates)
    for number in range(2, 9):
        assert isinstance(counter.acquire(number, rates, known_clock(NOON + 0.1)), Rejection)
    counter.release(permit)
    assert [counter.remaining(unit, limit, known_clock(NOON + 0.1)) for unit, limit in rates.items()] == [1, 10, 10]


def test_a_rejection_names_the_unit_with_the_longest_wait():
    counter, rates = WindowCounter(), {"second": 2, "minute": 2, "day": 100}
    spend(counter, 2, known_clock(NOON + 30), rates)
    rejection = counter.acquire(9, rates, known_clock(NOON + 30))
    assert isinstance(rejection, Rejection)
    assert (rejection.unit, rejection.limit) == ("minute", 2)
    assert 29 < rejection.wait < 33


@pytest.mark.parametrize("requests", [200, 1_000])
def test_completed_requests_of_past_windows_are_pruned(requests):
    counter, rates = WindowCounter(), {"second": 10, "day": 10_000}
    for number in range(requests):
        now = NOON + number
        counter.settle(acquire(counter, number + 1, known_clock(now), rates), now, known_clock(now))
    assert len(counter.completed) + len(counter.completed_early) < 80


# Reservations and forecasts.


def test_permits_of_the_day_that_are_reserved_for_others_are_not_issued():
    counter = WindowCounter()
    spend(counter, LIMIT - 3, known_clock(NOON))
    assert isinstance(counter.acquire(98, RATES, known_clock(NOON), 3), Rejection)
    assert isinstance(counter.acquire(99, RATES, known_clock(NOON), 2), Permit)
    rejection = counter.acquire(98, RATES, known_clock(NOON), 2)
    assert isinstance(rejection, Rejection)
    assert rejection.wait == pytest.approx(DAY / 2, abs=1)


def test_streams_reserve_one_amount_for_today_and_another_for_each_later_day():
    counter = WindowCounter(reservations={1: Reservation(TODAY, 5, 100), 2: Reservation(TODAY, 1, 20)})
    assert [counter.reserved_by_streams(known_clock(at)) for at in (NOON, NOON + DAY)] == [6, 120]
    assert counter.reserved_by_streams(unknown_clock(MIDNIGHT + DAY)) == 120  # it may be either day: tomorrow's holds
    assert WindowCounter().reserved_by_streams(known_clock(NOON)) == 0


FORECASTS = [(1, 0), (10, 0), (11, 60), (20, 60), (21, 120), (80, 420), (81, 43_200), (90, 43_200), (91, 43_260)]
LATER = [(160, 43_200 + 420), (161, 43_200 + DAY)]


@pytest.mark.parametrize(("requests", "seconds"), FORECASTS + LATER)
def test_a_forecast_counts_windows_and_days(requests, seconds):
    found = WindowCounter().forecast(requests, {"minute": 10, "day": 80}, known_clock(NOON))
    assert found == pytest.approx(seconds, abs=2)


@pytest.mark.parametrize(("requests", "seconds"), [(60, 300), (61, 43_200), (130, 43_200 + 360), (131, 43_200 + DAY)])
def test_a_forecast_leaves_what_is_reserved_of_today_and_of_each_later_day(requests, seconds):
    found = WindowCounter().forecast(requests, {"minute": 10, "day": 80}, known_clock(NOON), (20, 10))
    assert found == pytest.approx(seconds, abs=2)


def test_a_forecast_without_a_daily_limit_counts_windows():
    assert WindowCounter().forecast(601, {"minute": 10}, known_clock(NOON)) == pytest.approx(3_600, abs=2)


def test_the_release_of_a_permit_that_was_not_stored_leaves_another_of_its_number():
    counter = WindowCounter()
    lost = acquire(WindowCounter(), 1, known_clock(NOON))
    acquire(counter, 1, known_clock(NOON + 1))
    counter.release(lost)
    assert list(counter.in_flight) == [1]
    assert counter.used_per_day == {TODAY: 1}
