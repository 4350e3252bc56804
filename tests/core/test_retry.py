"""When to try again, and at which host: bounded in count and in time."""

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
from agora_analytics._core.retry import HostSelector

DOWN = TransportError("down")
FAILED = ServerError("failed", status=503)
SAID_500 = ServerError("Unknown Error", status=200, code=500)


class Longest(Random):
    """Draws the end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return b


def longest(error: AgoraError, attempt: int, elapsed: float = 0.0, **policy) -> float | None:
    return Retry(**policy).wait(error, attempt, elapsed, Longest())


def test_waits_double_up_to_the_cap():
    waits = [longest(DOWN, attempt, attempts=99, base=0.5, cap=5.0) for attempt in range(1, 8)]
    assert waits == [0.5, 1, 2, 4, 5, 5, 5]
    assert longest(DOWN, 10**6, attempts=10**9, base=0.5, cap=5.0) == 5.0


@given(st.integers(1, 3), st.integers(0, 2**32))
def test_a_wait_is_drawn_from_nothing_to_its_bound(attempt, seed):
    assert 0 <= Retry().wait(DOWN, attempt, 0.0, Random(seed)) <= 2.0 ** (attempt - 1)


def test_waits_differ():
    random = Random(1)
    assert len({Retry().wait(DOWN, 3, 0.0, random) for _ in range(50)}) == 50


@pytest.mark.parametrize("attempts", [1, 2, 4])
@pytest.mark.parametrize("error", [DOWN, TransportTimeout("slow"), FAILED])
def test_so_many_attempts_are_made_and_no_more(attempts, error):
    tried = [longest(error, attempt, attempts=attempts) is not None for attempt in range(1, 8)]
    assert tried == [True] * (attempts - 1) + [False] * (8 - attempts)


@pytest.mark.parametrize("attempts", [1, 2, 9])
def test_a_failure_that_only_the_body_tells_is_tried_once_more_at_most(attempts):
    tried = [longest(SAID_500, attempt, attempts=attempts) is not None for attempt in (1, 2)]
    assert tried == [attempts > 1, False]


@pytest.mark.parametrize(
    "error",
    [
        kind("no")
        for kind in (BadRequest, Unauthorized, PlanRefused, NotFound, RateLimited, DecodeError, QuotaExhausted)
    ],
)
def test_what_a_second_try_cannot_mend_is_not_tried(error):
    assert longest(error, 1) is None


def test_no_attempt_begins_after_the_time_for_all_of_them():
    assert longest(DOWN, 1, 9.0, total=10.0) == 1.0
    assert longest(DOWN, 1, 9.1, total=10.0) is None
    assert longest(ServerError("busy", status=503, retry_after=9.5), 1, total=10.0) is None


def test_retry_after_is_the_least_to_wait():
    busy = ServerError("busy", status=503, retry_after=7.0)
    assert longest(busy, 1) == 8.0
    assert 7.0 <= Retry().wait(busy, 1, 0.0, Random(1)) < 8.0


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base": -1.0}, {"cap": -1.0}, {"total": -0.1}])
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Retry(**wrong)


# Hosts.


def fail(hosts: HostSelector, times: int = 1, now: float = 0.0, error: AgoraError = DOWN) -> int:
    for _ in range(times):
        hosts.report_failure(hosts.current, error, now)
    return hosts.pick(now)


@pytest.mark.parametrize("error", [DOWN, TransportTimeout("slow"), FAILED, ServerError("failed", status=500)])
def test_a_host_is_left_after_two_failures_in_a_row(error):
    hosts = HostSelector(2)
    assert [fail(hosts, error=error) for _ in range(2)] == [0, 1]


def test_an_answer_in_between_makes_it_begin_anew():
    hosts = HostSelector(2)
    assert fail(hosts) == 0
    hosts.report_success(0)
    assert [fail(hosts) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize("error", [SAID_500, RateLimited("busy", status=429), Unauthorized("no", status=401)])
def test_a_host_that_answered_is_not_left(error):
    assert fail(HostSelector(2), times=3, error=error) == 0


def test_late_news_of_another_host_changes_nothing():
    hosts = HostSelector(2)
    fail(hosts, times=2)
    for _ in range(2):
        hosts.report_failure(0, DOWN, 0.0)
    assert hosts.pick(0.0) == 1
    fail(hosts)
    hosts.report_success(0)
    assert fail(hosts) == 0


def test_all_hosts_take_their_turn_and_the_only_one_has_it_for_ever():
    hosts = HostSelector(3)
    assert [fail(hosts, times=2) for _ in range(4)] == [1, 2, 0, 1]
    assert fail(HostSelector(1), times=9) == 0


def test_the_first_host_is_home_again_after_a_while():
    hosts = HostSelector(2)
    fail(hosts, times=2, now=1_000.0)
    assert [hosts.pick(1_000.0 + after) for after in (0.0, 299.9, 300.0)] == [1, 1, 0]
    assert hosts.pick(1_300.1) == 0
    assert [fail(hosts, now=1_301.0) for _ in range(2)] == [0, 1]
    assert hosts.pick(1_600.9) == 1


def test_failures_of_the_host_that_was_left_do_not_follow_home():
    hosts = HostSelector(2)
    fail(hosts, times=3)
    assert hosts.pick(300.0) == 0
    assert fail(hosts, now=301.0) == 0
