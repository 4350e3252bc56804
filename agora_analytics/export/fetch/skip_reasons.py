"""Why an item is skipped, in words: which errors can concern one item alone, and which the next run retries.

Reasons are stored in the state, and the next run reads them back: their wording must not change.
"""

from __future__ import annotations

from typing import Final

from agora_analytics.errors import (
    AgoraError,
    CertificateError,
    DecodeError,
    PlanRefused,
    ResponseError,
    TransportError,
)

DETAILS: Final = "details"
APP: Final = "app"
"""What is skipped when it is no source: the details of calls, or all of an App ID."""

UNMEASURED: Final = "unmeasured"
"""The source under which the state counts sessions that came without metrics."""

FUTURE: Final = "its end is in the future"

_RETRIED: Final = frozenset(
    {"ResponseError", "BadRequest", "Unauthorized", "PlanRefused", "NotFound", "ServerError", "DecodeError"}
    | {"RateLimited", "TransportError", "TransportTimeout", FUTURE}
)
"""Reasons of skipped calls that the next run retries: the answer may have been an accident."""


def may_be_own(error: AgoraError) -> bool:
    """Whether an error can concern the requested item alone; an exhausted quota or a bad certificate cannot."""
    refused = isinstance(error, ResponseError | DecodeError | TransportError)
    return refused and not isinstance(error, CertificateError)


def reason_of(error: AgoraError) -> str:
    """Return the short reason of a refusal, equal for all items that are refused in the same way."""
    name = type(error).__name__
    if isinstance(error, PlanRefused) and error.kind != "unknown":
        return f"{name}: {error.kind}"
    if not isinstance(error, ResponseError):
        return name
    code = "" if error.code is None else f", code {error.code}"
    return f"{name}: HTTP {error.status}{code}"


def is_retried(reason: str) -> bool:
    """Whether the next run retries a call that was skipped for this reason."""
    return reason.partition(":")[0] in _RETRIED


def reason_in_full(error: AgoraError) -> str:
    """Return the reason of a refusal with the service's own message."""
    message = error.message if isinstance(error, ResponseError) else str(error.args[0])
    return f"{reason_of(error)}: {message}" if message else reason_of(error)


def is_access(error: AgoraError) -> bool:
    """Whether the service says that the plan does not include an endpoint."""
    return isinstance(error, PlanRefused) and error.kind == "access"
