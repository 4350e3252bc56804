"""Secrets are in no text: whatever others echo, whenever a caller gives up, whatever the environment holds."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import re
from contextlib import suppress

import pytest
from helpers.echo_server import (
    APP,
    HIDDEN,
    PASSWORD,
    SECRET,
    TOKEN,
    ask,
    client_of,
    frames_of_tasks,
    leaks,
    speaking,
    told,
)

from agora_analytics import AgoraError, AnalyticsClient, ResponseError, Timeouts, TransportError

pytestmark = pytest.mark.real_time

ECHO = f"Basic {TOKEN} {SECRET} /x?appid={APP}"
ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in ECHO)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def reply(status: str = "200 OK", headers: str = "", body: str = "{}") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode()


ECHOES = {
    "status line": reply(f"500 {ECHO}"),
    "broken status line": f"{ECHO} HTTP/1.1 200\r\n\r\n".encode(),
    "location": reply("302 Found", f"Location: https://x/{SECRET}?{ECHO.replace(' ', '+')}\r\n"),
    "location with an App ID": reply("307 Found", f"Location: https://x/{APP}/?appid={APP}\r\n"),
    "location with a password": reply("307 Found", f"Location: https://user:{PASSWORD}@x/\r\n"),
    "request id": reply("500 No", f"X-Request-ID: {ECHO}\r\n"),
    "request id of a body": reply("400 No", body=f'{{"requestId":"{TOKEN}","message":"{ECHO}"}}'),
    "header name": reply(headers=f"{ECHO}: x\r\n"),
    "header value": reply(headers=f"X-Echo: {ECHO}\0\r\n"),
    "encoding": reply(headers=f"Content-Encoding: gzip\r\nX: {ECHO}\r\n", body=ECHO),
    "chunk size": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{ECHO}\r\nx\r\n".encode(),
    "no JSON": reply(body=ECHO),
    "page": reply(body=f"<html>{ECHO}</html>"),
    "not what was promised": reply(body=f'{{"call_lists":[{{"call_id":["{TOKEN} {APP}"],"created_ts":"{SECRET}"}}]}}'),
    "refusal": reply(body=f'{{"code":400,"message":"{ECHO}","requestId":"{SECRET}"}}'),
    "escaped refusal": reply(body=f'{{"code":400,"message":"{ESCAPED}"}}'),
    "refusal of an App ID": reply("401 No", body=f'{{"message":"no project {APP}"}}'),
}


@pytest.mark.parametrize("said", ECHOES.values(), ids=list(ECHOES))
async def test_no_echo_is_told(said, caplog):
    caplog.set_level(logging.DEBUG)
    async with speaking(said) as (port, _), client_of(f"http://127.0.0.1:{port}", on_bad_row="raise") as client:
        with pytest.raises(AgoraError) as caught:
            await ask(client)
    everything = told(caught.value) + caplog.text + pickle.dumps(caught.value).decode("latin-1")
    assert "GET /beta/analytics/call/lists" in everything
    assert leaks(everything) == []


async def test_no_echo_is_told_of_a_row_that_is_skipped(caplog):
    async with (
        speaking(ECHOES["not what was promised"]) as (port, _),
        client_of(f"http://127.0.0.1:{port}") as client,
    ):
        page = await ask(client)
    assert len(page.skipped) == 1
    assert "call_lists[0]" in caplog.text
    assert leaks(caplog.text + repr(page)) == []


async def test_an_echo_in_a_redirect_or_a_request_id_is_one_short_line():
    said = reply("302 Found", f"Location: https://x/{'y' * 5000}\r\nX-Request-ID: a\x1b[31mb\r\n")
    async with speaking(said) as (port, _), client_of(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(AgoraError) as caught:
            await ask(client)
    assert len(str(caught.value)) < 800
    assert "\x1b" not in str(caught.value)


AWAITS = {
    "answer": (b"", ""),
    "headers": (b"HTTP/1.1 200 OK\r\nX-Echo: " + ECHO.encode(), ""),
    "body": (f"HTTP/1.1 200 OK\r\nX-Echo: {ECHO}\r\nContent-Length: 99\r\n\r\n{{".encode(), ""),
    "chunks": (f"HTTP/1.1 200 OK\r\nX: {ECHO}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n".encode(), ""),
    "handshake": (b"", "https"),
    "tunnel": (b"", "proxy"),
    "handshake in a tunnel": (b"HTTP/1.1 200 OK\r\n\r\n", "proxy"),
}


async def timed_out(client):
    async with asyncio.timeout(0.1):
        await ask(client)


async def waited_for(client):
    await asyncio.wait_for(ask(client), 0.1)


async def cancelled(client):
    task = asyncio.create_task(ask(client))
    await asyncio.sleep(0.1)
    task.cancel()
    await task


async def grouped(client):
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(client))
        await asyncio.sleep(0.1)
        raise RuntimeError("another task")


async def by_its_own_time_out(client):
    await ask(client)


@pytest.mark.parametrize("cut", [timed_out, waited_for, cancelled, grouped, by_its_own_time_out])
@pytest.mark.parametrize("at", AWAITS)
async def test_no_frame_that_a_time_out_or_cancellation_leaves_by_holds_a_secret(at, cut, monkeypatch):
    said, how = AWAITS[at]
    async with speaking(said, close=False) as (port, _):
        url = f"{'https' if how else 'http'}://127.0.0.1:{port}"
        if how == "proxy":
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PASSWORD}@127.0.0.1:{port}")
            url = "https://analytics.example"
        async with client_of(url, timeouts=Timeouts(total=0.1 if cut is by_its_own_time_out else 60)) as client:
            with pytest.raises((TimeoutError, asyncio.CancelledError, ExceptionGroup, TransportError)) as caught:
                await cut(client)
    everything = told(caught.value)
    assert cut is grouped or "_core/transport.py" in everything
    assert leaks(everything) == []


@pytest.mark.parametrize("at", AWAITS)
async def test_no_frame_that_waits_holds_credentials(at, monkeypatch):
    """As a sampling profiler sees them: but for the URL's App ID, and for echoes in an answer that is being read."""
    said, how = AWAITS[at]
    async with speaking(said.replace(ECHO.encode(), b"none"), close=False) as (port, _):
        url = f"{'https' if how else 'http'}://127.0.0.1:{port}"
        if how == "proxy":
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PASSWORD}@127.0.0.1:{port}")
            url = "https://analytics.example"
        async with client_of(url) as client:
            task = asyncio.create_task(ask(client))
            await asyncio.sleep(0.1)
            seen = frames_of_tasks()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    found = set(leaks(seen)) - {"App ID"}
    assert "_exchange" in seen
    assert found == set()


async def test_a_stream_that_is_left_in_a_request_tells_nothing():
    async with speaking(b"", close=False) as (port, _), client_of(f"http://127.0.0.1:{port}") as client:
        calls = client.calls.search(*client.calls.recent(3600))
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(anext(calls), 0.1)
    assert leaks(told(caught.value)) == []


@pytest.mark.parametrize(
    "spelled",
    [
        "socks5://user:{}@127.0.0.1:1",
        "http://user:{}@127.0.0.1:1",
        "user:{}@127.0.0.1:1",
        "http://user:{}@:1",
        "http://user:{}@127.0.0.1:99999",
        "http://user:a@b/{}@h:1",
        "https://user:{}@127.0.0.1:1",
        "http://user:{}@ho st:1",
        "http://user:{}",
        "http://127.0.0.1:1/{}",
        "http://127.0.0.1:1/?{}",
        "http://[{}",
        "{}",
    ],
)
async def test_a_proxys_password_is_not_told_in_any_spelling(spelled, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HTTPS_PROXY", spelled.format(PASSWORD))
    async with client_of("https://analytics.example") as client:
        with pytest.raises(
            (TransportError, ValueError), match=r"HTTPS_PROXY names no proxy|ClientProxyConn|DNS"
        ) as caught:
            await ask(client)
        assert leaks(told(caught.value) + caplog.text + repr(vars(client._dispatcher._transport))) == []


@pytest.mark.parametrize("spelled", ["http://us er:{}@127.0.0.1:1", "http://user:{} @127.0.0.1:1"])
async def test_a_proxy_with_spaces_is_no_proxy(spelled, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", spelled.format(PASSWORD))
    async with client_of("https://analytics.example") as client:
        with pytest.raises(ValueError, match="HTTPS_PROXY names no proxy"):
            await ask(client)


@pytest.mark.parametrize("spelled", ["http://user:{}@127.0.0.1:{}", "user:{}@127.0.0.1:{}/", "http://127.0.0.1:{1}"])
async def test_a_proxy_of_the_environment_is_used(spelled, monkeypatch):
    async with speaking(reply("407 Who?")) as (port, heard):
        monkeypatch.setenv("HTTPS_PROXY", spelled.format(PASSWORD, port))
        async with client_of("https://analytics.example") as client:
            with pytest.raises(TransportError, match="the proxy answered HTTP 407") as caught:
                await ask(client)
    assert caught.value.sent is False
    assert heard[0].startswith(b"CONNECT analytics.example:443 HTTP/1.1\r\n")
    assert (f"Proxy-Authorization: Basic {base64_of(PASSWORD)}".encode() in heard[0]) is ("user" in spelled)
    assert TOKEN.encode() not in heard[0]


def base64_of(password: str) -> str:
    return HIDDEN["proxy's token"] if password == PASSWORD else ""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_loopback_base_url_never_goes_through_a_proxy(host, monkeypatch):
    body = '{"code":0,"call_lists":[],"has_more":false}'
    async with speaking(reply()) as (proxy, asked), speaking(reply(body=body)) as (port, heard):
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        async with client_of(f"http://{host}:{port}") as client:
            assert (await ask(client)).items == ()
    assert (len(asked), len(heard)) == (0, 1)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_is_neither_pickled_nor_copied_and_says_what_to_do(copied):
    client = client_of("http://127.0.0.1:9")
    for one in (client, client.with_priority("export")):
        with pytest.raises(TypeError, match=r"make one where it is used.*from_env") as caught:
            copied(one)
        assert leaks(told(caught.value)) == []
    for part in (client._dispatcher._transport, client._dispatcher._transport._credentials):
        with pytest.raises(TypeError, match="not pickled or copied"):
            copied(part)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(client.calls)


WRONG = [
    ({"plan": "nope"}, "nope"),
    ({"base_url": "http://evil"}, "https is needed"),
    ({"max_wait": -1}, "max_wait"),
    ({"max_bytes": 0}, "max_bytes"),
    ({"customer_id": "a:b"}, "colon"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG, ids=str)
def test_no_frame_of_a_client_that_cannot_be_made_holds_the_secret(wrong, says, monkeypatch):
    variables = {"AGORA_CUSTOMER_ID": "customer", "AGORA_CUSTOMER_SECRET": SECRET, "AGORA_PLAN": "enterprise"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=says) as caught:
        AnalyticsClient.from_env(**wrong)
    assert leaks(told_but_self(caught.value)) == []


def test_a_secret_with_spaces_is_refused_and_not_shown():
    with pytest.raises(ValueError, match="spaces around it") as caught:
        AnalyticsClient("customer", f" {SECRET}", plan="premium")
    assert leaks(told_but_self(caught.value)) == []


def told_but_self(error: BaseException) -> str:
    """What a reporter tells of a constructor, whose `self` may have no `repr` yet."""
    parts = [str(error)]
    trace = error.__traceback__
    while trace:
        if "/tests/" not in trace.tb_frame.f_code.co_filename:
            parts.append(repr({name: value for name, value in trace.tb_frame.f_locals.items() if name != "self"}))
        trace = trace.tb_next
    return "\n".join(parts)


@pytest.mark.parametrize(
    "url",
    [
        "u:{}@h",
        "https:u:{}@h",
        "https://u:{}@h",
        "https://h?x={}",
        "https://h/#{}",
        "https://u:{}@h:x",
        "https://u:{}@[::1",
        "https://u:{}@h:99999",
        "https://:{}@h",
        "https://u:{}@ h",
        "//{}",
        "{}",
    ],
)
def test_a_base_url_is_not_quoted_with_what_may_be_a_password(url):
    with pytest.raises(ValueError, match="base_url") as caught:
        client_of(url.format(PASSWORD))
    assert PASSWORD not in str(caught.value)


async def test_a_request_and_an_answer_show_neither_app_id_nor_headers():
    async with (
        speaking(reply("500 No", f"X: {ECHO}\r\n")) as (port, _),
        client_of(f"http://127.0.0.1:{port}") as client,
    ):
        with pytest.raises(ResponseError) as caught:
            await ask(client)
    everything = told(caught.value)
    assert re.search(r"Request\(.*query='start_ts=", everything)
    assert re.search(r"Response\(status=500\)", everything)
