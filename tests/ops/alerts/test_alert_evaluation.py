"""Alerts of a watch over the simulator: final windows, restarts, crashes, outages, and what could not be delivered."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import aclosing

import pytest
from helpers.alerting import window
from helpers.checkpoints import store_checkpoint
from helpers.heartbeat import Heartbeat
from helpers.streaming import HOUR, NOON, simulated

from agora_analytics import Checkpoint, CheckpointError, MemoryCheckpoints, Series, broadcast
from agora_analytics.ops import alerts
from agora_analytics.simulator import Faults, World

WORLD = World(seed=121, calls_per_hour=60)
"""It has one incident between 11:00 and 14:00, everywhere, from 12:13:01 to 12:43:29."""

RULE = alerts.parse("videoFreezeRate:WebRTC > 8% for 2")
BY_COUNTRY = alerts.parse("videoFreezeRate:WebRTC by country > 8% for 2 recover 5% for 3 with 3 users no data 10m")
END = NOON + HOUR + 300


def simulation(**more):
    return simulated("enterprise", world=WORLD, **more)


def watched(client, rules, **more):
    return client.realtime.watch(*alerts.watched(rules), **{"stop": END, "start": NOON, **more})


async def all_alerts(client, rules, *, worst=None, sinks=(), **more) -> list[alerts.Alert]:
    async with watched(client, rules, **more) as watch:
        return [alert async for alert in alerts.evaluate(watch, rules, worst=worst, sinks=sinks)]


def summaries(found) -> list[tuple]:
    return [(alert.key, alert.kind, alert.group, alert.ts) for alert in found]


def expected(rule: alerts.Rule) -> list[tuple[str, int]]:
    """The alerts of a rule without dimension, from the truth of the world."""
    found, run, calm, firing = [], 0, 0, False
    for ts in range(NOON, END, 20):
        holds = rule.holds(WORLD.rate(rule.series.metric, rule.series.product, ts))
        run, calm = (run + 1, 0) if holds else (0, calm + 1)
        if not firing and run == rule.windows:
            firing = True
            found.append(("firing", ts))
        elif firing and calm == rule.windows:
            firing = False
            found.append(("recovered", ts))
    return found


@pytest.mark.parametrize(
    "more",
    [{}, {"only_final": True}, {"final_after": 60}, {"final_after": 900}, {"every": 600}],
    ids=["revised", "only final", "final early", "final late", "polled seldom"],
)
async def test_an_incident_fires_and_recovers_as_it_was_however_the_windows_come(more):
    async with simulation(late_windows=0.3, revised_windows=0.5, late_by=50).client() as client:
        found = await all_alerts(client, [RULE], **more)
    assert [(alert.kind, alert.ts) for alert in found] == expected(RULE)
    assert len(found) == 2


async def test_the_alert_names_the_worst_call_that_was_in_use():
    async with simulation().client() as client:
        worst = alerts.WorstCalls(client, link="https://ops.example.com/calls/{call_id}")
        fired, recovered = await all_alerts(client, [RULE], worst=worst)
        listed = [call async for call in client.calls.search(NOON - 12 * HOUR, fired.span.end)]
    in_use = {call.call_id for call in WORLD.calls_during(*fired.span)}
    candidates = [call for call in listed if call.call_id in in_use and call.call_video_freeze_rate]
    assert {call.call_id for call in fired.calls} <= in_use
    assert len(candidates) > 3
    first = fired.calls[0]
    assert first.video_freeze_rate > 0.05
    assert first.link == f"https://ops.example.com/calls/{first.call_id}"
    truth = {session.uid: session.video_freeze for session in WORLD.sessions(WORLD.call(first.call_id))}
    assert [user.video_freeze_rate for user in first.worst_users] == [truth[user.uid] for user in first.worst_users]
    assert recovered.calls == ()


async def test_each_value_of_a_dimension_is_reported_by_itself_and_alike_from_a_hub():
    async with simulation().client() as client:
        direct = await all_alerts(client, [BY_COUNTRY])
        async with watched(client, [BY_COUNTRY]) as watch, broadcast(watch, history=5) as hub:
            subscription, other = hub.subscribe(), hub.subscribe()

            async def drain() -> None:
                async for _ in other:
                    pass

            task = asyncio.create_task(drain())
            shared = [alert async for alert in alerts.evaluate(watch, [BY_COUNTRY], events=subscription)]
            await task
    assert len({alert.group for alert in direct}) > 2
    assert summaries(shared) == summaries(direct)


@pytest.mark.slow_except("only final")
@pytest.mark.parametrize("more", [{}, {"only_final": True}], ids=["revised", "only final"])
async def test_restarts_neither_repeat_nor_lose_an_alert(more):
    """The process ends after every few events, at once or after it has asked for the next one."""
    async with simulation(late_windows=0.3, revised_windows=0.5, late_by=50).client() as client:
        whole = await all_alerts(client, [BY_COUNTRY], **more)
    store, found, length, taken = MemoryCheckpoints(), [], 0, [None]
    sim = simulation(late_windows=0.3, revised_windows=0.5, late_by=50)
    async with sim.client(checkpoints=store) as client:
        while taken:
            length, taken = length % 7 + 1, []
            async with watched(client, [BY_COUNTRY], checkpoint="prod", **more) as watch:
                events = _first(watch, length, taken)
                found += [alert async for alert in alerts.evaluate(watch, [BY_COUNTRY], events=events)]
    assert sorted(summaries(found)) == sorted(summaries(whole))
    assert len(whole) > 10


async def _first(watch, count, taken):
    """The first events of a watch; then it stops, after the last one was processed."""
    async for event in watch:
        taken.append(event)
        if len(taken) == count:
            watch.stop()
        yield event


async def test_an_alert_whose_consumer_fails_comes_again_with_the_same_key():
    store = MemoryCheckpoints()
    async with simulation().client(checkpoints=store) as client:
        keys = []
        for _ in range(3):
            async with (
                watched(client, [RULE], checkpoint="prod") as watch,
                aclosing(alerts.evaluate(watch, [RULE])) as found,
            ):
                keys.append((await anext(found)).key)
        assert len(keys) == 3
        assert len(set(keys)) == 1
        rest = await all_alerts(client, [RULE], checkpoint="prod")
    assert rest[0].key == keys[0]
    assert [alert.kind for alert in rest] == ["firing", "recovered"]


async def test_an_outage_that_is_backfilled_changes_no_alert():
    async with simulation(faults=Faults.outage(NOON + 600, NOON + 2_400)).client() as client:
        found = await all_alerts(client, [RULE])
    assert [(alert.kind, alert.ts) for alert in found] == expected(RULE)


async def test_an_outage_beyond_the_retention_is_said_and_missing_data_is_reported_while_it_lasts():
    rule = alerts.parse("videoFreezeRate:WebRTC > 8% for 2 no data 10m")
    sim = simulation(faults=Faults.outage(NOON + 1_300, NOON + 9_000))
    async with sim.client() as client, watched(client, [rule], stop=NOON + 12_000) as watch:
        found = [(alert, sim.clock() - NOON) async for alert in alerts.evaluate(watch, [rule])]
    kinds = [(alert.kind, alert.about) for alert, _ in found]
    assert kinds == [("firing", "value"), ("no_data", "data"), ("recovered", "data"), ("recovered", "value")]
    assert 1_800 < found[1][1] < 2_400
    assert [gap.reason for gap in found[3][0].unknown] == ["outage"]
    assert found[3][0].unknown[0].span.duration > 3_000


async def test_a_series_that_is_not_watched_is_refused_by_name():
    async with simulation().client() as client:
        watch = client.realtime.watch(Series("userCount", product="Native"))
        with pytest.raises(ValueError, match="lacks the series videoFreezeRate WebRTC"):
            alerts.evaluate(watch, [RULE])
        with pytest.raises(TypeError, match="watch="):
            alerts.evaluate(5, [RULE])
        await watch.aclose()


async def test_a_rule_that_is_dropped_while_it_fires_is_logged(caplog):
    store = MemoryCheckpoints()
    other = alerts.parse("videoFreezeRate:WebRTC > 90%")
    async with simulation().client(checkpoints=store) as client:
        await all_alerts(client, [RULE], checkpoint="prod", stop=NOON + 1_200)
        assert await all_alerts(client, [other], checkpoint="prod") == []
    assert f"an alert of the rule {RULE} will not recover" in caplog.text


async def test_the_state_of_another_project_is_refused():
    store = MemoryCheckpoints()
    async with simulation().client(checkpoints=store) as client:
        await all_alerts(client, [RULE], checkpoint="prod", stop=NOON + 60)
        assert (await store.load("prod.alerts")).stream.startswith("alerts ")
        other = alerts.Evaluator([RULE], source="other").checkpoint
        await store_checkpoint(store, "prod.alerts", other)
        with pytest.raises(CheckpointError, match="belongs to another stream"):
            await all_alerts(client, [RULE], checkpoint="prod", stop=NOON + 120)


async def test_an_evaluation_that_is_over_or_never_began_does_not_listen_to_its_watch():
    async with simulation().client() as client, watched(client, [RULE]) as watch:
        seen = [weakref.ref(alerts.evaluate(watch, [RULE])) for _ in range(2)]
        found = alerts.evaluate(watch, [RULE])
        await anext(found)
        await found.aclose()
        gc.collect()
        assert [one() for one in seen] == [None, None]
        assert watch._listeners._listeners == []


async def test_a_cancelled_evaluation_leaves_no_task_and_releases_its_name():
    store = MemoryCheckpoints()
    async with simulation().client(checkpoints=store) as client:
        for _ in range(2):
            watch = watched(client, [BY_COUNTRY], checkpoint="prod", start=None)
            async with watch, aclosing(alerts.evaluate(watch, [BY_COUNTRY])) as found:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(found), 130)
        await asyncio.sleep(0.2)
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.slow
async def test_a_window_with_thousands_of_values_does_not_hold_the_loop():
    rule = alerts.parse("videoFreezeRate:WebRTC by country > 8% with 3 users")
    rows = {rule.series: {f"country {n}": n / 20_000 for n in range(10_000)}}
    rows[rule.users] = dict.fromkeys(rows[rule.series], 5)
    held = []
    async with simulation().client() as client:
        for _ in range(5):
            async with watched(client, [rule]) as watch:
                events = _given(window(NOON, rows), window(NOON + 20, {rule.series: {"a": 0}, rule.users: {"a": 5}}))
                async with Heartbeat() as beat:
                    found = [alert async for alert in alerts.evaluate(watch, [rule], events=events)]
                held.append(beat.longest)
    assert {alert.group for alert in found} == {f"country {n}" for n in range(9_980, 10_000)}
    assert found[0].untracked == 10_000 - 1_601 - 20
    assert min(held) < 0.010


@pytest.mark.slow
def test_a_checkpoint_of_thousands_of_values_is_small_and_restores_them_all():
    rule = alerts.parse("videoFreezeRate:WebRTC by country > 8% with 3 users")
    values = {f"country {n}": n / 20_000 for n in range(10_000)}
    waiting = [window(NOON + 20 * n, {rule.series: values, rule.users: dict.fromkeys(values, 5)}, final=False)
               for n in range(20)]  # fmt: skip
    evaluator = alerts.Evaluator([rule])
    for event in waiting:
        assert evaluator.add(event) == []
    text = evaluator.checkpoint.encode()
    assert len(text) < 3 * 2**20
    restored = alerts.Evaluator([rule], checkpoint=Checkpoint.decode(text))
    last = window(NOON + 400, {rule.series: {"a": 0}, rule.users: {"a": 5}})
    marks = {rule.series: NOON + 400, rule.users: NOON + 400}
    found = evaluator.add(last, marks)
    assert len(found) == 20
    assert restored.add(last, marks) == found


def test_a_checkpoint_whose_values_cannot_be_read_is_refused():
    rule = alerts.parse("videoFreezeRate:WebRTC by country > 8%")
    evaluator = alerts.Evaluator([rule])
    evaluator.add(window(NOON, {rule.series: {f"country {n}": 0.1 for n in range(100)}}, final=False))
    (packed,) = evaluator.checkpoint.open["waiting"]["windows"][0].rows.values()
    text = evaluator.checkpoint.encode()
    for wrong in ("", "eJ", "AAAA"):
        restored = alerts.Evaluator([rule], checkpoint=Checkpoint.decode(text.replace(packed, wrong)))
        with pytest.raises(CheckpointError, match="holds no checkpoint"):
            restored.add(window(NOON + 20, {rule.series: {"a": 0}}), {rule.series: NOON + 20})


async def _given(*events):
    for event in events:
        yield event
