"""One exchange with a receiver over HTTP.

The URL and the headers may hold credentials, and so may aiohttp's exceptions and the frames of their tracebacks: an
exchange returns what came of it and raises nothing but a cancellation of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, NoReturn

import aiohttp
import attrs
from yarl import URL

from agora_analytics._core import addresses
from agora_analytics._core.redaction import Scrubber
from agora_analytics._core.transport import USER_AGENT
from agora_analytics._core.wire import retry_after
from agora_analytics.protocols import Response

_MAX_ANSWER: Final = 65_536
_SHORTEST: Final = 8
"""Characters of the shortest text that is redacted in answers: a shorter one may be anything."""


@attrs.frozen(kw_only=True)
class Reply:
    """What came of a request: an answer, or a failure on the way, which is `final` if another attempt cannot help."""

    status: int | None = None
    body: bytes = attrs.field(default=b"", repr=False)  # it may echo the headers
    too_large: bool = False
    content_type: str = ""
    retry_after: float = 0.0
    failure: str = ""
    final: bool = False


class Receiver:
    """Sends requests to one URL, with headers that nothing shows."""

    def __init__(self, url: URL, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = headers
        texts = (*headers.values(), url.password or "", *url.query.values())
        # Word by word too: a receiver may quote the token of `Bearer <token>` alone.
        words = (word for text in texts for word in (text, *text.split()) if len(word) >= _SHORTEST)
        self._scrubber = Scrubber(*words)
        self._proxy: addresses.Proxy | None = None
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def __reduce__(self) -> NoReturn:
        """Refuse: a pickle would hold the headers."""
        raise TypeError("a receiver is not pickled or copied, as it holds headers and connections")

    async def post(self, body: bytes, headers: Mapping[str, str], seconds: float) -> Reply:
        """Send a body once, within so many seconds; raises `RuntimeError` once the receiver is closed."""
        if self._closed:
            raise RuntimeError("the push is closed")
        outcome = await self._exchange(self._opened(), body, headers, seconds)
        if isinstance(outcome, Reply):
            return outcome
        raise outcome

    def scrub(self, text: str) -> str:
        """Return a text of an answer without values of headers, a password or a query that it echoes."""
        return self._scrubber.scrub(text.encode("utf-8", "replace")).decode(errors="replace")

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _exchange(
        self, session: aiohttp.ClientSession, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> Reply | asyncio.CancelledError:
        try:
            async with asyncio.timeout(seconds), self._sent(session, body, headers) as answer:
                return await self._read(answer)
        except asyncio.CancelledError as error:
            return asyncio.CancelledError(*error.args)  # a new one, because the traceback of that one has these frames
        except TimeoutError:
            return Reply(failure=f"no answer in {seconds:g} s")
        except Exception as error:  # noqa: BLE001 - whatever it is may hold the headers
            # These are about settings: they fail in the same way until somebody changes them.
            final = isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.InvalidURL)
            retried = isinstance(error, aiohttp.ClientError | OSError) and not final
            return Reply(failure=f"the connection failed ({type(error).__name__})", final=not retried)

    def _sent(
        self, session: aiohttp.ClientSession, body: bytes, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return session.post(
            self._url, data=body, headers=headers, allow_redirects=False, middlewares=(self._send_signed,)
        )

    async def _send_signed(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        self._sign(request)
        return await send(request)

    def _sign(self, request: aiohttp.ClientRequest) -> None:
        """Add headers and proxy once aiohttp has made the request: no frame that waits for the answer holds them."""
        request.headers.update(self._headers)
        if self._proxy is not None:
            named = {"Proxy-Authorization": self._proxy.authorization} if self._proxy.authorization else {}
            request.update_proxy(self._proxy.url, None, named)  # which sends the headers only to open a tunnel
            if self._url.scheme == "http":
                request.headers.update(named)

    async def _read(self, answer: aiohttp.ClientResponse) -> Reply:
        """Read an answer, which may come in pieces, or its beginning if it is long."""
        body = bytearray()
        async for part in answer.content.iter_any():
            body += part
            if len(body) > _MAX_ANSWER:
                answer.close()  # or the rest would be read before the connection is used again
                break
        return Reply(
            status=answer.status,
            body=bytes(body[:_MAX_ANSWER]),
            too_large=len(body) > _MAX_ANSWER,
            content_type=answer.content_type,
            retry_after=retry_after(Response(answer.status, answer.headers, b"")) or 0.0,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Looked up once, as in `AiohttpTransport`: per request it would take a thread.
            self._proxy = addresses.proxy(str(self._url.origin()))
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},  # an answer is short
            )
        return self._session


def receiver_at(url: object, headers: object) -> Receiver | Exception:
    """Return a receiver, or what is wrong with its settings: raised from here, the error's frames would show them."""
    parsed = _parsed(url)
    if parsed is None:
        return ValueError("url: allowed is an http or https URL with a host (value not shown)")
    if headers is None:
        return Receiver(parsed, {})
    if not isinstance(headers, Mapping) or not all(isinstance(text, str) for pair in headers.items() for text in pair):
        return TypeError("headers: allowed is a mapping from str to str (value not shown)")
    if not all(text.isprintable() for pair in headers.items() for text in pair):
        return ValueError("headers: a name or a value has control characters in it (value not shown)")
    return Receiver(parsed, dict(headers))


def _parsed(url: object) -> URL | None:
    with suppress(ValueError, TypeError):
        parsed = URL(url)  # type: ignore[arg-type]
        return parsed if parsed.scheme in {"http", "https"} and parsed.host else None
    return None
