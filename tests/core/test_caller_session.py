"""Trusted certificates, and a session of the caller: its settings change no result, and requests do not change it."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from helpers.certificates import write_certificate
from helpers.echo_server import TOKEN, list_calls, make_client, raw_server

from agora_analytics import AnalyticsClient, CertificateError, Retry, Unauthorized
from agora_analytics._core.transport import AiohttpTransport, Credentials, trusting

pytestmark = pytest.mark.real_time

EMPTY = b'{"code":0,"call_lists":[],"has_more":false}'


async def unused_middleware(request, handler):
    raise AssertionError("a middleware of the session was used")


async def unused_raise_for_status(_):
    raise AssertionError("the session's raise_for_status was used")


def basic_auth() -> aiohttp.BasicAuth:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return aiohttp.BasicAuth("me", "mine")


SESSION_OPTIONS = {
    "raise_for_status": {"raise_for_status": True},
    "raise_for_status function": {"raise_for_status": unused_raise_for_status},
    "auth": {"auth": basic_auth()},
    "Authorization header": {"headers": {"Authorization": "Bearer mine"}},
    "middlewares": {"middlewares": (unused_middleware,)},
    "cookies": {"cookies": {"mine": "1"}},
    "raw bodies": {"auto_decompress": False},
}


@pytest.mark.parametrize("option", SESSION_OPTIONS)
async def test_the_callers_session_does_not_change_errors_and_keeps_only_its_own_cookies(option):
    response = b'HTTP/1.1 401 No\r\nSet-Cookie: theirs=1\r\nContent-Length: 16\r\n\r\n{"message":"no"}'
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), **SESSION_OPTIONS[option])
    async with session, raw_server(response) as (port, requests):
        async with make_client(f"http://127.0.0.1:{port}", session=session) as client:
            with pytest.raises(Unauthorized, match="HTTP 401: no"):
                await list_calls(client)
        assert {cookie.key for cookie in session.cookie_jar} == ({"mine"} if option == "cookies" else set())
    head = requests[0].decode()
    assert head.count("Authorization: ") == 1
    assert f"Authorization: Basic {TOKEN}\r\n" in head
    assert "mine" not in head


async def test_a_closed_session_raises_session_is_closed():
    async with aiohttp.ClientSession() as session:
        pass
    async with make_client("http://127.0.0.1:9", session=session) as client:
        with pytest.raises(RuntimeError, match="Session is closed"):
            await list_calls(client)


async def test_the_proxy_of_the_callers_session_is_not_used_for_a_loopback_host():
    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(EMPTY), EMPTY)
    async with (
        raw_server(b"") as (proxy, proxy_requests),
        raw_server(response) as (port, _),
        aiohttp.ClientSession(proxy=f"http://127.0.0.1:{proxy}") as session,
        make_client(f"http://127.0.0.1:{port}", session=session) as client,
    ):
        assert (await list_calls(client)).items == ()
    assert proxy_requests == []


@pytest.fixture(scope="module")
def certificate_files(tmp_path_factory) -> tuple[Path, Path]:
    """The files of a self-signed certificate for loopback, and of its key."""
    return write_certificate(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def https_server(certificate_files: tuple[Path, Path]) -> AsyncIterator[str]:
    async def handle(request):
        return web.Response(body=EMPTY)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate_files)
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_an_untrusted_certificate_is_not_retried_and_its_error_says_what_to_do(certificate_files):
    async with (
        https_server(certificate_files) as url,
        make_client([url, url], retry=Retry(attempts=9, base=9)) as client,
    ):
        with pytest.raises(CertificateError, match=r"self-signed.*SSL_CERT_FILE.*session=.*--ca-file") as caught:
            await list_calls(client)
    assert (caught.value.sent, caught.value.retryable) == (False, False)


async def test_a_file_of_authorities_makes_a_certificate_trusted(certificate_files):
    async with https_server(certificate_files) as url:
        transport = AiohttpTransport(
            Credentials("me", "the-secret"), hosts=(url,), trust=trusting(certificate_files[0])
        )
        async with AnalyticsClient("me", "the-secret", app_id="a", plan="premium", transport=transport) as client:
            assert (await list_calls(client)).items == ()
