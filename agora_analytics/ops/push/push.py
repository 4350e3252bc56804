"""`ops.Push`: sends real-time windows, with their own time, to a receiver of remote write or OTLP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from random import Random
from types import TracebackType
from typing import Final, Literal, NoReturn, Self

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import in_turns
from agora_analytics.models import Point
from agora_analytics.ops.metrics.families import Value, label
from agora_analytics.ops.metrics.realtime_metrics import WINDOW_START, SeriesValues, reduced, users_behind
from agora_analytics.ops.push import otlp, remote_write
from agora_analytics.ops.push.failures import failure_of, log
from agora_analytics.ops.push.receiver import receiver_at
from agora_analytics.streams.events import Event, Gap, Revision, Window
from agora_analytics.streams.watch.series import Series

__all__ = ["Push", "PushError"]

_PROTOCOLS: Final = {"remote_write": remote_write, "otlp": otlp}

_FIRST_DELAY: Final = 0.5
_LAST_DELAY: Final = 60.0
"""Seconds before a request is sent again, at first and at most; a random part of them is waited."""

_REVISABLE: Final = 64
"""Windows whose users are kept, as weights for revisions of their quality: those of 20 minutes."""


class PushError(Exception):
    """A receiver refused a window, or was not reached for `max_wait` seconds; `status` is its last HTTP status.

    `refused` is true if the receiver will never take the values of this window, such as one that is too old, so that
    only the next one can be sent. Otherwise sending it again helps, perhaps with other settings.
    """

    def __init__(self, message: str, status: int | None = None, *, refused: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.refused = refused


class Push:
    """Sends the windows of a watch to Prometheus, VictoriaMetrics or an OpenTelemetry collector, with their own time.

    Call `send` with each event of a watch with `only_final=True`; docs/guides/metrics.md has an example.

    `send` returns once the receiver has accepted the window, and a named checkpoint moves on only when the next event
    is asked for. So every window is sent at least once, however the program ends. While a receiver is down, the watch
    waits and backfills later; `broadcast(watch, size=…)` between the two buffers so many events.

    Metrics, labels and the values of dimensions are those of `Collector`. Their time is the start of the window. Series
    of users are not sent.

    Args:
        url: where to send: `…/api/v1/write` of remote write, or `…/v1/metrics` of OTLP over HTTP.
        app: the `app` label of the windows, such as the name of the project.
        protocol: `remote_write` or `otlp`.
        replaces_values: whether the receiver replaces a value when it gets another for the same time. Most do not, such
            as Prometheus, so watch with `only_final=True`.
        headers: headers of each request, such as `Authorization`; nothing shows them.
        max_wait: seconds for which a receiver that cannot be reached, is overloaded or fails is tried again.
        timeout: seconds for one attempt.

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
        timeout: float = 30.0,
    ) -> None:
        try:
            receiver = receiver_at(url, headers)
        finally:
            del url, headers  # they may hold credentials, and reporters show the arguments of every frame
        if isinstance(receiver, Exception):
            raise receiver
        self._receiver = receiver
        self._app = label(validation.non_empty_str("app", app))
        self._protocol = _PROTOCOLS[validation.one_of("protocol", protocol, tuple(_PROTOCOLS))]
        self._replaces_values = validation.boolean("replaces_values", replaces_values)
        self._max_wait = validation.number_in_range("max_wait", max_wait)
        self._timeout = validation.number_in_range("timeout", timeout, above=True)
        self._shown: dict[Series, Mapping[str, float]] = {}
        self._users: dict[int, Mapping[Series, tuple[Point, ...]]] = {}
        self._random = Random()  # noqa: S311 - jitter, no secret

    def __reduce__(self) -> NoReturn:
        """Refuse: a pickle would hold the headers."""
        raise TypeError("a push is not pickled or copied, as it holds headers and connections: make one where it sends")

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
            await self._post(await in_turns(self._protocol.body(values, event.ts)), event.ts)
        return len(values)

    async def close(self) -> None:
        """Close the connections; may be called twice. A `send` that still runs raises `RuntimeError`, as later ones."""
        await self._receiver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _values(self, event: Window | Revision) -> list[Value]:
        values = event.values if isinstance(event, Window) else {event.series: event.after}
        # A revision has one series: the users behind it are those of the window as it was sent.
        window = Window(ts=event.ts, values={**self._users.get(event.ts, {}), **values})
        if self._replaces_values:
            self._keep_users(window)
        found: list[Value] = []
        for series, points in values.items():
            if not series.uids:
                found += await self._series_values(series, points, users_behind(series, window), window.ts)
        return found

    def _keep_users(self, window: Window) -> None:
        """Keep the users of a window by dimension: a revision has one series, and they weigh its values."""
        users = {series: points for series, points in window.values.items() if series.metric == "userCount"}
        self._users[window.ts] = {series: points for series, points in users.items() if series.dimension is not None}
        if len(self._users) > _REVISABLE:
            del self._users[next(iter(self._users))]

    async def _series_values(
        self, series: Series, points: Iterable[Point], users: Iterable[Point], ts: int
    ) -> list[Value]:
        shown = self._shown.get(series, {})
        self._shown[series] = values = await in_turns(reduced(series, points, users, shown))
        samples = SeriesValues(series=series, ts=ts, values=values).samples(self._app)
        # Each sample has its time already.
        return [value for value in samples if value.family is not WINDOW_START]

    async def _post(self, body: bytes, ts: int) -> None:
        """Send a body until it is accepted; see `send` for errors."""
        now = asyncio.get_running_loop().time
        deadline, delay = now() + self._max_wait, _FIRST_DELAY
        while True:
            reply = await self._receiver.post(body, self._protocol.HEADERS, self._timeout)
            failure = failure_of(reply, self._protocol, self._receiver.scrub)
            if failure is None:
                return
            wait = max(failure.retry_after, self._random.uniform(0, delay))
            if not failure.retried or now() + wait > deadline:
                text = f"the window {ts} was not accepted: {failure.text}"
                raise PushError(text, failure.status, refused=failure.refused)
            # Once a window: an outage of hours would fill the log.
            if delay == _FIRST_DELAY:
                log.warning("the window %d is sent again until it is accepted: %s", ts, failure.text)
            delay = min(2 * delay, _LAST_DELAY)
            await asyncio.sleep(wait)
