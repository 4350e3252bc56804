"""Whose certificates are trusted, and a session of the caller's: its settings change no judgement, nor it theirs."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from helpers.echo_server import TOKEN, ask, client_of, speaking

from agora_analytics import AnalyticsClient, CertificateError, Retry, Unauthorized
from agora_analytics._core.transport import AiohttpTransport, Credentials, trusting

pytestmark = pytest.mark.real_time

EMPTY = b'{"code":0,"call_lists":[],"has_more":false}'


async def never(request, handler):
    raise AssertionError("a middleware of the session was used")


async def raising(response):
    raise AssertionError("the session's raise_for_status was used")


def basic_auth() -> aiohttp.BasicAuth:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return aiohttp.BasicAuth("me", "mine")


MANNERS = {
    "raise_for_status": {"raise_for_status": True},
    "a function for it": {"raise_for_status": raising},
    "auth": {"auth": basic_auth()},
    "an Authorization of its own": {"headers": {"Authorization": "Bearer mine"}},
    "middlewares": {"middlewares": (never,)},
    "cookies": {"cookies": {"mine": "1"}},
    "raw bodies": {"auto_decompress": False},
}


@pytest.mark.parametrize("manner", MANNERS)
async def test_a_given_session_changes_no_judgement_and_keeps_its_cookies(manner):
    said = b'HTTP/1.1 401 No\r\nSet-Cookie: theirs=1\r\nContent-Length: 16\r\n\r\n{"message":"no"}'
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), **MANNERS[manner])
    async with session, speaking(said) as (port, heard):
        async with client_of(f"http://127.0.0.1:{port}", session=session) as client:
            with pytest.raises(Unauthorized, match="HTTP 401: no"):
                await ask(client)
        assert {cookie.key for cookie in session.cookie_jar} == ({"mine"} if manner == "cookies" else set())
    head = heard[0].decode()
    assert head.count("Authorization: ") == 1
    assert f"Authorization: Basic {TOKEN}\r\n" in head
    assert "mine" not in head


async def test_a_session_that_is_closed_is_told_as_one():
    async with aiohttp.ClientSession() as session:
        pass
    async with client_of("http://127.0.0.1:9", session=session) as client:
        with pytest.raises(RuntimeError, match="Session is closed"):
            await ask(client)


async def test_a_proxy_of_a_given_session_is_not_used_for_a_loopback_host():
    said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(EMPTY), EMPTY)
    async with (
        speaking(b"") as (proxy, asked),
        speaking(said) as (port, _),
        aiohttp.ClientSession(proxy=f"http://127.0.0.1:{proxy}") as session,
        client_of(f"http://127.0.0.1:{port}", session=session) as client,
    ):
        assert (await ask(client)).items == ()
    assert asked == []


@pytest.fixture(scope="module")
def signed(tmp_path_factory) -> tuple[Path, Path]:
    """A certificate for loopback that is its own authority, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificates")
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(*formats))
    return files


@asynccontextmanager
async def served(signed: tuple[Path, Path]) -> AsyncIterator[str]:
    async def handle(request):
        return web.Response(body=EMPTY)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*signed)
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_certificate_that_is_not_trusted_is_tried_once_and_says_what_to_do(signed):
    async with served(signed) as url, client_of([url, url], retry=Retry(attempts=9, base=9)) as client:
        with pytest.raises(CertificateError, match=r"self-signed.*SSL_CERT_FILE.*session=.*--ca-file") as caught:
            await ask(client)
    assert (caught.value.sent, caught.value.retryable) == (False, False)


async def test_a_file_of_authorities_makes_a_certificate_trusted(signed):
    async with served(signed) as url:
        transport = AiohttpTransport(Credentials("me", "the-secret"), hosts=(url,), trust=trusting(signed[0]))
        async with AnalyticsClient("me", "the-secret", app_id="a", plan="premium", transport=transport) as client:
            assert (await ask(client)).items == ()
