"""When the sessions of finished calls are asked for, and when they are given up: each rule on clocks set by hand."""

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


class Clocks:
    """Stands for the limiters and their time, which is set by hand; a request is available after `wait` seconds."""

    plan = PREMIUM

    def __init__(self) -> None:
        self.passed, self.begun, self.wait = 0.0, float(NOON), 0.0
        self.confirmed = True

    @property
    def time(self) -> Clocks:
        return self

    def monotonic(self) -> float:
        return self.passed

    def utc(self) -> float:
        return self.begun + self.passed

    async def forecast(self, requests: int, counter) -> Forecast:
        return Forecast(counter=counter.name, requests=requests, seconds=self.wait, at=None)


@attrs.define
class Kept:
    """Stands for a reserve that has so many requests."""

    requests: int = 10_000

    async def keep(self, rest: int, daily: int) -> Budget:
        return Budget(self.requests, 3_600.0)


class Reader:
    """Answers as `answer` says, and notes when it was asked about which call."""

    def __init__(self, clocks: Clocks, answer) -> None:
        self.clocks, self.answer = clocks, answer
        self.asked: list[tuple[float, str]] = []

    async def session_page(self, call_id: str, span, number: int) -> SessionPage:
        self.asked.append((self.clocks.passed, call_id))
        error = self.answer(call_id)
        if error is not None:
            raise error
        return SessionPage(sessions=(), has_more=False)


@attrs.define
class Asking:
    """What a stream does with details: a round every minute, and each event is noted."""

    tracker: CallTracker
    clocks: Clocks
    reader: Reader
    details: SessionFetcher
    kept: Kept = attrs.field(factory=Kept)

    async def round(self) -> list:
        events = []
        async for event in self.details.fetch_pending(self.tracker, self.kept, self.clocks.utc() + 60):
            self.tracker.apply(event)
            events.append(event)
        return events

    async def rounds(self, seconds: float) -> list:
        events, end = [], self.clocks.passed + seconds
        while self.clocks.passed < end:
            events += await self.round()
            self.clocks.passed += 60
        return events

    def gaps(self) -> list[float]:
        return [later - sooner for (sooner, _), (later, _) in pairwise(self.reader.asked)]


def asking(answer=lambda call_id: None, *calls: Call) -> Asking:
    """Owe the sessions of these calls, or of one that ended an hour ago, to a stream whose requests fail so."""
    clocks, tracker = Clocks(), CallTracker(NOON)
    reader = Reader(clocks, answer)
    details = SessionFetcher(reader, clocks)
    for call in calls or (ended("x"),):
        tracker.add_pending(call, details.available_at(call))
    return Asking(tracker, clocks, reader, details)


def ended(call_id: str, ago: float = HOUR, lasted: float = 600) -> Call:
    over = int(NOON - ago)
    return Call(call_id=call_id, created_ts=over - int(lasted), destroyed_ts=over, finished=True)


def refused(kind: str) -> PlanRefused:
    error = PlanRefused("no")
    error.kind = kind
    return error


FAULTS = [TransportError("broken"), ServerError("down", status=503), refused("latency")]
REFUSALS = [NotFound("no such call"), ServerError("unknown", status=200), refused("length")]


# Whose fault a failure is.


@pytest.mark.parametrize("error", REFUSALS, ids=repr)
async def test_a_call_refused_repeatedly_is_abandoned_even_if_it_is_the_only_one(error):
    alone = asking(lambda call_id: error)
    events = await alone.rounds(DAY)
    assert [type(event) for event in events] == [CallFinished, CallSessions]
    assert events[0].reason == "outage"
    assert events[1].reason == f"{type(error).__name__}: {error.args[0]}"
    assert len(alone.reader.asked) == 7
    assert not alone.tracker.pending


@pytest.mark.parametrize("error", REFUSALS, ids=repr)
async def test_a_second_refusal_abandons_a_call_if_another_succeeded(error):
    both = asking(lambda call_id: error if call_id == "bad" else None, ended("bad", 2 * HOUR), ended("good"))
    events = await both.rounds(HOUR)
    assert {event.call.call_id: event.sessions for event in events if event.reason != "outage"} == {
        "good": (),
        "bad": None,
    }
    assert [call_id for _, call_id in both.reader.asked] == ["bad", "good", "bad"]


@pytest.mark.parametrize("error", FAULTS, ids=repr)
async def test_a_fault_of_the_service_abandons_no_call(error):
    alone = asking(lambda call_id: error)
    events = await alone.rounds(3 * DAY)
    assert [event.reason for event in events] == ["outage"]
    assert len(alone.reader.asked) > 15
    assert list(alone.tracker.pending) == ["x"]


@pytest.mark.parametrize("error", FAULTS, ids=repr)
async def test_three_failures_abandon_a_call_if_others_succeed(error):
    calls = [ended(f"good {number}", HOUR - number * 60) for number in range(70)]  # each minute one more can be had
    many = asking(lambda call_id: error if call_id == "bad" else None, ended("bad", 2 * HOUR), *calls)
    events = await many.rounds(4 * HOUR)
    assert {event.call.call_id for event in events if event.sessions == ()} == {call.call_id for call in calls}
    assert [event.reason for event in events if event.sessions is None] == [
        "outage",
        f"{type(error).__name__}: {error.args[0]}",
    ]
    assert [call_id for _, call_id in many.reader.asked].count("bad") == 4


@pytest.mark.parametrize(
    ("ago", "confirmed", "reasons"),
    [(8 * DAY, True, ["expired"]), (8 * DAY, False, []), (6 * DAY, True, [])],
    ids=["too old", "too old by a clock in doubt", "not too old"],
)
async def test_a_refusal_as_expired_is_trusted_if_a_confirmed_clock_agrees(ago, confirmed, reasons):
    old = asking(lambda call_id: refused("range"), ended("x", ago))
    old.clocks.confirmed = confirmed
    old.tracker.pending["x"] = attrs.evolve(
        old.tracker.pending["x"], available_at=NOON
    )  # and not one whose end waits no more
    assert [event.reason for event in await old.round()] == reasons
    assert len(old.reader.asked) == 1


@pytest.mark.parametrize(
    ("ago", "proved", "reasons"),
    [(8, 7, ["expired"]), (8, 9, [""]), (2, 1, [""])],
    ids=["by both", "by the clock", "by the lists"],
)
async def test_a_call_is_expired_if_the_clock_and_the_lists_agree(ago, proved, reasons):
    old = asking(lambda call_id: None, ended("x", ago * DAY))
    old.details.oldest_accepted = NOON - proved * DAY
    assert [event.reason for event in await old.round()] == reasons
    assert len(old.reader.asked) == (reasons == [""])


# When to ask.


async def test_retries_for_a_call_back_off_up_to_six_hours():
    alone = asking(lambda call_id: FAULTS[0])
    await alone.rounds(3 * DAY)
    assert alone.gaps()[:12] == [60, 120, 240, 480, 960, 1_920, 3_840, 7_680, 15_360, 21_600, 21_600, 21_600]


async def test_after_thousands_of_failures_a_call_is_retried_in_six_hours():
    alone = asking(lambda call_id: FAULTS[0])
    alone.tracker.pending["x"] = attrs.evolve(alone.tracker.pending["x"], tries=5_000)
    await alone.rounds(12 * HOUR)
    assert alone.gaps() == [6 * HOUR]


async def test_retries_in_an_outage_back_off_until_one_succeeds():
    count = 0

    def but_the_eighth(call_id: str) -> AgoraError | None:
        nonlocal count
        count += 1
        return None if count == 8 else FAULTS[0]

    many = asking(but_the_eighth, *[ended(f"{number}") for number in range(40)])
    await many.rounds(HOUR)
    assert many.gaps()[:11] == [0, 60, 120, 240, 480, 900, 900, 0, 0, 60, 120]


async def test_a_call_is_requested_at_once_after_the_clock_was_set_back():
    ahead = asking(lambda call_id: FAULTS[0])
    ahead.clocks.begun += 30 * DAY
    await ahead.round()
    ahead.clocks.begun -= 30 * DAY
    await ahead.round()
    assert len(ahead.reader.asked) == 2


@pytest.mark.parametrize(
    ("ahead", "confirmed", "reasons"),
    [(30, True, ["its end lies in the future"]), (30, False, []), (20, True, [])],
    ids=["far", "far by a clock in doubt", "near"],
)
async def test_a_call_that_ends_days_ahead_is_abandoned_without_a_request(ahead, confirmed, reasons):
    future = asking(lambda call_id: None, ended("x", -ahead * HOUR, 50 * HOUR))
    future.clocks.confirmed = confirmed
    assert [event.reason for event in await future.round()] == reasons
    assert future.reader.asked == []


@pytest.mark.parametrize("times", [(None, NOON - HOUR), (0, NOON - HOUR), (NOON - HOUR, None)])
async def test_a_call_without_a_start_or_an_end_is_not_requested(times):
    call = Call(call_id="x", created_ts=times[0], destroyed_ts=times[1], finished=True)
    odd = asking(lambda call_id: None, call)
    assert [event.reason for event in await odd.round()] == ["it has no start or no end"]
    assert odd.reader.asked == []


async def test_the_end_of_a_call_waits_five_minutes_for_available_sessions():
    fresh = asking(lambda call_id: FAULTS[0], ended("x", 0))
    assert await fresh.rounds(480) == []  # they could be had after 152 seconds
    assert [event.reason for event in await fresh.round()] == ["outage"]


async def test_details_pause_after_a_minute_for_the_next_poll():
    def slow(call_id: str) -> None:
        many.clocks.passed += 40

    many = asking(slow, *[ended(f"{number}") for number in range(5)])
    told = [[event.call.call_id for event in await many.round()] for _ in range(3)]
    assert told == [["0", "1"], ["2", "3"], ["4"]]


# How many are waited for.


@pytest.mark.parametrize(("wait", "reasons"), [(4.0, [""]), (6.0, ["quota"])])
async def test_a_permit_that_is_available_in_a_moment_is_waited_for(wait, reasons):
    one = asking()
    one.clocks.wait = wait
    assert [event.reason for event in await one.round()] == reasons
    assert len(one.reader.asked) == (reasons == [""])


async def test_beyond_a_thousand_late_sessions_the_oldest_calls_get_none():
    many = asking()
    ages = [(number * 37) % 1_003 for number in range(1_003)]  # in no order
    many.tracker.pending = {
        f"{age}": PendingSessions(call=ended(f"{age}", HOUR + age), end_reported=True, next_at=NOON - age)
        for age in ages
    }
    many.tracker.add_pending(ended("not told", 0), NOON)
    many.kept.requests = 200 + 1  # beside those that are left to people
    events = await many.round()
    assert [(type(event), event.call.call_id, event.sessions, event.reason) for event in events] == [
        (CallFinished, "not told", (), ""),
        *[(CallSessions, f"{age}", None, "quota") for age in (1_002, 1_001, 1_000)],
    ]
    assert [call_id for _, call_id in many.reader.asked] == ["not told"]
    assert len(many.tracker.pending) == 1_000


@pytest.mark.parametrize("call_id", ["", " "])
async def test_a_call_with_an_unusable_id_is_abandoned_without_a_request(call_id):
    one = asking(lambda _: None, ended(call_id))
    assert [event.reason for event in await one.round()] == ["its id cannot be queried"]
    assert one.reader.asked == []
