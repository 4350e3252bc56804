"""A counter by itself: how many requests a window or a day still allows, and what midnight and doubt change."""

from __future__ import annotations

import math
from collections import Counter
from heapq import heappop, heappush

import pytest
from helpers.buckets import APART, DAY, LIMIT, MIDNIGHT, NOON, RATES, TODAY, WINDOWS, spend, sure, take, unsure
from hypothesis import given
from hypothesis import strategies as st

from agora_analytics.quota.bucket import ClockReading, Permit, Rejection, Reservation, WindowCounter


def left(counter: WindowCounter, reading: ClockReading) -> int:
    return counter.remaining("day", LIMIT, reading)


# Days.


def test_a_day_has_as_many_requests_as_the_plan_says_and_the_next_begins_anew():
    counter = WindowCounter()
    spend(counter, LIMIT, sure(NOON))
    assert left(counter, sure(NOON + 1)) == 0
    assert isinstance(counter.acquire(99, RATES, sure(NOON + 1)), Rejection)
    assert left(counter, sure(MIDNIGHT + DAY - 1)) == 0
    assert left(counter, sure(MIDNIGHT + DAY)) == LIMIT


def test_a_spent_day_says_how_long_until_the_next_has_begun_for_certain():
    counter = WindowCounter()
    spend(counter, LIMIT, sure(NOON))
    rejection = counter.acquire(99, RATES, sure(NOON + 60))
    assert isinstance(rejection, Rejection)
    assert (rejection.unit, rejection.limit) == ("day", LIMIT)
    assert rejection.wait == pytest.approx(DAY / 2 - 60, abs=2 * APART)
    assert rejection.wait > DAY / 2 - 60
    assert isinstance(counter.acquire(99, RATES, sure(NOON + 60 + rejection.wait)), Permit)


def test_without_a_known_clock_the_next_day_begins_five_seconds_later():
    assert WindowCounter(used_per_day={TODAY: LIMIT}).time_until("day", LIMIT, unsure(NOON)) == pytest.approx(
        DAY / 2 + 5
    )


def test_a_wait_behind_others_counts_the_days_that_they_fill():
    counter = WindowCounter()
    spend(counter, LIMIT, sure(NOON))
    days = [counter.time_until("day", LIMIT, sure(NOON), ahead) // DAY for ahead in (0, LIMIT - 1, LIMIT, 3 * LIMIT)]
    assert days == [0, 0, 1, 3]
    assert [WindowCounter().time_until("day", LIMIT, sure(NOON), ahead) > 0 for ahead in (0, LIMIT - 1, LIMIT)] == [
        False,
        False,
        True,
    ]


def test_what_yesterday_counted_is_remembered_after_midnight():
    counter = WindowCounter()
    spend(counter, LIMIT - 1, sure(MIDNIGHT - 10))
    spend(counter, 1, sure(MIDNIGHT + 1))
    assert left(counter, sure(MIDNIGHT + 2)) == LIMIT - 1
    # The clock is lost, and with it which of the two days the service is in: the fuller one counts.
    assert left(counter, unsure(MIDNIGHT + 2)) == 1


def test_counts_survive_a_wall_clock_that_is_set_a_day_ahead_and_back():
    counter = WindowCounter()
    spend(counter, 5, unsure(NOON))
    spend(counter, 1, unsure(NOON + 1, wall=NOON + 1 + DAY))
    spend(counter, 1, unsure(NOON + 2, wall=NOON + 2))
    assert left(counter, unsure(NOON + 3)) == LIMIT - 6


@pytest.mark.parametrize("days", [3, 400])
def test_days_that_are_long_over_are_forgotten(days):
    counter = WindowCounter()
    for day in range(days):
        spend(counter, 1, sure(NOON + day * DAY))
    assert len(counter.used_per_day) <= 4


def test_what_may_be_counted_on_either_side_of_midnight_is_charged_to_both_days():
    counter = WindowCounter()
    take(counter, 1, unsure(MIDNIGHT + 2))
    assert [left(counter, sure(MIDNIGHT + at)) for at in (-2, 2)] == [LIMIT - 1, LIMIT - 1]


def test_a_request_that_may_count_on_two_days_needs_room_on_both():
    counter = WindowCounter()
    spend(counter, LIMIT, sure(MIDNIGHT - 60))
    rejection = counter.acquire(99, RATES, unsure(MIDNIGHT + 2))
    assert isinstance(rejection, Rejection)
    assert isinstance(counter.acquire(99, RATES, unsure(MIDNIGHT + 6)), Permit)


@pytest.mark.parametrize(("at", "yesterday", "today"), [(2, LIMIT, LIMIT - 1), (-2, LIMIT - 1, LIMIT)])
def test_once_the_clock_is_known_one_of_two_days_gets_its_request_back(at, yesterday, today):
    counter = WindowCounter()
    now = MIDNIGHT + at
    permit = take(counter, 1, unsure(now))
    counter.settle(permit, now + 0.1, sure(now + 0.1))
    assert (left(counter, sure(MIDNIGHT - 9)), left(counter, sure(MIDNIGHT + 9))) == (yesterday, today)


def test_a_request_that_was_answered_after_midnight_may_count_on_either_day():
    counter = WindowCounter()
    permit = take(counter, 1, sure(MIDNIGHT - 0.2))
    assert left(counter, sure(MIDNIGHT + 0.05)) == LIMIT
    counter.settle(permit, MIDNIGHT + 0.1, sure(MIDNIGHT + 0.1))
    assert (left(counter, sure(MIDNIGHT - 0.2)), left(counter, sure(MIDNIGHT + 0.2))) == (LIMIT - 1, LIMIT - 1)


def test_a_wall_clock_that_named_the_wrong_day_is_made_up_for_once_the_service_has_answered():
    counter = WindowCounter()
    permit = take(counter, 1, unsure(NOON, wall=NOON + 3 * DAY))
    counter.settle(permit, NOON + 0.1, sure(NOON + 0.1))
    assert (left(counter, sure(NOON + 1)), left(counter, sure(NOON + 3 * DAY))) == (LIMIT - 1, LIMIT)


@pytest.mark.parametrize("reading", [sure(NOON), unsure(MIDNIGHT)])
def test_the_permit_of_a_request_that_was_not_sent_is_released_once(reading):
    counter = WindowCounter()
    spend(counter, 2, reading)
    permit = take(counter, 7, reading)
    counter.release(permit)
    counter.release(permit)
    assert left(counter, reading) == LIMIT - 2
    assert counter.remaining("second", 100, reading) == 98


def test_a_request_is_settled_once():
    counter = WindowCounter()
    permit = take(counter, 1, sure(NOON))
    for at in (0.1, 0.2):
        counter.settle(permit, NOON + at, sure(NOON + at))
    counter.release(permit)
    assert left(counter, sure(NOON + 0.3)) == LIMIT - 1
    assert counter.remaining("second", 100, sure(NOON + 0.3)) == 99


@given(
    limit=st.integers(1, 4),
    start=st.floats(-12, 0),
    requests=st.lists(
        st.tuples(st.floats(0, 4), st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.01, 1.0, math.inf])),
        max_size=20,
    ),
    skew=st.floats(-4.9, 4.9),
)
def test_no_day_of_the_service_holds_more_than_the_limit(limit, start, requests, skew):
    counter, now, counted = WindowCounter(), MIDNIGHT + start, Counter()
    for number, (gap, there, back, doubt) in enumerate(requests, 1):
        now += gap
        reading = ClockReading(now, now + skew, -doubt / 2 if doubt < math.inf else -1e15, doubt, doubt)
        got = counter.acquire(number, {"second": 100, "day": limit}, reading)
        if isinstance(got, Permit):
            counted[(now + there) // DAY] += 1
            now += there + back
            low = -doubt / 2 if doubt < math.inf else -1e15
            counter.settle(got, now, ClockReading(now, now + skew, low, doubt, doubt))
    assert max(counted.values(), default=0) <= limit


# Windows.

gaps, ways = st.one_of(st.floats(0, 1.5), st.sampled_from([0.0, 0.75, 2.85])), st.floats(0.001, 0.6)
apart = st.floats(-0.04, 0.04)


@given(
    unit=st.sampled_from(["second", "minute"]),
    limit=st.integers(1, 4),
    ahead=st.floats(0, 1),
    doubt=st.sampled_from([0.02, 0.3, 0.9, math.inf]),
    requests=st.lists(st.tuples(gaps, ways, ways, apart), min_size=5, max_size=25),
)
def test_no_window_of_the_service_holds_more_than_the_limit_and_no_permit_is_lost(unit, limit, ahead, doubt, requests):
    window, rates = WINDOWS[unit], {unit: limit, "day": 10_000}
    offset = ahead if doubt == math.inf else ahead * doubt
    counter, now = WindowCounter(), float(NOON)
    under_way: list[tuple[float, Permit]] = []
    answers: list[float] = []
    counted: Counter[float] = Counter()

    def reading() -> ClockReading:
        return ClockReading(now, now, 0.0 if doubt < math.inf else -1e15, doubt, doubt)

    for number, (gap, there, back, host) in enumerate(requests, 1):
        now = wanted = now + gap * window / 3
        while True:
            while under_way and under_way[0][0] <= now:
                at, permit = heappop(under_way)
                counter.settle(permit, at, reading())
            got = counter.acquire(number, rates, reading())
            if isinstance(got, Permit):
                break
            assert (got.unit, got.limit) == (unit, limit)
            assert got.wait > 0
            now += max(got.wait, 1e-3)
        counted[(now + there + offset + host) // window] += 1
        back_at = sorted(answers)[-limit] + window + APART if len(answers) >= limit else 0.0
        assert now <= max(wanted, back_at) + 2e-3, "a permit comes back a window after its answer, at the latest"
        heappush(under_way, (now + there + back, got))
        answers.append(now + there + back)
    assert max(counted.values()) <= limit


def test_with_a_known_clock_all_permits_of_a_window_are_free_soon_after_it_begins():
    counter, rates = WindowCounter(), {"second": 3, "day": 1_000}
    spend(counter, 3, sure(NOON + 0.5), rates)
    assert counter.remaining("second", 3, sure(NOON + 0.9)) == 0
    assert counter.time_until("second", 3, sure(NOON + 0.9)) == pytest.approx(0.2, abs=0.02)
    assert [counter.remaining("second", 3, sure(NOON + 1 + at)) for at in (-0.05, 0.05, 0.15)] == [0, 0, 3]


def test_with_a_calibrated_clock_early_permits_are_free_as_the_next_second_begins_and_others_later():
    rates = {"second": 3, "day": 1_000}
    doubted = lambda at: ClockReading(NOON + at, NOON + at, 0.0, 0.2, 0.6)  # noqa: E731
    soon, later = WindowCounter(), WindowCounter()
    for counter, at in ((soon, 0.15), (later, 0.25)):
        for number in range(3):
            counter.settle(take(counter, number, doubted(at), rates), NOON + 0.5, doubted(0.5))
    assert [soon.remaining("second", 3, doubted(at)) for at in (1.05, 1.15)] == [0, 3]
    assert [later.remaining("second", 3, doubted(at)) for at in (1.15, 1.55, 1.65)] == [0, 0, 3]
    assert (soon.time_until("second", 3, doubted(0.5)), later.time_until("second", 3, doubted(0.5))) == pytest.approx(
        (0.6, 1.1)
    )


def test_with_an_unknown_clock_a_permit_is_free_one_window_after_its_answer():
    counter, rates = WindowCounter(), {"second": 3, "day": 1_000}
    spend(counter, 2, unsure(NOON), rates)
    spend(counter, 1, unsure(NOON + 0.5), rates)
    assert counter.time_until("second", 3, unsure(NOON + 0.5)) == pytest.approx(0.6)
    assert [counter.remaining("second", 3, unsure(NOON + at)) for at in (1.05, 1.15, 1.55, 1.65)] == [0, 2, 2, 3]


def test_a_request_in_flight_holds_its_permit_until_it_is_answered():
    counter, rates = WindowCounter(), {"second": 1, "day": 1_000}
    permit = take(counter, 1, sure(NOON), rates)
    assert isinstance(counter.acquire(2, rates, sure(NOON + 100)), Rejection)
    counter.settle(permit, NOON + 200, sure(NOON + 200))
    assert isinstance(counter.acquire(2, rates, sure(NOON + 202)), Permit)


def test_a_permit_that_is_never_settled_expires_after_five_minutes():
    counter, rates = WindowCounter(), {"second": 1, "day": 1_000}
    take(counter, 1, sure(NOON), rates)
    assert isinstance(counter.acquire(2, rates, sure(NOON + 299)), Rejection)
    counter.acquire(2, rates, sure(NOON + 300))  # it is missed
    assert isinstance(counter.acquire(2, rates, sure(NOON + 302)), Permit)


def test_a_request_that_was_given_up_may_still_be_counted_for_two_seconds():
    counter, rates = WindowCounter(), {"second": 1, "day": 1_000}
    counter.settle(take(counter, 1, unsure(NOON), rates), None, unsure(NOON + 1))
    assert counter.remaining("second", 1, unsure(NOON + 4)) == 0
    assert counter.remaining("second", 1, unsure(NOON + 4.2)) == 1


def test_a_wait_behind_others_counts_the_windows_that_they_fill():
    counter, rates = WindowCounter(), {"minute": 3, "day": 1_000}
    spend(counter, 3, unsure(NOON), rates)
    waits = [counter.time_until("minute", 3, unsure(NOON), ahead) for ahead in (0, 2, 3, 5, 6)]
    assert waits == pytest.approx([60.1, 60.1, 120.1, 120.1, 180.1])


def test_an_exhausted_unit_charges_nothing_to_the_others():
    counter, rates = WindowCounter(), {"second": 1, "minute": 10, "day": 10}
    permit = take(counter, 1, sure(NOON), rates)
    for number in range(2, 9):
        assert isinstance(counter.acquire(number, rates, sure(NOON + 0.1)), Rejection)
    counter.release(permit)
    assert [counter.remaining(unit, limit, sure(NOON + 0.1)) for unit, limit in rates.items()] == [1, 10, 10]


def test_the_unit_with_the_longest_wait_is_reported():
    counter, rates = WindowCounter(), {"second": 2, "minute": 2, "day": 100}
    spend(counter, 2, sure(NOON + 30), rates)
    rejection = counter.acquire(9, rates, sure(NOON + 30))
    assert isinstance(rejection, Rejection)
    assert (rejection.unit, rejection.limit) == ("minute", 2)
    assert 29 < rejection.wait < 33


@pytest.mark.parametrize("most", [200, 1_000])
def test_answers_of_past_windows_are_forgotten(most):
    counter, rates = WindowCounter(), {"second": 10, "day": 10_000}
    for number in range(most):
        now = NOON + number
        counter.settle(take(counter, number + 1, sure(now), rates), now, sure(now))
    assert len(counter.completed) + len(counter.completed_early) < 80


# What is kept for others, and forecasts.


def test_requests_of_the_day_that_are_reserved_for_others_are_not_issued():
    counter = WindowCounter()
    spend(counter, LIMIT - 3, sure(NOON))
    assert isinstance(counter.acquire(98, RATES, sure(NOON), 3), Rejection)
    assert isinstance(counter.acquire(99, RATES, sure(NOON), 2), Permit)
    rejection = counter.acquire(98, RATES, sure(NOON), 2)
    assert isinstance(rejection, Rejection)
    assert rejection.wait == pytest.approx(DAY / 2, abs=1)


def test_streams_reserve_the_rest_of_today_and_the_whole_of_tomorrow():
    counter = WindowCounter(reservations={1: Reservation(TODAY, 5, 100), 2: Reservation(TODAY, 1, 20)})
    assert [counter.reserved_by_streams(sure(at)) for at in (NOON, NOON + DAY)] == [6, 120]
    assert counter.reserved_by_streams(unsure(MIDNIGHT + DAY)) == 120  # where it may be either day, tomorrow's are kept
    assert WindowCounter().reserved_by_streams(sure(NOON)) == 0


FORECASTS = [(1, 0), (10, 0), (11, 60), (20, 60), (21, 120), (80, 420), (81, 43_200), (90, 43_200), (91, 43_260)]
LATER = [(160, 43_200 + 420), (161, 43_200 + DAY)]


@pytest.mark.parametrize(("requests", "seconds"), FORECASTS + LATER)
def test_a_forecast_counts_windows_and_days(requests, seconds):
    found = WindowCounter().forecast(requests, {"minute": 10, "day": 80}, sure(NOON))
    assert found == pytest.approx(seconds, abs=2)


def test_a_forecast_without_a_limit_for_the_day_counts_windows():
    assert WindowCounter().forecast(601, {"minute": 10}, sure(NOON)) == pytest.approx(3_600, abs=2)
