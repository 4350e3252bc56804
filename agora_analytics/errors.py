"""Every error of this library; misuse of it is a plain `ValueError` or `TypeError` outside this tree.

```
AgoraError
├── TransportError          no usable answer arrived
│   ├── TransportTimeout    … within the time allowed
│   └── CertificateError    … because the host's certificate is not trusted
├── ResponseError           an answer arrived, and it says no
│   ├── BadRequest          a parameter is wrong (400)
│   ├── Unauthorized        the credentials or the App ID are wrong (401, 403)
│   ├── PlanRefused         the plan does not cover what was asked
│   ├── NotFound            no such API here (404)
│   ├── RateLimited         the service counted too many requests (429, qps, qpm, qpd)
│   └── ServerError         the service failed (5xx)
├── DecodeError             an answer arrived that is not what the reference promises
│   └── IncompleteList      … a list that says that it has more rows than can be had
├── QuotaExhausted          the plan's allowance is spent: nothing was sent
├── TooEarly                the service has it later: nothing was sent
├── LedgerError             the shared count of requests cannot be read or written: nothing was sent
├── CheckpointError         a saved position cannot be read or written
└── ExportError             an export cannot be written, or is not the one that was begun
```

Each has its details as attributes, survives pickling, and never holds a credential. Errors that a retry may fix have
`retryable = True`; the client has retried those already, as its `Retry` allows.

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
"""Whose fault an error is: the calling code, the pricing plan, the service, the network between, or the host.

The host is the machine that the program runs on and what it writes to: a file, a disk, a store, another program that
holds them.
"""


ExportTrouble = Literal["running", "disk", "settings", "state", "writer"]
"""Why an export cannot be written; see `ExportError`."""


class AgoraError(Exception):
    """What every error of this library is.

    Attributes:
        request: the request in one line, without App ID or credentials; empty where none was made.
        hint: what to do next, in one sentence.
        fault: whose fault it is; of the class, unless this one error is another's.

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
        """Say what was asked, what came back, and what to do next, in one line."""
        request = f"{self.request}: " if self.request else ""
        hint = f" [fault: {self.fault}] {self.hint}" if self.hint else ""
        return f"{request}{self.args[0]}{hint}"


class TransportError(AgoraError):
    """No usable answer arrived: the network, a proxy or the host broke off.

    Attributes:
        sent: whether the service may have counted the request; false where no connection came about.

    """

    fault = "network"
    retryable = True
    sent: bool = True


class TransportTimeout(TransportError):
    """No answer arrived within the time allowed; the service may have counted the request all the same."""


class CertificateError(TransportError):
    """The host's certificate is not trusted, so nothing was sent; trying again would not change that."""

    retryable = False
    sent = False


class ResponseError(AgoraError):
    """An answer arrived, and it says no.

    Attributes:
        status: the HTTP status.
        code: the `code` in the body, where there was one.
        message: the service's own words, shortened.
        request_id: what Agora support asks for, where there was one.
        retry_after: seconds, where a `Retry-After` header came.

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
    """The plan does not cover what was asked: the endpoint, the delay, the age or the length of the span.

    Attributes:
        kind: `access`, `latency`, `range`, `length` or `unknown`.
        limit: the limit in seconds that the message named, if it named one.

    """

    fault = "plan"
    kind: str = "unknown"
    limit: int | None = None


class NotFound(ResponseError):
    """The host does not know this API (status or code 404)."""

    fault = "caller"


class RateLimited(ResponseError):
    """The service counted too many requests; other programs that use the same account count too.

    Attributes:
        unit: `second`, `minute` or `day`; a gateway's 429 names none and counts as a second.
        limit: the account's true limit in requests per unit, if the message named it.

    """

    fault = "plan"
    unit: Literal["second", "minute", "day"] = "second"
    limit: int | None = None


class ServerError(ResponseError):
    """The service failed (status or code 5xx)."""

    retryable = True


class DecodeError(AgoraError):
    """An answer arrived that is not what the reference promises.

    Attributes:
        path: where in the JSON document, like `$.call_lists[3].created_ts`; empty where it is no JSON.
        excerpt: the first characters of what came.
        request_id: what Agora support asks for, where there was one.

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
    """A list says that it has more rows than can be had, however narrow it is asked for; what could be had has come.

    Attributes:
        span: the time that rows are missing of (a `Span`), as narrow as it could be made.
        rows: how many rows came of it.
        told: how many there are by what the service says, None where it does not say.

    """

    def __init__(
        self,
        what: str,
        *,
        request: str = "",
        hint: str = "",
        span: Span | None = None,
        rows: int = 0,
        told: int | None = None,
    ) -> None:
        super().__init__(what, request=request, hint=hint)
        self.span = span
        self.rows = rows
        self.told = told


class QuotaExhausted(AgoraError):
    """The plan's allowance is spent, and waiting for it would take longer than allowed: nothing was sent.

    Attributes:
        group: the quota group, a name of `Plan.limits`.
        unit: `second`, `minute` or `day`.
        limit: requests per unit.
        resets_in: seconds until a request will be possible; a lower bound.

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
    """Nothing can be asked for yet, since the service has it later: nothing was sent.

    Attributes:
        askable_at: UTC seconds from which on it can be asked for.

    """

    fault = "plan"

    def __init__(self, what: str, *, request: str = "", hint: str = "", askable_at: int = 0) -> None:
        super().__init__(what, request=request, hint=hint)
        self.askable_at = askable_at


class LedgerError(AgoraError):
    """The shared count of requests cannot be read or written: nothing was sent."""

    fault = "host"


class CheckpointError(AgoraError):
    """A saved position cannot be read or written."""

    fault = "caller"


class ExportError(AgoraError):
    """An export cannot be written, or is not the one that was begun there; what is written already is safe.

    Attributes:
        kind: why. `running`: another run, or whoever else, has the files there open; try again when it is over.
            `disk`: the place cannot be read or written (full, no rights, a store that is not reached); try again once
            that is mended. `settings`: the place holds an export of other settings; no later try will do. `state`: the
            export's state or database there is damaged or of another version, or its files are not those that its
            state tells of; no later try will do. `writer`: the process that makes the files ended, or the format's
            library failed; a later try may do.

    """

    fault = "caller"

    def __init__(
        self, what: str, *, request: str = "", hint: str = "", fault: Fault | None = None, kind: ExportTrouble = "disk"
    ) -> None:
        super().__init__(what, request=request, hint=hint, fault=fault)
        self.kind: ExportTrouble = kind
