"""What kept a stream from asking, and when: by clocks that are read here, asleep, wrong, or known late."""

from __future__ import annotations

import pytest

from agora_analytics.quota.service_time import Now, SleepDetector
from agora_analytics.streams.downtime import Downtime, DowntimeLog

NOON = 1_795_521_600
HOUR = 3_600


class Clocks:
    """A quota's clocks: the loop's, the host's (`wrong` seconds ahead), and the service's once it was `heard`."""

    def __init__(self, wrong: float = 0.0) -> None:
        self.wrong = wrong
        self.confirmed = False
        self._passed = self._asleep = 0.0
        self._ahead: float | None = None
        self._host = SleepDetector()

    def wait(self, seconds: float) -> None:
        self._passed += seconds

    def sleep(self, seconds: float) -> None:
        self._asleep += seconds

    def hear(self, *, confirmed: bool = True) -> None:
        """Have an answer that tells the time."""
        self._ahead, self.confirmed = NOON + self._asleep, confirmed

    def monotonic(self) -> float:
        return self._passed

    def _wall(self) -> float:
        return NOON + self._passed + self._asleep + self.wrong

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


def begun(clocks: Clocks, jumps: list[float] | None = None) -> Downtime:
    """A stream's downtime, from its first request on."""
    downtime = Downtime(clocks, lambda: None if jumps is None else jumps.append(clocks.monotonic()))  # type: ignore[arg-type]
    downtime.start(clocks.now())
    downtime.poll_started(clocks.now())
    downtime.check_clock(clocks.now())
    return downtime


def heard(clocks: Clocks, downtime: Downtime, *, confirmed: bool = True) -> None:
    clocks.hear(confirmed=confirmed)
    downtime.check_clock(clocks.now())
    downtime.answer_received(clocks.now())


# DowntimeLog.


def test_the_cause_of_a_span_is_what_took_most_of_it():
    log = DowntimeLog()
    log.add(0, 100, "consumer")
    log.add(100, 300, "outage")
    log.add(400, 450, "quota")
    found = [log.main_reason(*span, "service") for span in ((0, 450), (0, 190), (250, 500), (300, 400), (500, 600))]
    assert found == ["outage", "consumer", "outage", "service", "service"]


def test_causes_are_bounded_and_a_continuing_one_is_merged():
    log = DowntimeLog()
    for number in range(5_000):
        log.add(10 * number, 10 * number + 9, "outage")
    assert log.main_reason(0, 9, "quota") == "outage"
    for number in range(5_000, 10_000):
        log.add(10 * number, 10 * number + 9, ("consumer", "outage")[number % 2])
    assert log.main_reason(0, 9, "quota") == "quota"
    assert log.main_reason(95_000, 95_009, "quota") == "consumer"


def test_a_cause_without_duration_is_none():
    log = DowntimeLog()
    log.add(20, 10, "outage")
    assert log.main_reason(0, 30, "quota") == "quota"


def test_causes_recorded_by_a_stopped_clock_surround_the_sleep():
    log = DowntimeLog()
    log.add(0, 100, "outage")
    log.insert_sleep(50, 1_000)
    spans = [(0, 50), (50, 1_050), (1_050, 1_100), (1_100, 1_200)]
    assert [log.main_reason(*span, "quota") for span in spans] == ["outage", "asleep", "outage", "quota"]


def test_causes_move_with_the_clock_that_recorded_them():
    log = DowntimeLog()
    log.add(0, 100, "outage")
    log.shift(HOUR)
    assert [log.main_reason(start, start + 100, "quota") for start in (0, HOUR)] == ["quota", "outage"]


# When it began.


@pytest.mark.parametrize("wrong", [0, 600, -600])
def test_the_start_of_a_stream_is_by_the_service_clock(wrong):
    clocks = Clocks(wrong)
    downtime = begun(clocks)
    clocks.wait(60)
    heard(clocks, downtime)
    assert downtime.started_at(clocks.now()) == NOON


@pytest.mark.parametrize("wrong", [0, 600, -600])
def test_a_start_known_by_a_response_ignores_the_host_clock(wrong):
    clocks = Clocks(wrong)
    clocks.hear(confirmed=False)
    downtime = begun(clocks)
    clocks.wait(60)
    heard(clocks, downtime)
    assert downtime.started_at(clocks.now()) == NOON


def test_a_start_by_a_confirmed_clock_survives_an_immediate_sleep():
    clocks = Clocks()
    clocks.hear()
    downtime = Downtime(clocks, lambda: None)  # type: ignore[arg-type]
    downtime.start(clocks.now())
    clocks.sleep(HOUR)
    clocks.hear()
    assert downtime.started_at(clocks.now()) == NOON


# Waiting.


@pytest.mark.parametrize(("seconds", "reason"), [(45, "outage"), (5 * HOUR, "quota")])
def test_waiting_a_minute_after_failures_is_the_outage_and_longer_is_the_quota(seconds, reason):
    clocks = Clocks()
    clocks.hear()
    downtime = begun(clocks)
    downtime.poll_finished("outage", clocks.now(), answered=False)
    with downtime.waiting_for_quota(seconds):
        clocks.wait(45)
    assert downtime.main_reason(NOON, NOON + 45) == reason


def test_waiting_for_quota_without_a_failure_is_the_quota():
    clocks = Clocks()
    clocks.hear()
    downtime = begun(clocks)
    downtime.record(45, "consumer", clocks.now())
    with downtime.waiting_for_quota(45):
        clocks.wait(45)
    assert downtime.main_reason(NOON - 40, NOON + 45) == "quota"


def test_an_outage_continues_after_waiting_for_quota():
    clocks = Clocks()
    clocks.hear()
    downtime = begun(clocks)
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
    clocks, jumps = Clocks(), []
    clocks.hear()
    downtime = begun(clocks, jumps)
    clocks.wait(60)
    clocks.sleep(hours * HOUR)
    heard(clocks, downtime)
    assert jumps == [60] * hours


@pytest.mark.parametrize("wrong", [0, 6_000, -6_000])
def test_failures_before_the_time_was_known_are_moved_to_their_true_time(wrong):
    clocks = Clocks(wrong)
    downtime = begun(clocks)
    downtime.poll_finished("outage", clocks.now(), answered=False)
    for _ in range(10):
        clocks.wait(60)
        downtime.record_failure(clocks.now())
    heard(clocks, downtime)
    clocks.wait(60)
    downtime.record_failure(clocks.now())
    found = [downtime.main_reason(NOON + at, NOON + at + 30) for at in (-60, 0, 570, 630, 661)]
    assert found == ["quota", "outage", "outage", "outage", "quota"]


@pytest.mark.parametrize("wrong", [0, 6_000, -6_000])
def test_a_poll_that_learned_the_time_failed_from_its_own_start(wrong):
    clocks = Clocks(wrong)
    downtime = begun(clocks)
    clocks.wait(60)
    heard(clocks, downtime)
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
    clocks = Clocks()
    if known:
        clocks.hear()
    downtime = begun(clocks)
    downtime.answer_received(clocks.now())
    downtime.poll_finished("outage", clocks.now(), answered=False)
    clocks.wait(600)
    downtime.record_failure(clocks.now())
    clocks.sleep(HOUR)
    clocks.wait(10)
    clocks.utc()  # a stream reads it once a minute
    clocks.wait(590)
    downtime.record_failure(clocks.now())
    heard(clocks, downtime)
    spans = [(0, 600), (610, 600 + HOUR), (620 + HOUR, 1_200 + HOUR), (1_201 + HOUR, 1_300 + HOUR)]
    found = [downtime.main_reason(NOON + start, NOON + end) for start, end in spans]
    assert found == ["outage", "asleep", "outage", "quota"]
