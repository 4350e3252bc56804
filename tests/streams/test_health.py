"""What a probe and a log see of a stream: that it is well, that it waits and until when, or that it fails and how."""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from helpers.streaming import BUSY, DAY, HOUR, MIDNIGHT, NOON, USERS, of, simulated, taking
from helpers.wrong_dates import Tampering

from agora_analytics import CallStarted, Checkpoint, Health, MemoryCheckpoints, Series, Window, broadcast
from agora_analytics.plans import PREMIUM
from agora_analytics.simulator import Fault, Faults

NEXT_MIDNIGHT = MIDNIGHT + DAY


def well(health: Health, now: float) -> bool:
    """What a liveness probe asks."""
    if health.state == "waiting for quota":
        return health.until is not None and health.until > now - 60
    return health.state == "polling" and (health.lag is None or health.lag < 900)


def turns(caplog) -> list[str]:
    """The records of a stream's turns for worse or better."""
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
        assert well(Health(), NOON)


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
        begun = simulation.clock() - 50
        await asyncio.sleep(HOUR)
        assert (watch.health.state, watch.health.lag > HOUR) == ("waiting for consumer", True)
        assert watch.health.since == pytest.approx(begun, abs=3)
        next_one = await anext(events)
        await asyncio.sleep(1)
        assert (next_one.ts, watch.health.state) == (first[-1].ts + 20, "polling")
        await asyncio.sleep(HOUR)
        watch.stop()
        assert watch.health.state == "waiting for consumer"
    assert watch.health.state == "stopped"


async def test_health_has_the_age_of_the_windows_and_the_quota_left():
    simulation = simulated()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS)
        async with taking(watch) as events:
            await asyncio.sleep(HOUR)
            health, now = watch.health, simulation.clock()
            assert (health.state, health.until, health.failures, health.last_error) == ("polling", None, 0, "")
            assert health.last_window == events[-1].ts
            assert health.lag == pytest.approx(now - events[-1].ts - 20, abs=3)
            assert 400 < health.requests_left <= 480 - len(simulation.service.log) + 10
            assert well(health, now)
        ended = watch.health
    assert (ended.state, ended.until) == ("stopped", None)
    assert ended.since == pytest.approx(simulation.clock(), abs=3)
    assert str(ended).startswith("stopped since 2026-11-24T12:59:59")


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_the_lag_of_an_ended_stream_stays(kind):
    async with simulated().client() as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow()
        async with taking(stream):
            await asyncio.sleep(HOUR)
        left = stream.health
        await asyncio.sleep(HOUR)
        assert stream.health == left
        assert 0 < left.lag < 900


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_waiting_for_quota_has_an_end_and_two_log_records(kind, caplog):
    simulation = simulated(PREMIUM.with_limits("call_lists", per_day=480))
    async with simulation.client() as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow(start=NOON, every=300)
        counter = "realtime" if kind == "watch" else "call_lists"
        asyncio.get_running_loop().call_later(1_000, simulation.service.spend, counter, 480)
        async with taking(stream) as events:
            await asyncio.sleep(6 * HOUR)
            health, now = stream.health, simulation.clock()
            assert health.state == "waiting for quota"
            assert NOON + 1_000 < health.since < NOON + 2_000
            assert health.until == pytest.approx(NEXT_MIDNIGHT, abs=30)
            assert str(health) == f"waiting for quota until {_shown(health.until)}"
            assert (health.failures, health.requests_left) == (0, 0)
            assert well(health, now)
            (warning,) = turns(caplog)
            assert "waits for quota until 2026-11-25T00:00" in warning
            told = len(events)
            await asyncio.sleep(7 * HOUR)
            assert stream.health.state == "polling"
            assert stream.health.until is None
            assert len(events) > told
    _, better = turns(caplog)
    assert "resumes after waiting for quota for" in better


@pytest.mark.parametrize("kind", ["watch", "follow"])
@pytest.mark.parametrize(
    ("fault", "state", "said"),
    [
        (Fault("html"), "outage", "HTTP 502"),
        (Fault("refused"), "outage", "connection refused"),
        (Fault("refusal", code=400, message="no such metric"), "refused", "no such metric"),
        (Fault("status", status=404), "refused", "HTTP 404"),
    ],
)
async def test_a_failure_has_its_last_error_and_two_log_records(kind, fault, state, said, caplog):
    simulation = simulated(faults=Faults.outage(NOON + 1_000, NOON + 10 * HOUR, fault))
    async with simulation.client() as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow(start=NOON, every=300)
        async with taking(stream) as events:
            failures = []
            for _ in range(3):
                await asyncio.sleep(3 * HOUR)
                health, now = stream.health, simulation.clock()
                failures.append(health.failures)
                assert health.state == state
                assert NOON + 1_000 <= health.since < NOON + 2_000
                assert health.until is None
                assert said in health.last_error
                assert str(health) == f"{state} since {_shown(health.since)}: {health.last_error}"
                assert health.lag > now - NOON - 2_000
                assert not well(health, now)
                assert len(turns(caplog)) == 1
            assert failures == sorted(set(failures))
            told = len(events)
            await asyncio.sleep(2 * HOUR)
            assert (stream.health.state, stream.health.failures, stream.health.last_error) == ("polling", 0, "")
            assert stream.health.since >= NOON + 10 * HOUR
            assert len(events) > told
            assert well(stream.health, simulation.clock())
    worse, better = turns(caplog)
    assert f"{state}, will retry and backfill" in worse
    assert said in worse
    assert f"s ({state})" in better


async def test_two_outages_are_four_log_records(caplog):
    simulation = simulated(
        faults=Faults.outage(NOON + HOUR, NOON + 5 * HOUR) + Faults.outage(NOON + 8 * HOUR, NOON + 20 * HOUR)
    )
    async with simulation.client() as client, taking(client.realtime.watch(USERS)):
        await asyncio.sleep(DAY)
    assert len(turns(caplog)) == 4


async def test_a_stream_stopped_while_waiting_logs_no_recovery(caplog):
    simulation = simulated()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS)
        async with taking(watch):
            simulation.service.spend("realtime", 480)
            await asyncio.sleep(HOUR)
            assert watch.health.state == "waiting for quota"
    assert watch.health.state == "stopped"
    assert len(turns(caplog)) == 1


async def test_a_single_failure_changes_health_for_one_poll(caplog):
    simulation = simulated()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS)
        simulation.faults = Faults.script([None] * 10 + [Fault("status", status=503)] * 2)
        async with taking(watch) as events:
            await asyncio.sleep(2 * HOUR)
            assert watch.health.failures == 0
    assert len(of(Window, events)) > 300
    assert len(turns(caplog)) <= 2


async def test_a_probe_distinguishes_waiting_from_a_stuck_consumer():
    simulation = simulated()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS)
        await anext(watch)
        await anext(watch)
        await asyncio.sleep(HOUR)  # nobody comes back for more
        assert watch.health.state == "waiting for consumer"
        assert watch.health.lag > 3_500
        assert not well(watch.health, simulation.clock())
        await watch.aclose()


def _shown(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"


async def test_an_outage_that_waits_for_a_minute_keeps_its_true_length(caplog):
    """Two series on premium spend the minute's three requests on an outage, again and again."""
    simulation = simulated(faults=Faults.outage(NOON + 600, NOON + 2 * HOUR + 600, Fault("html")))
    freezes = Series("videoFreezeRate", product="Native")
    seen: set[str] = set()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, freezes)
        async with taking(watch):
            await asyncio.sleep(1_200)
            for _ in range(4_000):
                seen.add(watch.health.state)
                await asyncio.sleep(1)
            await asyncio.sleep(HOUR)
            assert watch.health.state == "polling"
    assert seen == {"outage"}
    worse, better = turns(caplog)
    assert "outage" in worse
    lasted = float(re.search(r"after (\d+) s \(outage\)", better)[1])
    assert 2 * HOUR - 900 < lasted < 2 * HOUR + 900


def spoilt(document: dict) -> None:
    """Make a time that nobody can read of the first row."""
    for rows, name in (("call_lists", "created_ts"), ("data", "ts")):
        for row in (document.get(rows) or [])[:1]:
            row[name] = "then"


@pytest.mark.parametrize(
    ("stream", "first"),
    [
        ("follow", "call_lists: expected a whole number, got 'then' at $.call_lists[0].created_ts"),
        ("watch", "$.data[0]"),
    ],
)
async def test_invalid_rows_are_counted_and_the_first_is_reported(stream, first):
    simulation = simulated(world=BUSY)
    async with simulation.client(transport=Tampering(simulation.transport(), spoilt)) as client:
        found = client.calls.follow() if stream == "follow" else client.realtime.watch(USERS)
        assert (found.health.skipped, found.health.first_skipped) == (0, "")
        async with taking(found):
            await asyncio.sleep(HOUR / 4)
            before = found.health
            await asyncio.sleep(HOUR / 4)
            assert found.health.skipped > before.skipped > 1
            assert found.health.first_skipped == before.first_skipped
            assert first in before.first_skipped
            assert found.health.state == "polling"
    assert found.health.skipped


def halved(document: dict) -> None:
    """Leave half a character of the first call's channel."""
    for row in (document.get("call_lists") or [])[:1]:
        row["cname"] = "\ud83d"


async def test_half_a_surrogate_pair_costs_no_row():
    simulation = simulated(world=BUSY)
    async with simulation.client(transport=Tampering(simulation.transport(), halved)) as client:
        follow = client.calls.follow()
        async with taking(follow) as events:
            await asyncio.sleep(HOUR / 4)
        assert follow.health.skipped == 0
    assert "\ufffd" in {event.call.cname for event in of(CallStarted, events)}
