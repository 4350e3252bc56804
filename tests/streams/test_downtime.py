"""When and why a stream could not poll, on a host that sleeps, has a wrong clock, or learns the time late."""

from __future__ import annotations

import pytest
from helpers.streaming import HOUR, NOON

from agora_analytics.quota.service_time import Now, SleepDetector
from agora_analytics.streams.downtime import Downtime, DowntimeLog


class FakeTime:
    """Stands for the clocks of a quota: the loop's, the host's (`host_error` seconds ahead) and the service's."""

    def __init__(self, host_error: float = 0.0) -> None:
        self.host_error = host_error
        self.confirmed = False
        self._passed = self._asleep = 0.0
        self._ahead: float | None = None
        self._host = SleepDetector()

    def wait(self, seconds: float) -> None:
        self._passed += seconds

    def sleep(self, seconds: float) -> None:
        self._asleep += seconds

    def learn_time(self, *, confirmed: bool = True) -> None:
        """Learn the service's time, as from the `Date` of an answer."""
        self._ahead, self.confirmed = NOON + self._asleep, confirmed

    def monotonic(self) -> float:
        return self._passed

    def _wall(self) -> float:
        return NOON + self._passed + self._asleep + self.host_error

    def utc(self) -> float:
        self._host.observe(self._passed, self._wall())
        return self._wall() if self._ahead is None else self._passed + self._ahead

    def host_ahead(self) -> float | None:
        return None if self._ahead is None else self._wall() - self.utc()

    def now(self) -> Now:
        return Now(self.monotonic(), self.utc(), self.confirmed, self.host_ahead())

    def slept(self, since: float) -> float:
        return self._host.slept(since, self._passed)

    def sleeps(self, since: float, seconds: float) -> list[tuple[float, float]]:
        return self._host.sleeps(since, self._passed, seconds)


def polling(clocks: FakeTime, jumps: list[float] | None = None) -> Downtime:
    """Return the downtime of a stream whose first poll has started."""
    downtime = Downtime(clocks, lambda: None if jumps is None else jumps.append(clocks.monotonic()))  # type: ignore[arg-type]
    downtime.start(clocks.now())
    downtime.poll_started(clocks.now())
    downtime.check_clock(clocks.now())
    return downtime


def receive_answer(clocks: FakeTime, downtime: Downtime) -> None:
    clocks.learn_time()
    downtime.check_clock(clocks.now())
    downtime.answer_received(clocks.now())


# DowntimeLog.


def test_the_reason_of_a_span_is_the_cause_of_most_of_it():
    log = DowntimeLog()
    log.add(0, 100, "consumer")
    log.add(100, 300, "outage")
    log.add(400, 450, "quota")
    reasons = [log.main_reason(*span, "service") for span in ((0, 450), (0, 190), (250, 500), (300, 400), (500, 600))]
    assert reasons == ["outage", "consumer", "outage", "service", "service"]


def test_the_log_is_bounded_and_merges_adjacent_spans_of_one_cause():
    log = DowntimeLog()
    for number in range(5_000):
        log.add(10 * number, 10 * number + 9, "outage")
    assert log.main_reason(0, 9, "quota") == "outage"
    for number in range(5_000, 10_000):
        log.add(10 * number, 10 * number + 9, ("consumer", "outage")[number % 2])
    assert log.main_reason(0, 9, "quota") == "quota"
    assert log.main_reason(95_000, 95_009, "quota") == "consumer"


def test_a_cause_without_a_duration_is_ignored():
    log = DowntimeLog()
    log.add(20, 10, "outage")
    assert log.main_reason(0, 30, "quota") == "quota"


def test_a_sleep_that_the_clock_missed_is_inserted_into_a_recorded_outage():
    log = DowntimeLog()
    log.add(0, 100, "outage")
    log.insert_sleep(50, 1_000)
    spans = [(0, 50), (50, 1_050), (1_050, 1_100), (1_100, 1_200)]
    assert [log.main_reason(*span, "quota") for span in spans] == ["outage", "asleep", "outage", "quota"]


def test_correcting_the_clock_shifts_all_recorded_causes():
    log = DowntimeLog()
    log.add(0, 100, "outage")
    log.shift(HOUR)
    assert [log.main_reason(start, start + 100, "quota") for start in (0, HOUR)] == ["quota", "outage"]


# The start of a stream.


@pytest.mark.parametrize("host_error", [0, 600, -600])
def test_the_start_of_a_stream_is_measured_by_the_service_clock(host_error):
    clocks = FakeTime(host_error)
    downtime = polling(clocks)
    clocks.wait(60)
    receive_answer(clocks, downtime)
    assert downtime.started_at(clocks.now()) == NOON


@pytest.mark.parametrize("host_error", [0, 600, -600])
def test_a_start_known_by_a_response_ignores_the_host_clock(host_error):
    clocks = FakeTime(host_error)
    clocks.learn_time(confirmed=False)
    downtime = polling(clocks)
    clocks.wait(60)
    receive_answer(clocks, downtime)
    assert downtime.started_at(clocks.now()) == NOON


def test_a_start_by_a_confirmed_clock_survives_an_immediate_sleep():
    clocks = FakeTime()
    clocks.learn_time()
    downtime = Downtime(clocks, lambda: None)  # type: ignore[arg-type]
    downtime.start(clocks.now())
    clocks.sleep(HOUR)
    clocks.learn_time()
    assert downtime.started_at(clocks.now()) == NOON


# Waits.


@pytest.mark.parametrize(("seconds", "reason"), [(45, "outage"), (5 * HOUR, "quota")])
def test_waiting_a_minute_after_failures_counts_as_outage_and_longer_as_quota(seconds, reason):
    clocks = FakeTime()
    clocks.learn_time()
    downtime = polling(clocks)
    downtime.poll_finished("outage", clocks.now(), answered=False)
    with downtime.waiting_for_quota(seconds):
        clocks.wait(45)
    assert downtime.main_reason(NOON, NOON + 45) == reason


def test_waiting_for_quota_without_a_failure_counts_as_quota():
    clocks = FakeTime()
    clocks.learn_time()
    downtime = polling(clocks)
    downtime.record(45, "consumer", clocks.now())
    with downtime.waiting_for_quota(45):
        clocks.wait(45)
    assert downtime.main_reason(NOON - 40, NOON + 45) == "quota"


def test_an_outage_continues_after_waiting_for_quota():
    clocks = FakeTime()
    clocks.learn_time()
    downtime = polling(clocks)
    downtime.poll_finished("outage", clocks.now(), answered=False)
    with downtime.waiting_for_quota(5 * HOUR):
        clocks.wait(60)
    assert downtime.is_failing
    clocks.wait(600)
    downtime.record_failure(clocks.now())
    assert downtime.main_reason(NOON + 60, NOON + 660) == "outage"
    assert downtime.main_reason(NOON, NOON + 60) == "quota"


# Sleep and wrong clocks.


@pytest.mark.parametrize("hours", [1, 0], ids=["asleep", "awake"])
def test_a_clock_change_is_reported(hours):
    clocks, jumps = FakeTime(), []
    clocks.learn_time()
    downtime = polling(clocks, jumps)
    clocks.wait(60)
    clocks.sleep(hours * HOUR)
    receive_answer(clocks, downtime)
    assert jumps == [60] * hours


@pytest.mark.parametrize("host_error", [0, 6_000, -6_000])
def test_failures_before_the_time_was_known_are_moved_to_their_true_time(host_error):
    clocks = FakeTime(host_error)
    downtime = polling(clocks)
    downtime.poll_finished("outage", clocks.now(), answered=False)
    for _ in range(10):
        clocks.wait(60)
        downtime.record_failure(clocks.now())
    receive_answer(clocks, downtime)
    clocks.wait(60)
    downtime.record_failure(clocks.now())
    reasons = [downtime.main_reason(NOON + at, NOON + at + 30) for at in (-60, 0, 570, 630, 661)]
    assert reasons == ["quota", "outage", "outage", "outage", "quota"]


@pytest.mark.parametrize("host_error", [0, 6_000, -6_000])
def test_the_failure_of_a_poll_that_learned_the_time_starts_with_that_poll(host_error):
    clocks = FakeTime(host_error)
    downtime = polling(clocks)
    clocks.wait(60)
    receive_answer(clocks, downtime)
    downtime.poll_finished("outage", clocks.now(), answered=False)
    clocks.wait(60)
    downtime.record_failure(clocks.now())
    assert [downtime.main_reason(NOON + at, NOON + at + 30) for at in (-40, 0, 80, 121)] == [
        "quota",
        "outage",
        "outage",
        "quota",
    ]


@pytest.mark.parametrize("known", [False, True], ids=["before the time is known", "after"])
def test_a_sleep_in_an_outage_is_distinguished_from_it(known):
    clocks = FakeTime()
    if known:
        clocks.learn_time()
    downtime = polling(clocks)
    downtime.answer_received(clocks.now())
    downtime.poll_finished("outage", clocks.now(), answered=False)
    clocks.wait(600)
    downtime.record_failure(clocks.now())
    clocks.sleep(HOUR)
    clocks.wait(10)
    clocks.utc()  # as a stream does once a minute
    clocks.wait(590)
    downtime.record_failure(clocks.now())
    receive_answer(clocks, downtime)
    spans = [(0, 600), (610, 600 + HOUR), (620 + HOUR, 1_200 + HOUR), (1_201 + HOUR, 1_300 + HOUR)]
    reasons = [downtime.main_reason(NOON + start, NOON + end) for start, end in spans]
    assert reasons == ["outage", "asleep", "outage", "quota"]
