"""Requests on sockets: the only client file that imports aiohttp, and the only one that knows the credentials.

aiohttp's exceptions carry the request's headers, and their tracebacks the frames that hold them. So what fails here is
told anew, in an error without a cause: nothing that is logged or printed of it can show the secret.
"""

from __future__ import annotations

import base64
from functools import partial
from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

import aiohttp
import attrs
from yarl import URL

from agora_analytics import _checks
from agora_analytics.errors import DecodeError, TransportError, TransportTimeout
from agora_analytics.protocols import Request, Response

HOSTS = ("https://api.agora.io", "https://api.sd-rtn.com")
"""The two main hosts, each the other's fallback: outside and inside mainland China."""

_AGENT = "agora-analytics-python"


@attrs.frozen(kw_only=True)
class Timeouts:
    """Seconds allowed for one attempt in all, for a connection, and between two pieces of an answer (None: in all)."""

    total: float = 60.0
    connect: float = 10.0
    read: float | None = None

    def __attrs_post_init__(self) -> None:
        above = partial(_checks.amount, above=True)
        _checks.settle(self, total=above, connect=above, read=partial(_checks.none_or, above))


class Credentials:
    """Customer ID and Customer Secret; nothing shows them but the header made of them."""

    def __init__(self, customer_id: str, customer_secret: str) -> None:
        for name, value in (("customer_id", customer_id), ("customer_secret", customer_secret)):
            _checks.credential(name, value)
        if ":" in customer_id:
            raise ValueError(
                "customer_id contains a colon, which Basic authentication does not allow (value not shown)"
            )
        token = base64.b64encode(f"{customer_id}:{customer_secret}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Accept": "application/json", "User-Agent": _AGENT}
        self._hidden = tuple(text.encode() for text in (token, customer_secret) if len(text) >= 4)  # noqa: PLR2004

    def __repr__(self) -> str:
        """Show nothing."""
        return "Credentials(***)"

    def headers(self, *, json: bool) -> dict[str, str]:
        """Headers of one request, with or without a JSON body."""
        return {**self._headers, "Content-Type": "application/json"} if json else self._headers

    def scrub(self, body: bytes) -> bytes:
        """Blank out the secret where an answer echoes it, as debugging proxies do."""
        for hidden in self._hidden:
            if hidden in body:
                body = body.replace(hidden, b"***")
        return body


class AiohttpTransport:
    """Sends over aiohttp to a list of hosts; opens a session of its own at the first request unless given one.

    One call of `send` is one request: redirects, aiohttp's own second attempts and a given session's middlewares, each
    of which could make it two, are left out.
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
    ) -> None:
        self._credentials = credentials
        self._hosts = tuple(map(_checked, hosts))
        if not self._hosts:
            raise ValueError("base_url is empty: at least one is needed")
        self._session = _checks.none_or(_checks.instance, "session", session, aiohttp.ClientSession)
        self._mine = session is None
        self._proxies: dict[str, str | None] = {}
        self._limit = max_bytes
        timeouts = timeouts or Timeouts()
        self._timeout = aiohttp.ClientTimeout(
            total=timeouts.total, sock_connect=timeouts.connect, sock_read=timeouts.read
        )

    @property
    def hosts(self) -> int:
        """How many hosts there are."""
        return len(self._hosts)

    async def send(self, request: Request, host: int = 0) -> Response:
        """Send once, return whatever came whole; raises `TransportError`, or `DecodeError` for too large an answer."""
        base = self._hosts[host]
        session = self._opened()
        try:
            async with session.request(
                request.endpoint.method,
                URL(f"{base}{request.endpoint.path}?{request.query}", encoded=True),
                data=request.body,
                headers=self._credentials.headers(json=request.body is not None),
                allow_redirects=False,
                timeout=self._timeout,
                proxy=self._proxies.get(base),
                middlewares=(_once,),
            ) as answer:
                body = await self._read(answer)
                return Response(answer.status, answer.headers, body)
        except TimeoutError as error:
            failure: TransportError = TransportTimeout(f"no answer from {base} in time ({_describe(error)})")
            failure.sent = not isinstance(error, aiohttp.ConnectionTimeoutError)
        except (aiohttp.ClientError, OSError) as error:
            failure = TransportError(f"the connection to {base} failed ({_describe(error)})")
            failure.sent = not isinstance(error, aiohttp.ClientConnectorError)
        failure.advice = "Check the network, proxies and AGORA_BASE_URL; the service may be down."
        raise failure

    def scrub(self, body: bytes) -> bytes:
        """Blank out the credentials where an answer echoes them."""
        return self._credentials.scrub(body)

    async def close(self) -> None:
        """Close the session if it was opened here."""
        session, self._session = self._session, None if self._mine else self._session
        if self._mine and session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No cookies: the API sets none, and one of a proxy's must not go to the other host.
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
            # Looked up once: `trust_env` would do it at every request, in a thread, which costs more than the request.
            self._proxies = {base: _proxy(URL(base)) for base in self._hosts}
        return self._session

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        """Read a body up to the limit, counted after decompression."""
        length = answer.content_length
        if length is not None and length > self._limit:
            raise self._too_large(answer)
        if length is not None and "Content-Encoding" not in answer.headers:
            return await answer.read()
        chunks: list[bytes] = []
        size = 0
        async for chunk in answer.content.iter_any():
            size += len(chunk)
            if size > self._limit:
                raise self._too_large(answer)
            chunks.append(chunk)
        return b"".join(chunks)

    def _too_large(self, answer: aiohttp.ClientResponse) -> DecodeError:
        answer.close()  # or the rest would be read before the connection is used again
        return DecodeError(
            f"the answer is larger than max_bytes={self._limit}",
            advice="Ask for a shorter span or fewer sessions, or raise max_bytes.",
        )


class _Broken(aiohttp.ClientConnectionError):
    """A connection that broke while a request was under way."""


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET again by itself when its connection breaks: the second has no quota token."""
    try:
        return await send(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Broken(_describe(error)) from None


def _checked(url: str) -> str:
    """Return a base URL without its trailing slash; https everywhere but on loopback."""
    try:
        parsed = URL(url)
    except ValueError:
        raise ValueError(
            "base_url is no URL (value not shown): allowed are those like 'https://api.agora.io'"
        ) from None
    shown = str(parsed.with_user(None)) if parsed.host else "***" if "@" in url else url
    if parsed.user or parsed.password:
        raise ValueError(f"base_url={shown!r} carries credentials: give them as arguments")
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.query_string or parsed.fragment:
        raise ValueError(f"base_url={shown!r} is not like 'https://api.agora.io'")
    if parsed.scheme == "http" and not _loopback(parsed.host):
        raise ValueError(f"base_url={shown!r} would send the secret in the clear: https is needed except on loopback")
    return str(parsed).rstrip("/")


def _proxy(base: URL) -> str | None:
    """Return the proxy that the environment names for a host, None for a direct connection."""
    return None if proxy_bypass(base.host or "") else getproxies().get(base.scheme)


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _describe(error: BaseException) -> str:
    """Name an error and its message, without what aiohttp's own texts may hold of the request."""
    if isinstance(error, _Broken):
        return str(error)
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{type(error).__name__}: {error.message}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
