from __future__ import annotations

import asyncio
import gzip
import socket
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from helpers.service_harness import AUTHORIZATION, NOON, ManualClock

from agora_analytics import plans
from agora_analytics.simulator import APP_ID, Fault, Faults, Service
from agora_analytics.simulator.server import serve, serve_hosts

pytestmark = [pytest.mark.process, pytest.mark.real_time]

LISTS = f"{plans.CALL_LISTS.path}?appid={APP_ID}&start_ts={NOON - 9_000}&end_ts={NOON - 60}&cname=%D0%BA%20%2B"
TOTAL = f"{plans.INSIGHT_USAGE_TOTAL.path}?appid={APP_ID}"
BODY = msgspec.json.encode({"startTs": NOON - 90_000, "endTs": NOON - 50_000, "metric": "userCount"})


def service(*steps: Fault | None) -> Service:
    return Service(clock=ManualClock(), faults=Faults.script(steps))


@asynccontextmanager
async def client_session(simulated: Service) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve a service, and yield a client session with its URL and credentials."""
    async with serve(simulated) as url, aiohttp.ClientSession(url, headers={"Authorization": AUTHORIZATION}) as session:
        # aiohttp repeats a GET by itself when a connection breaks; then faults would hit the wrong request.
        session._retry_connection = False
        yield session


async def test_a_query_arrives_as_it_was_sent():
    simulated = service()
    async with client_session(simulated) as session, session.get(LISTS) as response:
        answer = await response.json()
    assert (response.status, answer["code"]) == (200, 200)
    assert response.headers["Date"] == "Tue, 24 Nov 2026 12:00:00 GMT"
    assert "cname=%D0%BA%20%2B" in simulated.log[0].query


async def test_a_post_needs_json():
    async with client_session(service()) as session:
        codes = []
        for kind in ("application/json", "text/plain"):
            async with session.post(TOTAL, data=BODY, headers={"Content-Type": kind}) as response:
                codes.append((await response.json())["code"])
    assert codes == [200, 400]


async def test_a_request_without_credentials_gets_a_401():
    async with serve(service()) as url, aiohttp.ClientSession(url) as session, session.get(LISTS) as response:
        assert response.status == 401
        assert await response.json() == {"message": "Invalid authentication credentials"}


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_bodies_are_compressed_on_request(encoding: str):
    async with serve(service()) as url, aiohttp.ClientSession(url, auto_decompress=False) as session:
        headers = {"Accept-Encoding": encoding, "Authorization": AUTHORIZATION}
        async with session.get(LISTS, headers=headers) as response:
            body = await response.read()
    assert (response.headers.get("Content-Encoding") == "gzip") is (encoding == "gzip")
    assert b"call_lists" in (gzip.decompress(body) if encoding == "gzip" else body)


@pytest.mark.parametrize(("kind", "spent"), [("refused", 0), ("reset", 0), ("reset_after", 1)])
async def test_a_connection_breaks_before_or_after_the_request_is_counted(kind: str, spent: int):
    simulated = service(Fault(kind))  # type: ignore[arg-type]
    async with client_session(simulated) as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(LISTS)
        assert simulated.spent("call_lists", "day") == spent
        async with session.get(LISTS) as response:
            assert response.status == 200


async def test_a_body_ends_early():
    async with client_session(service(Fault("cut"))) as session, session.get(LISTS) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize(("kind", "status"), [("status", 502), ("html", 502), ("busy", 429), ("garbage", 200)])
async def test_an_unexpected_response_arrives_in_full(kind: str, status: int):
    async with client_session(service(Fault(kind))) as session, session.get(LISTS) as response:  # type: ignore[arg-type]
        body = await response.read()
    assert response.status == status
    assert body


async def test_one_call_is_refused_by_the_service_or_by_a_gateway():
    simulated = service()
    simulated.faults = Faults.of_call("A") + Faults.of_call("B", Fault("refusal", code=403, status=403))
    answers = []
    async with client_session(simulated) as session:
        for call_id in ("A", "B", "C"):
            details = f"{plans.CALL_SESSIONS.path}?appid={APP_ID}&start_ts={NOON - 900}&end_ts={NOON - 300}"
            async with session.get(f"{details}&call_id={call_id}") as response:
                answers.append((response.status, (await response.json())["code"]))
    assert answers == [(200, 404), (403, 403), (200, 200)]
    assert simulated.spent("call_details", "day") == 3


async def test_a_date_is_wrong_on_single_answers():
    simulated = service(None, Fault("date", date_off=86_400), Fault("html", date_off=-86_400), None)
    dates = []
    async with client_session(simulated) as session:
        for _ in range(4):
            async with session.get(LISTS) as response:
                dates.append(response.headers["Date"][5:7])
    assert dates == ["24", "25", "23", "24"]


async def test_a_service_without_dates_sends_no_date_of_the_host():
    simulated = service()
    simulated.variants = type(simulated.variants)(date="absent")
    async with client_session(simulated) as session, session.get(LISTS) as response:
        assert not response.headers["Date"]


async def test_a_slow_answer_does_not_delay_the_shutdown():
    simulated = service(Fault("slow", seconds=600))
    async with serve(simulated) as url, aiohttp.ClientSession(url) as session:
        with pytest.raises(TimeoutError):
            await session.get(LISTS, timeout=aiohttp.ClientTimeout(0.05))
        leaving = time.monotonic()
    assert time.monotonic() - leaving < 30
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_slow_answer_arrives():
    async with client_session(service(Fault("slow", seconds=0.01))) as session, session.get(LISTS) as response:
        assert response.status == 200


async def test_a_client_that_disconnects_leaves_no_task():
    async with client_session(service(Fault("huge"), Fault("bomb", size=2**40))) as session:
        for _ in range(2):
            async with session.get(LISTS) as response:
                await response.content.readany()
                response.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_huge_body_is_streamed_without_memory():
    tracemalloc.start()
    try:
        async with client_session(service(Fault("huge", size=2**31))) as session, session.get(LISTS) as response:
            read = len(await response.content.readexactly(2**20))
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (read, response.headers["Content-Length"]) == (2**20, str(2**31))
    assert peak < 20 * 2**20


async def test_a_huge_body_ends_at_its_size():
    async with client_session(service(Fault("huge", size=100_001))) as session, session.get(LISTS) as response:
        assert await response.read() == b" " * 100_001


async def test_a_decompression_bomb_is_small_until_it_is_decompressed():
    size = 20 * 2**20
    async with (
        serve(service(Fault("bomb", size=size))) as url,
        aiohttp.ClientSession(url, auto_decompress=False) as one,
        one.get(LISTS) as response,
    ):
        packed = await response.read()
    assert response.headers["Content-Encoding"] == "gzip"
    assert len(packed) < size / 100
    assert len(zlib.decompress(packed, zlib.MAX_WBITS | 16)) == size


async def test_two_ports_stand_for_two_hosts():
    simulated = Service(clock=ManualClock(), faults=Faults.outage(0, NOON * 2, host=0))
    async with serve_hosts(simulated) as (first, second), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(first + LISTS)
        async with session.get(second + LISTS) as response:
            assert response.status == 401
    assert {entry.host for entry in simulated.log} == {1}


async def test_a_port_may_be_given():
    async with serve(service()) as url:
        port = int(url.rpartition(":")[2])
    async with serve(service(), port=port) as url:
        assert url == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(("host", "reached"), [("0.0.0.0", "127.0.0.1"), ("localhost", "localhost"), ("::", "[::1]")])  # noqa: S104
async def test_the_url_can_be_connected_to(host, reached):
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    async with serve(service(), host) as url, aiohttp.ClientSession() as session:
        assert url.startswith(f"http://{reached}:")
        async with session.get(url + LISTS) as response:
            assert response.status == 401


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
