"""Every seam on one page: what can be replaced, and what passes through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import parse_qsl

import attrs

from agora_analytics.plans import Endpoint

WallClock = Callable[[], float]
"""Seconds since 1970 in UTC, like `time.time`."""


@attrs.frozen
class Request:
    """One request, ready to send: its endpoint, its encoded query, and the JSON body of a POST."""

    endpoint: Endpoint
    query: str
    body: bytes | None = None

    def __str__(self) -> str:
        """Say in one line what is asked, for errors and logs; the App ID is left out."""
        shown = "&".join(f"{name}={value}" for name, value in parse_qsl(self.query) if name != "appid")
        body = self.body.decode() if self.body else ""
        return " ".join(filter(None, (str(self.endpoint), shown, body)))


@attrs.frozen
class Response:
    """What came back: HTTP status, headers (their names in any case), and the whole body, decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)


class Transport(Protocol):
    """Carries requests to a host; the only part that knows credentials and sockets."""

    @property
    def hosts(self) -> int:
        """How many hosts there are to try, at least one."""

    async def send(self, request: Request, host: int = 0) -> Response:
        """Send once to the host of this index and return whatever came, of any status.

        Raises `TransportError` or `TransportTimeout` where nothing whole came, within a time of its own.
        """

    async def close(self) -> None:
        """Close what it opened itself; may be called twice."""


@attrs.frozen
class DayKey:
    """What a ledger counts by: an account (a fingerprint, not a credential), a quota counter, a UTC day."""

    account: str
    counter: str
    day: int

    @property
    def ends_at(self) -> int:
        """UTC second at which this day is over."""
        return (self.day + 1) * 86_400


class Ledger(Protocol):
    """Counts requests per day, for as long as that matters; one ledger may serve many clients and processes."""

    async def reserve(self, key: DayKey, limit: int) -> bool:
        """Count one request if fewer than `limit` are counted, and say whether it was."""

    async def charge(self, key: DayKey) -> None:
        """Count one request, limit or not: it has been sent already."""

    async def release(self, key: DayKey) -> None:
        """Take one reservation back: its request was not sent, or was not counted on this day."""

    async def spent(self, key: DayKey) -> int:
        """Requests counted so far."""

    async def close(self) -> None:
        """Close what it opened itself; may be called twice."""
