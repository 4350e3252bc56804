"""The transport over real sockets: what servers and proxies do to answers, and what must never leak."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import pickle
import resource
import socket
import traceback
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from helpers.echo_server import speaking

from agora_analytics import (
    AgoraError,
    AnalyticsClient,
    DecodeError,
    ResponseError,
    Retry,
    ServerError,
    Timeouts,
    TransportError,
    TransportTimeout,
    Unauthorized,
)
from agora_analytics._core import transport
from agora_analytics._core.transport import AiohttpTransport
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Fault, Faults, Service, World
from agora_analytics.simulator.server import serve, serve_hosts

pytestmark = pytest.mark.real_time

TOKEN = base64.b64encode(f"{CUSTOMER_ID}:{CUSTOMER_SECRET}".encode()).decode()
EMPTY = b'{"code":0,"call_lists":[],"has_more":false}'


@pytest.fixture
def service() -> Service:
    return Service(World(seed=7), "enterprise")


def client_of(url, secret: str = CUSTOMER_SECRET, **options) -> AnalyticsClient:
    settings = {"app_id": APP_ID, "plan": "enterprise", "base_url": url, "retry": Retry(attempts=1)} | options
    return AnalyticsClient(CUSTOMER_ID, secret, **settings)


async def ask(client: AnalyticsClient):
    return await client.calls.page(*client.calls.recent(3600))


@asynccontextmanager
async def answering(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]):
    """A server of its own that answers every request by one function."""
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_page_arrives_and_its_connection_is_used_again(service):
    async with serve(service) as url, client_of(url) as client:
        for _ in range(3):
            page = await ask(client)
        assert page.items
        assert len(client._dispatcher._transport._session.connector._conns) == 1


async def test_the_other_host_takes_over(service):
    service.faults = Faults.script([Fault("reset")] * 9, host=0)
    async with serve_hosts(service, 2) as urls, client_of(urls, retry=Retry(base=0)) as client:
        assert (await ask(client)).items


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (Fault("reset"), TransportError, "the connection to http://127.0.0.1"),
        (Fault("reset_after"), TransportError, "the connection to"),
        (Fault("cut"), TransportError, "ClientPayloadError|cut off|empty"),
        (Fault("slow", seconds=30), TransportTimeout, "in time"),
        (Fault("garbage"), DecodeError, "not JSON"),
        (Fault("html", status=200), TransportError, "HTML or XML, not JSON"),
        (Fault("html", status=502), ServerError, "HTTP 502"),
        (Fault("status", status=500), ServerError, "HTTP 500: simulated fault"),
        (Fault("bomb", size=2**31), DecodeError, "larger than max_bytes=1000000"),
        (Fault("huge", size=2**31), DecodeError, "larger than max_bytes=1000000"),
    ],
)
async def test_each_failure_is_one_clear_error(service, fault, error, says):
    service.faults = Faults.script([fault])
    timeouts = Timeouts(total=2 if fault.kind == "slow" else 60)  # a busy machine is slow too
    async with serve(service) as url, client_of(url, timeouts=timeouts, max_bytes=1_000_000) as client:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(error, match=says) as caught:
            await ask(client)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
        assert "GET /beta/analytics/call/lists" in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        assert (await ask(client)).items, "the client works on"


async def test_a_broken_connection_is_not_used_for_a_second_request_without_a_token(service):
    """aiohttp sends a GET again by itself when a kept connection breaks; the service would count both."""
    service.faults = Faults.script([None, Fault("reset_after")])
    async with serve(service) as url, client_of(url) as client:
        await ask(client)
        with pytest.raises(TransportError, match=r"ServerDisconnectedError|ClientOSError|reset"):
            await ask(client)
    assert service.counts == {"call_lists": 2}


async def test_a_gzipped_answer_is_read(service):
    async def handle(request):
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(body=gzip.compress(EMPTY), headers=headers)

    async with answering(handle) as url, client_of(url) as client:
        assert (await ask(client)).has_more is False


@pytest.mark.skipif(aiohttp.__version__ < "3.14", reason="aiohttp before 3.14 inflates an answer in one go")
async def test_others_have_their_turn_while_an_answer_that_is_compressed_well_is_read(monkeypatch):
    monkeypatch.setattr(transport, "_TURN", 0.0)  # so that nothing depends on how fast this machine is
    said = gzip.compress(EMPTY[:-1] + b" " * 20_000_000 + b"}")
    turns, most = 0, 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    read = AiohttpTransport._read

    async def counted(transport, answer) -> bytes | None:
        nonlocal most
        before = turns
        body = await read(transport, answer)
        most = turns - before
        return body

    monkeypatch.setattr(AiohttpTransport, "_read", counted)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(said)}\r\n\r\n".encode()
    async with speaking(head + said) as (port, _), client_of(f"http://127.0.0.1:{port}") as client:
        ticking = asyncio.create_task(others())
        with pytest.raises(DecodeError, match="nothing but spaces"):
            await ask(client)
        ticking.cancel()
    assert most >= 15


async def test_a_small_gzipped_answer_that_is_large_inside_is_too_large():
    async def handle(request):
        return web.Response(body=gzip.compress(EMPTY + b" " * 2_000_000), headers={"Content-Encoding": "gzip"})

    async with answering(handle) as url, client_of(url, max_bytes=1_000_000) as client:
        with pytest.raises(DecodeError, match="larger than max_bytes=1000000"):
            await ask(client)


async def test_an_answer_without_length_is_read():
    async def handle(request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in (EMPTY[:10], EMPTY[10:]):
            await response.write(piece)
        return response

    async with answering(handle) as url, client_of(url) as client:
        assert (await ask(client)).items == ()


async def test_a_redirect_is_not_followed_with_credentials():
    elsewhere: list[str] = []

    async def other(request):
        elsewhere.append(request.path)
        return web.Response(body=EMPTY)

    async with answering(other) as target:

        async def handle(request):
            return web.Response(status=302, headers={"Location": f"{target}/stolen"})

        async with answering(handle) as url, client_of(url) as client:
            with pytest.raises(ResponseError, match=r"HTTP 302.*redirect to .*stolen.* not followed"):
                await ask(client)
    assert elsewhere == []


async def test_a_dead_server_was_never_sent_anything():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with client_of(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(TransportError, match="ClientConnectorError") as caught:
            await ask(client)
        assert caught.value.sent is False
        assert all(state.used == 0 for state in await client.quota.snapshot())


async def test_your_own_session_is_used_and_left_open(service):
    async with serve(service) as url, aiohttp.ClientSession(headers={"X-Mine": "1"}) as session:
        async with client_of(url, session=session) as client:
            await ask(client)
        assert not session.closed


async def test_a_cancelled_request_leaves_nothing_behind(service):
    service.faults = Faults.script([Fault("slow", seconds=30)])
    async with serve(service) as url, client_of(url) as client:
        task = asyncio.create_task(ask(client))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await ask(client)).items


async def test_a_client_opens_lazily_and_closes_unopened():
    async with client_of("http://127.0.0.1:9"):
        pass


def test_another_loop_is_told_apart(service):
    client = client_of("http://127.0.0.1:9")

    async def fail():
        with pytest.raises(TransportError):
            await ask(client)
        await client._dispatcher._transport.close()

    asyncio.run(fail())

    async def refuse():
        with pytest.raises(RuntimeError, match="another event loop"):
            await ask(client)

    asyncio.run(refuse())


def everything_told(error: BaseException) -> str:
    """All that a program could log of an error: its text, repr, fields, and tracebacks with local variables."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next  # these frames hold the secret because the test does
    told = traceback.TracebackException(type(error), error, trace, capture_locals=True)
    return "\n".join(
        [str(error), repr(error), repr(vars(error)), *told.format(), pickle.dumps(error).decode("latin-1")]
    )


async def test_no_secret_in_any_log_repr_error_or_traceback(service, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    secret = CUSTOMER_SECRET
    told: list[str] = []

    async def echo(request):
        """A debugging proxy that sends back what it got."""
        text = f"<html>{dict(request.headers)} {secret}</html>"
        return web.Response(status=502, text=text, headers={"X-Echo": "1"})

    kinds = ["reset", "reset_after", "cut", "slow", "garbage", "html", "status", "busy", "refused", "bomb"]
    service.faults = Faults.script([Fault(kind, seconds=30, size=10_000_000) for kind in kinds])
    async with serve(service) as url, answering(echo) as echoing:
        options = {"timeouts": Timeouts(total=2), "max_bytes": 1_000_000, "quotas": False}
        client = client_of(url, **options)
        wrong = client_of(url, secret + "-wrong", **options)
        stranger = client_of(url, app_id="another", **options)
        clients = [client] * (len(kinds) + 1) + [wrong, stranger, client_of(echoing, **options)]
        for one in clients:
            try:
                await ask(one)
            except AgoraError as error:
                told.append(everything_told(error))
            told += [repr(one), str(vars(one)), repr(one._dispatcher._transport), repr(vars(one._dispatcher))]
        told += [repr(one._dispatcher._transport._credentials) for one in clients]
        for one in clients:
            await one.close()
    assert sum("Unauthorized" in text for text in told) >= 2
    assert "502" in told[-len(clients) - 1 - 4]
    everything = "\n".join([*told, caplog.text, *capsys.readouterr()])
    assert "GET /beta/analytics/call/lists" in everything
    for hidden in (secret, TOKEN, base64.b64encode(f"{CUSTOMER_ID}:{secret}-wrong".encode()).decode()):
        assert hidden not in everything


async def test_wrong_credentials_are_one_clear_error(service):
    async with serve(service) as url, client_of(url, "not-the-secret") as client:
        with pytest.raises(Unauthorized, match=r"HTTP 401.*Check Customer ID, Customer Secret and App ID") as caught:
            await ask(client)
    assert "not-the-secret" not in everything_told(caught.value)
