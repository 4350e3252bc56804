"""All error responses of the service, with Agora's messages."""

from __future__ import annotations

from typing import Final

import attrs

from agora_analytics.plans import Unit
from agora_analytics.spans import DAY, HOUR, MINUTE

_PREFIX: Final = "Service package limit check error, "
_SCALES: Final = {"d": DAY, "h": HOUR, "m": MINUTE}
# The service's own words: clients recognize the kind of a refusal by them.
_LIMIT_NAMES: Final[dict[Unit, str]] = {"second": "qps", "minute": "qpm", "day": "qpd"}


@attrs.frozen(eq=False)
class ErrorResponse(Exception):
    """An error in the body of an answer: `code` and `message`, and `kind`, one word for `Service.refusals`."""

    code: int
    message: str
    kind: str


def invalid(reason: str) -> ErrorResponse:
    """Return the error for a missing or wrong parameter."""
    return ErrorResponse(400, f"Invalid parameters: {reason}", "parameter")


def milliseconds() -> ErrorResponse:
    """Return the error for a timestamp in milliseconds."""
    return ErrorResponse(500, "Unknown Error", "milliseconds")


def no_such_call(code: int) -> ErrorResponse:
    """Return the error for details of a call that the service does not know."""
    return ErrorResponse(code, "no such call", "unknown")


def wrong_app() -> ErrorResponse:
    """Return the error for an App ID of another account."""
    return ErrorResponse(403, "Wrong authorization information. The request is forbidden.", "app")


def no_access() -> ErrorResponse:
    """Return the error for an endpoint that the plan does not include."""
    message = "you have no auth to access this service, please buy or upgrade your service package"
    return ErrorResponse(300, message, "access")


def too_frequent(unit: Unit, limit: int) -> ErrorResponse:
    """Return the error for a request above a rate limit."""
    name = _LIMIT_NAMES[unit]
    return ErrorResponse(300, f"{_PREFIX}{name} limit error, {name} limit = {limit}", name)


def too_new(delay: int) -> ErrorResponse:
    """Return the error for a time range that ends within the data delay (seconds)."""
    return ErrorResponse(300, f"{_PREFIX}query latency limit error, query latency limit = {delay}s", "latency")


def too_old(retention: int) -> ErrorResponse:
    """Return the error for a time range that starts before the retention time of the plan (seconds)."""
    reason = f"query time range limit error, query time range limit = {_format_duration(retention)}"
    return ErrorResponse(300, _PREFIX + reason, "range")


def too_long(longest: int) -> ErrorResponse:
    """Return the error for a time range that reaches the longest one of the plan (seconds)."""
    reason = f"query time length limit error, query time length limit = {_format_duration(longest)}"
    return ErrorResponse(300, _PREFIX + reason, "length")


def _format_duration(duration: int) -> str:
    """Format seconds in the largest unit that divides them, such as `7d`."""
    for letter, scale in _SCALES.items():
        if duration % scale == 0:
            return f"{duration // scale}{letter}"
    return f"{duration}s"
