"""Which `Date` headers set the service's clock; a wrong clock blocks no request and loses no count."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from helpers.wrong_dates import Misdated, Wrong

from agora_analytics import ENTERPRISE, AgoraError, AnalyticsClient, MemoryLedger, RateLimited, Retry
from agora_analytics.client import service_time
from agora_analytics.plans import CALL_LISTS
from agora_analytics.protocols import Request, Response, WallClock
from agora_analytics.quota import LedgerState, decode
from agora_analytics.quota.date_trust import DateSample, DateTrust
from agora_analytics.quota.limiters import Limiters
from agora_analytics.quota.service_time import ServiceTime
from agora_analytics.simulator import Service, Simulation, World

DAY = 86_400
HOUR = 3_600
NOON = 1_795_521_600
HTML_ERROR = b"<html>Bad gateway</html>"
REFUSAL = b'{"code":300,"message":"query time length limit error","data":null}'


def limiters_of(clock: WallClock, ledger: MemoryLedger | None = None) -> Limiters:
    return Limiters(ENTERPRISE, ledger or MemoryLedger(), account="a", clock=clock)


async def get_answer(limiters: Limiters, date: float | None, *, host: int = 0, error: Exception | None = None) -> None:
    """Wait for a second, then get an answer with this date."""
    await asyncio.sleep(1)
    with suppress(AgoraError):
        async with limiters.permit(CALL_LISTS) as permit:
            permit.answered(None if date is None else int(date), host)
            if error is not None:
                raise error


def clock_error(time: ServiceTime, clock: WallClock) -> float:
    return time.utc() - clock()


def client_of(simulation: Simulation, clock: WallClock, wrong, **options):
    transport = Misdated(simulation.transport(hosts=1), wrong)
    settings = {"transport": transport, "clock": clock, "retry": Retry(attempts=1)} | options
    return simulation.client(**settings), transport


async def try_request(client, end: float) -> bool:
    """Request a page of calls until about `end`; return whether it was answered."""
    try:
        await client.calls.page(int(end) - 2 * HOUR, int(end) - 60, page_size=1)
    except AgoraError:
        return False
    return True


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("ahead", [-DAY, -120, 120, 5 * DAY, 30 * DAY])
@pytest.mark.parametrize("response", [{}, {"status": 502, "body": HTML_ERROR}])
async def test_one_wrong_date_blocks_no_request_and_does_not_set_the_clock(simulation, clock, number, ahead, response):
    client, transport = client_of(simulation, clock, {number: Wrong(ahead, **response)})
    answered = []
    for _ in range(9):
        answered.append(await try_request(client, clock()))
        await asyncio.sleep(1)
    assert answered == [not (response and at == number) for at in range(1, 10)]
    assert transport.sent == 9
    assert -2 < service_time(client).utc() - clock() <= 0
    assert client.quota.confirmed


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, HTML_ERROR),
        (503, b'{"message":"busy"}'),
        (401, b'{"message":"no"}'),
        (404, b'{"message":"no Route matched"}'),
        (429, b'{"message":"API rate limit exceeded"}'),
        (200, HTML_ERROR),
        (200, b'{"code":200,"data":[{"ts":17900\xff\xfe'),
        (200, b'{"code":0,"message":"success"}'),
    ],
)
async def test_the_date_of_a_response_that_is_not_the_apis_is_ignored(simulation, clock, status, body):
    client, _ = client_of(simulation, clock, {1: Wrong(0, status=status, body=body)}, max_wait=0.5)
    assert not await try_request(client, clock())
    assert (await client.quota.snapshot()).clock is None
    assert not client.quota.confirmed


async def test_the_date_of_an_api_error_sets_the_clock(simulation, clock):
    client, _ = client_of(simulation, lambda: clock() + HOUR, {1: Wrong(0, body=REFUSAL)})
    assert not await try_request(client, clock())
    assert abs(clock_error(service_time(client), clock)) < 2


async def test_the_date_of_a_rate_limit_error_sets_the_clock(clock):
    limiters = limiters_of(lambda: clock() - HOUR)
    refusal = RateLimited("qps limit error")
    refusal.unit = "second"
    await get_answer(limiters, clock() + 1, error=refusal)
    assert abs(clock_error(limiters.time, clock)) < 2
    await get_answer(limiters, clock() + 1, error=refusal)
    assert limiters.time.confirmed


async def test_an_answer_that_agrees_with_the_wall_clock_confirms_the_clock(clock):
    limiters = limiters_of(clock)
    assert not limiters.time.confirmed
    await get_answer(limiters, None)
    assert not limiters.time.confirmed
    await get_answer(limiters, clock())
    assert limiters.time.confirmed


async def test_a_second_answer_confirms_a_clock_that_the_wall_clock_contradicts(clock):
    limiters = limiters_of(lambda: clock() - HOUR)
    await get_answer(limiters, clock() + 1)
    assert abs(clock_error(limiters.time, clock)) < 2
    assert not limiters.time.confirmed
    await get_answer(limiters, clock() + 1)
    assert limiters.time.confirmed


async def test_a_repeated_date_does_not_confirm_the_clock(clock):
    """A cache sends a header that it stored."""
    limiters = limiters_of(lambda: clock() - HOUR)
    date = clock()
    for _ in range(20):
        await get_answer(limiters, date)
        assert not limiters.time.confirmed


async def test_a_confirmed_clock_restarts_only_after_two_answers_of_one_host(clock):
    limiters = limiters_of(clock)
    await get_answer(limiters, clock())
    for host in (1, 0, 2):
        await get_answer(limiters, clock() + DAY, host=host)
        assert abs(clock_error(limiters.time, clock)) < 2
        assert not limiters.time.confirmed
    await get_answer(limiters, clock() + DAY, host=1)
    assert clock_error(limiters.time, clock) > DAY - 3


async def test_an_answer_that_agrees_with_the_clock_drops_the_candidate_of_its_host(clock):
    limiters = limiters_of(clock)
    for ahead in (0, DAY, 0, DAY, 0):
        await get_answer(limiters, clock() + ahead)
        assert abs(clock_error(limiters.time, clock)) < 2
        assert limiters.time.confirmed is (ahead == 0)


async def test_the_number_of_stored_candidates_is_bounded(clock):
    ledger = MemoryLedger()
    limiters = limiters_of(clock, ledger)
    await get_answer(limiters, clock())
    for host in range(100):
        await get_answer(limiters, clock() + DAY, host=host)
    assert len(ledger.state("a").trust.candidates) < 20


@pytest.mark.parametrize(("end", "message"), [(NOON + DAY, "in the future"), (NOON - 30 * DAY, "older than the plan")])
async def test_a_span_fails_validation_only_by_a_confirmed_clock(simulation, clock, end, message):
    client, transport = client_of(simulation, clock, {})
    assert not await try_request(client, end)
    assert transport.sent == 1
    with pytest.raises(ValueError, match=message):
        await try_request(client, end)
    assert transport.sent == 1


@pytest.mark.parametrize("ahead", [-30 * DAY, -HOUR, 600, HOUR, 30 * DAY])
async def test_a_wrong_wall_clock_blocks_no_request(simulation, clock, ahead):
    client, transport = client_of(simulation, lambda: clock() + ahead, {})
    for number in range(1, 5):
        assert await try_request(client, clock())
        assert transport.sent == number
        assert abs(clock_error(service_time(client), clock)) < 2
        await asyncio.sleep(1)


async def test_without_quotas_the_clock_is_learned_too(simulation, clock):
    client, _ = client_of(simulation, lambda: clock() - HOUR, {}, quotas=False)
    await try_request(client, clock())
    assert abs(clock_error(service_time(client), clock)) < 2


async def test_after_a_sleep_of_the_machine_one_answer_restarts_the_clock(clock):
    slept = 0.0

    def now() -> float:
        return clock() + slept

    limiters = limiters_of(now)
    await get_answer(limiters, now())
    slept = 3 * HOUR
    assert not limiters.time.confirmed
    await get_answer(limiters, now())
    assert abs(clock_error(limiters.time, now)) < 2
    assert limiters.time.confirmed


async def test_a_step_of_the_wall_clock_does_not_change_the_service_clock(clock):
    stepped = 0.0
    limiters = limiters_of(lambda: clock() + stepped)
    await get_answer(limiters, clock())
    for stepped in (HOUR, -HOUR, 40 * DAY):  # noqa: B007 - the clock reads it
        assert not limiters.time.confirmed
        assert abs(clock_error(limiters.time, clock)) < 2
        await get_answer(limiters, clock())
        assert limiters.time.confirmed
        assert abs(clock_error(limiters.time, clock)) < 2


async def test_a_clock_that_two_wrong_dates_set_recovers(simulation, clock):
    """By such a clock every request fails validation; some must be sent all the same, to correct the clock."""
    client, transport = client_of(simulation, clock, {2: Wrong(-120), 3: Wrong(-120)})
    for _ in range(3):
        await try_request(client, clock())
        await asyncio.sleep(2)
    with pytest.raises(ValueError, match="in the future"):
        await try_request(client, clock())
    assert transport.sent == 3
    await asyncio.sleep(700)
    for _ in range(3):
        assert await try_request(client, clock())
        await asyncio.sleep(2)
    assert abs(clock_error(service_time(client), clock)) < 2


async def used_today(limiters: Limiters) -> int:
    states = await limiters.snapshot()
    return next(state.used for state in states if (state.counter, state.unit) == ("call_lists", "day"))


@pytest.mark.parametrize("number", [1, 8])
@pytest.mark.parametrize("ahead", [-40 * DAY, -DAY, DAY, 5 * DAY])
async def test_a_wrong_date_loses_nothing_of_the_days_count(clock, number, ahead):
    limiters = limiters_of(clock)
    for at in range(1, 12):
        await get_answer(limiters, clock() + (ahead if at == number else 0))
    assert await used_today(limiters) == 11


async def test_the_days_count_survives_a_clock_that_wrong_dates_set(clock):
    limiters = limiters_of(clock)
    for at in range(1, 12):
        await get_answer(limiters, clock() + (5 * DAY if at in {6, 7, 8} else 0))
    assert abs(clock_error(limiters.time, clock)) < 2
    # The three requests that were answered while the clock was wrong are counted on another day.
    assert await used_today(limiters) == 11 - 3


async def test_old_days_are_pruned_however_often_the_clock_restarts(clock):
    ledger = MemoryLedger()
    limiters = limiters_of(clock, ledger)
    for jump in range(30):
        for _ in range(3):
            await get_answer(limiters, clock() + jump * 10 * DAY)
    assert len(ledger.state("a").counter("call_lists").used_per_day) <= 8


async def test_a_daily_limit_error_ends_the_day_of_its_date_header(clock):
    """The host is a day behind: its date says nothing about the day that the service has closed."""
    service = Service(World(seed=1), ENTERPRISE.with_limits("call_lists", per_day=1), clock=clock)
    client, transport = client_of(Simulation(service), lambda: clock() - DAY, {}, plan="enterprise", max_wait=2)
    for _ in range(5):
        await try_request(client, clock())
        await asyncio.sleep(1)
    assert transport.sent == 2


def test_a_stored_state_with_missing_and_unknown_fields_is_read():
    stored = b'{"clock":{"floor":5.0},"counters":{"lists":{"used_per_day":{"7":3},"limits":{"day":5}}},"issued":9,'
    state = decode(stored + b'"format":1}')
    assert (state.clock.floor, state.issued, state.counter("lists").used_per_day) == (5.0, 9, {7: 3})
    assert not state.trust.confirmed
    with pytest.raises(ValueError, match="in format 0 instead of 1"):
        decode(stored + b'"format":0}')


def test_a_stored_state_keeps_which_dates_are_trusted():
    accepted, candidate = DateSample(1.0, 1.2, NOON), DateSample(2.0, 2.2, NOON + 86_400)
    trust = DateTrust(
        accepted, confirmed=True, contradicted=True, agreed_at=1.2, wall_offset=NOON, candidates={1: candidate}
    )
    assert decode(LedgerState(trust=trust).encode()).trust == trust


async def test_a_search_for_the_newest_calls_passes_validation_by_a_ledgers_clock(simulation):
    """The ledger knows the time to a second; the search begins by the wall clock, before the ledger is read."""
    ledger = MemoryLedger()
    slow = simulation.transport(latency=(0.3, 0.3))
    async with simulation.client(ledger=ledger, transport=slow) as client:
        await client.calls.page(NOON - 7_200, NOON - 3_600)
        await asyncio.sleep(1.2 - asyncio.get_running_loop().time())
        behind = service_time(client).utc()
    async with simulation.client(ledger=ledger) as client:
        newest = client.calls.recent(600)
        assert newest.end > int(behind) - 21
        assert len([call async for call in client.calls.search(*newest)]) > 5


class FixedDate:
    """A service without data that sends the same `Date` with all its responses."""

    hosts = 1

    def __init__(self, date: str) -> None:
        self._date = date

    async def send(self, request: Request, host: int = 0) -> Response:
        return Response(200, {"Date": self._date}, b'{"code":200,"call_lists":[],"data":[]}')

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "date",
    [f"{day} GMT" for day in ("Fri, 31 Dec 9999 23:59:59", "Thu, 31 Dec 2099 23:59:59", "Thu, 01 Jan 1970 00:00:00")],
)
async def test_the_newest_data_can_be_requested_whatever_the_date_header_says(clock, date):
    async with AnalyticsClient(
        "id", "secret", app_id="app", plan=ENTERPRISE, transport=FixedDate(date), clock=clock
    ) as client:
        for _ in range(3):
            assert (await client.calls.page(*client.calls.recent(600))).items == ()
            assert [call async for call in client.calls.search(*client.calls.recent(DAY))] == []
            assert await client.realtime.usage("userCount", *client.realtime.recent(600), product="Native") == ()
            assert await client.insights.usage("userCount", *client.insights.recent(DAY)) == ()
            assert str(await client.quota.snapshot())
    assert asyncio.get_running_loop().time() < 120
