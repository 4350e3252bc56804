"""Every error of this library. Invalid arguments raise a plain `ValueError` or `TypeError`, outside of this tree.

```
AgoraError
├── TransportError          no usable response arrived
│   ├── TransportTimeout    … in time
│   └── CertificateError    … the host's certificate is not trusted
├── ResponseError           the service answered with an error
│   ├── BadRequest          a parameter is wrong (400)
│   ├── Unauthorized        the credentials or the App ID are wrong (401, 403)
│   ├── PlanRefused         the plan does not cover the request
│   ├── NotFound            no such API here (404)
│   ├── RateLimited         the service counted too many requests (429, qps, qpm, qpd)
│   └── ServerError         the service failed (5xx)
├── DecodeError             the answer does not fit the API reference
│   └── IncompleteList      … a list lacks rows that the service claims
├── QuotaExhausted          the plan's quota is spent: nothing was sent
├── TooEarly                the data is not queryable yet
├── LedgerError             the shared count of requests cannot be read or written: none is sent
├── CheckpointError         a saved position cannot be read or written, or belongs to another stream
├── FleetError              the store of a fleet cannot be used
└── ExportError             an export cannot be written or resumed
```

Each has its details as attributes, survives pickling, and never holds a credential. Errors that a retry may fix have
`retryable = True`; the client has retried those already, as its `Retry` allows. It retries `RateLimited` as its rate
limiter allows.

```python
try:
    page = await client.calls.page(start, end)
except RateLimited as error:
    print("too many requests:", error.limit, "a", error.unit)
except AgoraError as error:
    print(error.fault, error.request, error.hint)
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from agora_analytics.spans import Span

__all__ = [
    "AgoraError",
    "BadRequest",
    "CertificateError",
    "CheckpointError",
    "DecodeError",
    "ExportError",
    "FleetError",
    "IncompleteList",
    "LedgerError",
    "NotFound",
    "PlanRefused",
    "QuotaExhausted",
    "RateLimited",
    "ResponseError",
    "ServerError",
    "TooEarly",
    "TransportError",
    "TransportTimeout",
    "Unauthorized",
]

Fault = Literal["caller", "plan", "service", "network", "host"]
"""Whose fault an error is: the calling code, the pricing plan, the service, the network, or the host.

The host is the machine that runs the program and what it writes to: a file, a disk, a store, or another program that
holds them.
"""


CheckpointTrouble = Literal["in_use", "taken_over", "store", "invalid"]
"""Why a position cannot be used; see `CheckpointError`."""

ExportTrouble = Literal["running", "superseded", "disk", "settings", "state", "writer"]
"""Why an export cannot be written; see `ExportError`."""


class AgoraError(Exception):
    """Base class of all errors of this library.

    Attributes:
        request: the request in one line, without App ID or credentials; empty if there was none.
        hint: what to do next, in one sentence.
        fault: whose fault it is.

    """

    fault: Fault = "service"
    retryable: ClassVar[bool] = False

    def __init__(self, what: str, *, request: str = "", hint: str = "", fault: Fault | None = None) -> None:
        # Only the text goes to Exception.__init__: pickle calls cls(*args) and then restores __dict__.
        super().__init__(what)
        self.request = request
        self.hint = hint
        if fault is not None:
            self.fault = fault

    def __str__(self) -> str:
        """Return the request, what went wrong, and what to do next, in one line."""
        request = f"{self.request}: " if self.request else ""
        hint = f" [fault: {self.fault}] {self.hint}" if self.hint else ""
        return f"{request}{self.args[0]}{hint}"


class TransportError(AgoraError):
    """No usable response arrived: the network, a proxy or the host failed.

    Attributes:
        sent: whether the service may have counted the request; False if there was no connection.

    """

    fault = "network"
    retryable = True
    sent: bool = True


class TransportTimeout(TransportError):
    """No response arrived in time; the service may have counted the request."""


class CertificateError(TransportError):
    """The host's certificate is not trusted: nothing was sent, and a retry does not help."""

    retryable = False
    sent = False


class ResponseError(AgoraError):
    """The service answered with an error.

    Attributes:
        status: the HTTP status.
        code: the `code` in the body, if there was one.
        message: the service's message, shortened.
        request_id: for Agora support, if there was one.
        retry_after: seconds of a `Retry-After` header, a day at most; None without one.

    """

    def __init__(
        self,
        what: str,
        *,
        request: str = "",
        hint: str = "",
        status: int = 200,
        code: int | None = None,
        message: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what, request=request, hint=hint)
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.retry_after = retry_after


class BadRequest(ResponseError):
    """A parameter is wrong (status or code 400)."""

    fault = "caller"


class Unauthorized(ResponseError):
    """The Customer ID, the Customer Secret or the App ID is wrong (status or code 401 or 403)."""

    fault = "caller"


class PlanRefused(ResponseError):
    """The plan does not cover the request: its endpoint, or the age or length of its span.

    Attributes:
        kind: `access` (endpoint), `latency` (too new), `range` (too old), `length` (of the span) or `unknown`.
        limit: the limit in seconds, if the message has it.

    """

    fault = "plan"
    kind: str = "unknown"
    limit: int | None = None


class NotFound(ResponseError):
    """The host does not know this API (status or code 404)."""

    fault = "caller"


class RateLimited(ResponseError):
    """The service counted too many requests; other programs of the same account count too.

    Attributes:
        unit: `second`, `minute` or `day`; `second` for a gateway's 429, which names none.
        limit: the account's limit in requests per unit, if the message has it.

    """

    fault = "plan"
    unit: Literal["second", "minute", "day"] = "second"
    limit: int | None = None


class ServerError(ResponseError):
    """The service failed (status or code 5xx)."""

    retryable = True


class DecodeError(AgoraError):
    """The answer does not fit the API reference.

    Attributes:
        path: where in the JSON document, like `$.call_lists[3].created_ts`; empty if it is not JSON.
        excerpt: the first characters of the body.
        request_id: for Agora support, if there was one.

    """

    def __init__(
        self,
        what: str,
        *,
        request: str = "",
        hint: str = "",
        path: str = "",
        excerpt: str = "",
        request_id: str | None = None,
    ) -> None:
        super().__init__(what, request=request, hint=hint)
        self.path = path
        self.excerpt = excerpt
        self.request_id = request_id


class IncompleteList(DecodeError):
    """A list lacks rows that the service reports, however narrow the query; all other rows were delivered.

    Attributes:
        span: the narrowest `Span` found in which rows are missing.
        rows: the number of its rows that arrived.
        reported: the number of rows that the service reports; None if it does not say.

    """

    def __init__(
        self,
        what: str,
        *,
        request: str = "",
        hint: str = "",
        span: Span | None = None,
        rows: int = 0,
        reported: int | None = None,
    ) -> None:
        super().__init__(what, request=request, hint=hint)
        self.span = span
        self.rows = rows
        self.reported = reported


class QuotaExhausted(AgoraError):
    """The plan's quota is spent, and waiting for it would exceed `max_wait`: nothing was sent.

    Attributes:
        group: the counter, as in `QuotaState`.
        unit: `second`, `minute` or `day`.
        limit: requests per unit.
        resets_in: seconds until a request is possible; a lower bound.

    """

    fault = "plan"

    def __init__(
        self,
        what: str,
        *,
        request: str = "",
        hint: str = "",
        group: str = "",
        unit: str = "",
        limit: int = 0,
        resets_in: float = 0.0,
    ) -> None:
        super().__init__(what, request=request, hint=hint)
        self.group = group
        self.unit = unit
        self.limit = limit
        self.resets_in = resets_in


class TooEarly(AgoraError):
    """The service does not have the data yet.

    Attributes:
        queryable_at: UTC second at which it becomes queryable.

    """

    fault = "plan"

    def __init__(self, what: str, *, request: str = "", hint: str = "", queryable_at: int = 0) -> None:
        super().__init__(what, request=request, hint=hint)
        self.queryable_at = queryable_at


class LedgerError(AgoraError):
    """The shared count of requests cannot be read or written, and no request is sent without it."""

    fault = "host"


class FleetError(AgoraError):
    """The store or the sink of a fleet refuses the login, or cannot be reached; or its name is that of another."""

    fault = "host"


class CheckpointError(AgoraError):
    """A saved position cannot be read or written, or belongs to another stream.

    Attributes:
        kind: why. `in_use`: another stream holds the name, and runs; retry when it has ended. `taken_over`: another
            process took this stream over, and goes on with it; nothing was saved. `store`: the store cannot be read or
            written; retry once that is fixed. `invalid`: what is saved is damaged, of a later version, of another
            stream or in the future; a retry does not help.

    """

    fault = "caller"

    def __init__(
        self,
        what: str,
        *,
        request: str = "",
        hint: str = "",
        fault: Fault | None = None,
        kind: CheckpointTrouble = "invalid",
    ) -> None:
        super().__init__(what, request=request, hint=hint, fault=fault)
        self.kind: CheckpointTrouble = kind


class ExportError(AgoraError):
    """An export cannot be written or resumed; what is already written is safe.

    Attributes:
        kind: why. `running`: another run or program has the files open; retry when it is done. `superseded`: another
            run, on another machine perhaps, has taken the export over and continues it; a retry would take it back.
            `disk`: the target cannot be read or written (full, no permission, store unreachable); retry once that is
            fixed. `settings`: the target holds an export with other settings; a retry does not help. `state`: the
            export's state or database is damaged, of another version, or does not match its files; a retry does not
            help. `writer`: the writer process died, or the format's library failed; a retry may help.

    """

    fault = "caller"

    def __init__(
        self, what: str, *, request: str = "", hint: str = "", fault: Fault | None = None, kind: ExportTrouble = "disk"
    ) -> None:
        super().__init__(what, request=request, hint=hint, fault=fault)
        self.kind: ExportTrouble = kind
