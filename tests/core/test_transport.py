"""The transport over real sockets: what servers and proxies do to responses, and what must never leak."""

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
from helpers.echo_server import raw_server

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
AIOHTTP = tuple(int(part) for part in aiohttp.__version__.split(".")[:3])
EMPTY = b'{"code":0,"call_lists":[],"has_more":false}'


@pytest.fixture
def service() -> Service:
    return Service(World(seed=7), "enterprise")


def make_client(url, secret: str = CUSTOMER_SECRET, **options) -> AnalyticsClient:
    settings = {"app_id": APP_ID, "plan": "enterprise", "base_url": url, "retry": Retry(attempts=1)} | options
    return AnalyticsClient(CUSTOMER_ID, secret, **settings)


async def list_calls(client: AnalyticsClient):
    return await client.calls.page(*client.calls.recent(3600))


@asynccontextmanager
async def http_server(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]):
    """A server that handles every request with one function."""
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_connection_is_used_for_several_requests(service):
    async with serve(service) as url, make_client(url) as client:
        for _ in range(3):
            page = await list_calls(client)
        assert page.items
        assert len(client._dispatcher._transport._session.connector._conns) == 1


async def test_a_failing_host_fails_over_to_the_other_host(service):
    service.faults = Faults.script([Fault("reset")] * 9, host=0)
    async with serve_hosts(service, 2) as urls, make_client(urls, retry=Retry(base=0)) as client:
        assert (await list_calls(client)).items


@pytest.mark.parametrize(
    ("fault", "error", "message"),
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
async def test_each_failure_raises_one_clear_error(service, fault, error, message):
    service.faults = Faults.script([fault])
    timeouts = Timeouts(total=2 if fault.kind == "slow" else 60)  # on a busy machine, other faults take long too
    async with serve(service) as url, make_client(url, timeouts=timeouts, max_bytes=1_000_000) as client:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(error, match=message) as caught:
            await list_calls(client)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
        assert "GET /beta/analytics/call/lists" in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        assert (await list_calls(client)).items, "the client still works"


async def test_a_broken_connection_causes_no_second_request_without_a_permit(service):
    """aiohttp repeats a GET by itself when a reused connection breaks; the service would count both."""
    service.faults = Faults.script([None, Fault("reset_after")])
    async with serve(service) as url, make_client(url) as client:
        await list_calls(client)
        with pytest.raises(TransportError, match=r"ServerDisconnectedError|ClientOSError|reset"):
            await list_calls(client)
    assert service.counts == {"call_lists": 2}


async def test_a_gzipped_response_is_decoded(service):
    async def handle(request):
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(body=gzip.compress(EMPTY), headers=headers)

    async with http_server(handle) as url, make_client(url) as client:
        assert (await list_calls(client)).has_more is False


@pytest.mark.skipif(AIOHTTP < (3, 14, 1), reason="aiohttp before 3.14.1 inflates an answer in one go")
async def test_other_tasks_run_while_a_highly_compressed_response_is_read(monkeypatch):
    monkeypatch.setattr(transport, "_TURN", 0.0)  # independent of the speed of the machine
    compressed = gzip.compress(EMPTY[:-1] + b" " * 20_000_000 + b"}")
    iterations, iterations_during_read = 0, 0

    async def count_iterations() -> None:
        nonlocal iterations
        while True:
            iterations += 1
            await asyncio.sleep(0)

    read = AiohttpTransport._read

    async def counted(transport, response) -> bytes | None:
        nonlocal iterations_during_read
        before = iterations
        body = await read(transport, response)
        iterations_during_read = iterations - before
        return body

    monkeypatch.setattr(AiohttpTransport, "_read", counted)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(compressed)}\r\n\r\n".encode()
    async with raw_server(head + compressed) as (port, _), make_client(f"http://127.0.0.1:{port}") as client:
        ticking = asyncio.create_task(count_iterations())
        with pytest.raises(DecodeError, match="nothing but spaces"):
            await list_calls(client)
        ticking.cancel()
    assert iterations_during_read >= 15


async def test_a_small_gzipped_response_that_inflates_beyond_max_bytes_raises():
    async def handle(request):
        return web.Response(body=gzip.compress(EMPTY + b" " * 2_000_000), headers={"Content-Encoding": "gzip"})

    async with http_server(handle) as url, make_client(url, max_bytes=1_000_000) as client:
        with pytest.raises(DecodeError, match="larger than max_bytes=1000000"):
            await list_calls(client)


async def test_a_response_without_content_length_is_read():
    async def handle(request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in (EMPTY[:10], EMPTY[10:]):
            await response.write(piece)
        return response

    async with http_server(handle) as url, make_client(url) as client:
        assert (await list_calls(client)).items == ()


async def test_a_redirect_is_not_followed():
    elsewhere: list[str] = []

    async def other(request):
        elsewhere.append(request.path)
        return web.Response(body=EMPTY)

    async with http_server(other) as target:

        async def handle(request):
            return web.Response(status=302, headers={"Location": f"{target}/stolen"})

        async with http_server(handle) as url, make_client(url) as client:
            with pytest.raises(ResponseError, match=r"HTTP 302.*redirect to .*stolen.* not followed"):
                await list_calls(client)
    assert elsewhere == []


async def test_a_refused_connection_counts_as_not_sent():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with make_client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(TransportError, match="ClientConnectorError") as caught:
            await list_calls(client)
        assert caught.value.sent is False
        assert all(state.used == 0 for state in await client.quota.snapshot())


async def test_the_callers_session_is_used_and_not_closed(service):
    async with serve(service) as url, aiohttp.ClientSession(headers={"X-Mine": "1"}) as session:
        async with make_client(url, session=session) as client:
            await list_calls(client)
        assert not session.closed


async def test_a_client_works_after_a_cancelled_request(service):
    service.faults = Faults.script([Fault("slow", seconds=30)])
    async with serve(service) as url, make_client(url) as client:
        task = asyncio.create_task(list_calls(client))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await list_calls(client)).items


async def test_a_client_that_sent_nothing_closes_cleanly():
    async with make_client("http://127.0.0.1:9"):
        pass


def test_a_client_raises_on_another_event_loop(service):
    client = make_client("http://127.0.0.1:9")

    async def fail():
        with pytest.raises(TransportError):
            await list_calls(client)
        await client._dispatcher._transport.close()

    asyncio.run(fail())

    async def raises():
        with pytest.raises(RuntimeError, match="another event loop"):
            await list_calls(client)

    asyncio.run(raises())


def full_report(error: BaseException) -> str:
    """Everything that a program could log of an error: its text, repr, fields, and tracebacks with local variables."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next  # frames of the test contain the secret
    formatted = traceback.TracebackException(type(error), error, trace, capture_locals=True)
    return "\n".join(
        [str(error), repr(error), repr(vars(error)), *formatted.format(), pickle.dumps(error).decode("latin-1")]
    )


async def test_no_log_repr_error_or_traceback_contains_a_secret(service, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    secret = CUSTOMER_SECRET
    texts: list[str] = []

    async def echo(request):
        """A debugging proxy that sends back what it received."""
        text = f"<html>{dict(request.headers)} {secret}</html>"
        return web.Response(status=502, text=text, headers={"X-Echo": "1"})

    kinds = ["reset", "reset_after", "cut", "slow", "garbage", "html", "status", "busy", "refused", "bomb"]
    service.faults = Faults.script([Fault(kind, seconds=30, size=10_000_000) for kind in kinds])
    async with serve(service) as url, http_server(echo) as echo_url:
        options = {"timeouts": Timeouts(total=2), "max_bytes": 1_000_000, "quotas": False}
        client = make_client(url, **options)
        wrong = make_client(url, secret + "-wrong", **options)
        other_app = make_client(url, app_id="another", **options)
        clients = [client] * (len(kinds) + 1) + [wrong, other_app, make_client(echo_url, **options)]
        for one in clients:
            try:
                await list_calls(one)
            except AgoraError as error:
                texts.append(full_report(error))
            texts += [repr(one), str(vars(one)), repr(one._dispatcher._transport), repr(vars(one._dispatcher))]
        texts += [repr(one._dispatcher._transport._credentials) for one in clients]
        for one in clients:
            await one.close()
    assert sum("Unauthorized" in text for text in texts) >= 2
    assert "502" in texts[-len(clients) - 1 - 4]
    all_texts = "\n".join([*texts, caplog.text, *capsys.readouterr()])
    assert "GET /beta/analytics/call/lists" in all_texts
    for hidden in (secret, TOKEN, base64.b64encode(f"{CUSTOMER_ID}:{secret}-wrong".encode()).decode()):
        assert hidden not in all_texts


async def test_wrong_credentials_raise_one_clear_error(service):
    async with serve(service) as url, make_client(url, "not-the-secret") as client:
        with pytest.raises(Unauthorized, match=r"HTTP 401.*Check Customer ID, Customer Secret and App ID") as caught:
            await list_calls(client)
    assert "not-the-secret" not in full_report(caught.value)
