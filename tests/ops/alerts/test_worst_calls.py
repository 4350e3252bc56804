"""The worst calls of an alert: which, for how many requests, and what the alert says if there are none."""

from __future__ import annotations

import asyncio

import attrs
import pytest
from helpers.alerting import run
from helpers.streaming import DAY, NOON, CountingTransport, simulated

from agora_analytics import AnalyticsClient, Span
from agora_analytics.ops import alerts
from agora_analytics.simulator import Fault, Faults, World

WORLD = World(seed=121, calls_per_hour=60)
(FIRED,) = run("videoFreezeRate:WebRTC > 5%", [0.06])
SPAN = Span(NOON, NOON + 60)


def simulation(**more):
    return simulated("premium", at=NOON + 600, world=WORLD, **more)


async def spent(client: AnalyticsClient) -> dict[str, int]:
    return {state.counter: state.used for state in await client.quota.snapshot() if state.unit == "day" and state.used}


@pytest.mark.parametrize("overlap", [False, True], ids=["listed by start", "listed by overlap"])
async def test_calls_in_use_are_those_of_the_span_worst_first(overlap):
    async with simulation(calls_overlap=overlap).client() as client:
        found = await alerts.calls_in_use(client, SPAN, metric="videoFreezeRate")
        assert await spent(client) == {"call_lists": 1}
    impacts = [call.call_video_freeze_rate * call.call_pcu for call in found.calls]
    assert impacts == sorted(impacts, reverse=True)
    assert len(impacts) > 3
    assert {call.call_id for call in found.calls} <= {call.call_id for call in WORLD.calls_during(*SPAN)}


async def test_a_list_that_is_cut_says_how_far_back_it_goes():
    async with simulation().client() as client:
        found = await alerts.calls_in_use(client, SPAN)
        quiet = await alerts.calls_in_use(client, SPAN, cname="room-104")
    assert found.note == "only calls that began since 2026-11-24T10:52:16Z were looked at"
    assert found.since_ts < NOON
    assert quiet.note == ""


NOT_KEPT = r"moment 2026-11-.*: at least 2026-11-.*, which the plan 'premium' keeps, and at most"


@pytest.mark.parametrize("start", [NOON + 700, NOON - 16 * DAY], ids=["of the future", "too old"])
async def test_a_span_of_which_there_is_nothing_is_refused(start):
    async with simulation().client() as client:
        for _ in range(3):  # by the second answer, the clock is confirmed
            with pytest.raises(ValueError, match=NOT_KEPT):
                await alerts.calls_in_use(client, Span(start, start + 60))
            await asyncio.sleep(1.1)
        # Before that an answer decides.
        assert (await spent(client)).get("call_lists", 0) <= 2


async def test_a_clock_that_is_wrong_refuses_no_moment():
    simulated = simulation()
    simulated.host_clock.wrong = 8 * DAY
    async with simulated.client() as client:
        found = await alerts.calls_in_use(client, SPAN)
    assert found.calls


async def test_calls_are_sorted_by_the_metric_of_the_rule():
    async with simulation().client() as client:
        by = {
            metric: [call.call_id for call in (await alerts.calls_in_use(client, SPAN, metric=metric)).calls]
            for metric in ("videoFreezeRate", "audioFreezeRate", "networkDelay")
        }
    assert len({tuple(ids) for ids in by.values()}) == 3
    assert set(by["networkDelay"]) == {*by["videoFreezeRate"], *by["audioFreezeRate"]}


async def test_alerts_of_the_same_window_share_its_requests():
    async with simulation().client() as client:
        worst = alerts.WorstCalls(client)
        first, second = [await worst.added_to(FIRED) for _ in range(2)]
        assert await spent(client) == {"call_lists": 1, "call_details": 1}
        assert worst.left_today == 48
    assert first == second
    assert len(first.calls) == 3


async def test_details_are_fetched_for_so_many_calls_only():
    async with simulation().client() as client:
        worst = alerts.WorstCalls(client, limit=4, details=2)
        alert = await worst.added_to(FIRED)
        assert await spent(client) == {"call_lists": 1, "call_details": 2}
    assert [bool(call.worst_users) for call in alert.calls] == [True, True, False, False]
    rates = [user.video_freeze_rate for user in alert.calls[0].worst_users]
    assert rates == sorted(rates, reverse=True)
    assert len(rates) <= 3


@pytest.mark.parametrize(
    ("budget", "note"), [(0, "the worst calls were not looked up"), (1, "users were not looked up")]
)
async def test_a_budget_that_is_spent_is_said_and_the_alert_is_sent_without(budget, note):
    async with simulation().client() as client:
        worst = alerts.WorstCalls(client, requests_per_day=budget)
        alert = await worst.added_to(FIRED)
        assert sum((await spent(client)).values()) == budget
    assert alert.note == f"{note}: the {budget} requests that alerts may cost a day are used up"
    assert attrs.evolve(alert, calls=(), note="") == FIRED
    assert bool(alert.calls) == bool(budget)
    assert alert.note in alert.text


async def test_the_budget_is_of_the_services_day():
    async with simulation().client() as client:
        worst = alerts.WorstCalls(client, requests_per_day=1)
        await worst.added_to(FIRED)
        assert worst.left_today == 0
        await asyncio.sleep(DAY / 2)
        assert worst.left_today == 1


async def test_a_request_that_fails_is_said_and_the_alert_is_sent_without():
    faults = Faults.always(Fault("status", status=400))
    async with simulation(faults=faults).client() as client:
        alert = await alerts.WorstCalls(client).added_to(FIRED)
    assert alert.calls == ()
    assert alert.note.startswith("the worst calls could not all be looked up: ")


@pytest.mark.parametrize(
    "fault",
    [Fault("status", status=500), Fault("busy"), Fault("refusal", status=429, code=429, message="QPS Limit 5")],
    ids=["failing", "busy", "refusing"],
)
async def test_a_service_that_fails_gets_no_request_beyond_the_budget(fault):
    sim = simulation(faults=Faults.always(fault))
    transport = CountingTransport(sim)
    async with sim.client(transport=transport) as client:
        worst = alerts.WorstCalls(client, requests_per_day=2, timeout=300.0)
        for ts in range(NOON, NOON + 100, 20):
            await worst.added_to(attrs.evolve(FIRED, ts=ts))
        assert len(transport.sent) == 2
        assert worst.left_today == 0


async def test_a_slow_service_holds_the_alerts_of_a_window_up_for_their_bound_only():
    sim = simulation()
    async with sim.client(transport=sim.transport(latency=(20.0, 20.0))) as client:
        worst, started = alerts.WorstCalls(client, timeout=5.0), sim.clock()
        for _ in range(3):
            alert = await worst.added_to(FIRED)
        assert sim.clock() - started < 6
    assert alert.note == "the worst calls took longer than 5 s"


async def test_calls_that_are_too_old_to_be_listed_are_said():
    sim = simulated("premium", at=NOON + 30 * DAY, world=WORLD)
    async with sim.client() as client:
        alert = await alerts.WorstCalls(client).added_to(FIRED)
    assert alert.note.startswith("the worst calls could not all be looked up: ")


async def test_a_moment_without_a_bad_call_is_said():
    async with simulated("premium", at=NOON + 600, world=World(seed=1, calls_per_hour=0.0)).client() as client:
        alert = await alerts.WorstCalls(client).added_to(FIRED)
    assert (alert.calls, alert.note) == ((), "no call that was in use has frozen")


async def test_ids_in_links_are_encoded():
    async with simulation().client() as client:
        worst = alerts.WorstCalls(client, link="https://ops.example.com/calls/{call_id}?tab={call_id}")
        (call, *_) = (await worst.added_to(FIRED)).calls
    assert call.link == f"https://ops.example.com/calls/{call.call_id}?tab={call.call_id}"
