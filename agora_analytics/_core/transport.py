"""Requests on sockets: the only client file that imports aiohttp, and the only one that knows the credentials.

aiohttp's exceptions carry the request's headers, and their tracebacks the frames that hold them. So an exchange returns
what came of it and raises nothing, not even its cancellation, and the `Authorization` header is written by a
middleware, when aiohttp has built the request: no frame that an error, a time-out or a cancellation of the caller's
passes through has seen it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import ssl
import time
from collections.abc import MutableMapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path
from typing import NoReturn

import aiohttp
import attrs
from yarl import URL

from agora_analytics._core import addresses, validation
from agora_analytics._core.decoding.json import one_line
from agora_analytics._core.futures import cancellations
from agora_analytics._core.redaction import Scrubber
from agora_analytics.errors import AgoraError, CertificateError, DecodeError, TransportError, TransportTimeout
from agora_analytics.protocols import Request, Response

__all__ = ["HOSTS", "Timeouts"]

HOSTS = ("https://api.agora.io", "https://api.sd-rtn.com")
"""The two main hosts, each the other's fallback: outside and inside mainland China."""

USER_AGENT = "agora-analytics-python"
_PLAIN = {"Accept": "application/json", "User-Agent": USER_AGENT}
_JSON = {**_PLAIN, "Content-Type": "application/json"}

_SMALL = 1 << 20
"""Bytes of a body that aiohttp may join in one go, in under a millisecond."""

_TURN = 0.002
"""Seconds of work after which the event loop has its turn."""

_SHOWN = 200
"""Characters that an error quotes of a text that is not ours."""

_NETWORK = "Check the network, proxies and AGORA_BASE_URL; the service may be down."
_TRUST = (
    "If a proxy or firewall of yours signs certificates itself, name the file of its authority: in SSL_CERT_FILE, by"
    " session=aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=...)), or on the command line with --ca-file."
)


@attrs.frozen(kw_only=True)
class Timeouts:
    """Seconds allowed for one attempt in all, for its connection, and between two parts of an answer (None: any)."""

    total: float = 60.0
    connect: float = 10.0
    read: float | None = None

    def __attrs_post_init__(self) -> None:
        above = partial(validation.number_in_range, above=True)
        validation.apply_rules(self, total=above, connect=above, read=partial(validation.none_or, above))


class Credentials:
    """Customer ID and Customer Secret; nothing shows them but the header made of them."""

    def __init__(self, customer_id: str, customer_secret: str) -> None:
        try:
            _check_credentials(customer_id=customer_id, customer_secret=customer_secret)
            token = base64.b64encode(f"{customer_id}:{customer_secret}".encode()).decode()
            self._authorization = f"Basic {token}"
            self._scrubber = Scrubber(token, customer_secret)
        finally:
            del customer_secret  # reporters show the arguments of every frame of a traceback

    def __repr__(self) -> str:
        """Show nothing."""
        return "Credentials(***)"

    def __reduce__(self) -> NoReturn:
        """Refuse: a pickle would hold the secret."""
        raise TypeError(
            "credentials are not pickled or copied: make a client where it is used, for example with"
            " AnalyticsClient.from_env()"
        )

    def sign(self, headers: MutableMapping[str, str]) -> None:
        """Put the credentials into a request's headers, in the place of any others."""
        headers["Authorization"] = self._authorization

    def scrub(self, body: bytes) -> bytes:
        """Blank out the secret where an answer echoes it, as debugging proxies do."""
        return self._scrubber.scrub(body)


def _check_credentials(**texts: str) -> None:
    """Raise what is wrong with Customer ID and Customer Secret, from a frame that no longer holds either."""
    wrong = next(filter(None, (_wrong(name, texts.pop(name)) for name in list(texts))), None)
    texts.clear()
    if wrong is not None:
        raise wrong


def _wrong(name: str, value: object) -> Exception | None:
    if name == "customer_id" and isinstance(value, str) and ":" in value:
        return ValueError("customer_id contains a colon, which Basic authentication does not allow (value not shown)")
    return validation.secret_error(name, value)


def trusting(path: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts only the authorities of a PEM file; raises `ValueError` if it has none."""
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ValueError(f"certificate file {str(path)!r} cannot be used: {reason}") from None


class SharedConnections:
    """Connections that the transports of many accounts share; they open at the first request."""

    def __init__(self) -> None:
        self._connector: aiohttp.TCPConnector | None = None

    def opened(self) -> aiohttp.TCPConnector:
        """Return the connector, for sessions that do not own it."""
        if self._connector is None:
            self._connector = aiohttp.TCPConnector()
        return self._connector

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()


class AiohttpTransport:
    """Sends over aiohttp to a list of hosts; opens a session of its own at the first request unless given one.

    One call of `send` is one request: redirects, aiohttp's own second attempts and a given session's middlewares, each
    of which could make it two, are left out. Of a given session the connector, its proxy, headers and tracing are used;
    its `auth`, cookies and `raise_for_status` are not. A loopback host is never reached through a proxy.
    Raises `ValueError` for a host that is neither https nor loopback.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        hosts: tuple[str, ...] = HOSTS,
        session: aiohttp.ClientSession | None = None,
        timeouts: Timeouts | None = None,
        max_bytes: int = 256 * 2**20,
        trust: ssl.SSLContext | None = None,
        shared: SharedConnections | None = None,
    ) -> None:
        self._credentials = credentials
        self._shared = shared
        self._hosts = tuple(map(addresses.checked, hosts))
        if not self._hosts:
            raise ValueError("base_url is empty: at least one is needed")
        self._session = validation.none_or(validation.instance, "session", session, aiohttp.ClientSession)
        self._mine = session is None
        self._trust = trust
        self._middlewares = tuple(_HostMiddleware(credentials, direct=addresses.loopback(base)) for base in self._hosts)
        self._limit = max_bytes
        timeouts = timeouts or Timeouts()
        self._total = timeouts.total
        # No total of aiohttp's: see `_exchange`.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect, sock_read=timeouts.read)

    def __reduce__(self) -> NoReturn:
        """Refuse: it holds credentials and connections."""
        self._credentials.__reduce__()

    @property
    def hosts(self) -> int:
        """How many hosts there are."""
        return len(self._hosts)

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The base URL of each host."""
        return self._hosts

    @property
    def addresses(self) -> list[tuple[str, int | None]]:
        """Name and port of each host."""
        return [(url.host or "", url.port) for url in map(URL, self._hosts)]

    async def send(self, request: Request, host: int = 0) -> Response:
        """Send once, return whatever came whole; raises `TransportError`, or `DecodeError` for too large an answer."""
        outcome = await self._exchange(self._opened(), request, host)
        if isinstance(outcome, Response):
            return outcome
        raise outcome

    async def _exchange(
        self, session: aiohttp.ClientSession, request: Request, host: int
    ) -> Response | AgoraError | RuntimeError | asyncio.CancelledError:
        """Send and receive, and return what came of it, an error too: one that was raised would show these frames."""
        cancels = cancellations()
        try:
            # Not aiohttp's total: it takes back the caller's cancellation where both come in one turn of the loop.
            async with asyncio.timeout(self._total), self._sent(session, request, host) as answer:
                body = await self._read(answer)
                return self._too_large() if body is None else Response(answer.status, answer.headers, body)
        except asyncio.CancelledError as error:
            return asyncio.CancelledError(*error.args)  # a new one, because the traceback of that one has these frames
        except Exception as error:  # noqa: BLE001 - a given session's parts raise what they like
            if cancellations() > cancels:
                return asyncio.CancelledError()  # which a callback of a given session has replaced
            if isinstance(error, aiohttp.ClientError | OSError):  # a TimeoutError is an OSError
                return _failure(self._hosts[host], error)
            return RuntimeError(f"the request failed with {type(error).__name__}: {self._shown(str(error))}")

    def _sent(
        self, session: aiohttp.ClientSession, request: Request, host: int
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return session.request(
            request.endpoint.method,
            # Encoded already: yarl would spell some characters in another way.
            URL(f"{self._hosts[host]}{request.endpoint.path}?{request.query}", encoded=True),
            data=request.body,
            headers=_PLAIN if request.body is None else _JSON,
            allow_redirects=False,
            auto_decompress=True,
            raise_for_status=False,
            timeout=self._timeout,
            middlewares=(self._middlewares[host],),
        )

    def scrub(self, body: bytes) -> bytes:
        """Blank out the credentials where an answer echoes them."""
        return self._credentials.scrub(body)

    async def close(self) -> None:
        """Close the session if it was opened here."""
        # Cleared before it is awaited, so that a second call has nothing to close.
        session, self._session = self._session, None if self._mine else self._session
        if self._mine and session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Looked up once: `trust_env` would do it at every request, in a thread, which costs more than the request.
            for middleware, base in zip(self._middlewares, self._hosts, strict=True):
                middleware.proxy = addresses.proxy(base)
            # No cookies: the API sets none, and one of a proxy's must not go to the other host.
            self._session = aiohttp.ClientSession(
                connector=self._shared.opened() if self._shared else aiohttp.TCPConnector(ssl=self._trust or True),
                connector_owner=self._shared is None,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes | None:
        """Read a body up to the limit, counted after decompression; None for one that is larger."""
        length = answer.content_length
        if length is not None and length > self._limit:
            return self._discard(answer)
        # The quick way of most answers; a compressed one may be of any size, whatever its header says.
        if length is not None and length <= _SMALL and "Content-Encoding" not in answer.headers:
            return await answer.read()
        body = io.BytesIO()  # which grows without being copied; to join the parts of 20 MB takes 15 ms
        begun = time.perf_counter()
        async for chunk in answer.content.iter_any():
            body.write(chunk)
            if body.tell() > self._limit:
                return self._discard(answer)
            if time.perf_counter() - begun > _TURN:  # what is compressed well is always there already
                await asyncio.sleep(0)
                begun = time.perf_counter()
        return body.getvalue()

    @staticmethod
    def _discard(answer: aiohttp.ClientResponse) -> None:
        answer.close()  # or the rest would be read before the connection is used again

    def _too_large(self) -> DecodeError:
        return DecodeError(
            f"the answer is larger than max_bytes={self._limit}",
            hint="Ask for a shorter span or fewer sessions, or raise max_bytes.",
        )

    def _shown(self, text: str) -> str:
        return one_line(self.scrub(text.encode("utf-8", "replace")).decode(errors="replace"), _SHOWN)


class _Broken(aiohttp.ClientConnectionError):
    """A connection that broke while a request was under way."""


class _HostMiddleware:
    """How a request goes to one host: signed, without anybody's cookies, by the right proxy or none, and once."""

    def __init__(self, credentials: Credentials, *, direct: bool) -> None:
        self._credentials = credentials
        self._direct = direct
        self.proxy: addresses.Proxy | None = None

    async def __call__(self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Send a request; aiohttp is kept from sending a GET again by itself, as the second would have no permit."""
        self._prepare(request)
        try:
            answer = await send(request)
        # These mean that nothing was sent; the first would be caught as a ClientOSError below.
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise _Broken(_reason(error)) from None
        answer.cookies = SimpleCookie()  # none for the jar of a given session
        return answer

    def _prepare(self, request: aiohttp.ClientRequest) -> None:
        self._credentials.sign(request.headers)
        request.headers.popall("Cookie", None)
        if self.proxy is not None:
            named = self.proxy.authorization
            request.update_proxy(self.proxy.url, None, {"Proxy-Authorization": named} if named else None)
        elif self._direct:
            request.update_proxy(None, None, None)


def _failure(base: str, error: aiohttp.ClientError | OSError) -> TransportError:
    """Return the error of this library for one of aiohttp's."""
    # First, as aiohttp's timeouts are connection errors as well.
    if isinstance(error, TimeoutError):
        failure: TransportError = TransportTimeout(f"no answer from {base} in time ({type(error).__name__})")
        failure.sent = not isinstance(error, aiohttp.ConnectionTimeoutError)
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        failure = CertificateError(f"the certificate of {base} is not trusted ({_reason(error)})")
    else:
        failure = TransportError(f"the connection to {base} failed ({_reason(error)})")
        failure.sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError)
    failure.hint = _TRUST if isinstance(failure, CertificateError) else _NETWORK
    return failure


def _reason(error: BaseException) -> str:
    """Return what went wrong in the words of aiohttp and the system: what the other side sent is never quoted."""
    if isinstance(error, _Broken):
        return str(error)
    detail: object = ""
    match error:
        case aiohttp.ClientHttpProxyError():
            detail = f"the proxy answered HTTP {error.status}"
        case aiohttp.ClientConnectorCertificateError():
            detail = getattr(error.certificate_error, "verify_message", error.certificate_error)
        case aiohttp.ClientConnectorError():
            detail = error.os_error
        case aiohttp.ClientResponseError():
            detail = "what came is not HTTP"
        case aiohttp.ClientPayloadError():
            detail = "the answer was cut off or damaged"
        case OSError():
            detail = error.strerror
    return f"{type(error).__name__}: {detail}" if detail else type(error).__name__
