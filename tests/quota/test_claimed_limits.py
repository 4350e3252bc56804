"""`Retry-After` headers and the limits that errors name are believed within bounds."""

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


class ScriptedTransport:
    """Returns the responses in turn and repeats the last one; without `Date`, so that quotas are conservative."""

    hosts = 1

    def __init__(self, *responses: Response) -> None:
        self._responses = list(responses)
        self.sent: list[float] = []

    async def send(self, request: Request, host: int = 0) -> Response:
        self.sent.append(asyncio.get_running_loop().time())
        return self._responses.pop(0) if len(self._responses) > 1 else self._responses[0]

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        pass


EMPTY = Response(200, {}, b'{"code":200,"call_lists":[]}')


def retry_later(retry_after: str, status: int = 429) -> Response:
    return Response(status, {"Retry-After": retry_after}, b'{"message":"API rate limit exceeded"}')


def limit_error(detail: str) -> Response:
    body = {"code": 300, "message": f"limit check error, {detail}", "data": None}
    return Response(200, {}, json.dumps(body).encode())


def client_of(transport: ScriptedTransport, clock, **options) -> AnalyticsClient:
    settings = {"app_id": "app", "plan": ENTERPRISE, "transport": transport, "clock": clock} | options
    return AnalyticsClient("customer", "the-secret", **settings)


async def request_page(client: AnalyticsClient) -> None:
    await client.calls.page(*client.calls.recent(HOUR))


async def current_limit(client: AnalyticsClient, unit: str) -> tuple[int, int, float | None]:
    """Return the limit that holds, the plan's limit, and the age of the learned limit."""
    states = await client.quota.snapshot()
    state = next(state for state in states if (state.counter, state.unit) == ("call_lists", unit))
    return state.limit, state.planned, state.learned


@pytest.mark.parametrize("seconds", ["3", "3600", "86400", "9" * 400])
async def test_a_retry_after_beyond_max_wait_raises_without_waiting(clock, seconds):
    transport = ScriptedTransport(retry_later(seconds))
    with pytest.raises(RateLimited):
        await request_page(client_of(transport, clock, max_wait=2))
    assert asyncio.get_running_loop().time() < 2


async def test_a_retry_after_of_a_server_error_beyond_max_wait_raises_too(clock):
    transport = ScriptedTransport(retry_later("60", 503), EMPTY)
    with pytest.raises(ServerError):
        await request_page(client_of(transport, clock, max_wait=20, retry=Retry(total=1_000)))
    assert asyncio.get_running_loop().time() < 20


async def test_a_rate_limit_error_does_not_count_as_an_attempt_at_a_failing_service(clock):
    transport = ScriptedTransport(retry_later("1"), Response(503, {}, b"{}"))
    with pytest.raises(ServerError):
        await request_page(client_of(transport, clock, retry=Retry(attempts=3)))
    assert len(transport.sent) == 1 + 3


async def test_max_wait_includes_the_time_already_waited(clock):
    transport = ScriptedTransport(retry_later("15"))
    with pytest.raises(RateLimited):
        await request_page(client_of(transport, clock, max_wait=20))
    assert len(transport.sent) == 2


@pytest.mark.parametrize("priority", ["stream", "export"])
@pytest.mark.parametrize(("seconds", "waited"), [("100", 100), ("86400", HOUR), ("9" * 400, HOUR)])
async def test_streams_and_exports_obey_a_retry_after_for_at_most_an_hour(clock, priority, seconds, waited):
    transport = ScriptedTransport(retry_later(seconds), EMPTY)
    await request_page(client_of(transport, clock, max_wait=2).with_priority(priority))
    assert transport.sent == pytest.approx([0, waited], abs=3)


async def test_without_max_wait_a_retry_after_is_obeyed_for_at_most_an_hour(clock):
    transport = ScriptedTransport(retry_later("86400"), EMPTY)
    await request_page(client_of(transport, clock, max_wait=None))
    assert transport.sent == pytest.approx([0, HOUR], abs=3)


async def expect_error(client: AnalyticsClient) -> None:
    with pytest.raises(AgoraError):
        await request_page(client)


@pytest.mark.parametrize(("unit", "detail"), [("second", "qps limit = 4"), ("day", "qpd limit = 4")])
async def test_a_learned_limit_shows_its_age_and_expires_after_a_day(clock, unit, detail):
    client = client_of(ScriptedTransport(limit_error(detail), EMPTY), clock, max_wait=0)
    await expect_error(client)
    planned = ENTERPRISE.rates("call_lists")[unit]
    assert await current_limit(client, unit) == (4, planned, 0)
    await asyncio.sleep(HOUR)
    assert await current_limit(client, unit) == (4, planned, HOUR)
    await asyncio.sleep(DAY - HOUR)
    assert await current_limit(client, unit) == (planned, planned, None)


async def test_a_learned_limit_is_dropped_when_the_plans_limit_changes(clock):
    ledger = MemoryLedger()
    standard_client = client_of(
        ScriptedTransport(limit_error("qpd limit = 900")), clock, plan=STANDARD, ledger=ledger, max_wait=0
    )
    await expect_error(standard_client)
    assert (await current_limit(standard_client, "day"))[0] == 900
    assert await current_limit(client_of(ScriptedTransport(EMPTY), clock, ledger=ledger), "day") == (
        10_000,
        10_000,
        None,
    )


@pytest.mark.parametrize(("detail", "first_day"), [("qps limit = 0", 12), ("qps limit = 1", 12), ("qpd limit = 0", 0)])
async def test_an_error_that_names_a_limit_of_zero_or_one_costs_at_most_that_day(clock, detail, first_day):
    client = client_of(ScriptedTransport(limit_error(detail), EMPTY), clock, max_wait=5)
    answered_per_day = []
    for _ in range(4):
        answered = 0
        for _ in range(12):
            try:
                await request_page(client)
            except AgoraError:
                continue
            answered += 1
        answered_per_day.append(answered)
        await asyncio.sleep(DAY)
    assert answered_per_day == [first_day, 12, 12, 12]


@pytest.mark.parametrize("digits", [8, 9, 10, 25, 5_000])
async def test_an_absurdly_high_limit_in_an_error_is_ignored(clock, digits):
    client = client_of(ScriptedTransport(limit_error("qps limit = " + "9" * digits)), clock)
    for _ in range(2):
        await expect_error(client)
    assert await current_limit(client, "second") == (10, 10, None)
