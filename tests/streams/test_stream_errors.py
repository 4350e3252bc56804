"""Which errors end a stream and which it retries; and each request is for spans that are queryable when it is sent."""

from __future__ import annotations

import asyncio

import pytest
from helpers.ledgers import FailingLedger
from helpers.streaming import (
    CHANNELS,
    DAY,
    FREEZES,
    HOUR,
    NOON,
    USERS,
    WEB,
    CountingTransport,
    collect,
    consume_for,
    consuming,
    elapsed,
    gaps_since_noon,
    is_contiguous,
    of_type,
    requested_spans,
    simulated,
)

from agora_analytics import (
    BadRequest,
    CallFinished,
    CallStarted,
    CheckpointError,
    Gap,
    LedgerError,
    MemoryCheckpoints,
    NotFound,
    PlanRefused,
    Revision,
    Unauthorized,
    Window,
)
from agora_analytics.simulator import Fault, Faults

NO_ACCESS = Fault("refusal", code=300, message="you have no auth to access this service")
DAY_SPENT = Fault("refusal", code=300, message="Service package limit check error, qpd limit error, qpd limit = 100000")
FATAL_AT_START = {
    "wrong metric": (Fault("refusal", code=400), BadRequest),
    "HTTP 400": (Fault("status", status=400), BadRequest),
    "HTTP 404": (Fault("status", status=404), NotFound),
    "body 404": (Fault("refusal", code=404), NotFound),
    "no access": (NO_ACCESS, PlanRefused),
    "HTTP 401": (Fault("status", status=401), Unauthorized),
    "HTTP 403": (Fault("status", status=403), Unauthorized),
}
RETRIED = {
    "wrong metric": (Fault("refusal", code=400), "refused"),
    "HTTP 404": (Fault("status", status=404), "refused"),
    "no access": (NO_ACCESS, "refused"),
    "HTTP 500": (Fault("status", status=500), "outage"),
    "HTML": (Fault("html"), "outage"),
    "garbage": (Fault("garbage"), "outage"),
    "refused": (Fault("refused"), "outage"),
    "slow": (Fault("slow", seconds=90), "outage"),
    "429": (Fault("busy", retry_after=5), "waiting for quota"),
    "day spent": (DAY_SPENT, "waiting for quota"),
}
ONE_PER_KIND = ("wrong metric", "no access", "HTML", "refused", "429", "day spent")


def stream_of(client, kind: str, **options):
    return client.realtime.watch(USERS, **options) if kind == "watch" else client.calls.follow(every=300, **options)


@pytest.mark.parametrize("kind", ["watch", "follow"])
@pytest.mark.parametrize(("fault", "error"), FATAL_AT_START.values(), ids=FATAL_AT_START)
async def test_an_error_at_the_first_poll_is_raised_at_once(kind, fault, error):
    simulation = simulated(faults=Faults.always(fault))
    transport = CountingTransport(simulation)
    async with simulation.client(transport=transport) as client:
        stream = stream_of(client, kind)
        with pytest.raises(error):
            await asyncio.wait_for(collect(stream), DAY)
        assert stream.health.state == "stopped"
    # HTTP 400 comes from a gateway, without a `Date`: the span may be wrong, so the stream tries for a while.
    assert elapsed() < (1_000 if fault == Fault("status", status=400) else 60)
    assert len(transport.sent) <= 12


async def test_a_ledger_error_at_the_first_poll_is_raised_at_once():
    simulation = simulated()
    async with simulation.client(ledger=FailingLedger(0, DAY)) as client:
        for kind in ("watch", "follow"):
            with pytest.raises(LedgerError):
                await asyncio.wait_for(collect(stream_of(client, kind)), DAY)


@pytest.mark.slow_except("HTML", "429")
@pytest.mark.parametrize(("fault", "state"), RETRIED.values(), ids=RETRIED)
async def test_a_watch_that_has_worked_retries_for_two_days(fault, state):
    # The outage ends at midnight: after a refusal for the day, a stream waits until then.
    simulation = simulated(faults=Faults.outage(NOON + 3_600, NOON + 5 * DAY // 2, fault))
    transport = CountingTransport(simulation)
    async with simulation.client(transport=transport) as client:
        watch = client.realtime.watch(USERS, start=NOON)
        async with consuming(watch) as events:
            await asyncio.sleep(DAY)
            assert watch.health.state == state
            assert watch.health.last_error or state == "waiting for quota"
            await asyncio.sleep(3 * DAY // 2 + 2 * HOUR)
            assert watch.health.state == "polling"
            assert (watch.health.failures, watch.health.last_error) == (0, "")
    assert is_contiguous(events, NOON)
    assert events[-1].ts > NOON + elapsed() - HOUR / 2  # the outage left enough quota for the rest of the day
    assert [reason for *_, reason in gaps_since_noon(events)] == ["quota" if state == "waiting for quota" else "outage"]
    assert_bounded(transport)


@pytest.mark.slow_except("no access", "429")
@pytest.mark.parametrize(("fault", "state"), [RETRIED[name] for name in ONE_PER_KIND], ids=ONE_PER_KIND)
async def test_a_follow_that_has_worked_retries_for_two_days(fault, state):
    simulation = simulated(faults=Faults.outage(NOON + 3_600, NOON + 3_600 + 2 * DAY, fault))
    transport = CountingTransport(simulation)
    async with simulation.client(transport=transport) as client:
        follow = client.calls.follow(start=NOON, every=300)
        async with consuming(follow) as events:
            await asyncio.sleep(DAY)
            assert follow.health.state == state
            await asyncio.sleep(2 * DAY)
            assert follow.health.state == "polling"
    calls = simulation.world.calls(NOON, NOON + int(elapsed()) - HOUR)
    started = [event.call.call_id for event in of_type(CallStarted, events)]
    finished = [event.call.call_id for event in of_type(CallFinished, events)]
    assert len(started) == len(set(started))
    assert len(finished) == len(set(finished))
    assert {call.call_id for call in calls} <= set(started)
    assert {call.call_id for call in calls if call.destroyed < NOON + elapsed() - HOUR} <= set(finished)
    assert of_type(Gap, events) == []  # the retention of call lists is a week
    assert_bounded(transport)


def assert_bounded(transport: CountingTransport) -> None:
    """Check that retries back off: a day of failures costs hardly more requests than a normal day."""
    assert transport.sent_between(12 * HOUR, DAY + 12 * HOUR) <= 3_000
    assert transport.sent_between(6 * HOUR, 7 * HOUR) < 2 * transport.sent_between(3_600, 3_600 + 1_800)


@pytest.mark.slow_except("follow")
@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_later_ledger_error_is_retried(kind):
    simulation = simulated()
    async with simulation.client(ledger=FailingLedger(4_000, 4_000 + DAY)) as client:
        stream = stream_of(client, kind, start=NOON)
        async with consuming(stream) as events:
            await asyncio.sleep(DAY // 2)
            assert stream.health.state == "outage"
            assert "disk" in stream.health.last_error
            await asyncio.sleep(DAY)
            assert stream.health.state == "polling"
    if kind == "watch":
        assert is_contiguous(events, NOON)
        assert events[-1].ts > NOON + elapsed() - HOUR
    else:
        calls = simulation.world.calls(NOON, NOON + int(elapsed()) - HOUR)
        assert {call.call_id for call in calls} <= {event.call.call_id for event in of_type(CallStarted, events)}


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_stream_with_a_failing_ledger_can_be_stopped(kind):
    simulation = simulated()
    async with simulation.client(ledger=FailingLedger(4_000, DAY)) as client:
        stream = stream_of(client, kind, start=NOON)
        assert await consume_for(stream, 3 * HOUR)
        assert stream.health.state == "stopped"


@pytest.mark.parametrize("kind", ["watch", "follow"])
@pytest.mark.parametrize("status", [401, 403])
async def test_credentials_refused_for_less_than_an_hour_are_retried(kind, status):
    simulation = simulated(faults=Faults.outage(NOON + 600, NOON + 4_100, Fault("status", status=status)))
    async with simulation.client() as client:
        stream = stream_of(client, kind, start=NOON)
        async with consuming(stream) as events:
            await asyncio.sleep(3_000)
            assert stream.health.state == "refused"
            await asyncio.sleep(5_000)
            assert stream.health.state == "polling"
    assert events


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_credentials_refused_for_an_hour_end_the_stream(kind):
    simulation = simulated(faults=Faults.outage(NOON + 600, NOON + DAY, Fault("status", status=401)))
    async with simulation.client() as client:
        with pytest.raises(Unauthorized):
            await asyncio.wait_for(collect(stream_of(client, kind, start=NOON)), DAY)
    assert 4_200 <= elapsed() <= 4_200 + 1_200


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_checkpoint_that_cannot_be_saved_ends_the_stream(kind):
    class Full(MemoryCheckpoints):
        async def save(self, name, checkpoint, epoch):
            if elapsed() > 3_000:
                raise CheckpointError("no space left")
            await super().save(name, checkpoint, epoch)

    simulation = simulated()
    async with simulation.client(checkpoints=Full()) as client:
        stream = stream_of(client, kind, checkpoint="prod")
        with pytest.raises(CheckpointError, match="no space"):
            await asyncio.wait_for(collect(stream), DAY)
        assert 3_000 < elapsed() < 3_000 + HOUR
        assert stream.health.state == "stopped"


@pytest.mark.slow_except("fault0")
@pytest.mark.parametrize("fault", [Fault("refusal", code=400), NO_ACCESS, Fault("status", status=500)])
async def test_one_bad_series_of_three_does_not_stop_the_others(fault):
    faults = Faults.outage(NOON + 600, NOON + DAY, fault).only(metric="videoFreezeRate")
    simulation = simulated(faults=faults)
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, FREEZES, CHANNELS, start=NOON)
        async with consuming(watch) as events:
            await asyncio.sleep(4 * HOUR)
            assert watch.health.failures > 0
            assert "videoFreezeRate" in watch.health.last_error
            assert watch.health.lag < 1_500  # the others do not wait for it until the windows expire
            simulation.faults = Faults()
            await asyncio.sleep(HOUR)
    assert is_contiguous(events, NOON)
    windows = of_type(Window, events)
    assert windows[-1].ts > NOON + 4 * HOUR
    revisions = of_type(Revision, events)
    assert len(revisions) + len(windows) == len(events)
    assert {event.series for event in revisions} <= {FREEZES}
    if fault is not NO_ACCESS:  # the client believes this answer for an hour, longer than the retention
        queryable = {window.ts for window in windows if window.missing and window.ts > NOON + 4 * HOUR - 1_500}
        assert queryable
        assert queryable <= {event.ts for event in revisions}
    for window in windows:
        assert window.value(USERS) == simulation.world.users("Native", window.ts, None)[""]
        assert window.value(CHANNELS) == simulation.world.channels("WebRTC", window.ts)
        assert set(window.missing) <= {FREEZES}


def quota_spent_for_22_hours(simulation):
    simulation.clock.suspend(-10 * HOUR)  # 02:00
    asyncio.get_running_loop().call_later(3_000, simulation.service.spend, "realtime", 480)
    asyncio.get_running_loop().call_later(3_000, simulation.service.spend, "call_lists", 100_000)


def half_of_the_requests_fail(simulation):
    simulation.faults = Faults.chance(0.5, [Fault("status", status=503), Fault("reset"), Fault("slow", seconds=90)])


def three_outages(simulation):
    for hour, minutes in ((1, 39), (3, 70), (6, 480)):
        start = NOON + hour * HOUR
        simulation.faults += Faults.outage(start, start + minutes * 60)


def asleep_for(minutes: int):
    def scenario(simulation):
        asyncio.get_running_loop().call_later(5_000, simulation.clock.suspend, minutes * 60)

    scenario.__name__ = f"asleep_for_{minutes}_minutes"
    return scenario


SCENARIOS = [quota_spent_for_22_hours, half_of_the_requests_fail, three_outages, *map(asleep_for, (39, 45, 70, 480))]


@pytest.mark.slow_except(
    "asleep_for_45_minutes-watch",
    "half_of_the_requests_fail-follow",
    "three_outages-follow",
    "quota_spent_for_22_hours-watch",
)
@pytest.mark.parametrize("kind", ["watch", "follow"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_each_request_is_for_a_span_that_is_available_when_it_is_sent(scenario, kind):
    # Call lists with a retention of hours, as short as that of windows: expired requests show within the test.
    simulation = simulated()
    plan = simulation.service.plan.with_limits("call_lists", retention=2 * HOUR, longest=HOUR)
    simulation.service.plan = plan
    scenario(simulation)
    hours = 8 if scenario.__name__.startswith("asleep") else 25
    start = int(simulation.clock())
    async with simulation.client(plan=plan) as client:
        events = await consume_for(stream_of(client, kind, start=start), hours * HOUR)
    limits = plan.limits["realtime" if kind == "watch" else "call_lists"]
    out_of_range = [
        (at - NOON, at - start, at - end)
        for at, start, end in requested_spans(simulation)
        if not (start > at - limits.retention and end < at - limits.delay and end > start)
    ]
    # A machine that slept learns the time from the first answer only.
    assert len(out_of_range) <= (1 if scenario.__name__.startswith("asleep") else 0)
    assert set(simulation.service.refusals) <= {"qpd", "range"}
    assert simulation.service.refusals.get("range", 0) == len(out_of_range)
    if kind == "watch":
        assert is_contiguous(events, start)
        assert events[-1].span.end > simulation.clock() - 1_000


async def test_a_stream_without_access_does_not_affect_another():
    simulation = simulated(faults=Faults.outage(NOON + 600, NOON + DAY, NO_ACCESS).only("realtime_quality"))
    async with simulation.client() as client, consuming(client.realtime.watch(FREEZES, start=NOON)) as denied:
        allowed = await consume_for(client.realtime.watch(WEB, start=NOON), 2 * HOUR)
    assert len(of_type(Window, allowed)) > 340
    assert len(of_type(Window, denied)) < 40
