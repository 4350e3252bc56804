"""A stored state that is opened again, by another process or after a reboot."""

from __future__ import annotations

import pytest
from helpers.buckets import DAY, NOON, TODAY, acquire, known_clock, spend, unknown_clock

from agora_analytics import RateLimited
from agora_analytics.quota import LedgerState
from agora_analytics.quota.bucket import ClockReading
from agora_analytics.quota.permit import Reservation


def opened_state(now: float, wall: float) -> LedgerState:
    """Return a state that was opened with these readings of the monotonic and the wall clock."""
    state = LedgerState()
    state.rebase(now, wall)
    return state


def test_an_abandoned_request_stays_charged_when_the_wall_clock_is_set():
    state, rates = opened_state(100.0, NOON), {"second": 1, "day": 100}
    counter = state.counter("lists")
    counter.settle(acquire(counter, 1, unknown_clock(100.0, NOON), rates), None, unknown_clock(100.1, NOON))
    state.rebase(100.2, NOON + 3_600)
    assert counter.remaining("second", 1, unknown_clock(100.2, NOON + 3_600)) == 0
    assert counter.remaining("second", 1, unknown_clock(104.0, NOON + 3_604)) == 1


@pytest.mark.parametrize("wall", [NOON + 90, 0.0, NOON - DAY], ids=["right", "in 1970", "a day behind"])
def test_a_reboot_frees_windows_and_keeps_the_day_whatever_the_wall_clock_shows(wall):
    state, rates = opened_state(1e6, NOON), {"second": 1, "minute": 3, "day": 100}
    counter = state.counter("lists")
    for number in range(2):
        now = 1e6 + 5 * number
        counter.settle(acquire(counter, number + 1, unknown_clock(now, NOON), rates), now, unknown_clock(now, NOON))
    acquire(counter, 3, unknown_clock(1e6 + 10, NOON), rates)
    state.rebase(20.0, wall)
    assert [counter.remaining(unit, rates[unit], unknown_clock(20.0, wall)) for unit in ("second", "minute")] == [1, 3]
    assert counter.remaining("day", 100, unknown_clock(20.0, NOON)) == 97


def test_a_reboot_drops_earlier_errors_and_bursts_and_the_service_clock():
    state, rates = opened_state(1e6, NOON), {"second": 2, "day": 100}
    counter = state.counter("lists")
    burst = ClockReading(1e6, NOON, 0.0, 0.2, 0.6)  # at the start of a second of the service
    counter.settle(acquire(counter, 1, burst, rates), 1e6 + 0.1, burst)
    counter.on_rate_limited(RateLimited("qps limit"), 1e6, 2, burst)
    state.clock.observe(1e6, 1e6 + 0.1, NOON)
    assert counter.remaining("second", 2, burst) == 0
    state.rebase(20.0, NOON + 90)
    assert not state.clock.known  # its bounds were about the monotonic clock, which started over
    assert counter.remaining("second", 2, unknown_clock(20.0, NOON + 90)) == 2


def test_a_wall_clock_that_is_corrected_by_seconds_changes_nothing():
    state, rates = opened_state(100.0, NOON), {"minute": 3, "day": 100}
    counter = state.counter("lists")
    spend(counter, 2, unknown_clock(100.0, NOON), rates)
    state.clock.observe(100.0, 100.1, NOON)
    for wall in (NOON + 31, NOON - 29):
        state.rebase(101.0, wall)
        assert state.clock.known
    assert counter.remaining("minute", 3, unknown_clock(101.0, NOON)) == 1


@pytest.mark.parametrize("ahead", [-600.0, -2.0, 2.0, 90.0, 1e6])
def test_another_clock_frees_no_window_at_once_and_keeps_the_day(ahead):
    state, rates = LedgerState(), {"second": 3, "day": 100}
    counter = state.counter("lists")
    answered, under_way, in_hand = [acquire(counter, number, known_clock(NOON), rates) for number in (1, 2, 3)]
    counter.settle(answered, NOON + 0.1, known_clock(NOON + 0.1))
    state.clock.observe(NOON, NOON + 0.1, NOON)
    now = NOON + 0.2 + ahead
    state.change_clock(now)
    assert not state.clock.known
    assert counter.remaining("second", 3, unknown_clock(now)) == 0
    counter.settle(under_way, now + 0.1, unknown_clock(now + 0.1))
    counter.release(in_hand)
    # One that looks like a permit of the new clock stays for some seconds.
    assert counter.remaining("second", 3, unknown_clock(now + 1)) in {0, 1}
    assert acquire(counter, 4, unknown_clock(now + 12), rates)
    assert counter.remaining("second", 3, unknown_clock(now + 14)) == 2


def test_by_another_clock_a_refused_window_stays_closed_and_a_pause_goes_on():
    state, rates = LedgerState(), {"second": 3, "day": 100}
    counter = state.counter("lists")
    for at in (NOON, NOON + 2):
        permit = acquire(counter, int(at), known_clock(at), rates)
        counter.settle(permit, at + 0.1, known_clock(at + 0.1))
        counter.on_rate_limited(RateLimited("qps limit"), permit.at, 3, known_clock(at + 0.1))
    pause = counter.blocked["second"].until - counter.blocked["second"].at
    state.change_clock(NOON + 700)
    assert counter.remaining("second", 3, unknown_clock(NOON + 700.5)) == 0
    assert counter.blocked["second"].until == NOON + 700 + pause


def test_requests_of_a_crashed_process_stay_charged_and_its_reservations_end():
    state, rates = LedgerState(process_slot=1), {"second": 2, "day": 100}
    counter = state.counter("lists")
    other_id, own_id = state.next_permit_id(), LedgerState(process_slot=2).next_permit_id()
    acquire(counter, other_id, unknown_clock(100.0), rates)
    permit = acquire(counter, own_id, unknown_clock(100.0), rates)
    counter.reservations = {other_id: Reservation(0, 9, 9), own_id: Reservation(0, 4, 4)}
    state.reclaim(1, 200.0)
    assert counter.remaining("second", 2, unknown_clock(200.0)) == 0
    # Half a second to arrive, and one second in its window.
    assert [counter.remaining("second", 2, unknown_clock(at)) for at in (201.5, 201.7)] == [0, 1]
    assert counter.reserved_by_streams(unknown_clock(200.0)) == 4
    counter.settle(permit, 202.0, unknown_clock(202.0))
    assert counter.remaining("second", 2, unknown_clock(204.0)) == 2
    assert counter.remaining("day", 100, unknown_clock(204.0)) == 98


def test_permit_ids_are_unique_and_increase():
    one, other = LedgerState(process_slot=1), LedgerState(process_slot=2)
    numbers = [one.next_permit_id() for _ in range(50)]
    assert numbers == sorted(set(numbers))
    assert not {other.next_permit_id() for _ in range(50)} & set(numbers)


def test_permits_of_other_processes_are_stale_after_half_a_second_and_own_ones_never():
    state = LedgerState(process_slot=1)
    other_id = LedgerState(process_slot=2).next_permit_id()
    acquire(state.counter("lists"), state.next_permit_id(), known_clock(NOON))
    assert not state.has_stale_permits(NOON + 100)
    acquire(state.counter("lists"), other_id, known_clock(NOON))
    assert [state.has_stale_permits(NOON + at) for at in (0.4, 0.6)] == [False, True]


def test_a_reservation_of_another_process_is_stale_at_once():
    state = LedgerState(process_slot=1)
    state.counter("lists").reservations[state.next_permit_id()] = Reservation(TODAY, 1, 1)
    assert not state.has_stale_permits(NOON)
    state.counter("lists").reservations[LedgerState(process_slot=2).next_permit_id()] = Reservation(TODAY, 1, 1)
    assert state.has_stale_permits(NOON)
