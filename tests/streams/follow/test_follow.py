"""Following calls: every start and every end once, whatever the service selects by, shows late, or fails at."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing

import pytest

from agora_analytics import (
    CallChanged,
    CallFinished,
    CallLost,
    CallStarted,
    Checkpoint,
    Gap,
    MemoryCheckpoints,
)
from agora_analytics.simulator import Fault, Faults, Service, Simulation, Variants, World

NOON = 1_795_521_600
HOUR = 3_600
DAY = 24 * HOUR


def simulated(plan: str = "enterprise", *, world: World | None = None, **variants) -> Simulation:
    loop = asyncio.get_running_loop()
    service = Service(
        world or World(seed=7), plan, clock=lambda: NOON + loop.time(), variants=Variants(**variants), log_size=10
    )
    return Simulation(service)


def facts(events) -> tuple[Counter[str], Counter[str]]:
    """How often each call began, and how often it ended."""
    started = Counter(event.call.call_id for event in events if isinstance(event, CallStarted))
    finished = Counter(event.call.call_id for event in events if isinstance(event, CallFinished))
    return started, finished


def once(world: World, start: int, end: int, *, overlap: bool = False) -> Counter[str]:
    """Every call that began in a span, once; or that was in it at all."""
    return Counter(call.call_id for call in (world.calls_during if overlap else world.calls)(start, end))


async def all_of(follow) -> list:
    async with aclosing(follow):
        return [event async for event in follow]


@pytest.mark.parametrize("days", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("overlap", [False, True])
async def test_thousands_of_calls_start_and_finish_once_each(overlap, days):
    # 2,900 calls a day.
    simulation = simulated(world=World(seed=7, calls_per_hour=120), late_calls=0.03, calls_overlap=overlap)
    simulation.service.faults = Faults.chance(
        0.05,
        [Fault("status", status=503), Fault("reset"), Fault("reset_after"), Fault("cut"), Fault("html"), Fault("slow")],
    )
    started: Counter[str] = Counter()
    finished: Counter[str] = Counter()
    going: set[str] = set()
    most = 0
    async with simulation.client() as client:
        follow = client.calls.follow(start=NOON, stop=NOON + days * DAY, every=1_800)
        async for event in follow:
            assert not isinstance(event, Gap)
            call = event.call
            if isinstance(event, CallStarted):
                started[call.call_id] += 1
                going.add(call.call_id)
            elif isinstance(event, CallFinished):
                finished[call.call_id] += 1
                going.remove(call.call_id)
                assert call.destroyed_ts == simulation.world.call(call.call_id).destroyed
            else:
                assert call.call_id in going
                assert call != event.before
            most = max(most, len(follow.checkpoint.open) if len(started) % 500 == 0 else 0)
    assert started == finished == once(simulation.world, NOON, NOON + days * DAY, overlap=overlap)
    assert len(started) > days * 2_700
    assert simulation.service.refusals == {}
    assert 0 < most < 300  # what it remembers does not grow


async def test_an_open_call_starts_changes_and_finishes():
    simulation = simulated()
    async with simulation.client() as client:
        events = await all_of(client.calls.follow(start=NOON, stop=NOON + HOUR, every=60))
    started, finished = facts(events)
    assert started == finished == once(simulation.world, NOON, NOON + HOUR)
    changes = [event for event in events if isinstance(event, CallChanged)]
    assert changes
    assert all(event.call.call_id == event.before.call_id for event in changes)
    order: dict[str, list[type]] = {}
    for event in events:
        order.setdefault(event.call.call_id, []).append(type(event))
    assert all(kinds[0] is CallStarted and kinds[-1] is CallFinished for kinds in order.values())


async def test_with_sessions_a_finished_call_has_its_sessions():
    simulation = simulated()
    async with simulation.client() as client:
        events = await all_of(client.calls.follow(start=NOON, stop=NOON + 600, every=60, with_sessions=True))
    finished = [event for event in events if isinstance(event, CallFinished)]
    assert len(finished) == len(once(simulation.world, NOON, NOON + 600)) > 5
    for event in finished:
        sids = {session.sid for session in event.sessions or ()}
        assert sids
        assert len(sids) == len(event.sessions)
    assert simulation.service.refusals == {}


@pytest.mark.parametrize("kill", [1, 2, 3, 7])
async def test_a_sink_that_stores_the_checkpoint_has_each_event_once(kill):
    simulation = simulated(late_calls=0.1)
    table: list[tuple[str, str]] = []
    kept = ""
    async with simulation.client() as client:
        over = False
        while not over:
            given = Checkpoint.decode(kept) if kept else None
            over = True
            async with aclosing(
                client.calls.follow(start=NOON, stop=NOON + 900, every=120, checkpoint=given)
            ) as follow:
                async for event in follow:
                    if not isinstance(event, CallChanged):
                        table.append((type(event).__name__, event.call.call_id))
                    kept = follow.checkpoint.encode()  # one transaction
                    if len(table) % (10 * kill) == 0:
                        over = False
                        break  # killed
    expected = once(simulation.world, NOON, NOON + 900)
    assert Counter(table) == Counter(
        {(kind, call_id): 1 for kind in ("CallStarted", "CallFinished") for call_id in expected}
    )


async def test_a_named_follow_resumes_and_repeats_unacknowledged_events():
    simulation = simulated()
    store = MemoryCheckpoints()
    seen = []
    async with simulation.client(checkpoints=store) as client:
        async for event in client.calls.follow(start=NOON, checkpoint="tail", every=60):
            seen.append(event)
            if len(seen) == 30:
                break
        again = await all_of(client.calls.follow(checkpoint="tail", stop=NOON + HOUR, every=60))
    started, finished = facts([*seen, *again])
    expected = once(simulation.world, NOON, NOON + HOUR)
    assert set(started) == set(finished) == set(expected)
    # At least once: of the poll that was being told when it broke off, some twice.
    assert sum(started.values()) - len(started) <= 30


async def test_an_expired_span_is_a_gap():
    simulation = simulated("standard")
    async with simulation.client(plan="standard") as client:
        first, *rest = await all_of(client.calls.follow(start=NOON - 3 * DAY, stop=NOON - DAY + HOUR, every=600))
    assert isinstance(first, Gap)
    assert first.span.start == NOON - 3 * DAY
    assert NOON - DAY < first.span.end < NOON - DAY + 200
    assert set(facts(rest)[1]) == set(once(simulation.world, first.span.end, NOON - DAY + HOUR))


async def test_a_follow_on_a_small_plan_lasts_the_day():
    simulation = simulated("standard")
    plan = simulation.service.plan.with_limits("call_lists", per_day=200)
    simulation.service.plan = plan
    async with simulation.client(plan=plan) as client:
        events = await all_of(client.calls.follow(start=NOON, stop=NOON + DAY, every=60))
        assert client.quota is not None
    assert simulation.service.refusals == {}
    started, finished = facts(events)
    assert started == finished == once(simulation.world, NOON, NOON + DAY)


@pytest.mark.parametrize("count", [1, 7, 12, 25])
async def test_stop_saves_the_checkpoint_and_ends(count):
    simulation = simulated()
    store = MemoryCheckpoints()
    told = []
    async with simulation.client(checkpoints=store) as client:
        follow = client.calls.follow(start=NOON, checkpoint="tail", every=60)
        async for event in follow:
            told.append(event)
            if len(told) == count:
                follow.stop()
        assert len(told) == count
        assert count < 12 or follow.health.requests_left is not None
        saved = await store.load("tail")
        assert saved == follow.checkpoint
        rest = await all_of(client.calls.follow(start=NOON, checkpoint="tail", stop=NOON + 600, every=60))
    assert [event for event in rest if event in told] == []
    started, finished = facts([*told, *rest])
    assert started == finished == once(simulation.world, NOON, NOON + 600)


async def test_the_checkpoint_is_saved_at_every_poll():
    """A process that is killed saves nothing in the end."""
    simulation, store = simulated(), MemoryCheckpoints()
    told = []
    async with simulation.client(checkpoints=store) as client:
        async with aclosing(client.calls.follow(start=NOON, checkpoint="tail", every=60)) as follow:
            async for event in follow:
                told.append(event)
                if asyncio.get_running_loop().time() > 1_200:
                    saved = await store.load("tail")
                    break
        assert saved is not None
        assert NOON + 600 < saved.done[-1].end < follow.checkpoint.done[-1].end + 120
        await store.save("killed", saved)
        rest = await all_of(client.calls.follow(checkpoint="killed", stop=NOON + 1_800, every=60))
    started, finished = facts([*told, *rest])
    assert set(started) == set(finished) == set(once(simulation.world, NOON, NOON + 1_800))
    assert sum(started.values()) - len(started) <= 10  # those of the round that was being told


async def test_wrong_arguments_raise_before_any_request():
    simulation = simulated()
    async with simulation.client() as client:
        for wrong, told in (
            ({"start": NOON, "stop": NOON}, "must be after"),
            ({"every": 0}, "every=0"),
            ({"allowed_lateness": -1}, "allowed_lateness=-1"),
            ({"checkpoint": "tail"}, "checkpoints="),
        ):
            with pytest.raises(ValueError, match=told):
                client.calls.follow(**wrong)
    assert simulation.service.counts == {}


async def test_a_call_longer_than_the_retention_is_lost_with_the_reason():
    simulation = simulated(world=World(seed=7, long_share=0.2))
    plan = simulation.service.plan.with_limits("call_lists", available=2 * HOUR, longest=HOUR)
    simulation.service.plan = plan
    async with simulation.client(plan=plan) as client:
        events = await all_of(client.calls.follow(start=NOON, stop=NOON + 1_800, every=600))
    started, finished = facts(events)
    lost = [event for event in events if isinstance(event, CallLost)]
    given_up = {event.call.call_id for event in lost}
    assert {event.reason for event in lost} == {"expired"}
    assert given_up
    assert set(started) == set(finished) | given_up
    assert set(started) == set(once(simulation.world, NOON, NOON + 1_800))
    assert not set(finished) & given_up
