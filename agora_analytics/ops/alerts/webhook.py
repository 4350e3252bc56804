"""Sends alerts to a webhook: signed, retried, in order, and without making anybody wait.

The request is that of the [Standard Webhooks](https://www.standardwebhooks.com) specification, so receivers can verify
it with the libraries for that: `webhook-id` is the alert's key, `webhook-signature` an HMAC-SHA256 of id, time and
body. The body is the alert as JSON with a `text`, which incoming webhooks of Slack show: `&`, `<` and `>` are escaped.

aiohttp's exceptions hold the URL, which may itself be a secret: they are never kept, chained or quoted.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from html import escape
from random import Random
from types import TracebackType
from typing import Final, NoReturn, Self

import aiohttp
import attrs
from yarl import URL

from agora_analytics._core import addresses, validation
from agora_analytics._core.decoding.json import encode
from agora_analytics._core.futures import cancel_and_wait, uncancellable
from agora_analytics._core.redaction import fingerprint
from agora_analytics._core.retry import Retry
from agora_analytics._core.transport import USER_AGENT
from agora_analytics.errors import (
    AgoraError,
    BadRequest,
    CertificateError,
    ResponseError,
    ServerError,
    TransportError,
    TransportTimeout,
)
from agora_analytics.ops.alerts.alert import Alert
from agora_analytics.ops.alerts.sinks import keep, log

__all__ = ["Undelivered", "Webhook", "verify_signature"]

_RETRY: Final = Retry(attempts=8, base=1.0, cap=60.0, total=600.0)
_PREFIX: Final = "whsec_"
"""What Standard Webhooks puts before a secret in base64."""

_MAX_RETRY_AFTER: Final = 300.0
"""Longest `Retry-After` in seconds that is honoured: half of the time after which an alert is given up."""

_MAX_UNDELIVERED: Final = 100
_PERMANENT: Final = frozenset(range(300, 500)) - {408, 425, 429}
"""Statuses after which the same request would be answered alike; a redirect would need another URL."""

_OK: Final = range(200, 300)


@attrs.frozen
class Undelivered:
    """An alert that was given up, and why."""

    alert: Alert
    reason: str


class SigningKey:
    """The secret of a webhook; nothing shows it."""

    def __init__(self, secret: str) -> None:
        try:
            error = validation.secret_error("secret", secret) or _key_error(secret)
            if error is None:
                self._key = _key(secret)
        finally:
            del secret  # reporters show the arguments of every frame of a traceback
        if error is not None:
            raise error

    def __repr__(self) -> str:
        """Show nothing."""
        return "SigningKey(***)"

    def __reduce__(self) -> NoReturn:
        """Refuse: a pickle would hold the secret."""
        raise TypeError("the secret of a webhook is not pickled or copied")

    def sign(self, key: str, timestamp: int, body: bytes) -> str:
        """Return the value of `webhook-signature`."""
        content = f"{key}.{timestamp}.".encode() + body
        return f"v1,{base64.b64encode(hmac.digest(self._key, content, hashlib.sha256)).decode()}"


class Webhook:
    """Posts each alert to a URL, as an `AlertSink`; use it with `async with`, or close it.

    ```python
    from agora_analytics.ops import alerts

    async with alerts.Webhook("https://hooks.example.com/alerts", secret="whsec_bXktc2VjcmV0") as webhook:
        print(webhook, webhook.pending(), webhook.undelivered)
    ```

    `send` only queues the alert, so a slow receiver holds nobody up. One task delivers the queue in order. It retries a
    failed connection, a time-out, HTTP 408, 425, 429 and 5xx with exponential backoff, as `retry` says, and gives up an
    alert after that, or at once for any other answer and for a certificate that is not trusted; `undelivered` has the
    last 100 of these, and each is logged. At most 1,000 alerts wait. `close` delivers what waits for at most
    `close_timeout` seconds.

    Args:
        url: https, or http on loopback. No error, log or `repr` shows more of it than the host.
        secret: signs each request, as text or as `whsec_` and base64; None sends no signature.
        timeout: seconds for one attempt.
        retry: how often and how long one alert is tried.
        close_timeout: seconds that `close` may take.
        clock: seconds since 1970, for the time in the signature.

    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | None = None,
        timeout: float = 10.0,
        retry: Retry = _RETRY,
        close_timeout: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = "not made"
        try:
            self._url, error = _parsed(url)
            self._signing = None if secret is None or error is not None else SigningKey(secret)
        finally:
            del url, secret  # as above
        if error is not None:
            raise error
        self._host = str(self._url.origin())
        self.key = f"webhook {fingerprint(str(self._url))}"
        """Identifies the receiver over restarts."""

        self._proxy = addresses.proxy(self._host)
        self._timeout = validation.number_in_range("timeout", timeout, above=True)
        self._retry = validation.instance("retry", retry, Retry)
        self._close_timeout = validation.number_in_range("close_timeout", close_timeout)
        self._clock = clock
        self._random = Random()  # noqa: S311 - spreads retries
        self._queue: deque[Alert] = deque()
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._undelivered: deque[Undelivered] = deque(maxlen=_MAX_UNDELIVERED)

    def __repr__(self) -> str:
        """Show the host alone: the path of a webhook is often a secret."""
        return f"Webhook({self._host!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse: a pickle would hold the secret."""
        raise TypeError("a webhook is not pickled or copied, as it holds its secret and a connection")

    @property
    def undelivered(self) -> tuple[Undelivered, ...]:
        """The last 100 alerts that were given up, oldest first."""
        return tuple(self._undelivered)

    async def send(self, alert: Alert) -> None:
        """Queue an alert; raises `RuntimeError` once the webhook is closed."""
        if self._closed:
            raise RuntimeError(f"{self!r} is closed")
        keep(self._queue, alert, repr(self))
        # The task ends with the queue: an idle webhook leaves nothing to clean up.
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._deliver_queue())

    def pending(self) -> Sequence[Alert]:
        """Return the alerts that wait, oldest first; the first may be on its way."""
        return tuple(self._queue)

    async def flush(self) -> None:
        """Wait until the queue is delivered, for at most `close_timeout` seconds; delivery goes on after that."""
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=self._close_timeout)

    async def close(self) -> None:
        """Deliver what waits for at most `close_timeout` seconds; what does not get through stays `pending`, logged."""
        self._closed = True
        try:
            await self.flush()
        finally:
            await uncancellable(self._end())

    async def _end(self) -> None:
        if self._task is not None and not self._task.done():
            await cancel_and_wait(self._task)
        # Cleared before it is awaited, so that a second call has nothing to close.
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        if self._queue:
            text = "%r: alerts not delivered when it was closed: %d, first %s"
            log.warning(text, self, len(self._queue), self._queue[0])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Delivery.

    async def _deliver_queue(self) -> None:
        while self._queue:
            # It stays in the queue until it is accepted, so that `pending` and a checkpoint still have it.
            alert = self._queue[0]
            failure = await self._deliver(alert)
            if failure is not None:
                self._undelivered.append(Undelivered(alert, str(failure.args[0])))
                log.warning("%r: an alert was given up (%s): %s", self, failure.args[0], alert)
            with suppress(ValueError):  # one that was dropped meanwhile for want of room
                self._queue.remove(alert)

    async def _deliver(self, alert: Alert) -> AgoraError | None:
        """Send an alert until it is accepted; return the error if it is given up."""
        loop = asyncio.get_running_loop()
        started, attempt = loop.time(), 0
        while True:
            attempt += 1
            failure = await self._attempt(alert)
            if failure is None:
                return None
            wait = self._retry.delay(failure, attempt, loop.time() - started, self._random)
            if wait is None:
                return failure
            log.info("%r: attempt %d failed (%s), the next is in %.1f s", self, attempt, failure.args[0], wait)
            await asyncio.sleep(wait)

    async def _attempt(self, alert: Alert) -> AgoraError | None:
        """Send an alert once; return the error, which holds neither URL nor headers."""
        try:
            # The body of the answer is not read: it may be endless, and the status says all.
            async with asyncio.timeout(self._timeout), self._post(alert) as answer:
                return _judged(answer.status, answer.headers.get("Retry-After", ""))
        except aiohttp.ClientConnectorCertificateError:
            return CertificateError(f"the certificate of {self._host} is not trusted")
        except TimeoutError:
            return TransportTimeout(f"no answer from {self._host} in {self._timeout:g} s")
        except Exception as error:  # noqa: BLE001 - whatever it is must not end the delivery
            return TransportError(f"the connection to {self._host} failed ({type(error).__name__})")

    def _post(self, alert: Alert) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        body = body_of(alert)
        # Signed again at each attempt, as receivers refuse an old time.
        timestamp = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "webhook-id": alert.key,
            "webhook-timestamp": str(timestamp),
        }
        if self._signing is not None:
            headers["webhook-signature"] = self._signing.sign(alert.key, timestamp, body)
        proxy = self._proxy
        return self._opened().post(
            self._url,
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=None if proxy is None else proxy.url,
            proxy_headers={"Proxy-Authorization": proxy.authorization} if proxy and proxy.authorization else None,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
            )
        return self._session


def body_of(alert: Alert) -> bytes:
    """Return the body of a request: the alert with `command` and `text`, which is escaped as Slack asks, as JSON.

    Anybody may call a channel `<!channel>`, which would notify everyone in Slack.
    """
    return encode({"text": escape(alert.text, quote=False), "command": alert.command, **attrs.asdict(alert)})


def verify_signature(
    secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None, tolerance: float = 300.0
) -> bool:
    """Return whether a request to a webhook of yours was signed with a secret, at most `tolerance` seconds ago.

    `headers` may have names in any case. `now` is in seconds since 1970, by default the host's time. A receiver also
    drops a `webhook-id` that it has seen.
    """
    found = {name.lower(): value for name, value in headers.items()}
    now = time.time() if now is None else now
    timestamp = found.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdecimal()) or abs(now - int(timestamp[:15])) > tolerance:
        return False
    expected = SigningKey(secret).sign(found.get("webhook-id", ""), int(timestamp), body)
    given = found.get("webhook-signature", "").split(" ")
    # Several signatures, while a secret is being replaced; compared in constant time, so that none can be guessed.
    return any(hmac.compare_digest(expected.encode(), one.encode("utf-8", "replace")) for one in given)


def _judged(status: int, retry_after: str) -> ResponseError | None:
    """Return the error of an answer, None if it accepts the alert; what the receiver wrote is not read."""
    if status in _OK:
        return None
    text = f"the receiver answered HTTP {status}"
    if status in _PERMANENT:
        return BadRequest(text, status=status)
    waits = float(retry_after[:9]) if retry_after.isascii() and retry_after.isdecimal() else None
    # For `Retry` a host has failed only with 5xx.
    return ServerError(
        text, status=max(status, 500), retry_after=None if waits is None else min(waits, _MAX_RETRY_AFTER)
    )


def _parsed(url: object) -> tuple[URL, Exception | None]:
    """Return the URL of a webhook, and what is wrong with it: raised from here, the error's frames would show it."""
    if not isinstance(url, str):
        return URL(), TypeError(f"url: allowed is a str, not {type(url).__name__} (value not shown)")
    try:
        parsed = URL(url)
    except ValueError:
        parsed = URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        return URL(), ValueError("url (value not shown) is not like 'https://hooks.example.com/alerts'")
    origin = str(parsed.origin())
    if parsed.user or parsed.password:
        return URL(), ValueError(f"url at {origin} has a user or password in it: sign with a secret instead")
    if parsed.scheme == "http" and not addresses.loopback(origin):
        return URL(), ValueError(f"url at {origin} would send alerts in the clear: https is needed except on loopback")
    return parsed, None


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix(_PREFIX)
    return secret.encode() if encoded == secret else base64.b64decode(encoded, validate=True)


def _key_error(secret: str) -> ValueError | None:
    with suppress(ValueError):
        if _key(secret):
            return None
    return ValueError("secret (value not shown) begins with whsec_ and is not base64 after that")
