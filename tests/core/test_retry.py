"""When a request is retried, and on which host: limited in number and in time."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora_analytics import (
    AgoraError,
    BadRequest,
    DecodeError,
    NotFound,
    PlanRefused,
    QuotaExhausted,
    RateLimited,
    Retry,
    ServerError,
    TransportError,
    TransportTimeout,
    Unauthorized,
)
from agora_analytics._core.retry import HostSelector, backoff

DOWN = TransportError("down")
FAILED = ServerError("failed", status=503)
BODY_500 = ServerError("Unknown Error", status=200, code=500)


class MaximumRandom(Random):
    """Returns the upper end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return b


def longest_wait(error: AgoraError, attempt: int, elapsed: float = 0.0, **policy) -> float | None:
    return Retry(**policy).delay(error, attempt, elapsed, MaximumRandom())


def test_waits_double_up_to_the_cap():
    waits = [longest_wait(DOWN, attempt, attempts=99, base=0.5, cap=5.0) for attempt in range(1, 8)]
    assert waits == [0.5, 1, 2, 4, 5, 5, 5]
    assert longest_wait(DOWN, 10**6, attempts=10**9, base=0.5, cap=5.0) == 5.0


def test_a_backoff_has_a_longest_pause_after_any_number_of_failures():
    assert [backoff(1.0, failures, 30.0) for failures in (0, 1, 4, 5, 2_000, 10**9)] == [1, 2, 16, 30, 30, 30]


@given(st.integers(1, 3), st.integers(0, 2**32))
def test_a_wait_is_random_between_zero_and_its_bound(attempt, seed):
    assert 0 <= Retry().delay(DOWN, attempt, 0.0, Random(seed)) <= 2.0 ** (attempt - 1)


def test_waits_are_different_each_time():
    random = Random(1)
    assert len({Retry().delay(DOWN, 3, 0.0, random) for _ in range(50)}) == 50


@pytest.mark.parametrize("attempts", [1, 2, 4])
@pytest.mark.parametrize("error", [DOWN, TransportTimeout("slow"), FAILED])
def test_exactly_the_configured_number_of_attempts_is_made(attempts, error):
    retried = [longest_wait(error, attempt, attempts=attempts) is not None for attempt in range(1, 8)]
    assert retried == [True] * (attempts - 1) + [False] * (8 - attempts)


@pytest.mark.parametrize("attempts", [1, 2, 9])
def test_an_error_code_in_the_body_is_retried_at_most_once(attempts):
    retried = [longest_wait(BODY_500, attempt, attempts=attempts) is not None for attempt in (1, 2)]
    assert retried == [attempts > 1, False]


@pytest.mark.parametrize(
    "error",
    [
        kind("no")
        for kind in (BadRequest, Unauthorized, PlanRefused, NotFound, RateLimited, DecodeError, QuotaExhausted)
    ],
)
def test_an_error_that_a_retry_cannot_fix_is_not_retried(error):
    assert longest_wait(error, 1) is None


def test_no_attempt_starts_after_the_total_time():
    assert longest_wait(DOWN, 1, 9.0, total=10.0) == 1.0
    assert longest_wait(DOWN, 1, 9.1, total=10.0) is None
    assert longest_wait(ServerError("busy", status=503, retry_after=9.5), 1, total=10.0) is None


def test_retry_after_is_the_minimum_wait():
    busy = ServerError("busy", status=503, retry_after=7.0)
    assert longest_wait(busy, 1) == 8.0
    assert 7.0 <= Retry().delay(busy, 1, 0.0, Random(1)) < 8.0


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base": -1.0}, {"cap": -1.0}, {"total": -0.1}])
def test_an_invalid_retry_policy_raises(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Retry(**wrong)


# Hosts.


def fail(hosts: HostSelector, times: int = 1, now: float = 0.0, error: AgoraError = DOWN) -> int:
    for _ in range(times):
        hosts.report_failure(hosts.current, error, now)
    return hosts.pick(now)


@pytest.mark.parametrize("error", [DOWN, TransportTimeout("slow"), FAILED, ServerError("failed", status=500)])
def test_two_failures_in_a_row_fail_over_to_the_next_host(error):
    hosts = HostSelector(2)
    assert [fail(hosts, error=error) for _ in range(2)] == [0, 1]


def test_a_success_between_failures_resets_the_count():
    hosts = HostSelector(2)
    assert fail(hosts) == 0
    hosts.report_success(0)
    assert [fail(hosts) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize("error", [BODY_500, RateLimited("busy", status=429), Unauthorized("no", status=401)])
def test_an_error_response_causes_no_failover(error):
    assert fail(HostSelector(2), times=3, error=error) == 0


def test_late_results_of_another_host_are_ignored():
    hosts = HostSelector(2)
    fail(hosts, times=2)
    for _ in range(2):
        hosts.report_failure(0, DOWN, 0.0)
    assert hosts.pick(0.0) == 1
    fail(hosts)
    hosts.report_success(0)
    assert fail(hosts) == 0


def test_failover_goes_through_all_hosts_in_turn_and_keeps_a_single_host():
    hosts = HostSelector(3)
    assert [fail(hosts, times=2) for _ in range(4)] == [1, 2, 0, 1]
    assert fail(HostSelector(1), times=9) == 0


def test_the_first_host_is_used_again_after_a_while():
    hosts = HostSelector(2)
    fail(hosts, times=2, now=1_000.0)
    assert [hosts.pick(1_000.0 + after) for after in (0.0, 299.9, 300.0)] == [1, 1, 0]
    assert hosts.pick(1_300.1) == 0
    assert [fail(hosts, now=1_301.0) for _ in range(2)] == [0, 1]
    assert hosts.pick(1_600.9) == 1


def test_failures_of_another_host_do_not_count_after_the_return_to_the_first():
    hosts = HostSelector(2)
    fail(hosts, times=3)
    assert hosts.pick(300.0) == 0
    assert fail(hosts, now=301.0) == 0
