"""Refusals in words: which may be about one item alone, why it is left out, and whether the next run asks again."""

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
"""What is left out where it is no source: the details of calls, or all of an App ID."""

UNMEASURED: Final = "unmeasured"
"""What the state counts sessions as of which no metrics came."""

FUTURE: Final = "its end is in the future"

_AGAIN: Final = frozenset(
    {"ResponseError", "BadRequest", "Unauthorized", "PlanRefused", "NotFound", "ServerError", "DecodeError"}
    | {"RateLimited", "TransportError", "TransportTimeout", FUTURE}
)
"""Refusals of calls that the next run asks about again: the answer may have been an accident."""


def may_be_own(error: AgoraError) -> bool:
    """Whether an error may be about nothing but what was asked for; an empty quota and certificates are not."""
    refused = isinstance(error, ResponseError | DecodeError | TransportError)
    return refused and not isinstance(error, CertificateError)


def reason_of(error: AgoraError) -> str:
    """Return a refusal in few words, the same for all items that are refused alike."""
    name = type(error).__name__
    if isinstance(error, PlanRefused) and error.kind != "unknown":
        return f"{name}: {error.kind}"
    if not isinstance(error, ResponseError):
        return name
    code = "" if error.code is None else f", code {error.code}"
    return f"{name}: HTTP {error.status}{code}"


def is_asked_again(reason: str) -> bool:
    """Whether the next run asks again about a call that is left out for this reason."""
    return reason.partition(":")[0] in _AGAIN


def reason_in_full(error: AgoraError) -> str:
    """Return a refusal in the service's own words too."""
    said = error.message if isinstance(error, ResponseError) else str(error.args[0])
    return f"{reason_of(error)}: {said}" if said else reason_of(error)


def is_access(error: AgoraError) -> bool:
    """Whether it is said that the plan does not cover an endpoint."""
    return isinstance(error, PlanRefused) and error.kind == "access"
