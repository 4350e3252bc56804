"""A book that is opened again, by another process or after a restart of the machine."""

from __future__ import annotations

import pytest
from helpers.buckets import DAY, NOON, TODAY, spend, sure, take, unsure

from agora_analytics import RateLimited
from agora_analytics.quota import LedgerState
from agora_analytics.quota.bucket import ClockReading, Reservation


def book(now: float, wall: float) -> LedgerState:
    """A book that has been in use, at these clocks."""
    opened = LedgerState()
    opened.rebase(now, wall)
    return opened


def test_a_request_that_was_just_given_up_still_counts_where_the_wall_clock_is_set():
    opened, rates = book(100.0, NOON), {"second": 1, "day": 100}
    counter = opened.counter("lists")
    counter.settle(take(counter, 1, unsure(100.0, NOON), rates), None, unsure(100.1, NOON))
    opened.rebase(100.2, NOON + 3_600)
    assert counter.remaining("second", 1, unsure(100.2, NOON + 3_600)) == 0
    assert counter.remaining("second", 1, unsure(104.0, NOON + 3_604)) == 1


@pytest.mark.parametrize("wall", [NOON + 90, 0.0, NOON - DAY], ids=["right", "of 1970", "a day back"])
def test_after_a_restart_of_the_machine_no_answer_lies_in_the_future_whatever_the_wall_clock_says(wall):
    opened, rates = book(1e6, NOON), {"second": 1, "minute": 3, "day": 100}
    counter = opened.counter("lists")
    for number in range(2):
        now = 1e6 + 5 * number
        counter.settle(take(counter, number + 1, unsure(now, NOON), rates), now, unsure(now, NOON))
    take(counter, 3, unsure(1e6 + 10, NOON), rates)
    opened.rebase(20.0, wall)
    assert [counter.remaining(unit, rates[unit], unsure(20.0, wall)) for unit in ("second", "minute")] == [1, 3]
    assert counter.remaining("day", 100, unsure(20.0, NOON)) == 97


def test_after_a_restart_of_the_machine_no_earlier_error_burst_or_clock_is_believed():
    opened, rates = book(1e6, NOON), {"second": 2, "day": 100}
    counter = opened.counter("lists")
    burst = ClockReading(1e6, NOON, 0.0, 0.2, 0.6)  # as a second of the service begins
    counter.settle(take(counter, 1, burst, rates), 1e6 + 0.1, burst)
    counter.on_rate_limited(RateLimited("qps limit"), 1e6, 2, burst)
    opened.clock.observe(1e6, 1e6 + 0.1, NOON)
    assert counter.remaining("second", 2, burst) == 0
    opened.rebase(20.0, NOON + 90)
    assert not opened.clock.known  # what it knew was about monotonic time, which began anew
    assert counter.remaining("second", 2, unsure(20.0, NOON + 90)) == 2


def test_a_wall_clock_that_is_put_right_by_seconds_changes_nothing():
    opened, rates = book(100.0, NOON), {"minute": 3, "day": 100}
    counter = opened.counter("lists")
    spend(counter, 2, unsure(100.0, NOON), rates)
    opened.clock.observe(100.0, 100.1, NOON)
    for wall in (NOON + 31, NOON - 29):
        opened.rebase(101.0, wall)
        assert opened.clock.known
    assert counter.remaining("minute", 3, unsure(101.0, NOON)) == 1


def test_requests_of_a_crashed_process_stay_counted_and_its_reservations_end():
    opened, rates = LedgerState(process_slot=1), {"second": 2, "day": 100}
    counter = opened.counter("lists")
    theirs, mine = opened.next_permit_id(), LedgerState(process_slot=2).next_permit_id()
    take(counter, theirs, unsure(100.0), rates)
    permit = take(counter, mine, unsure(100.0), rates)
    counter.reservations = {theirs: Reservation(0, 9, 9), mine: Reservation(0, 4, 4)}
    opened.reclaim(1, 200.0)
    assert counter.remaining("second", 2, unsure(200.0)) == 0
    # Half a second to arrive, a second in its window.
    assert [counter.remaining("second", 2, unsure(at)) for at in (201.5, 201.7)] == [0, 1]
    assert counter.reserved_by_streams(unsure(200.0)) == 4
    counter.settle(permit, 202.0, unsure(202.0))
    assert counter.remaining("second", 2, unsure(204.0)) == 2
    assert counter.remaining("day", 100, unsure(204.0)) == 98


def test_permit_numbers_are_unique_and_rise():
    one, other = LedgerState(process_slot=1), LedgerState(process_slot=2)
    numbers = [one.next_permit_id() for _ in range(50)]
    assert numbers == sorted(set(numbers))
    assert not {other.next_permit_id() for _ in range(50)} & set(numbers)


def test_a_permit_of_another_process_is_stale_after_half_a_second_and_an_own_one_never():
    opened = LedgerState(process_slot=1)
    theirs = LedgerState(process_slot=2).next_permit_id()
    take(opened.counter("lists"), opened.next_permit_id(), sure(NOON))
    assert not opened.has_stale_permits(NOON + 100)
    take(opened.counter("lists"), theirs, sure(NOON))
    assert [opened.has_stale_permits(NOON + at) for at in (0.4, 0.6)] == [False, True]


def test_a_reservation_of_another_process_is_stale_at_once():
    opened = LedgerState(process_slot=1)
    opened.counter("lists").reservations[opened.next_permit_id()] = Reservation(TODAY, 1, 1)
    assert not opened.has_stale_permits(NOON)
    opened.counter("lists").reservations[LedgerState(process_slot=2).next_permit_id()] = Reservation(TODAY, 1, 1)
    assert opened.has_stale_permits(NOON)
