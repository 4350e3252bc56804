"""Every no of the service, in the vendor's words."""

from __future__ import annotations

from typing import Final

import attrs

from agora_analytics.plans import Unit

_PREFIX: Final = "Service package limit check error, "
_SCALES: Final = {"d": 86_400, "h": 3_600, "m": 60}
_LETTERS: Final[dict[Unit, str]] = {"second": "qps", "minute": "qpm", "day": "qpd"}


@attrs.frozen(eq=False)
class ErrorResponse(Exception):
    """The answer is no: a `code`, a `message`, and a `kind` in one word for whoever counts refusals."""

    code: int
    message: str
    kind: str


def invalid(what: str) -> ErrorResponse:
    """Return the refusal of a parameter."""
    return ErrorResponse(400, f"Invalid parameters: {what}", "parameter")


def milliseconds() -> ErrorResponse:
    """Return what the service says to a timestamp in milliseconds."""
    return ErrorResponse(500, "Unknown Error", "milliseconds")


def no_such_call(code: int) -> ErrorResponse:
    """Return the refusal of details of a call that the service does not know."""
    return ErrorResponse(code, "no such call", "unknown")


def wrong_app() -> ErrorResponse:
    """Return the refusal of an App ID that is not the account's."""
    return ErrorResponse(403, "Wrong authorization information. The request is forbidden.", "app")


def no_access() -> ErrorResponse:
    """Return the refusal of an endpoint that the plan does not include."""
    said = "you have no auth to access this service, please buy or upgrade your service package"
    return ErrorResponse(300, said, "access")


def too_frequent(unit: Unit, limit: int) -> ErrorResponse:
    """Return the refusal of a request above a frequency."""
    name = _LETTERS[unit]
    return ErrorResponse(300, f"{_PREFIX}{name} limit error, {name} limit = {limit}", name)


def too_new(delay: int) -> ErrorResponse:
    """Return the refusal of a span that ends within the data delay (seconds)."""
    return ErrorResponse(300, f"{_PREFIX}query latency limit error, query latency limit = {delay}s", "latency")


def too_old(available: int) -> ErrorResponse:
    """Return the refusal of a span that starts before what the plan keeps (seconds)."""
    said = f"query time range limit error, query time range limit = {_spelled(available)}"
    return ErrorResponse(300, _PREFIX + said, "range")


def too_long(longest: int) -> ErrorResponse:
    """Return the refusal of a span as long as the plan's longest (seconds), or longer."""
    said = f"query time length limit error, query time length limit = {_spelled(longest)}"
    return ErrorResponse(300, _PREFIX + said, "length")


def _spelled(duration: int) -> str:
    """Spell a duration in the largest unit that divides it."""
    for letter, scale in _SCALES.items():
        if duration % scale == 0:
            return f"{duration // scale}{letter}"
    return f"{duration}s"
