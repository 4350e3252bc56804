"""Every seam on one page: what can be replaced, and what passes through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import parse_qsl

import attrs

from agora_analytics.plans import Endpoint

if TYPE_CHECKING:
    from agora_analytics.quota.ledger_state import LedgerState
    from agora_analytics.streams.checkpoints import Checkpoint

T = TypeVar("T")

WallClock = Callable[[], float]
"""Seconds since 1970 in UTC, like `time.time`."""


def _without_app(query: str) -> str:
    """Show a query without the App ID."""
    return repr("&".join(part for part in query.split("&") if not part.startswith("appid=")))


@attrs.frozen
class Request:
    """One request, ready to send: its endpoint, its encoded query, and the JSON body of a POST."""

    endpoint: Endpoint
    query: str = attrs.field(repr=_without_app)
    body: bytes | None = None

    @property
    def app_id(self) -> str:
        """The App ID that is asked about; empty where the query names none."""
        return next((value for name, value in parse_qsl(self.query) if name == "appid"), "")

    def __str__(self) -> str:
        """Say in one line what is asked, for errors and logs; the App ID is left out."""
        shown = "&".join(f"{name}={value}" for name, value in parse_qsl(self.query) if name != "appid")
        body = self.body.decode() if self.body else ""
        return " ".join(filter(None, (str(self.endpoint), shown, body)))


@attrs.frozen
class Response:
    """What came back: HTTP status, headers (their names in any case), and the whole body, decompressed."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
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

    def scrub(self, body: bytes) -> bytes:
        """Blank out credentials in bytes that are about to be quoted in an error, of a body or a header."""

    async def close(self) -> None:
        """Close what it opened itself; may be called twice."""


class CheckpointStore(Protocol):
    """Keeps the places of streams by name; each is saved whole or not at all.

    A stream acquires its name before it loads, and releases it when it ends. Whoever is cancelled in a call hears of
    that once the call is done or undone: a save is not overtaken by a later one, and nothing is leased that nobody has.
    """

    async def load(self, name: str) -> Checkpoint | None:
        """Return what was saved under a name last, or None; raises `CheckpointError` for what is no checkpoint."""

    async def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint under a name; raises `CheckpointError` where it cannot be kept."""

    async def acquire(self, name: str) -> None:
        """Lease a name to one stream, no later than its process is gone; raises `CheckpointError` if it is in use."""

    async def release(self, name: str) -> None:
        """End the lease of a name; nothing happens where this store has none."""


class Ledger(Protocol):
    """Keeps the state of each account: its requests, and what is known of the service's clock.

    Clients that share a ledger share the quota. A `quota.LedgerState` is turned into bytes by `encode()` and read back
    by `quota.decode`, so a ledger can be anything that changes a value atomically.
    """

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        """Apply a change to the state of an account (a fingerprint; a new state at first) and return its result.

        Changes are applied one at a time, each whole or not at all. A change that was submitted is always applied: a
        caller that is cancelled meanwhile gets its `CancelledError` afterwards, so that it can undo the change.
        """

    async def close(self) -> None:
        """Close what it opened itself; may be called twice."""
