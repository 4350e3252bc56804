"""`ops.Push`: sends real-time windows, with their own time, to a receiver of remote write or OTLP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import urlsplit

import aiohttp

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import in_turns
from agora_analytics.models import Point
from agora_analytics.ops.metrics.families import Value, label
from agora_analytics.ops.metrics.realtime_metrics import WINDOW_START, SeriesValues, reduced, users_behind
from agora_analytics.ops.push import otlp, remote_write
from agora_analytics.streams.events import Event, Gap, Revision, Window
from agora_analytics.streams.watch.series import Series

__all__ = ["Push", "PushError"]

_PROTOCOLS: Final = {"remote_write": remote_write, "otlp": otlp}

_FIRST_DELAY: Final = 0.5
_LAST_DELAY: Final = 60.0
"""Seconds before a request is sent again, at first and at most; a random part of them is waited."""

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30.0)
_MAX_ANSWER: Final = 65_536
_QUOTED: Final = 200
_SUCCESSES: Final = range(200, 300)
_TOO_MANY: Final = 429
_SERVER_ERRORS: Final = range(500, 600)


class PushError(Exception):
    """A receiver refused a window, or was not reached for `max_wait` seconds; `status` is its last HTTP status."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Push:
    """Sends the windows of a watch to Prometheus, VictoriaMetrics or an OpenTelemetry collector, with their own time.

    Call `send` with each event of a watch with `only_final=True`; docs/guides/metrics.md has an example.

    `send` returns once the receiver has accepted the window, and a named checkpoint moves on only when the next event
    is asked for. So every window is sent at least once, however the program ends. While a receiver is down, the watch
    waits and backfills later; `broadcast(watch, size=…)` between the two buffers so many events.

    Metrics, labels and the values of dimensions are those of `Collector`. Their time is the start of the window. Series
    of users are not sent.

    Args:
        url: where to send: `…/api/v1/write` of remote write, or `…/v1/metrics` of OTLP over HTTP (JSON).
        app: the `app` label of the windows, such as the name of the project.
        protocol: `remote_write` or `otlp`.
        replaces_values: whether the receiver replaces a value when it gets another for the same time, as
            VictoriaMetrics does. Prometheus keeps the first one silently, so watch with `only_final=True`.
        headers: headers of each request, such as `Authorization`; no error shows them.
        max_wait: seconds for which a receiver that cannot be reached, is overloaded or fails is tried again.

    """

    def __init__(
        self,
        url: str,
        *,
        app: str,
        protocol: Literal["remote_write", "otlp"] = "remote_write",
        replaces_values: bool = False,
        headers: Mapping[str, str] | None = None,
        max_wait: float = 900.0,
    ) -> None:
        try:
            error = _problem(url, headers)
            self._url, self._headers = url, {} if error is not None or headers is None else dict(headers)
        finally:
            del url, headers  # they may hold credentials, and reporters show the arguments of every frame
        if error is not None:
            raise error
        self._app = label(validation.non_empty_str("app", app))
        self._protocol = _PROTOCOLS[validation.one_of("protocol", protocol, tuple(_PROTOCOLS))]
        self._replaces_values = validation.boolean("replaces_values", replaces_values)
        self._headers = {**self._protocol.HEADERS, **self._headers}
        self._max_wait = validation.number_in_range("max_wait", max_wait)
        self._shown: dict[Series, Mapping[str, float]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._random = Random()  # noqa: S311 - jitter, no secret

    async def send(self, event: Event) -> int:
        """Send the values of a window or a revision, and return their number; a gap has none.

        Raises `ValueError` for a revision, unless the receiver replaces values, and `PushError` if it refuses the
        values or some of them, or cannot be reached for `max_wait` seconds.
        """
        if isinstance(event, Gap):
            return 0
        if isinstance(event, Revision) and not self._replaces_values:
            raise ValueError(
                f"event: a revision of the window {event.ts}, whose first value the receiver keeps: watch with"
                " only_final=True, or say replaces_values=True"
            )
        if not isinstance(event, Window | Revision):
            raise validation.type_error("event", event, "an event of a Watch")
        values = await self._values(event)
        if values:
            await self._post(self._protocol.body(values, event.ts), event.ts)
        return len(values)

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _values(self, event: Window | Revision) -> list[Value]:
        window = event if isinstance(event, Window) else Window(ts=event.ts, values={event.series: event.after})
        found: list[Value] = []
        for series, points in window.values.items():
            if not series.uids:
                found += await self._series_values(series, points, users_behind(series, window), window.ts)
        return found

    async def _series_values(
        self, series: Series, points: Iterable[Point], users: Iterable[Point], ts: int
    ) -> list[Value]:
        shown = self._shown.get(series, {})
        self._shown[series] = values = await in_turns(reduced(series, points, users, shown))
        samples = SeriesValues(series=series, ts=ts, values=values).samples(self._app)
        return [value for value in samples if value.family is not WINDOW_START]

    async def _post(self, body: bytes, ts: int) -> None:
        """Send a body until it is accepted; see `send` for errors."""
        now = asyncio.get_running_loop().time
        deadline, delay = now() + self._max_wait, _FIRST_DELAY
        while True:
            status, problem, retry_after = await self._attempt(body)
            if not problem:
                return
            wait = max(retry_after, self._random.uniform(0, delay))
            retried = status is None or status == _TOO_MANY or status in _SERVER_ERRORS
            if not retried or now() + wait > deadline:
                raise PushError(f"the window {ts} was not accepted: {problem}", status)
            delay = min(2 * delay, _LAST_DELAY)
            await asyncio.sleep(wait)

    async def _attempt(self, body: bytes) -> tuple[int | None, str, float]:
        """Return the HTTP status, what went wrong (empty: nothing), and the seconds of `Retry-After`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        try:
            async with self._session.post(
                self._url, data=body, headers=self._headers, allow_redirects=False
            ) as response:
                answer = await _read(response.content)
                status, retry_after = response.status, response.headers.get("Retry-After", "")
        except (aiohttp.ClientError, TimeoutError) as error:
            return None, f"{type(error).__name__}", 0.0  # the error itself holds the headers
        said = answer.decode(errors="replace")[:_QUOTED].strip()
        if status not in _SUCCESSES:
            return status, f"HTTP {status}: {said}", _seconds(retry_after)
        problem = otlp.rejected(answer) if self._protocol is otlp else ""
        return status, problem, 0.0


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Return an answer, which may come in pieces, or its beginning if it is long."""
    answer = bytearray()
    async for part in content.iter_any():
        answer += part
        if len(answer) > _MAX_ANSWER:
            break
    return bytes(answer)


def _seconds(retry_after: str) -> float:
    """Return the seconds of `Retry-After`, 0 for a date or anything else."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else 0.0


def _problem(url: object, headers: object) -> Exception | None:
    """Return what is wrong with settings that may hold credentials: raised from here, the error's frames show them."""
    if not isinstance(url, str) or not _is_http(url):
        return ValueError("url: allowed is an http or https URL with a host (value not shown)")
    if headers is None:
        return None
    if not isinstance(headers, Mapping) or not all(isinstance(text, str) for pair in headers.items() for text in pair):
        return TypeError("headers: allowed is a mapping from str to str (value not shown)")
    if not all(text.isprintable() for pair in headers.items() for text in pair):
        return ValueError("headers: a name or a value has control characters in it (value not shown)")
    return None


def _is_http(url: str) -> bool:
    with suppress(ValueError):
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    return False
