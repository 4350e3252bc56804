"""Following calls: each start and end is delivered once, despite late rows, failures, retention and restarts."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from functools import partial

import pytest
from helpers.checkpoints import store_checkpoint
from helpers.streaming import (
    DAY,
    DEFAULT,
    HOUR,
    NOON,
    calls_started,
    collect,
    count_by_call,
    of_type,
    simulated,
)

from agora_analytics import (
    CallChanged,
    CallFinished,
    CallLost,
    CallStarted,
    Checkpoint,
    Gap,
    MemoryCheckpoints,
)
from agora_analytics.simulator import Fault, Faults, World

enterprise = partial(simulated, "enterprise", world=DEFAULT)


def starts_and_ends(events) -> tuple[Counter[str], Counter[str]]:
    """Return how often each call started, and how often it finished."""
    return count_by_call(CallStarted, events), count_by_call(CallFinished, events)


@pytest.mark.slow_except("True-1")
@pytest.mark.parametrize("days", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("overlap", [False, True])
async def test_thousands_of_calls_start_and_finish_once_each(overlap, days):
    simulation = enterprise(world=World(seed=7, calls_per_hour=120), late_calls=0.03, calls_overlap=overlap)
    simulation.service.faults = Faults.chance(
        0.05,
        [Fault("status", status=503), Fault("reset"), Fault("reset_after"), Fault("cut"), Fault("html"), Fault("slow")],
    )
    started: Counter[str] = Counter()
    finished: Counter[str] = Counter()
    open_calls: set[str] = set()
    largest = 0
    async with simulation.client() as client:
        follow = client.calls.follow(start=NOON, stop=NOON + days * DAY, every=1_800)
        async for event in follow:
            assert not isinstance(event, Gap)
            call = event.call
            if isinstance(event, CallStarted):
                started[call.call_id] += 1
                open_calls.add(call.call_id)
            elif isinstance(event, CallFinished):
                finished[call.call_id] += 1
                open_calls.remove(call.call_id)
                assert call.destroyed_ts == simulation.world.call(call.call_id).destroyed
            else:
                assert call.call_id in open_calls
                assert call != event.before
            largest = max(largest, len(follow.checkpoint.open) if len(started) % 500 == 0 else 0)
    listed = simulation.world.calls_during if overlap else simulation.world.calls
    assert started == finished == Counter(call.call_id for call in listed(NOON, NOON + days * DAY))
    assert len(started) > days * 2_700
    assert simulation.service.refusals == {}
    assert 0 < largest < 300  # the memory of a follow is bounded


async def test_an_open_call_starts_changes_and_finishes():
    simulation = enterprise()
    async with simulation.client() as client:
        events = await collect(client.calls.follow(start=NOON, stop=NOON + HOUR, every=60))
    started, finished = starts_and_ends(events)
    assert started == finished == calls_started(simulation.world, NOON, NOON + HOUR)
    changes = of_type(CallChanged, events)
    assert changes
    assert all(event.call.call_id == event.before.call_id for event in changes)
    order: dict[str, list[type]] = {}
    for event in events:
        order.setdefault(event.call.call_id, []).append(type(event))
    assert all(kinds[0] is CallStarted and kinds[-1] is CallFinished for kinds in order.values())


async def test_with_sessions_a_finished_call_has_its_sessions():
    simulation = enterprise()
    async with simulation.client() as client:
        events = await collect(client.calls.follow(start=NOON, stop=NOON + 600, every=60, with_sessions=True))
    finished = of_type(CallFinished, events)
    assert len(finished) == len(calls_started(simulation.world, NOON, NOON + 600)) > 5
    for event in finished:
        sids = {session.sid for session in event.sessions or ()}
        assert sids
        assert len(sids) == len(event.sessions)
    assert simulation.service.refusals == {}


@pytest.mark.parametrize("kill", [1, 2, 3, 7])
async def test_a_sink_that_stores_the_checkpoint_has_each_event_once(kill):
    simulation = enterprise(late_calls=0.1)
    table: list[tuple[str, str]] = []
    saved = ""
    async with simulation.client() as client:
        killed = True
        while killed:
            checkpoint = Checkpoint.decode(saved) if saved else None
            killed = False
            async with aclosing(
                client.calls.follow(start=NOON, stop=NOON + 900, every=120, checkpoint=checkpoint)
            ) as follow:
                async for event in follow:
                    if not isinstance(event, CallChanged):
                        table.append((type(event).__name__, event.call.call_id))
                    saved = follow.checkpoint.encode()  # stored with the event, in one transaction
                    if len(table) % (10 * kill) == 0:
                        killed = True
                        break
    expected = calls_started(simulation.world, NOON, NOON + 900)
    assert Counter(table) == Counter(
        {(kind, call_id): 1 for kind in ("CallStarted", "CallFinished") for call_id in expected}
    )


async def test_a_named_follow_resumes_and_repeats_unacknowledged_events():
    simulation = enterprise()
    store = MemoryCheckpoints()
    seen = []
    async with simulation.client(checkpoints=store) as client:
        async for event in client.calls.follow(start=NOON, checkpoint="tail", every=60):
            seen.append(event)
            if len(seen) == 30:
                break
        again = await collect(client.calls.follow(checkpoint="tail", stop=NOON + HOUR, every=60))
    started, finished = starts_and_ends([*seen, *again])
    expected = calls_started(simulation.world, NOON, NOON + HOUR)
    assert set(started) == set(finished) == set(expected)
    # At least once: events of the poll that was being delivered may come twice.
    assert sum(started.values()) - len(started) <= 30


async def test_an_expired_span_is_a_gap():
    simulation = simulated("standard", world=DEFAULT)
    async with simulation.client(plan="standard") as client:
        first, *rest = await collect(client.calls.follow(start=NOON - 3 * DAY, stop=NOON - DAY + HOUR, every=600))
    assert isinstance(first, Gap)
    assert first.span.start == NOON - 3 * DAY
    assert NOON - DAY < first.span.end < NOON - DAY + 200
    assert set(starts_and_ends(rest)[1]) == set(calls_started(simulation.world, first.span.end, NOON - DAY + HOUR))


@pytest.mark.slow
async def test_a_follow_paces_its_polls_to_a_small_daily_quota():
    simulation = simulated("standard", world=DEFAULT)
    plan = simulation.service.plan.with_limits("call_lists", per_day=200)
    simulation.service.plan = plan
    async with simulation.client(plan=plan) as client:
        events = await collect(client.calls.follow(start=NOON, stop=NOON + DAY, every=60))
    assert simulation.service.refusals == {}
    assert simulation.service.counts["call_lists"] <= 2 * 200  # noon to noon: the quotas of two days
    started, finished = starts_and_ends(events)
    assert started == finished == calls_started(simulation.world, NOON, NOON + DAY)


@pytest.mark.parametrize("count", [1, 7, 12, 25])
async def test_stop_saves_the_checkpoint_and_ends(count):
    simulation = enterprise()
    store = MemoryCheckpoints()
    delivered = []
    async with simulation.client(checkpoints=store) as client:
        follow = client.calls.follow(start=NOON, checkpoint="tail", every=60)
        async for event in follow:
            delivered.append(event)
            if len(delivered) == count:
                follow.stop()
        assert len(delivered) == count
        assert count < 12 or follow.health.requests_left is not None
        saved = await store.load("tail")
        assert saved == follow.checkpoint
        rest = await collect(client.calls.follow(start=NOON, checkpoint="tail", stop=NOON + 600, every=60))
    assert [event for event in rest if event in delivered] == []
    started, finished = starts_and_ends([*delivered, *rest])
    assert started == finished == calls_started(simulation.world, NOON, NOON + 600)


async def test_the_checkpoint_is_saved_at_every_poll():
    """Not only at the end: a process that is killed saves nothing then."""
    simulation, store = enterprise(), MemoryCheckpoints()
    delivered = []
    async with simulation.client(checkpoints=store) as client:
        async with aclosing(client.calls.follow(start=NOON, checkpoint="tail", every=60)) as follow:
            async for event in follow:
                delivered.append(event)
                if asyncio.get_running_loop().time() > 1_200:
                    saved = await store.load("tail")
                    break
        assert saved is not None
        assert NOON + 600 < saved.done[-1].end < follow.checkpoint.done[-1].end + 120
        await store_checkpoint(store, "killed", saved)
        rest = await collect(client.calls.follow(checkpoint="killed", stop=NOON + 1_800, every=60))
    started, finished = starts_and_ends([*delivered, *rest])
    assert set(started) == set(finished) == set(calls_started(simulation.world, NOON, NOON + 1_800))
    assert sum(started.values()) - len(started) <= 10  # events of the poll that was being delivered


async def test_wrong_arguments_raise_before_any_request():
    simulation = enterprise()
    async with simulation.client() as client:
        for wrong, message in (
            ({"start": NOON, "stop": NOON}, "must be after"),
            ({"every": 0}, "every=0"),
            ({"allowed_lateness": -1}, "allowed_lateness=-1"),
            ({"checkpoint": "tail"}, "checkpoints="),
        ):
            with pytest.raises(ValueError, match=message):
                client.calls.follow(**wrong)
    assert simulation.service.counts == {}


async def test_a_call_longer_than_the_retention_is_lost_with_the_reason():
    simulation = enterprise(world=World(seed=7, long_share=0.2))
    plan = simulation.service.plan.with_limits("call_lists", retention=2 * HOUR, longest=HOUR)
    simulation.service.plan = plan
    async with simulation.client(plan=plan) as client:
        events = await collect(client.calls.follow(start=NOON, stop=NOON + 1_800, every=600))
    started, finished = starts_and_ends(events)
    lost = of_type(CallLost, events)
    lost_ids = {event.call.call_id for event in lost}
    assert {event.reason for event in lost} == {"expired"}
    assert lost_ids
    assert set(started) == set(finished) | lost_ids
    assert set(started) == set(calls_started(simulation.world, NOON, NOON + 1_800))
    assert not set(finished) & lost_ids
