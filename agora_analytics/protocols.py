"""All protocols that can be implemented to replace parts of the library, and the values that they exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, runtime_checkable
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
    """Sends requests to a host; the only part that knows credentials and sockets.

    It may also have `addresses`, a sequence of the name and port of each host, for observers.
    """

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


@attrs.frozen
class Lease:
    """The right to save under a name.

    Attributes:
        epoch: its fencing token, greater than that of every earlier lease of the name.
        checkpoint: the last one saved under the name, or None.

    """

    epoch: int
    checkpoint: Checkpoint | None = None


class CheckpointStore(Protocol):
    """Stores the positions of streams by name, and fences off a stream that has lost its name.

    `acquire` takes a name over: in one step it draws an epoch, greater than all before, and returns it with the last
    checkpoint. From then on `save` refuses earlier epochs, so a process that was frozen, replaced and continued
    overwrites nothing. A store that knows that the holder runs may refuse `acquire` instead; it must not guess.

    Each checkpoint is saved whole or not at all. Epochs grow even if a checkpoint is removed, and a `save` with a later
    epoch than the stored one is accepted: the store has lost something since. A cancelled call raises `CancelledError`
    only once it is done or undone, so that saves stay in order and no lease is orphaned. Methods raise
    `CheckpointError`, whose `kind` says why.

    It may also have `every`: streams then save under a name at most once in so many seconds, the newest checkpoint, and
    when they end. And it may have `when_lost(name, epoch, on_lost)`, if it can find out that a name was taken over: it
    then calls `on_lost` in the event loop, and the stream ends before its next request rather than at its next save.
    """

    async def load(self, name: str) -> Checkpoint | None:
        """Return the last checkpoint saved under a name, or None; takes nothing over."""

    async def acquire(self, name: str) -> Lease:
        """Take a name over, for one stream; kind `in_use` if the store knows that its holder runs."""

    async def save(self, name: str, checkpoint: Checkpoint, epoch: int) -> None:
        """Save a checkpoint under a name; kind `taken_over` if the name was acquired after `epoch`."""

    async def release(self, name: str, epoch: int) -> None:
        """End the lease with this epoch, so that nobody has to wait for it; does nothing if it has ended."""


@runtime_checkable
class ResumableSink(Protocol):
    """Keeps the events of a stream together with its position: `checkpoint=sink`.

    The consumer writes each event with the stream's checkpoint in one transaction. The stream itself saves what belongs
    to no event, once the consumer has asked for the next one: where it begins, and how far a follow has read.

    It may also have `when_lost(on_lost)`, as a `CheckpointStore`.
    """

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where the stream resumes; None if it begins."""

    async def save(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint without an event; raises `CheckpointError` as `CheckpointStore.save`."""


class Ledger(Protocol):
    """Stores the state of each account: its requests, and what is known of the service's clock.

    Clients that share a ledger share the quota. A `quota.LedgerState` is turned into bytes by `encode()` and read back
    by `quota.decode`, so a ledger can be anything that changes a value atomically.

    It may also have `time`, a function without arguments: the UTC seconds of a clock that all who share it see, by
    which the times in its states are kept. Without it they are those of the event loop's clock, which only processes of
    one machine share. It must not go back while anyone has the ledger open.
    """

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        """Apply a change to the state of an account (a fingerprint; a new state at first) and return its result.

        Changes are applied one at a time, each whole or not at all; one that raises changes nothing. `change` may be
        called in any thread, and several times, each time with the newest state: the last call counts. A change that
        was submitted is always applied: a caller that is cancelled meanwhile gets its `CancelledError` afterwards, so
        that it can undo the change. One that takes longer than a second should raise `LedgerError`: permits that are
        older than two seconds are not used. After an error it does not matter whether the change was made.
        """

    async def close(self) -> None:
        """Close what it opened; may be called twice."""


Outcome = Literal["ok", "refused", "error", "cancelled", "quota", "skipped"]
"""How a request ended.

`ok`: it returned an answer. `refused`: the service counted too many requests (429), also at the last attempt. `quota`:
the plan's quota is used up for longer than the request may wait. `skipped`: when its turn came, nothing was left to
fetch. `cancelled`: its task was. `error`: anything else.
"""


@attrs.frozen(kw_only=True)
class Attempt:
    """One attempt of a request, as it is sent.

    Attributes:
        number: from 1; the second is the first retry.
        counter: the counter of the plan that it spends from.
        waited: seconds that it waited for its permit.
        host: index of the host.
        address: name of the host, empty if the transport does not name it.
        port: port of the host.

    """

    number: int
    counter: str
    waited: float
    host: int
    address: str = ""
    port: int | None = None


@attrs.frozen(kw_only=True)
class AttemptResult:
    """What came of an attempt.

    Attributes:
        seconds: from sending until the whole response was there, or until the attempt failed.
        status: HTTP status; None if no response arrived.
        error: class of the error that it raised, None for an answer. The service reports some errors with status 200.
        request_id: for Agora support, if an error has one.

    """

    seconds: float
    status: int | None = None
    error: type[BaseException] | None = None
    request_id: str | None = None


@attrs.frozen(kw_only=True)
class RequestResult:
    """How a request ended, the seconds from its start to its end, and the class of the error that it raised."""

    outcome: Outcome
    seconds: float
    error: type[BaseException] | None = None


class RequestTrace(Protocol):
    """Observes one request: is called for each attempt and its result, in order, and once for the end."""

    def attempt_started(self, attempt: Attempt) -> None:
        """Called when an attempt has its permit and is about to be sent."""

    def attempt_ended(self, attempt: Attempt, result: AttemptResult) -> None:
        """Called once for each attempt that started, also if it was cancelled; its answer is decoded by then."""

    def request_ended(self, result: RequestResult) -> None:
        """Called once, whatever ends the request."""


class RequestObserver(Protocol):
    """Observes the requests of a client, for metrics and traces: `AnalyticsClient(observers=[...])`.

    It is called in the event loop, in the task and context of the request, and must return at once. If it raises, the
    error is logged and it is not called again; the request goes on.

    Nothing that it gets holds credentials, the App ID, a channel name or a user ID: those are in `Request`, which is
    for transports alone. Of a URL it gets the host's name and port, and the endpoint with its path.
    """

    def request_started(self, endpoint: Endpoint, priority: str) -> RequestTrace | None:
        """Return the observer of this request, or None to ignore it.

        Called before the request waits for its quota. `priority` is `interactive`, `stream` or `export`.
        """
