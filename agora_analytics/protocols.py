"""All protocols that can be implemented to replace parts of the library, and the values that they exchange."""

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
    """Return a query without the App ID, for `repr`."""
    return repr("&".join(part for part in query.split("&") if not part.startswith("appid=")))


@attrs.frozen
class Request:
    """One request, ready to send: its endpoint, its encoded query, and the JSON body of a POST."""

    endpoint: Endpoint
    query: str = attrs.field(repr=_without_app)
    body: bytes | None = None

    @property
    def app_id(self) -> str:
        """The App ID of the request; empty if the query has none."""
        return next((value for name, value in parse_qsl(self.query) if name == "appid"), "")

    def __str__(self) -> str:
        """Return the request in one line, for errors and logs, without the App ID."""
        shown = "&".join(f"{name}={value}" for name, value in parse_qsl(self.query) if name != "appid")
        body = self.body.decode() if self.body else ""
        return " ".join(filter(None, (str(self.endpoint), shown, body)))


@attrs.frozen
class Response:
    """A response: HTTP status, headers (names in any case), and the whole body, decompressed."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


class Transport(Protocol):
    """Sends requests to a host; the only part that knows credentials and sockets."""

    @property
    def hosts(self) -> int:
        """The number of hosts, at least one."""

    async def send(self, request: Request, host: int = 0) -> Response:
        """Send once to the host with this index, and return the response, whatever its status.

        Raises `TransportError`, or `TransportTimeout` after a timeout of its own, if no complete response arrived.
        """

    def scrub(self, body: bytes) -> bytes:
        """Redact credentials in the bytes of a body or header that an error is about to quote."""

    async def close(self) -> None:
        """Close what it opened; may be called twice."""


class CheckpointStore(Protocol):
    """Stores the positions of streams by name; each is saved whole or not at all.

    A stream acquires its name before it loads, and releases it when it ends. A cancelled call raises `CancelledError`
    only once it is done or undone, so that saves stay in order and no lease is orphaned.
    """

    async def load(self, name: str) -> Checkpoint | None:
        """Return the last checkpoint saved under a name, or None; raises `CheckpointError` if it is invalid."""

    async def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Save a checkpoint under a name; raises `CheckpointError` if that fails."""

    async def acquire(self, name: str) -> None:
        """Lease a name to one stream, at most until its process ends; raises `CheckpointError` if it is in use."""

    async def release(self, name: str) -> None:
        """End the lease of a name, if this store has one."""


class Ledger(Protocol):
    """Stores the state of each account: its requests, and what is known of the service's clock.

    Clients that share a ledger share the quota. A `quota.LedgerState` is turned into bytes by `encode()` and read back
    by `quota.decode`, so a ledger can be anything that changes a value atomically.
    """

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        """Apply a change to the state of an account (a fingerprint; a new state at first) and return its result.

        Changes are applied one at a time, each whole or not at all. A change that was submitted is always applied: a
        caller that is cancelled meanwhile gets its `CancelledError` afterwards, so that it can undo the change.
        """

    async def close(self) -> None:
        """Close what it opened; may be called twice."""
