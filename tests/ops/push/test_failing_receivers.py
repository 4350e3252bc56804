"""Receivers that are slow, silent, overloaded, endless or not there: bounded time and memory, and nothing is lost."""

from __future__ import annotations

import asyncio
import copy
import pickle
import ssl
from contextlib import suppress
from email.utils import formatdate

import pytest
from aiohttp import web
from helpers.certificates import write_certificate
from helpers.echo_server import error_report, frames_of_tasks, raw_server
from helpers.otlp_receiver import PROTOBUF, OtlpReceiver, SilentReceiver, StreamingReceiver, answer, receiving, window

from agora_analytics.ops import Push, PushError

pytestmark = pytest.mark.real_time

SECRET = "s3cretword"
HEADERS = {"Authorization": f"Bearer {SECRET}"}


def pushing(url: str, **settings) -> Push:
    return Push(url, **{"app": "shop", "protocol": "otlp", "headers": HEADERS} | settings)


async def refusal(push: Push) -> PushError:
    """Return the error of a window that is not accepted, which shows no secret."""
    with pytest.raises(PushError) as raised:
        await push.send(window())
    assert SECRET not in error_report(raised.value)
    return raised.value


def passed(begun: float) -> float:
    return asyncio.get_running_loop().time() - begun


# Time.


async def test_a_receiver_that_never_answers_is_given_up_after_max_wait_and_one_attempt():
    receiver, begun = SilentReceiver(), asyncio.get_running_loop().time()
    async with receiving(receiver) as url, pushing(url, timeout=0.2, max_wait=0.5) as push:
        error = await refusal(push)
        assert str(error).endswith("was not accepted: no answer in 0.2 s")
        assert (error.status, error.refused) == (None, False)
        assert passed(begun) < 2
        await asyncio.wait_for(receiver.left.wait(), 2)


async def test_an_answer_that_comes_too_slowly_is_given_up():
    receiver, begun = StreamingReceiver(*[b"\x00"] * 100, seconds=0.05), asyncio.get_running_loop().time()
    async with receiving(receiver) as url, pushing(url, timeout=0.3, max_wait=0) as push:
        assert "no answer in 0.3 s" in str(await refusal(push))
        assert passed(begun) < 2


async def test_a_receiver_that_is_not_there_is_tried_for_max_wait_seconds():
    begun = asyncio.get_running_loop().time()
    async with pushing("http://127.0.0.1:1/", max_wait=1) as push:
        error = await refusal(push)
    assert "ClientConnectorError" in str(error)
    assert (error.status, error.refused) == (None, False)
    assert passed(begun) < 3


async def test_the_first_of_several_attempts_is_logged_without_a_secret(caplog):
    async with receiving(OtlpReceiver(answer(503), answer(503))) as url, pushing(f"{url}?key={SECRET}") as push:
        await push.send(window())
    (message,) = caplog.messages
    assert "is sent again until it is accepted: HTTP 503" in message
    assert SECRET not in caplog.text


async def test_a_retry_after_that_is_too_long_is_not_waited_for():
    begun = asyncio.get_running_loop().time()
    busy = web.Response(status=429, headers={"Retry-After": "9" * 400})
    async with receiving(OtlpReceiver(busy)) as url, pushing(url) as push:
        error = await refusal(push)
    assert (error.status, error.refused) == (429, False)
    assert passed(begun) < 1


async def test_a_retry_after_may_be_a_date():
    dates = {"Retry-After": formatdate(1_795_521_602, usegmt=True), "Date": formatdate(1_795_521_600, usegmt=True)}
    begun = asyncio.get_running_loop().time()
    async with receiving(OtlpReceiver(web.Response(status=503, headers=dates))) as url, pushing(url) as push:
        await push.send(window())
    assert passed(begun) >= 2


async def test_a_retry_after_that_is_neither_is_passed_over():
    answers = (web.Response(status=503, headers={"Retry-After": text}) for text in ("\xb2", "soon"))
    receiver = OtlpReceiver(*answers)
    async with receiving(receiver) as url, pushing(url) as push:
        await push.send(window())
    assert len(receiver.requests) == 3


async def test_a_connection_that_breaks_is_made_again():
    receiver = OtlpReceiver()
    handle, broken = receiver.handle, []

    async def breaking(request: web.Request) -> web.StreamResponse:
        if not broken:
            broken.append(request)
            request.transport.abort()
        return await handle(request)

    receiver.handle = breaking
    async with receiving(receiver) as url, pushing(url) as push:
        await push.send(window())
    assert list(receiver.points().values()) == [3]


async def test_a_certificate_that_is_not_trusted_is_an_error_at_once(tmp_path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*write_certificate(tmp_path))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    begun = asyncio.get_running_loop().time()
    async with server, pushing(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as push:
        error = await refusal(push)
    assert "ClientConnectorCertificateError" in str(error)
    assert passed(begun) < 5


# Answers.


async def test_an_answer_that_comes_in_pieces_is_read_to_its_end():
    whole = answer(rejected=300, message="too old").body
    receiver = StreamingReceiver(whole[:3], whole[3:], seconds=0.05, headers={"Content-Type": PROTOBUF})
    async with receiving(receiver) as url, pushing(url) as push:
        assert "300 points were rejected: too old" in str(await refusal(push))


@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_that_echoes_secrets_is_quoted_without_them(status):
    echo = answer(status, rejected=300, message=f"for {HEADERS['Authorization']}, again ?key={SECRET}2: too old")
    async with receiving(OtlpReceiver(echo)) as url, pushing(f"{url}?key={SECRET}2") as push:
        error = await refusal(push)
    assert error.refused
    assert status == 400 or "300 points were rejected: for ***, again ?key=***: too old" in str(error)


@pytest.mark.parametrize("protocol", ["otlp", "remote_write"])
async def test_of_an_endless_answer_only_the_beginning_is_read(protocol):
    receiver = StreamingReceiver(*[b"\x00" * 65_536] * 2_000)
    async with receiving(receiver) as url, pushing(url, protocol=protocol) as push:
        error = await refusal(push)
    assert "HTTP 200 with a longer answer than any receiver's" in str(error)
    assert not error.refused
    assert receiver.written < 20 * 2**20


async def test_a_long_error_is_quoted_on_one_short_line():
    long = web.Response(status=400, text="bad\r\nsample \x1b[31m" + "x" * 1_000_000)
    async with receiving(OtlpReceiver(long)) as url, pushing(url) as push:
        error = await refusal(push)
    assert "HTTP 400: bad sample \ufffd[31mxxx" in str(error)
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"", PROTOBUF), (b"{}", PROTOBUF), (b"\xff\xff", PROTOBUF), (b"", "text/html"), (b"OK", "text/html")],
)
async def test_a_success_with_any_short_answer_is_a_success(body, content_type):
    receiver = OtlpReceiver(web.Response(body=body, content_type=content_type))
    async with receiving(receiver) as url, pushing(url) as push:
        assert await push.send(window()) == 1


async def test_cookies_of_a_receiver_are_not_kept():
    cookie = web.Response(headers={"Set-Cookie": "name=value"})
    receiver = OtlpReceiver(cookie)
    async with receiving(receiver) as url, pushing(url) as push:
        await push.send(window())
        await push.send(window())
    assert "Cookie" not in receiver.requests[1][0]


async def test_an_old_status_of_prometheus_for_what_is_too_old_is_a_refusal():
    receiver = OtlpReceiver(web.Response(status=500, text="too old sample\n"))
    async with receiving(receiver) as url, pushing(url, protocol="remote_write") as push:
        error = await refusal(push)
    assert (error.status, error.refused, len(receiver.requests)) == (500, True, 1)


# The end, and secrets.


async def test_a_cancellation_ends_a_request_at_once_and_shows_no_secret():
    receiver = SilentReceiver()
    async with receiving(receiver) as url, pushing(f"{url}?key={SECRET}") as push:
        task = asyncio.create_task(push.send(window()))
        await asyncio.wait_for(receiver.reached.wait(), 5)
        begun = asyncio.get_running_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        await asyncio.wait_for(receiver.left.wait(), 2)
        assert passed(begun) < 1
    assert SECRET not in error_report(caught.value)


async def test_a_cancellation_ends_the_wait_for_another_attempt_at_once():
    receiver = OtlpReceiver(web.Response(status=503, headers={"Retry-After": "100"}))
    async with receiving(receiver) as url, pushing(url) as push:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await push.send(window())
    assert len(receiver.requests) == 1


async def test_headers_are_in_no_frame_while_a_request_runs():
    async with raw_server(b"", close=False) as (port, requests), pushing(f"http://127.0.0.1:{port}/") as push:
        task = asyncio.create_task(push.send(window()))
        async with asyncio.timeout(5):
            while not requests:  # noqa: ASYNC110 - the server has no event
                await asyncio.sleep(0.01)
        frames = frames_of_tasks()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert SECRET.encode() in requests[0]
    assert "push.py" in frames
    assert SECRET not in frames


async def test_a_push_that_is_closed_sends_no_more():
    receiver = SilentReceiver()
    async with receiving(receiver) as url:
        push = pushing(url)
        task = asyncio.create_task(push.send(window()))
        await asyncio.wait_for(receiver.reached.wait(), 5)
        await push.close()
        await push.close()
        with pytest.raises(RuntimeError, match="the push is closed"):
            await task
        with pytest.raises(RuntimeError, match="the push is closed"):
            await push.send(window())


@pytest.mark.parametrize("copy_of", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_push_is_not_pickled_or_copied(copy_of):
    push = pushing("http://127.0.0.1:1/")
    for part in (push, push._receiver):
        with pytest.raises(TypeError, match="not pickled or copied") as caught:
            copy_of(part)
        assert SECRET not in error_report(caught.value)
    assert SECRET not in repr(push) + repr(vars(push))


async def test_a_proxy_of_the_environment_is_used_with_its_credentials(monkeypatch):
    async with raw_server(b"HTTP/1.1 204 No Content\r\n\r\n") as (port, requests):
        monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@127.0.0.1:{port}")
        async with pushing("http://receiver.invalid/v1/metrics", headers=None) as push:
            await push.send(window())
    assert requests[0].startswith(b"POST http://receiver.invalid/v1/metrics HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpzM2NyZXR3b3Jk\r\n" in requests[0]
