"""The health of a stream, as liveness probes and logs see it: polling, waiting for whom and until when, or failing."""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from helpers.streaming import BUSY, DAY, FREEZES, HOUR, MIDNIGHT, NOON, USERS, consuming, of_type, simulated
from helpers.wrong_dates import Tampering

from agora_analytics import CallStarted, Checkpoint, Health, MemoryCheckpoints, Window, broadcast
from agora_analytics.plans import PREMIUM
from agora_analytics.simulator import Fault, Faults

NEXT_MIDNIGHT = MIDNIGHT + DAY


def is_healthy(health: Health, now: float) -> bool:
    """Whether a liveness probe should leave the process running."""
    if health.state == "waiting for quota":
        return health.until is not None and health.until > now - 60
    return health.state == "polling" and (health.lag is None or health.lag < 900)


def state_changes(caplog) -> list[str]:
    """Return the warnings of streams: one when a state gets worse, one when it recovers."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "agora_analytics.streams" and record.levelno >= logging.WARNING
    ]


async def test_a_new_stream_is_polling():
    async with simulated().client() as client:
        watch = client.realtime.watch(USERS)
        assert watch.health == Health()
        assert str(watch.health) == "polling"
        await watch.aclose()
        assert watch.health.state == "stopped"
        assert is_healthy(Health(), NOON)


class SlowCheckpoints(MemoryCheckpoints):
    async def load(self, name: str) -> Checkpoint | None:
        await asyncio.sleep(60)
        return await super().load(name)


async def test_health_is_readable_in_another_thread_before_the_first_checkpoint_is_loaded():
    async with simulated().client(checkpoints=SlowCheckpoints()) as client:
        watch = client.realtime.watch(USERS, checkpoint="name")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(watch), 1)
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(lambda: watch.health.state).result() == "polling"
        await watch.aclose()


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "broadcast"])
async def test_a_slow_consumer_is_reported_after_a_minute(shared):
    simulation = simulated()
    async with (
        simulation.client() as client,
        client.realtime.watch(USERS, start=timedelta(minutes=20)) as watch,
        broadcast(watch, size=1) if shared else nullcontext() as hub,
    ):
        events = hub.subscribe() if hub else watch
        first = await anext(events), await anext(events)
        await asyncio.sleep(50)
        assert watch.health.state == "polling"
        blocked_since = simulation.clock() - 50
        await asyncio.sleep(HOUR)
        assert (watch.health.state, watch.health.lag > HOUR) == ("waiting for consumer", True)
        assert watch.health.since == pytest.approx(blocked_since, abs=3)
        following = await anext(events)
        await asyncio.sleep(1)
        assert (following.ts, watch.health.state) == (first[-1].ts + 20, "polling")
        await asyncio.sleep(HOUR)
        watch.stop()
        assert watch.health.state == "waiting for consumer"
    assert watch.health.state == "stopped"


async def test_health_has_the_age_of_the_windows_and_the_quota_left():
    simulation = simulated()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS)
        async with consuming(watch) as events:
            await asyncio.sleep(HOUR)
            health, now = watch.health, simulation.clock()
            assert (health.state, health.until, health.failures, health.last_error) == ("polling", None, 0, "")
            assert health.last_window == events[-1].ts
            assert health.lag == pytest.approx(now - events[-1].ts - 20, abs=3)
            assert 400 < health.requests_left <= 480 - len(simulation.service.log) + 10
            assert is_healthy(health, now)
        ended = watch.health
    assert (ended.state, ended.until) == ("stopped", None)
    assert ended.since == pytest.approx(simulation.clock(), abs=3)
    assert str(ended).startswith("stopped since 2026-11-24T12:59:59")


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_the_lag_of_an_ended_stream_no_longer_changes(kind):
    async with simulated().client() as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow()
        async with consuming(stream):
            await asyncio.sleep(HOUR)
        final = stream.health
        await asyncio.sleep(HOUR)
        assert stream.health == final
        assert 0 < final.lag < 900


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_waiting_for_quota_has_an_end_and_two_log_records(kind, caplog):
    simulation = simulated(PREMIUM.with_limits("call_lists", per_day=480))
    async with simulation.client() as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow(start=NOON, every=300)
        counter = "realtime" if kind == "watch" else "call_lists"
        asyncio.get_running_loop().call_later(1_000, simulation.service.spend, counter, 480)
        async with consuming(stream) as events:
            await asyncio.sleep(6 * HOUR)
            health, now = stream.health, simulation.clock()
            assert health.state == "waiting for quota"
            assert NOON + 1_000 < health.since < NOON + 2_000
            assert health.until == pytest.approx(NEXT_MIDNIGHT, abs=30)
            assert str(health) == f"waiting for quota until {iso_time(health.until)}"
            assert (health.failures, health.requests_left) == (0, 0)
            assert is_healthy(health, now)
            (warning,) = state_changes(caplog)
            assert "waits for quota until 2026-11-25T00:00" in warning
            before = len(events)
            await asyncio.sleep(7 * HOUR)
            assert stream.health.state == "polling"
            assert stream.health.until is None
            assert len(events) > before
    _, better = state_changes(caplog)
    assert "resumes after waiting for quota for" in better


@pytest.mark.slow_except(
    "fault0-outage-HTTP 502-watch", "fault1-outage-connection refused-follow", "fault2-refused-no such metric-follow"
)
@pytest.mark.parametrize("kind", ["watch", "follow"])
@pytest.mark.parametrize(
    ("fault", "state", "message"),
    [
        (Fault("html"), "outage", "HTTP 502"),
        (Fault("refused"), "outage", "connection refused"),
        (Fault("refusal", code=400, message="no such metric"), "refused", "no such metric"),
        (Fault("status", status=404), "refused", "HTTP 404"),
    ],
)
async def test_a_failure_has_its_last_error_and_two_log_records(kind, fault, state, message, caplog):
    simulation = simulated(faults=Faults.outage(NOON + 1_000, NOON + 10 * HOUR, fault))
    async with simulation.client() as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow(start=NOON, every=300)
        async with consuming(stream) as events:
            failures = []
            for _ in range(3):
                await asyncio.sleep(3 * HOUR)
                health, now = stream.health, simulation.clock()
                failures.append(health.failures)
                assert health.state == state
                assert NOON + 1_000 <= health.since < NOON + 2_000
                assert health.until is None
                assert message in health.last_error
                assert str(health) == f"{state} since {iso_time(health.since)}: {health.last_error}"
                assert health.lag > now - NOON - 2_000
                assert not is_healthy(health, now)
                assert len(state_changes(caplog)) == 1
            assert failures == sorted(set(failures))
            before = len(events)
            await asyncio.sleep(2 * HOUR)
            assert (stream.health.state, stream.health.failures, stream.health.last_error) == ("polling", 0, "")
            assert stream.health.since >= NOON + 10 * HOUR
            assert len(events) > before
            assert is_healthy(stream.health, simulation.clock())
    worse, better = state_changes(caplog)
    assert f"{state}, will retry and backfill" in worse
    assert message in worse
    assert f"s ({state})" in better


@pytest.mark.slow
async def test_two_outages_are_four_log_records(caplog):
    simulation = simulated(
        faults=Faults.outage(NOON + HOUR, NOON + 5 * HOUR) + Faults.outage(NOON + 8 * HOUR, NOON + 20 * HOUR)
    )
    async with simulation.client() as client, consuming(client.realtime.watch(USERS)):
        await asyncio.sleep(DAY)
    assert len(state_changes(caplog)) == 4


async def test_a_stream_stopped_while_waiting_logs_no_recovery(caplog):
    simulation = simulated()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS)
        async with consuming(watch):
            simulation.service.spend("realtime", 480)
            await asyncio.sleep(HOUR)
            assert watch.health.state == "waiting for quota"
    assert watch.health.state == "stopped"
    assert len(state_changes(caplog)) == 1


async def test_a_single_failure_changes_health_for_one_poll(caplog):
    simulation = simulated()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS)
        simulation.faults = Faults.script([None] * 10 + [Fault("status", status=503)] * 2)
        changes: list[tuple[int, str]] = []
        async with consuming(watch) as events:
            for _ in range(2 * HOUR):
                await asyncio.sleep(1)
                health = watch.health
                if [(health.failures, health.state)] != changes[-1:]:
                    changes.append((health.failures, health.state))
    assert changes == [(0, "polling"), (1, "outage"), (0, "polling")]
    assert len(of_type(Window, events)) > 300
    assert len(state_changes(caplog)) == 2


async def test_a_probe_distinguishes_waiting_from_a_stuck_consumer():
    simulation = simulated()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS)
        await anext(watch)
        await anext(watch)
        await asyncio.sleep(HOUR)  # the consumer requests no other event
        assert watch.health.state == "waiting for consumer"
        assert watch.health.lag > 3_500
        assert not is_healthy(watch.health, simulation.clock())
        await watch.aclose()


def iso_time(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"


async def test_an_outage_that_exhausts_the_minute_quota_keeps_its_true_length(caplog):
    """Retries for two series spend the three requests per minute of Premium again and again."""
    simulation = simulated(faults=Faults.outage(NOON + 600, NOON + 2 * HOUR + 600, Fault("html")))
    states: set[str] = set()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, FREEZES)
        async with consuming(watch):
            await asyncio.sleep(1_200)
            for _ in range(4_000):
                states.add(watch.health.state)
                await asyncio.sleep(1)
            await asyncio.sleep(HOUR)
            assert watch.health.state == "polling"
    assert states == {"outage"}
    worse, better = state_changes(caplog)
    assert "outage" in worse
    seconds = float(re.search(r"after (\d+) s \(outage\)", better)[1])
    assert 2 * HOUR - 900 < seconds < 2 * HOUR + 900


def break_first_time(document: dict) -> None:
    """Replace the timestamp of the first row by a text."""
    for rows, name in (("call_lists", "created_ts"), ("data", "ts")):
        for row in (document.get(rows) or [])[:1]:
            row[name] = "then"


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("follow", "call_lists: expected a whole number, got 'then' at $.call_lists[0].created_ts"),
        ("watch", "$.data[0]"),
    ],
)
async def test_invalid_rows_are_counted_and_the_first_is_reported(kind, first):
    simulation = simulated(world=BUSY)
    async with simulation.client(transport=Tampering(simulation.transport(), break_first_time)) as client:
        stream = client.calls.follow() if kind == "follow" else client.realtime.watch(USERS)
        assert (stream.health.skipped, stream.health.first_skipped) == (0, "")
        async with consuming(stream):
            await asyncio.sleep(HOUR / 4)
            before = stream.health
            await asyncio.sleep(HOUR / 4)
            assert stream.health.skipped > before.skipped > 1
            assert stream.health.first_skipped == before.first_skipped
            assert first in before.first_skipped
            assert stream.health.state == "polling"
    assert stream.health.skipped


def halve_surrogate_pair(document: dict) -> None:
    """Replace the first call's channel by half a surrogate pair."""
    for row in (document.get("call_lists") or [])[:1]:
        row["cname"] = "\ud83d"


async def test_half_a_surrogate_pair_costs_no_row():
    simulation = simulated(world=BUSY)
    async with simulation.client(transport=Tampering(simulation.transport(), halve_surrogate_pair)) as client:
        follow = client.calls.follow()
        async with consuming(follow) as events:
            await asyncio.sleep(HOUR / 4)
        assert follow.health.skipped == 0
    assert "\ufffd" in {event.call.cname for event in of_type(CallStarted, events)}
