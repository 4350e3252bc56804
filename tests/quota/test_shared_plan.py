"""Another program uses the same plan: after some days streams plan for it, and each day's limit lasts to its end."""

from __future__ import annotations

import asyncio
from collections import Counter

import attrs
import pytest
from helpers.streaming import DAY, FREEZES, NOON, USERS, WEB, consuming, of_type, simulated

from agora_analytics import Gap, Series
from agora_analytics.plans import PREMIUM
from agora_analytics.quota import Budget
from agora_analytics.simulator import OtherProgram
from agora_analytics.streams.watch.schedule import PollSchedule

MIDNIGHT = NOON + DAY // 2
SERIES = (USERS, FREEZES, WEB, Series("channelCount", product="Native"), Series("audioFreezeRate", product="WebRTC"))


async def lost_by_day(days: int, other: OtherProgram) -> list[int]:
    """Watch five series on Premium for so many days; return the seconds lost on each day for lack of quota."""
    simulation = simulated(at=MIDNIGHT, others=[other])
    found: Counter[int] = Counter()
    async with simulation.client() as client:
        async for event in client.realtime.watch(*SERIES, start=MIDNIGHT, stop=MIDNIGHT + days * DAY):
            if isinstance(event, Gap):
                assert event.reason == "quota"
                found[(event.span.end - MIDNIGHT) // DAY] += event.span.duration
        states = await client.quota.snapshot()
        state = next(state for state in states if (state.counter, state.unit) == ("realtime", "day"))
    assert (state.others > 0) == bool(found)
    return [found[day] for day in range(days)]


@pytest.mark.slow
@pytest.mark.parametrize(("days", "max_lost"), [(4, 3 * 3_600), (7, 1_800)])
async def test_a_watch_leaves_other_programs_what_they_use_every_day(days, max_lost):
    lost = await lost_by_day(days, OtherProgram(counter="realtime", share=1 / 3))
    # The first day cannot be planned for; and it is unknown whether that day was counted from its start.
    assert lost[0] > 4 * 3_600
    assert sorted(lost[1:], reverse=True) == lost[1:]
    assert lost[-1] < max_lost


@pytest.mark.slow
async def test_one_day_of_another_program_costs_no_window_of_later_days():
    for_one_day = OtherProgram(counter="realtime", share=1 / 2, start=MIDNIGHT + DAY, end=MIDNIGHT + 2 * DAY)
    lost = await lost_by_day(5, for_one_day)
    assert lost[1] > 0
    assert [lost[0], *lost[2:]] == [0, 0, 0, 0]


@pytest.mark.slow
async def test_one_day_of_another_program_costs_no_series_a_later_window_whatever_its_weight():
    simulation = simulated(at=MIDNIGHT)
    weighted = [attrs.evolve(series, weight=4 if number == 0 else 1) for number, series in enumerate(SERIES)]
    asyncio.get_running_loop().call_later(DAY + 1_000, simulation.service.spend, "realtime", 440)
    lost: Counter[int] = Counter()
    async with simulation.client() as client:
        async for event in client.realtime.watch(*weighted, start=MIDNIGHT, stop=MIDNIGHT + 4 * DAY):
            if isinstance(event, Gap) or "not requested" in event.missing.values():
                lost[(event.span.start - MIDNIGHT) // DAY] += event.span.duration
        assert any(state.others for state in await client.quota.snapshot())
    assert lost[1] > 0
    assert (lost[0], lost[2], lost[3]) == (0, 0, 0)


@pytest.mark.slow_except("right")
@pytest.mark.parametrize("clock_error", [0, -14 * 3_600, -30 * 3_600], ids=["right", "behind", "far behind"])
async def test_a_count_that_began_within_a_day_shows_no_use_by_other_programs(clock_error):
    simulation = simulated(at=NOON)
    simulation.service.spend("realtime", 450)  # by an earlier process of our own, with a ledger in memory
    async with simulation.client(clock=lambda: simulation.clock() + clock_error) as client:
        async with client.realtime.watch(USERS, start=NOON, stop=NOON + DAY) as events:
            lost = [event async for event in events if isinstance(event, Gap)]
        assert [gap.reason for gap in lost] == ["quota"]
        assert all(state.others == 0 for state in await client.quota.snapshot())


def test_a_poll_that_failed_near_midnight_is_retried_whatever_is_left_to_other_programs():
    schedule = PollSchedule([1] * 5, 1)
    for place in range(5):
        schedule.record_success(place, 920)
        schedule.record_failure(place, 1_000)
    budget = Budget(requests=300, seconds=1_480, others=400)
    assert schedule.next_due(1_000, budget.leaving(schedule.requests_needed(74, 94)), 74) == 1_001


@pytest.mark.slow_except("0-follow", "0-watch", "90000-watch", "-43200-follow", "-600-follow")
@pytest.mark.parametrize("kind", ["watch", "follow"])
@pytest.mark.parametrize("clock_error", [0, -600, -2 * 3_600, -12 * 3_600, -25 * 3_600, 2 * 3_600, 25 * 3_600])
async def test_a_day_that_was_spent_before_the_start_ends_at_the_services_midnight(kind, clock_error):
    """The first answer shows the service's time, which a wrong wall clock contradicts: only one request is refused."""
    simulation = simulated(at=MIDNIGHT - 7_000)
    simulation.host_clock.wrong = clock_error
    for counter in ("realtime", "call_lists"):
        simulation.service.spend(counter, 100_000)
    async with simulation.client() as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow()
        async with consuming(stream):
            await asyncio.sleep(7_000 + 1_800)
    sent = [entry.at - MIDNIGHT for entry in simulation.service.log]
    assert sum(at < 0 for at in sent) == 1
    assert min(at for at in sent if at >= 0) < 30
    assert simulation.service.refusals["qpd"] == 1
    assert sum(at > 0 for at in sent) > 5


@pytest.mark.parametrize("ahead", [5, 60, 400])
async def test_a_spent_day_that_ends_late_by_the_date_header_does_not_cost_the_next_day(ahead):
    simulation = simulated(at=MIDNIGHT - 1_000, date_ahead=ahead)
    async with simulation.client() as client, consuming(client.realtime.watch(USERS)) as events:
        await asyncio.sleep(300)
        simulation.service.spend("realtime", 100_000)
        await asyncio.sleep(700 + 2 * 3_600)
    assert events[-1].span.end > MIDNIGHT + 2 * 3_600 - 600
    assert simulation.service.refusals["qpd"] < 20


async def test_a_forecast_soon_after_midnight_is_for_the_next_attempt_and_not_the_next_day():
    simulation = simulated(at=MIDNIGHT - 1_000, date_ahead=60)
    simulation.service.spend("realtime", 100_000)
    async with simulation.client() as client, consuming(client.realtime.watch(USERS)):
        await asyncio.sleep(1_000 - 60 + 30)
        assert simulation.service.refusals["qpd"] > 1
        assert (await client.quota.forecast(1, "realtime")).seconds < 60


@pytest.mark.slow
@pytest.mark.parametrize("limit", [100, 200])
async def test_a_watch_plans_every_later_day_with_a_daily_limit_that_an_error_named(limit):
    """A learned limit expires after a day. One request brings 40 minutes of windows, so a few dozen a day suffice."""
    simulation = simulated(PREMIUM.with_limits("realtime", per_day=limit))
    async with (
        simulation.client(plan=PREMIUM) as client,
        consuming(client.realtime.watch(USERS)) as events,
    ):
        await asyncio.sleep(6 * DAY)
    assert all(gap.span.start < NOON + DAY for gap in of_type(Gap, events))
    assert simulation.service.refusals["qpd"] <= 7
