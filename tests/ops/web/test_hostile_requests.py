"""Requests that no browser of a viewer sends: malformed, slow, from other names, and too many."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack, suppress

import pytest
from aiohttp import web
from helpers.streaming import USERS, simulated
from helpers.web_server import next_event, raw, site, until

from agora_analytics.ops import LiveState, routes
from agora_analytics.ops.web import replies, server, strangers
from agora_analytics.ops.web.server import listening

pytestmark = pytest.mark.real_time

TOKEN = "correct-horse-battery-staple"


@pytest.fixture
async def state():
    async with simulated("enterprise").client() as client:
        yield LiveState(client, USERS)


def port_of(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


async def test_a_malformed_request_is_not_logged_with_the_token_in_it(state, caplog):
    async with listening(routes(state, token=TOKEN), "127.0.0.1", 0) as url:
        for head in (
            f"GET /api/v1/status HTTP/1.1\nHost: localhost\nAuthorization: Bearer {TOKEN}\0",
            f"GET /?token={TOKEN} HTTP/9.x\nHost: localhost",
        ):
            assert (await raw(port_of(url), head)).startswith(b"HTTP/1.0 400")
    assert caplog.text == ""


async def test_a_fault_of_a_handler_is_logged(state, monkeypatch, caplog):
    monkeypatch.setattr(state, "series_views", lambda: 1 / 0)
    async with listening(routes(state), "127.0.0.1", 0) as url:
        answer = await raw(port_of(url), "GET /api/v1/series HTTP/1.1\nHost: localhost\nConnection: close")
        assert answer.startswith(b"HTTP/1.1 500")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [("Content-Encoding: gzip\nContent-Length: 4", b"abcd", 400), ("Content-Length: 80", b"a=1&" * 20, 401)],
    ids=["no gzip", "many fields"],
)
async def test_a_body_that_cannot_be_read_is_no_fault_of_the_server(state, head, body, status):
    async with listening(routes(state, token=TOKEN), "127.0.0.1", 0) as url:
        answer = await raw(port_of(url), f"POST /login HTTP/1.1\nHost: localhost\nConnection: close\n{head}", body)
        assert answer.startswith(f"HTTP/1.1 {status}".encode())


async def test_a_body_that_does_not_come_is_not_awaited_for_ever(state, monkeypatch):
    monkeypatch.setattr(replies, "BODY_TIMEOUT", 0.1)
    async with listening(routes(state, token=TOKEN), "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        writer.write(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nab")
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_a_connection_without_a_request_is_closed(state, monkeypatch):
    monkeypatch.setattr(server, "IDLE_TIMEOUT", 0.2)
    async with listening(routes(state), "127.0.0.1", 0) as url:
        for begun in (b"", b"GET / HTT"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
            writer.write(begun)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()


async def test_a_connection_with_a_request_stays_until_aiohttp_closes_it(state, monkeypatch):
    monkeypatch.setattr(server, "IDLE_TIMEOUT", 1.0)
    async with listening(routes(state), "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        for _ in range(3):  # over more than the time that a silent connection has
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.5)
            await reader.read(10_000)
        writer.close()


async def test_connections_that_were_closed_are_forgotten(state, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with listening(routes(state), "127.0.0.1", 0) as url:
        for _ in range(40):
            _, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.01)  # the server sees the end
        protocols = [one for one in gc.get_objects() if isinstance(one, web.RequestHandler)]
        assert len(protocols) < 20


async def test_more_connections_than_the_limit_are_dropped_so_that_files_can_be_opened(state, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with listening(routes(state), "127.0.0.1", 0) as url, AsyncExitStack() as stack:
        port = port_of(url)

        async def connect() -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return reader

        kept = [await connect() for _ in range(2)]
        for reader in kept:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        with suppress(ConnectionError):
            assert await asyncio.wait_for((await connect()).read(), 5) == b""
        await stack.aclose()

        async def accepted() -> bool:
            try:
                answer = await raw(port, "GET /healthz HTTP/1.1\nHost: localhost\nConnection: close")
            except ConnectionError:
                return False
            return answer.startswith(b"HTTP/1.1 200")

        async with asyncio.timeout(5):
            while not await accepted():  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)


async def test_clients_without_the_token_make_room_for_each_other_and_not_for_viewers(state, monkeypatch):
    monkeypatch.setattr(strangers, "MAX_STRANGERS", 2)
    async with listening(routes(state, token=TOKEN), "127.0.0.1", 0) as url, AsyncExitStack() as stack:

        async def connect(path: str, head: str = "") -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
            stack.callback(writer.close)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            return reader

        viewers = [await connect("/api/v1/events", f"Authorization: Bearer {TOKEN}\r\n") for _ in range(3)]
        others = [await connect("/healthz") for _ in range(5)]
        for reader in others[:3]:
            await asyncio.wait_for(reader.read(), 5)
        assert not any(reader.at_eof() for reader in others[3:])
        state.add_alert("still there")
        for reader in viewers:
            await asyncio.wait_for(reader.readuntil(b"still there"), 5)


async def test_under_another_host_a_probe_tells_only_the_status(state):
    async with site(routes(state)) as here:
        rebound = await (await here.http.get("/readyz", headers={"Host": "evil.example"})).json()
        assert rebound == {"status": "starting", "ready": False, "reasons": [], "notes": []}
        assert (await (await here.http.get("/readyz")).json())["reasons"]


@pytest.mark.parametrize("host", ["dash.example.com:443", "https://dash.example.com", "*", "*.example.com", "a b", "é"])
async def test_a_host_that_no_request_can_have_is_refused(state, host):
    with pytest.raises(ValueError, match="hosts"):
        routes(state, hosts=[host])


async def cookie_of(token: str, state, **headers: str) -> str:
    form: dict = {"data": {"token": token}, "headers": headers, "allow_redirects": False}
    application = routes(state, token=token, hosts=["dash.example.com"])
    async with site(application) as here, here.http.post("/login", **form) as response:
        assert response.status == 303
        return response.headers["Set-Cookie"]


async def test_two_servers_on_one_machine_do_not_replace_each_others_cookie(state):
    names = {(await cookie_of(token, state)).partition("=")[0] for token in (TOKEN, TOKEN[::-1])}
    assert len(names) == 2


async def test_behind_a_proxy_with_tls_the_cookie_is_secure(state):
    https = await cookie_of(TOKEN, state, Host="dash.example.com", Origin="https://dash.example.com")
    assert "Secure" in https
    assert "Secure" not in await cookie_of(TOKEN, state)


async def test_an_application_that_stops_does_not_end_the_events_of_another(state):
    async with site(routes(state)) as here, here.http.get("/api/v1/events") as response:
        async with site(routes(state)) as other, other.http.get("/api/v1/events") as ended:
            await other.stop()
            assert await asyncio.wait_for(ended.read(), 5) == b"retry: 2000\n\n"
        await until(lambda: here.viewers() == 1)
        state.add_alert("still there")
        assert (await next_event(response, "alert")).data


async def test_an_unknown_path_or_method_is_an_error_as_json(state):
    application = web.Application()
    application.add_subapp("/agora/", routes(state))
    async with site(application) as here:
        for path, method, status, code in (
            ("/agora/none", "GET", 404, "path"),
            ("/agora/api/v1/series", "DELETE", 405, "method"),
            ("/agora/api/v1/series", "OPTIONS", 405, "method"),
        ):
            async with here.http.request(method, path) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (status, code)
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert (response.headers.get("Allow") is not None) == (status == 405)
