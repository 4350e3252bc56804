"""The rate limits of a plan, against a service that counts in fixed windows of its own clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random

import pytest

from agora_analytics import PREMIUM, MemoryLedger, Plan, Priority, QuotaExhausted, RateLimited, TransportError
from agora_analytics.plans import CALL_LISTS, INSIGHT_USAGE, REALTIME_QUALITY, REALTIME_USAGE, Unit
from agora_analytics.protocols import WallClock
from agora_analytics.quota.limiters import Limiters
from agora_analytics.simulator import Fault, Faults, Service, Simulation, World

DAY = 86_400


def limiters_of(plan: Plan, clock: WallClock, *, account: str = "a", ledger: MemoryLedger | None = None) -> Limiters:
    return Limiters(plan, ledger or MemoryLedger(), account=account, clock=clock)


async def spend(
    limiters: Limiters, endpoint=REALTIME_USAGE, *, seconds: float = 0.0, max_wait: float | None = None
) -> float:
    """Send one request that is answered after so many seconds; return when it was sent."""
    async with limiters.permit(endpoint, max_wait) as permit:
        sent = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        permit.answered(None)
    return sent


async def waiting(limiters: Limiters) -> int:
    """Return how many requests of the real-time counter wait."""
    return next(state.waiting for state in await limiters.snapshot() if state.counter == "realtime")


async def test_a_permit_is_free_one_window_after_the_answer(clock):
    limiters = limiters_of(PREMIUM, clock)
    sent = [await spend(limiters, seconds=5) for _ in range(4)]
    assert sent == pytest.approx([0, 5, 10, 65.1], abs=0.01)


async def test_concurrent_requests_are_sent_in_order_and_within_the_plan(clock):
    limiters = limiters_of(PREMIUM, clock)
    sent = await asyncio.gather(*(spend(limiters, seconds=1) for _ in range(9)))
    assert sent == sorted(sent)
    assert sent == pytest.approx([0, 0, 0, 61.1, 61.1, 61.1, 122.2, 122.2, 122.2], abs=0.01)


@pytest.mark.slow_except("delays0-0", "delays0-1", "delays1-1", "delays1-4")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("delays", [(0.0, 0.03), (0.01, 0.31)])
async def test_the_service_refuses_no_request_whatever_the_latency(clock, seed, delays):
    random = Random(seed)
    service = Service(World(seed=1), "enterprise", clock=lambda: clock() + random.uniform(0, 0.04))
    simulation = Simulation(service)

    def draw() -> tuple[float, float]:
        return random.uniform(*delays) + (0.2 if random.random() < 0.01 else 0), random.uniform(*delays)

    client = simulation.client(transport=simulation.transport(latency=draw), clock=clock, max_wait=None)
    start, end = client.calls.recent(600)
    await asyncio.gather(*(client.calls.page(start, end, page_size=1) for _ in range(300)))
    assert service.refusals == {}
    # At the 10 per second of the plan, less the cost of safety margins.
    assert asyncio.get_running_loop().time() < 60


async def test_a_request_over_the_daily_limit_is_not_sent_and_raises_with_the_reset(simulation):
    plan = PREMIUM.with_limits("call_lists", per_day=3, per_second=100)
    client = simulation.client(plan=plan)
    start, end = client.calls.recent(600)
    for _ in range(3):
        await client.calls.page(start, end)
    started = asyncio.get_running_loop().time()
    with pytest.raises(QuotaExhausted, match=r"3 requests per day of 'call_lists' are spent") as caught:
        await client.calls.page(start, end)
    assert asyncio.get_running_loop().time() == started
    assert (caught.value.unit, caught.value.limit, caught.value.group) == ("day", 3, "call_lists")
    assert caught.value.resets_in == pytest.approx(DAY / 2, abs=1)
    assert "request" in vars(caught.value)
    assert simulation.service.counts == {"call_lists": 3}


async def test_a_wait_longer_than_max_wait_raises_before_waiting(simulation):
    client = simulation.client(max_wait=10)
    start, end = client.realtime.recent(600)
    for _ in range(3):
        await client.realtime.usage("userCount", start, end, product="Native")
    with pytest.raises(QuotaExhausted, match="per minute") as caught:
        await client.realtime.usage("userCount", start, end, product="Native")
    assert caught.value.resets_in == pytest.approx(60, abs=1.5)
    assert asyncio.get_running_loop().time() < 1


async def test_max_wait_ends_a_wait_of_unknown_length(clock):
    limiters = limiters_of(PREMIUM, clock)
    slow = [asyncio.create_task(spend(limiters, seconds=200)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(QuotaExhausted):
        await spend(limiters, max_wait=70)
    assert 60 <= asyncio.get_running_loop().time() < 71
    assert await waiting(limiters) == 0
    await asyncio.gather(*slow)


async def test_without_max_wait_a_request_waits_until_the_next_day(clock):
    limiters = limiters_of(PREMIUM.with_limits("realtime", per_day=2), clock)
    sent = [await spend(limiters) for _ in range(3)]
    assert sent[2] == pytest.approx(DAY / 2 + 5, abs=0.1)


async def test_a_request_shortly_before_midnight_is_charged_to_both_days(clock):
    limiters = limiters_of(PREMIUM.with_limits("call_lists", per_day=2, per_second=100), clock)
    await asyncio.sleep(DAY / 2 - 3)
    await spend(limiters, CALL_LISTS)
    await asyncio.sleep(60)
    await spend(limiters, CALL_LISTS)
    with pytest.raises(QuotaExhausted):
        await spend(limiters, CALL_LISTS, max_wait=60)


async def test_a_request_in_flight_at_midnight_is_charged_to_the_new_day(clock):
    ledger = MemoryLedger()
    limiters = limiters_of(PREMIUM, clock, ledger=ledger)
    await asyncio.sleep(DAY / 2 - 20)
    await spend(limiters, CALL_LISTS, seconds=40)
    states = await limiters.snapshot()
    today = next(state for state in states if (state.counter, state.unit) == ("call_lists", "day"))
    assert (today.used, today.left) == (1, 1_999)


async def test_endpoints_of_one_table_share_a_counter_unless_it_is_split(clock):
    shared = limiters_of(PREMIUM, clock)
    split = limiters_of(PREMIUM.split("realtime"), clock)
    for limiters, expected in ((shared, 60.1), (split, 0)):
        started = asyncio.get_running_loop().time()
        for _ in range(3):
            await spend(limiters, REALTIME_USAGE)
        sent = await spend(limiters, REALTIME_QUALITY)
        assert sent - started == pytest.approx(expected, abs=0.01)


async def test_a_cancelled_waiter_leaves_the_queue_and_takes_no_permit(clock):
    limiters = limiters_of(PREMIUM, clock)
    for _ in range(3):
        await spend(limiters)
    waiters = [asyncio.create_task(spend(limiters)) for _ in range(4)]
    await asyncio.sleep(1)
    waiters[0].cancel()
    waiters[2].cancel()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, float, asyncio.CancelledError, float]
    assert await waiting(limiters) == 0
    day = [state for state in await limiters.snapshot() if state.counter == "realtime"][-1]
    assert day.used == 5


async def test_a_waiter_that_is_cancelled_when_it_gets_the_turn_passes_the_turn_on(clock):
    limiters = limiters_of(PREMIUM, clock)
    for _ in range(2):
        await spend(limiters)
    unsent = TransportError("no connection")
    unsent.sent = False
    with suppress(TransportError):
        async with limiters.permit(REALTIME_USAGE):
            first, second = (asyncio.create_task(spend(limiters)) for _ in range(2))
            await asyncio.sleep(1)
            raise unsent
    first.cancel()  # it has the turn, and has not run since
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, float]
    assert results[1] == pytest.approx(1, abs=0.01)
    assert await waiting(limiters) == 0
    assert [state.used for state in await limiters.snapshot() if state.counter == "realtime"] == [3, 3]


async def test_an_unsent_request_is_refunded_and_a_broken_one_is_charged_two_seconds_longer(clock):
    limiters = limiters_of(PREMIUM, clock)
    unsent = TransportError("no connection")
    unsent.sent = False
    for error in (unsent, TransportError("reset")):
        with pytest.raises(TransportError):
            async with limiters.permit(REALTIME_USAGE):
                raise error
    minute, day = (state for state in await limiters.snapshot() if state.counter == "realtime")
    assert (minute.used, day.used) == (1, 1)
    await spend(limiters)
    await spend(limiters)
    assert await spend(limiters) == pytest.approx(60.1, abs=0.01)
    assert await spend(limiters) == pytest.approx(60.1, abs=0.01)
    assert await spend(limiters) == pytest.approx(62.1, abs=0.01)


async def test_a_request_cancelled_in_flight_is_charged_for_a_window_and_two_seconds(clock):
    limiters = limiters_of(PREMIUM, clock)
    in_flight = [asyncio.create_task(spend(limiters, seconds=100)) for _ in range(3)]
    await asyncio.sleep(1)
    for task in in_flight:
        task.cancel()
    await asyncio.gather(*in_flight, return_exceptions=True)
    assert await spend(limiters) == pytest.approx(1 + 2 + 60.1, abs=0.01)


async def send_refused(limiters: Limiters, unit: Unit, limit: int | None = None, *, seconds: float = 0.0) -> None:
    """Send a request that gets a rate-limit error."""
    error = RateLimited(f"{unit} limit error")
    error.unit, error.limit = unit, limit
    with suppress(RateLimited):
        async with limiters.permit(REALTIME_USAGE) as permit:
            await asyncio.sleep(seconds)
            permit.answered(None)
            raise error


async def test_a_rate_limit_error_blocks_the_counter_for_a_window_and_lowers_its_limit(clock):
    limiters = limiters_of(PREMIUM, clock)
    await send_refused(limiters, "minute", 2)
    sent = [await spend(limiters) for _ in range(3)]
    assert sent == pytest.approx([60.1, 60.1, 120.2], abs=0.01)


async def test_a_higher_limit_is_believed_when_it_is_named_twice(clock):
    limiters = limiters_of(PREMIUM, clock)
    for limit in (3, 5):
        await send_refused(limiters, "minute", 5)
        minute, _ = (state for state in await limiters.snapshot() if state.counter == "realtime")
        assert minute.limit == limit
        await asyncio.sleep(61)


async def test_rate_limit_errors_of_requests_in_flight_block_the_counter_once(clock):
    limiters = limiters_of(PREMIUM, clock)
    await asyncio.gather(*(send_refused(limiters, "minute", seconds=delay) for delay in (1, 5, 30)))
    minute, _ = (state for state in await limiters.snapshot() if state.counter == "realtime")
    assert (minute.refusals, minute.left) == (3, 0)
    assert await spend(limiters) == pytest.approx(1 + 60.1, abs=0.01)  # not 30 + 60


async def test_a_daily_limit_error_ends_the_day_whatever_the_ledger_counted(clock):
    limiters = limiters_of(PREMIUM, clock)
    await send_refused(limiters, "day", 100)
    with pytest.raises(QuotaExhausted) as caught:
        await spend(limiters, max_wait=60)
    assert (caught.value.unit, caught.value.limit) == ("day", 100)
    day = [state for state in await limiters.snapshot() if state.counter == "realtime"][-1]
    assert (day.left, day.used) == (0, 100)
    assert await spend(limiters) > DAY / 2


async def test_no_request_waits_in_the_queue_for_a_spent_day(clock):
    limiters = limiters_of(PREMIUM.with_limits("realtime", per_day=3), clock)
    for _ in range(3):
        await spend(limiters)
    with pytest.raises(QuotaExhausted) as caught:
        await spend(limiters, max_wait=120)
    assert caught.value.unit == "day"
    assert asyncio.get_running_loop().time() < 1


async def test_a_snapshot_shows_used_left_waiting_and_reset(clock):
    limiters = limiters_of(PREMIUM, clock)
    for _ in range(3):
        await spend(limiters)
    waiter = asyncio.create_task(spend(limiters))
    await asyncio.sleep(20)
    minute, day = (state for state in await limiters.snapshot() if state.counter == "realtime")
    assert (minute.limit, minute.used, minute.left, minute.waiting) == (3, 3, 0, 1)
    assert minute.resets_in == pytest.approx(40.1, abs=0.01)
    assert minute.priorities == {Priority.INTERACTIVE: 1, Priority.STREAM: 0, Priority.EXPORT: 0}
    assert (day.limit, day.used, day.left, day.resets_in) == (480, 3, 477, 0.0)
    await waiter


async def test_clients_of_one_ledger_and_account_share_its_counts(clock):
    ledger = MemoryLedger()
    plan = PREMIUM.with_limits("insight_usage", per_day=2)
    one, two = (limiters_of(plan, clock, ledger=ledger) for _ in range(2))
    other = limiters_of(plan, clock, ledger=ledger, account="b")
    await spend(one, INSIGHT_USAGE)
    await spend(two, INSIGHT_USAGE)
    with pytest.raises(QuotaExhausted):
        await spend(one, INSIGHT_USAGE, max_wait=1)
    await spend(other, INSIGHT_USAGE, max_wait=1)


async def test_a_memory_ledger_prunes_old_days(clock):
    ledger = MemoryLedger()
    limiters = limiters_of(PREMIUM, clock, ledger=ledger)
    for _ in range(10):
        await spend(limiters, CALL_LISTS)
        await asyncio.sleep(DAY)
    state = await ledger.change("a", lambda state: state)
    assert len(state.counter("call_lists").used_per_day) <= 3
    assert len(state.counter("call_lists").completed) <= 1


async def test_without_quotas_requests_over_the_limit_are_sent_and_refused(simulation):
    client = simulation.client(quotas=False)
    assert (await client.quota.snapshot()).states == ()
    start, end = client.realtime.recent(600)
    outcomes = Counter()
    for _ in range(5):
        try:
            await client.realtime.usage("userCount", start, end, product="Native")
        except RateLimited as error:
            outcomes[error.unit] += 1
    assert outcomes == {"minute": 2}


async def test_polling_through_network_faults_is_never_refused(clock):
    service = Service(World(seed=3), "premium", clock=clock)
    service.faults = Faults.chance(
        0.05, [Fault("reset"), Fault("reset_after"), Fault("status", status=503), Fault("cut")]
    )
    simulation = Simulation(service)
    client = simulation.client(transport=simulation.transport(latency=(0.02, 0.05)), max_wait=None)
    polls = 0
    while asyncio.get_running_loop().time() < DAY / 2 - 200:
        start, end = client.realtime.recent(600)
        await client.realtime.usage("userCount", start, end, product="Native")
        polls += 1
        await asyncio.sleep(100)
    assert service.refusals == {}
    assert 400 < polls < 440
