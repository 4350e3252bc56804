"""No text contains a secret: whatever is echoed, whenever a caller cancels, whatever the environment contains."""

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
    error_report,
    frames_of_tasks,
    leaks,
    list_calls,
    make_client,
    raw_server,
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
    "not JSON": reply(body=ECHO),
    "HTML page": reply(body=f"<html>{ECHO}</html>"),
    "invalid row": reply(body=f'{{"call_lists":[{{"call_id":["{TOKEN} {APP}"],"created_ts":"{SECRET}"}}]}}'),
    "error": reply(body=f'{{"code":400,"message":"{ECHO}","requestId":"{SECRET}"}}'),
    "escaped error": reply(body=f'{{"code":400,"message":"{ESCAPED}"}}'),
    "error with an App ID": reply("401 No", body=f'{{"message":"no project {APP}"}}'),
}


@pytest.mark.parametrize("response", ECHOES.values(), ids=list(ECHOES))
async def test_an_echoed_secret_is_redacted_in_errors_and_logs(response, caplog):
    caplog.set_level(logging.DEBUG)
    async with raw_server(response) as (port, _), make_client(f"http://127.0.0.1:{port}", on_bad_row="raise") as client:
        with pytest.raises(AgoraError) as caught:
            await list_calls(client)
    report = error_report(caught.value) + caplog.text + pickle.dumps(caught.value).decode("latin-1")
    assert "GET /beta/analytics/call/lists" in report
    assert leaks(report) == []


async def test_an_echoed_secret_in_a_skipped_row_is_redacted(caplog):
    async with (
        raw_server(ECHOES["invalid row"]) as (port, _),
        make_client(f"http://127.0.0.1:{port}") as client,
    ):
        page = await list_calls(client)
    assert len(page.skipped) == 1
    assert "call_lists[0]" in caplog.text
    assert leaks(caplog.text + repr(page)) == []


async def test_a_long_redirect_or_request_id_is_shown_in_one_short_line():
    response = reply("302 Found", f"Location: https://x/{'y' * 5000}\r\nX-Request-ID: a\x1b[31mb\r\n")
    async with raw_server(response) as (port, _), make_client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(AgoraError) as caught:
            await list_calls(client)
    assert len(str(caught.value)) < 800
    assert "\x1b" not in str(caught.value)


STAGES = {
    "response": (b"", ""),
    "headers": (b"HTTP/1.1 200 OK\r\nX-Echo: " + ECHO.encode(), ""),
    "body": (f"HTTP/1.1 200 OK\r\nX-Echo: {ECHO}\r\nContent-Length: 99\r\n\r\n{{".encode(), ""),
    "chunks": (f"HTTP/1.1 200 OK\r\nX: {ECHO}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n".encode(), ""),
    "handshake": (b"", "https"),
    "tunnel": (b"", "proxy"),
    "handshake in a tunnel": (b"HTTP/1.1 200 OK\r\n\r\n", "proxy"),
}


async def with_timeout(client):
    async with asyncio.timeout(0.1):
        await list_calls(client)


async def with_wait_for(client):
    await asyncio.wait_for(list_calls(client), 0.1)


async def with_cancel(client):
    task = asyncio.create_task(list_calls(client))
    await asyncio.sleep(0.1)
    task.cancel()
    await task


async def with_task_group(client):
    async with asyncio.TaskGroup() as group:
        group.create_task(list_calls(client))
        await asyncio.sleep(0.1)
        raise RuntimeError("another task")


async def with_client_timeout(client):
    await list_calls(client)


@pytest.mark.parametrize("abort", [with_timeout, with_wait_for, with_cancel, with_task_group, with_client_timeout])
@pytest.mark.parametrize("stage", STAGES)
async def test_no_frame_of_a_timed_out_or_cancelled_request_has_a_secret(stage, abort, monkeypatch):
    response, mode = STAGES[stage]
    async with raw_server(response, close=False) as (port, _):
        url = f"{'https' if mode else 'http'}://127.0.0.1:{port}"
        if mode == "proxy":
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PASSWORD}@127.0.0.1:{port}")
            url = "https://analytics.example"
        async with make_client(url, timeouts=Timeouts(total=0.1 if abort is with_client_timeout else 60)) as client:
            with pytest.raises((TimeoutError, asyncio.CancelledError, ExceptionGroup, TransportError)) as caught:
                await abort(client)
    report = error_report(caught.value)
    assert abort is with_task_group or "_core/transport.py" in report
    assert leaks(report) == []


@pytest.mark.parametrize("stage", STAGES)
async def test_no_waiting_frame_has_credentials(stage, monkeypatch):
    """As a sampling profiler sees them, except the App ID in the URL and echoes in a response that is being read."""
    response, mode = STAGES[stage]
    async with raw_server(response.replace(ECHO.encode(), b"none"), close=False) as (port, _):
        url = f"{'https' if mode else 'http'}://127.0.0.1:{port}"
        if mode == "proxy":
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PASSWORD}@127.0.0.1:{port}")
            url = "https://analytics.example"
        async with make_client(url) as client:
            task = asyncio.create_task(list_calls(client))
            await asyncio.sleep(0.1)
            frames = frames_of_tasks()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    leaked = set(leaks(frames)) - {"App ID"}
    assert "_exchange" in frames
    assert leaked == set()


async def test_a_search_that_times_out_in_a_request_shows_no_secret():
    async with raw_server(b"", close=False) as (port, _), make_client(f"http://127.0.0.1:{port}") as client:
        calls = client.calls.search(*client.calls.recent(3600))
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(anext(calls), 0.1)
    assert leaks(error_report(caught.value)) == []


@pytest.mark.parametrize(
    "proxy_url",
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
async def test_the_password_of_a_proxy_is_not_shown_for_any_form_of_its_url(proxy_url, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HTTPS_PROXY", proxy_url.format(PASSWORD))
    async with make_client("https://analytics.example") as client:
        with pytest.raises(
            (TransportError, ValueError), match=r"HTTPS_PROXY names no proxy|ClientProxyConn|DNS"
        ) as caught:
            await list_calls(client)
        assert leaks(error_report(caught.value) + caplog.text + repr(vars(client._dispatcher._transport))) == []


@pytest.mark.parametrize("proxy_url", ["http://us er:{}@127.0.0.1:1", "http://user:{} @127.0.0.1:1"])
async def test_a_proxy_url_with_spaces_raises(proxy_url, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy_url.format(PASSWORD))
    async with make_client("https://analytics.example") as client:
        with pytest.raises(ValueError, match="HTTPS_PROXY names no proxy"):
            await list_calls(client)


@pytest.mark.parametrize("proxy_url", ["http://user:{}@127.0.0.1:{}", "user:{}@127.0.0.1:{}/", "http://127.0.0.1:{1}"])
async def test_a_proxy_from_the_environment_is_used(proxy_url, monkeypatch):
    async with raw_server(reply("407 Who?")) as (port, requests):
        monkeypatch.setenv("HTTPS_PROXY", proxy_url.format(PASSWORD, port))
        async with make_client("https://analytics.example") as client:
            with pytest.raises(TransportError, match="the proxy answered HTTP 407") as caught:
                await list_calls(client)
    assert caught.value.sent is False
    assert requests[0].startswith(b"CONNECT analytics.example:443 HTTP/1.1\r\n")
    assert (f"Proxy-Authorization: Basic {proxy_token(PASSWORD)}".encode() in requests[0]) is ("user" in proxy_url)
    assert TOKEN.encode() not in requests[0]


def proxy_token(password: str) -> str:
    return HIDDEN["proxy's token"] if password == PASSWORD else ""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_loopback_base_url_never_uses_a_proxy(host, monkeypatch):
    body = '{"code":0,"call_lists":[],"has_more":false}'
    async with raw_server(reply()) as (proxy, proxy_requests), raw_server(reply(body=body)) as (port, requests):
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        async with make_client(f"http://{host}:{port}") as client:
            assert (await list_calls(client)).items == ()
    assert (len(proxy_requests), len(requests)) == (0, 1)


@pytest.mark.parametrize("copy_of", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pickling_or_copying_a_client_raises_and_says_what_to_do(copy_of):
    client = make_client("http://127.0.0.1:9")
    for one in (client, client.with_priority("export")):
        with pytest.raises(TypeError, match=r"make one where it is used.*from_env") as caught:
            copy_of(one)
        assert leaks(error_report(caught.value)) == []
    for part in (client._dispatcher._transport, client._dispatcher._transport._credentials):
        with pytest.raises(TypeError, match="not pickled or copied"):
            copy_of(part)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(client.calls)


INVALID_SETTINGS = [
    ({"plan": "nope"}, "nope"),
    ({"base_url": "http://evil"}, "https is needed"),
    ({"max_wait": -1}, "max_wait"),
    ({"max_bytes": 0}, "max_bytes"),
    ({"customer_id": "a:b"}, "colon"),
]


@pytest.mark.parametrize(("settings", "message"), INVALID_SETTINGS, ids=str)
def test_no_frame_of_a_failed_constructor_has_the_secret(settings, message, monkeypatch):
    variables = {"AGORA_CUSTOMER_ID": "customer", "AGORA_CUSTOMER_SECRET": SECRET, "AGORA_PLAN": "enterprise"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message) as caught:
        AnalyticsClient.from_env(**settings)
    assert leaks(report_without_self(caught.value)) == []


def test_a_secret_with_spaces_raises_and_is_not_shown():
    with pytest.raises(ValueError, match="spaces around it") as caught:
        AnalyticsClient("customer", f" {SECRET}", plan="premium")
    assert leaks(report_without_self(caught.value)) == []


def report_without_self(error: BaseException) -> str:
    """What an error reporter shows of a constructor, whose `self` may have no `repr` yet."""
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
def test_a_base_url_is_not_quoted_with_a_possible_password(url):
    with pytest.raises(ValueError, match="base_url") as caught:
        make_client(url.format(PASSWORD))
    assert PASSWORD not in str(caught.value)


async def test_requests_and_responses_show_neither_app_id_nor_headers():
    async with (
        raw_server(reply("500 No", f"X: {ECHO}\r\n")) as (port, _),
        make_client(f"http://127.0.0.1:{port}") as client,
    ):
        with pytest.raises(ResponseError) as caught:
            await list_calls(client)
    report = error_report(caught.value)
    assert re.search(r"Request\(.*query='start_ts=", report)
    assert re.search(r"Response\(status=500\)", report)
