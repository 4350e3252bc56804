"""Which answers the clock believes, and what is never given up because a clock says so."""

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
from agora_analytics.quota.limiters import Limiters
from agora_analytics.quota.service_time import ServiceTime
from agora_analytics.simulator import Service, Simulation, World

DAY = 86_400
HOUR = 3_600
NOON = 1_795_521_600
PAGE = b"<html>Bad gateway</html>"
REFUSED = b'{"code":300,"message":"query time length limit error","data":null}'


def limiters_of(clock: WallClock, ledger: MemoryLedger | None = None) -> Limiters:
    return Limiters(ENTERPRISE, ledger or MemoryLedger(), account="a", clock=clock)


async def answer(limiters: Limiters, date: float | None, *, host: int = 0, error: Exception | None = None) -> None:
    """Get an answer of this date, a second after the last."""
    await asyncio.sleep(1)
    with suppress(AgoraError):
        async with limiters.permit(CALL_LISTS) as permit:
            permit.answered(None if date is None else int(date), host)
            if error is not None:
                raise error


def off(time: ServiceTime, clock: WallClock) -> float:
    return time.utc() - clock()


def client_of(simulation: Simulation, clock: WallClock, wrong, **options):
    transport = Misdated(simulation.transport(hosts=1), wrong)
    settings = {"transport": transport, "clock": clock, "retry": Retry(attempts=1)} | options
    return simulation.client(**settings), transport


async def ask(client, at: float) -> bool:
    """Ask for the last hour and tell whether that was answered."""
    try:
        await client.calls.page(int(at) - 2 * HOUR, int(at) - 60, page_size=1)
    except AgoraError:
        return False
    return True


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("ahead", [-DAY, -120, 120, 5 * DAY, 30 * DAY])
@pytest.mark.parametrize("what", [{}, {"status": 502, "body": PAGE}])
async def test_one_wrong_date_refuses_nothing_and_leaves_the_clock_right(simulation, clock, number, ahead, what):
    client, transport = client_of(simulation, clock, {number: Wrong(ahead, **what)})
    answered = []
    for _ in range(9):
        answered.append(await ask(client, clock()))
        await asyncio.sleep(1)
    assert answered == [not (what and at == number) for at in range(1, 10)]
    assert transport.sent == 9
    assert -2 < service_time(client).utc() - clock() <= 0
    assert client.quota.confirmed


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, PAGE),
        (503, b'{"message":"busy"}'),
        (401, b'{"message":"no"}'),
        (404, b'{"message":"no Route matched"}'),
        (429, b'{"message":"API rate limit exceeded"}'),
        (200, PAGE),
        (200, b'{"code":200,"data":[{"ts":17900\xff\xfe'),
        (200, b'{"code":0,"message":"success"}'),
    ],
)
async def test_an_answer_that_is_not_the_apis_teaches_nothing(simulation, clock, status, body):
    client, _ = client_of(simulation, clock, {1: Wrong(0, status=status, body=body)}, max_wait=0.5)
    assert not await ask(client, clock())
    assert (await client.quota.snapshot()).clock is None
    assert not client.quota.confirmed


async def test_a_refusal_by_the_api_itself_teaches_the_time(simulation, clock):
    client, _ = client_of(simulation, lambda: clock() + HOUR, {1: Wrong(0, body=REFUSED)})
    assert not await ask(client, clock())
    assert abs(off(service_time(client), clock)) < 2


async def test_a_rate_limit_error_teaches_the_time_too(clock):
    limiters = limiters_of(lambda: clock() - HOUR)
    refusal = RateLimited("qps limit error")
    refusal.unit = "second"
    await answer(limiters, clock() + 1, error=refusal)
    assert abs(off(limiters.time, clock)) < 2
    await answer(limiters, clock() + 1, error=refusal)
    assert limiters.time.confirmed


async def test_a_clock_is_confirmed_by_an_answer_that_agrees_with_the_host(clock):
    limiters = limiters_of(clock)
    assert not limiters.time.confirmed
    await answer(limiters, None)
    assert not limiters.time.confirmed
    await answer(limiters, clock())
    assert limiters.time.confirmed


async def test_where_the_host_disagrees_a_later_answer_confirms_the_clock(clock):
    limiters = limiters_of(lambda: clock() - HOUR)
    await answer(limiters, clock() + 1)
    assert abs(off(limiters.time, clock)) < 2
    assert not limiters.time.confirmed
    await answer(limiters, clock() + 1)
    assert limiters.time.confirmed


async def test_the_same_date_twice_is_one_witness(clock):
    """A cache sends the header that it keeps."""
    limiters = limiters_of(lambda: clock() - HOUR)
    date = clock()
    for _ in range(20):
        await answer(limiters, date)
        assert not limiters.time.confirmed


async def test_a_confirmed_clock_restarts_from_two_answers_of_one_host_only(clock):
    limiters = limiters_of(clock)
    await answer(limiters, clock())
    for host in (1, 0, 2):
        await answer(limiters, clock() + DAY, host=host)
        assert abs(off(limiters.time, clock)) < 2
        assert not limiters.time.confirmed
    await answer(limiters, clock() + DAY, host=1)
    assert off(limiters.time, clock) > DAY - 3


async def test_an_answer_that_agrees_drops_the_candidate_of_its_host(clock):
    limiters = limiters_of(clock)
    for ahead in (0, DAY, 0, DAY, 0):
        await answer(limiters, clock() + ahead)
        assert abs(off(limiters.time, clock)) < 2
        assert limiters.time.confirmed is (ahead == 0)


async def test_the_candidates_of_many_hosts_are_bounded(clock):
    ledger = MemoryLedger()
    limiters = limiters_of(clock, ledger)
    await answer(limiters, clock())
    for host in range(100):
        await answer(limiters, clock() + DAY, host=host)
    assert len(ledger.state("a").trust.candidates) < 20


@pytest.mark.parametrize(("at", "told"), [(NOON + DAY, "in the future"), (NOON - 30 * DAY, "older than the plan")])
async def test_a_span_is_refused_without_asking_only_by_a_confirmed_clock(simulation, clock, at, told):
    client, transport = client_of(simulation, clock, {})
    assert not await ask(client, at)
    assert transport.sent == 1
    with pytest.raises(ValueError, match=told):
        await ask(client, at)
    assert transport.sent == 1


@pytest.mark.parametrize("ahead", [-30 * DAY, -HOUR, 600, HOUR, 30 * DAY])
async def test_a_host_clock_that_is_wrong_refuses_nothing(simulation, clock, ahead):
    client, transport = client_of(simulation, lambda: clock() + ahead, {})
    for number in range(1, 5):
        assert await ask(client, clock())
        assert transport.sent == number
        assert abs(off(service_time(client), clock)) < 2
        await asyncio.sleep(1)


async def test_without_quotas_the_time_is_learned_too(simulation, clock):
    client, _ = client_of(simulation, lambda: clock() - HOUR, {}, quotas=False)
    await ask(client, clock())
    assert abs(off(service_time(client), clock)) < 2


async def test_a_machine_that_slept_asks_and_is_right_after_one_answer(clock):
    slept = 0.0

    def now() -> float:
        return clock() + slept

    limiters = limiters_of(now)
    await answer(limiters, now())
    slept = 3 * HOUR
    assert not limiters.time.confirmed
    await answer(limiters, now())
    assert abs(off(limiters.time, now)) < 2
    assert limiters.time.confirmed


async def test_a_host_clock_that_is_stepped_changes_nothing(clock):
    stepped = 0.0
    limiters = limiters_of(lambda: clock() + stepped)
    await answer(limiters, clock())
    for stepped in (HOUR, -HOUR, 40 * DAY):  # noqa: B007 - the clock reads it
        assert not limiters.time.confirmed
        assert abs(off(limiters.time, clock)) < 2
        await answer(limiters, clock())
        assert limiters.time.confirmed
        assert abs(off(limiters.time, clock)) < 2


async def test_a_clock_that_two_wrong_dates_set_recovers(simulation, clock):
    """All is refused by the clock then: unless it is asked again now and then, nothing is sent ever more."""
    client, transport = client_of(simulation, clock, {2: Wrong(-120), 3: Wrong(-120)})
    for _ in range(3):
        await ask(client, clock())
        await asyncio.sleep(2)
    with pytest.raises(ValueError, match="in the future"):
        await ask(client, clock())
    assert transport.sent == 3
    await asyncio.sleep(700)
    for _ in range(3):
        assert await ask(client, clock())
        await asyncio.sleep(2)
    assert abs(off(service_time(client), clock)) < 2


async def used_today(limiters: Limiters) -> int:
    return next(one.used for one in await limiters.snapshot() if (one.counter, one.unit) == ("call_lists", "day"))


@pytest.mark.parametrize("number", [1, 8])
@pytest.mark.parametrize("ahead", [-40 * DAY, -DAY, DAY, 5 * DAY])
async def test_a_wrong_date_erases_nothing_of_the_days_count(clock, number, ahead):
    limiters = limiters_of(clock)
    for at in range(1, 12):
        await answer(limiters, clock() + (ahead if at == number else 0))
    assert await used_today(limiters) == 11


async def test_a_clock_that_two_wrong_dates_set_recovers_with_the_days_count(clock):
    limiters = limiters_of(clock)
    for at in range(1, 12):
        await answer(limiters, clock() + (5 * DAY if at in {6, 7, 8} else 0))
    assert abs(off(limiters.time, clock)) < 2
    # The three that were answered while the clock was wrong are counted on its day.
    assert await used_today(limiters) == 11 - 3


async def test_days_are_forgotten_however_often_the_clock_is_set(clock):
    ledger = MemoryLedger()
    limiters = limiters_of(clock, ledger)
    for jump in range(30):
        for _ in range(3):
            await answer(limiters, clock() + jump * 10 * DAY)
    assert len(ledger.state("a").counter("call_lists").used_per_day) <= 8


async def test_the_exhausted_day_is_the_one_that_the_answer_is_dated(clock):
    """The host is a day behind: what it takes for today says nothing of the day that the service has closed."""
    service = Service(World(seed=1), ENTERPRISE.with_limits("call_lists", per_day=1), clock=clock)
    client, transport = client_of(Simulation(service), lambda: clock() - DAY, {}, plan="enterprise", max_wait=2)
    for _ in range(5):
        await ask(client, clock())
        await asyncio.sleep(1)
    assert transport.sent == 2


def test_a_stored_state_with_missing_and_unknown_fields_is_read():
    stored = b'{"clock":{"floor":5.0},"counters":{"lists":{"used_per_day":{"7":3},"limits":{"day":5}}},"issued":9,'
    state = decode(stored + b'"format":1}')
    assert (state.clock.floor, state.issued, state.counter("lists").used_per_day) == (5.0, 9, {7: 3})
    assert not state.trust.confirmed
    with pytest.raises(ValueError, match="in format 0 instead of 1"):
        decode(stored + b'"format":0}')


def test_the_accepted_date_outlives_the_process():
    state = LedgerState()
    assert decode(state.encode()).trust == state.trust


async def test_a_search_up_to_the_newest_is_not_refused_by_a_clock_that_a_ledger_knows(simulation):
    """The ledger knows the time to a second; the search begins by the host's clock, before the ledger is read."""
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


class Dated:
    """A service that has nothing, and dates all its answers alike."""

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
async def test_whatever_the_date_the_newest_can_be_asked_for(clock, date):
    async with AnalyticsClient(
        "id", "secret", app_id="app", plan=ENTERPRISE, transport=Dated(date), clock=clock
    ) as client:
        for _ in range(3):
            assert (await client.calls.page(*client.calls.recent(600))).items == ()
            assert [call async for call in client.calls.search(*client.calls.recent(DAY))] == []
            assert await client.realtime.usage("userCount", *client.realtime.recent(600), product="Native") == ()
            assert await client.insights.usage("userCount", *client.insights.recent(DAY)) == ()
            assert str(await client.quota.snapshot())
    assert asyncio.get_running_loop().time() < 120
