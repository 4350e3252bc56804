"""What the service says of itself is believed within bounds: how long to wait, and how much is allowed."""

from __future__ import annotations

import asyncio
import json

import pytest

from agora_analytics import (
    ENTERPRISE,
    STANDARD,
    AgoraError,
    AnalyticsClient,
    MemoryLedger,
    RateLimited,
    Retry,
    ServerError,
)
from agora_analytics.protocols import Request, Response

DAY = 86_400
HOUR = 3_600


class Answers:
    """Answers every request in turn, the last one for ever; without a date, so that quotas are conservative."""

    hosts = 1

    def __init__(self, *answers: Response) -> None:
        self._answers = list(answers)
        self.sent: list[float] = []

    async def send(self, request: Request, host: int = 0) -> Response:
        self.sent.append(asyncio.get_running_loop().time())
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        pass


EMPTY = Response(200, {}, b'{"code":200,"call_lists":[]}')


def busy(retry_after: str, status: int = 429) -> Response:
    return Response(status, {"Retry-After": retry_after}, b'{"message":"API rate limit exceeded"}')


def named(what: str) -> Response:
    return Response(200, {}, json.dumps({"code": 300, "message": f"limit check error, {what}", "data": None}).encode())


def client_of(transport: Answers, clock, **options) -> AnalyticsClient:
    settings = {"app_id": "app", "plan": ENTERPRISE, "transport": transport, "clock": clock} | options
    return AnalyticsClient("customer", "the-secret", **settings)


async def ask(client: AnalyticsClient) -> None:
    await client.calls.page(*client.calls.recent(HOUR))


async def limit(client: AnalyticsClient, unit: str) -> tuple[int, int, float | None]:
    """Return the limit that holds, the plan's, and how old the one that was learned is."""
    state = next(one for one in await client.quota.snapshot() if (one.counter, one.unit) == ("call_lists", unit))
    return state.limit, state.planned, state.learned


@pytest.mark.parametrize("seconds", ["3", "3600", "86400", "9" * 400])
async def test_a_retry_after_longer_than_max_wait_is_not_waited_for(clock, seconds):
    transport = Answers(busy(seconds))
    with pytest.raises(RateLimited):
        await ask(client_of(transport, clock, max_wait=2))
    assert asyncio.get_running_loop().time() < 2


async def test_a_failing_service_is_waited_for_no_longer_either(clock):
    transport = Answers(busy("60", 503), EMPTY)
    with pytest.raises(ServerError):
        await ask(client_of(transport, clock, max_wait=20, retry=Retry(total=1_000)))
    assert asyncio.get_running_loop().time() < 20


async def test_a_refusal_for_frequency_is_none_of_the_attempts_at_a_failing_service(clock):
    transport = Answers(busy("1"), Response(503, {}, b"{}"))
    with pytest.raises(ServerError):
        await ask(client_of(transport, clock, retry=Retry(attempts=3)))
    assert len(transport.sent) == 1 + 3


async def test_the_seconds_that_were_waited_already_count(clock):
    transport = Answers(busy("15"))
    with pytest.raises(RateLimited):
        await ask(client_of(transport, clock, max_wait=20))
    assert len(transport.sent) == 2


@pytest.mark.parametrize("priority", ["stream", "export"])
@pytest.mark.parametrize(("seconds", "waited"), [("100", 100), ("86400", HOUR), ("9" * 400, HOUR)])
async def test_streams_and_exports_wait_for_an_hour_at_most(clock, priority, seconds, waited):
    transport = Answers(busy(seconds), EMPTY)
    await ask(client_of(transport, clock, max_wait=2).with_priority(priority))
    assert transport.sent == pytest.approx([0, waited], abs=3)


async def test_who_waits_for_ever_waits_for_an_hour_too(clock):
    transport = Answers(busy("86400"), EMPTY)
    await ask(client_of(transport, clock, max_wait=None))
    assert transport.sent == pytest.approx([0, HOUR], abs=3)


async def refused(client: AnalyticsClient) -> None:
    with pytest.raises(AgoraError):
        await ask(client)


@pytest.mark.parametrize(("unit", "what"), [("second", "qps limit = 4"), ("day", "qpd limit = 4")])
async def test_a_limit_that_was_learned_shows_with_its_age_and_is_forgotten_after_a_day(clock, unit, what):
    client = client_of(Answers(named(what), EMPTY), clock, max_wait=0)
    await refused(client)
    planned = ENTERPRISE.rates("call_lists")[unit]
    assert await limit(client, unit) == (4, planned, 0)
    await asyncio.sleep(HOUR)
    assert await limit(client, unit) == (4, planned, HOUR)
    await asyncio.sleep(DAY - HOUR)
    assert await limit(client, unit) == (planned, planned, None)


async def test_a_limit_that_was_learned_is_forgotten_with_the_plans_own(clock):
    ledger = MemoryLedger()
    small = client_of(Answers(named("qpd limit = 900")), clock, plan=STANDARD, ledger=ledger, max_wait=0)
    await refused(small)
    assert (await limit(small, "day"))[0] == 900
    assert await limit(client_of(Answers(EMPTY), clock, ledger=ledger), "day") == (10_000, 10_000, None)


@pytest.mark.parametrize(("what", "first"), [("qps limit = 0", 12), ("qps limit = 1", 12), ("qpd limit = 0", 0)])
async def test_a_service_that_once_named_no_limit_at_all_is_asked_again(clock, what, first):
    client = client_of(Answers(named(what), EMPTY), clock, max_wait=5)
    answered = []
    for _ in range(4):
        count = 0
        for _ in range(12):
            try:
                await ask(client)
            except AgoraError:
                continue
            count += 1
        answered.append(count)
        await asyncio.sleep(DAY)
    assert answered == [first, 12, 12, 12]


@pytest.mark.parametrize("digits", [8, 9, 10, 25, 5_000])
async def test_a_limit_that_cannot_be_one_changes_nothing(clock, digits):
    client = client_of(Answers(named("qps limit = " + "9" * digits)), clock)
    for _ in range(2):
        await refused(client)
    assert await limit(client, "second") == (10, 10, None)
