"""When the sessions of finished calls are requested, retried and abandoned: each rule with a clock set by hand."""

from __future__ import annotations

from itertools import pairwise

import attrs
import pytest
from helpers.streaming import DAY, HOUR, NOON

from agora_analytics import Call, CallFinished, CallSessions
from agora_analytics.errors import AgoraError, NotFound, PlanRefused, ServerError, TransportError
from agora_analytics.models import SessionPage
from agora_analytics.plans import PREMIUM
from agora_analytics.quota import Budget, Forecast
from agora_analytics.streams.follow.call_tracker import CallTracker, PendingSessions
from agora_analytics.streams.follow.sessions import SessionFetcher


class FakeLimiters:
    """Stands for the limiters: a clock set by hand, and a permit after `wait` seconds."""

    plan = PREMIUM

    def __init__(self) -> None:
        self.elapsed, self.started_at, self.wait = 0.0, float(NOON), 0.0
        self.confirmed = True

    @property
    def time(self) -> FakeLimiters:
        return self

    def monotonic(self) -> float:
        return self.elapsed

    def utc(self) -> float:
        return self.started_at + self.elapsed

    async def forecast(self, requests: int, counter) -> Forecast:
        return Forecast(counter=counter.name, requests=requests, seconds=self.wait, at=None)


@attrs.define
class FakeReserve:
    """Stands for a reservation that has so many requests left."""

    requests: int = 10_000

    async def keep(self, rest: int, daily: int) -> Budget:
        return Budget(self.requests, 3_600.0)


class FakeReader:
    """Raises what `error_for` returns for a call, if anything; records when each call is requested."""

    def __init__(self, limiters: FakeLimiters, error_for) -> None:
        self.limiters, self.error_for = limiters, error_for
        self.requests: list[tuple[float, str]] = []

    async def session_page(self, call_id: str, span, number: int) -> SessionPage:
        self.requests.append((self.limiters.elapsed, call_id))
        error = self.error_for(call_id)
        if error is not None:
            raise error
        return SessionPage(sessions=(), has_more=False)


@attrs.define
class Follower:
    """Fetches sessions as a follow does: at a poll every minute, with its events applied to the tracker."""

    tracker: CallTracker
    limiters: FakeLimiters
    reader: FakeReader
    fetcher: SessionFetcher
    reserve: FakeReserve = attrs.field(factory=FakeReserve)

    async def poll(self) -> list:
        events = []
        async for event in self.fetcher.fetch_pending(self.tracker, self.reserve, self.limiters.utc() + 60):
            self.tracker.apply(event)
            events.append(event)
        return events

    async def poll_for(self, seconds: float) -> list:
        events, end = [], self.limiters.elapsed + seconds
        while self.limiters.elapsed < end:
            events += await self.poll()
            self.limiters.elapsed += 60
        return events

    def pauses(self) -> list[float]:
        """Return the seconds between requests."""
        return [after - before for (before, _), (after, _) in pairwise(self.reader.requests)]


def follower(error_for=lambda call_id: None, *calls: Call) -> Follower:
    """Return a follow with pending sessions of these calls, or of one that ended an hour ago."""
    limiters, tracker = FakeLimiters(), CallTracker(NOON)
    reader = FakeReader(limiters, error_for)
    fetcher = SessionFetcher(reader, limiters)
    for call in calls or (ended_call("x"),):
        tracker.add_pending(call, fetcher.queryable_at(call))
    return Follower(tracker, limiters, reader, fetcher)


def ended_call(call_id: str, ago: float = HOUR, lasted: float = 600) -> Call:
    over = int(NOON - ago)
    return Call(call_id=call_id, created_ts=over - int(lasted), destroyed_ts=over, finished=True)


def refused(kind: str) -> PlanRefused:
    error = PlanRefused("no")
    error.kind = kind
    return error


SERVICE_ERRORS = [TransportError("broken"), ServerError("down", status=503), refused("latency")]
CALL_REFUSALS = [NotFound("no such call"), ServerError("unknown", status=200), refused("length")]


# Errors of one call and errors of the service.


@pytest.mark.parametrize("error", CALL_REFUSALS, ids=repr)
async def test_a_call_refused_repeatedly_is_abandoned_even_if_it_is_the_only_one(error):
    follow = follower(lambda call_id: error)
    events = await follow.poll_for(DAY)
    assert [type(event) for event in events] == [CallFinished, CallSessions]
    assert events[0].reason == "outage"
    assert events[1].reason == f"{type(error).__name__}: {error.args[0]}"
    assert len(follow.reader.requests) == 7
    assert not follow.tracker.pending


@pytest.mark.parametrize("error", CALL_REFUSALS, ids=repr)
async def test_a_second_refusal_abandons_a_call_if_another_succeeded(error):
    calls = ended_call("bad", 2 * HOUR), ended_call("good")
    follow = follower(lambda call_id: error if call_id == "bad" else None, *calls)
    events = await follow.poll_for(HOUR)
    assert {event.call.call_id: event.sessions for event in events if event.reason != "outage"} == {
        "good": (),
        "bad": None,
    }
    assert [call_id for _, call_id in follow.reader.requests] == ["bad", "good", "bad"]


@pytest.mark.parametrize("error", SERVICE_ERRORS, ids=repr)
async def test_a_fault_of_the_service_abandons_no_call(error):
    follow = follower(lambda call_id: error)
    events = await follow.poll_for(3 * DAY)
    assert [event.reason for event in events] == ["outage"]
    assert len(follow.reader.requests) > 15
    assert list(follow.tracker.pending) == ["x"]


@pytest.mark.parametrize("error", SERVICE_ERRORS, ids=repr)
async def test_three_failures_abandon_a_call_if_others_succeed(error):
    # Each minute, the sessions of one more call become queryable.
    calls = [ended_call(f"good {number}", HOUR - number * 60) for number in range(70)]
    follow = follower(lambda call_id: error if call_id == "bad" else None, ended_call("bad", 2 * HOUR), *calls)
    events = await follow.poll_for(4 * HOUR)
    assert {event.call.call_id for event in events if event.sessions == ()} == {call.call_id for call in calls}
    assert [event.reason for event in events if event.sessions is None] == [
        "outage",
        f"{type(error).__name__}: {error.args[0]}",
    ]
    assert [call_id for _, call_id in follow.reader.requests].count("bad") == 4


@pytest.mark.parametrize(
    ("ago", "confirmed", "reasons"),
    [(8 * DAY, True, ["expired"]), (8 * DAY, False, []), (6 * DAY, True, [])],
    ids=["expired", "expired by an unconfirmed clock", "not expired"],
)
async def test_a_refusal_as_expired_is_trusted_if_a_confirmed_clock_agrees(ago, confirmed, reasons):
    follow = follower(lambda call_id: refused("range"), ended_call("x", ago))
    follow.limiters.confirmed = confirmed
    # The end of the call still waits for its sessions.
    follow.tracker.pending["x"] = attrs.evolve(follow.tracker.pending["x"], queryable_at=NOON)
    assert [event.reason for event in await follow.poll()] == reasons
    assert len(follow.reader.requests) == 1


@pytest.mark.parametrize(
    ("ago", "accepted", "reasons"),
    [(8, 7, ["expired"]), (8, 9, [""]), (2, 1, [""])],
    ids=["by both", "by the clock only", "by the lists only"],
)
async def test_a_call_is_expired_if_the_clock_and_the_lists_agree(ago, accepted, reasons):
    follow = follower(lambda call_id: None, ended_call("x", ago * DAY))
    follow.fetcher.oldest_accepted = NOON - accepted * DAY
    assert [event.reason for event in await follow.poll()] == reasons
    assert len(follow.reader.requests) == (reasons == [""])


# When to retry.


async def test_retries_for_a_call_back_off_up_to_six_hours():
    follow = follower(lambda call_id: SERVICE_ERRORS[0])
    await follow.poll_for(3 * DAY)
    assert follow.pauses()[:12] == [60, 120, 240, 480, 960, 1_920, 3_840, 7_680, 15_360, 21_600, 21_600, 21_600]


async def test_after_thousands_of_failures_a_call_is_retried_in_six_hours():
    follow = follower(lambda call_id: SERVICE_ERRORS[0])
    follow.tracker.pending["x"] = attrs.evolve(follow.tracker.pending["x"], tries=5_000)
    await follow.poll_for(12 * HOUR)
    assert follow.pauses() == [6 * HOUR]


async def test_retries_in_an_outage_back_off_until_one_succeeds():
    count = 0

    def eighth_succeeds(call_id: str) -> AgoraError | None:
        nonlocal count
        count += 1
        return None if count == 8 else SERVICE_ERRORS[0]

    follow = follower(eighth_succeeds, *[ended_call(f"{number}") for number in range(40)])
    await follow.poll_for(HOUR)
    assert follow.pauses()[:11] == [0, 60, 120, 240, 480, 900, 900, 0, 0, 60, 120]


async def test_a_call_is_requested_at_once_after_the_clock_was_set_back():
    follow = follower(lambda call_id: SERVICE_ERRORS[0])
    follow.limiters.started_at += 30 * DAY
    await follow.poll()
    follow.limiters.started_at -= 30 * DAY
    await follow.poll()
    assert len(follow.reader.requests) == 2


@pytest.mark.parametrize(
    ("ahead", "confirmed", "reasons"),
    [(30, True, ["its end lies in the future"]), (30, False, []), (20, True, [])],
    ids=["far", "far by an unconfirmed clock", "near"],
)
async def test_a_call_that_ends_days_ahead_is_abandoned_without_a_request(ahead, confirmed, reasons):
    follow = follower(lambda call_id: None, ended_call("x", -ahead * HOUR, 50 * HOUR))
    follow.limiters.confirmed = confirmed
    assert [event.reason for event in await follow.poll()] == reasons
    assert follow.reader.requests == []


@pytest.mark.parametrize("times", [(None, NOON - HOUR), (0, NOON - HOUR), (NOON - HOUR, None)])
async def test_a_call_without_a_start_or_an_end_is_not_requested(times):
    call = Call(call_id="x", created_ts=times[0], destroyed_ts=times[1], finished=True)
    follow = follower(lambda call_id: None, call)
    assert [event.reason for event in await follow.poll()] == ["it has no start or no end"]
    assert follow.reader.requests == []


async def test_the_end_of_a_call_waits_five_minutes_for_available_sessions():
    follow = follower(lambda call_id: SERVICE_ERRORS[0], ended_call("x", 0))
    assert await follow.poll_for(480) == []  # the sessions are queryable after 152 s
    assert [event.reason for event in await follow.poll()] == ["outage"]


async def test_fetching_sessions_pauses_after_a_minute_for_the_next_poll():
    def slow(call_id: str) -> None:
        follow.limiters.elapsed += 40

    follow = follower(slow, *[ended_call(f"{number}") for number in range(5)])
    reported = [[event.call.call_id for event in await follow.poll()] for _ in range(3)]
    assert reported == [["0", "1"], ["2", "3"], ["4"]]


# Permits, and the limit of pending calls.


@pytest.mark.parametrize(("wait", "reasons"), [(4.0, [""]), (6.0, ["quota"])])
async def test_a_permit_that_is_available_in_a_moment_is_waited_for(wait, reasons):
    follow = follower()
    follow.limiters.wait = wait
    assert [event.reason for event in await follow.poll()] == reasons
    assert len(follow.reader.requests) == (reasons == [""])


async def test_beyond_a_thousand_late_sessions_the_oldest_calls_get_none():
    follow = follower()
    ages = [(number * 37) % 1_003 for number in range(1_003)]  # in no order
    follow.tracker.pending = {
        f"{age}": PendingSessions(call=ended_call(f"{age}", HOUR + age), end_reported=True, next_at=NOON - age)
        for age in ages
    }
    follow.tracker.add_pending(ended_call("no end reported", 0), NOON)
    follow.reserve.requests = 200 + 1  # 200 are left to interactive requests
    events = await follow.poll()
    assert [(type(event), event.call.call_id, event.sessions, event.reason) for event in events] == [
        (CallFinished, "no end reported", (), ""),
        *[(CallSessions, f"{age}", None, "quota") for age in (1_002, 1_001, 1_000)],
    ]
    assert [call_id for _, call_id in follow.reader.requests] == ["no end reported"]
    assert len(follow.tracker.pending) == 1_000


@pytest.mark.parametrize("call_id", ["", " "])
async def test_a_call_with_an_unusable_id_is_abandoned_without_a_request(call_id):
    follow = follower(lambda _: None, ended_call(call_id))
    assert [event.reason for event in await follow.poll()] == ["its id cannot be queried"]
    assert follow.reader.requests == []
