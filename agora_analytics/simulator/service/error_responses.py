"""Every no of the service, in the vendor's words."""

from __future__ import annotations

from typing import Final

import attrs

from agora_analytics.plans import Unit

_PREFIX: Final = "Service package limit check error, "
_SCALES: Final = {"d": 86_400, "h": 3_600, "m": 60}
_LETTERS: Final[dict[Unit, str]] = {"second": "qps", "minute": "qpm", "day": "qpd"}


@attrs.frozen(eq=False)
class Refused(Exception):
    """The answer is no: a `code`, a `message`, and a `kind` in one word for whoever counts refusals."""

    code: int
    message: str
    kind: str


def invalid(what: str) -> Refused:
    """Return the refusal of a parameter."""
    return Refused(400, f"Invalid parameters: {what}", "parameter")


def milliseconds() -> Refused:
    """Return what the service says to a timestamp in milliseconds."""
    return Refused(500, "Unknown Error", "milliseconds")


def no_such_call(code: int) -> Refused:
    """Return the refusal of details of a call that the service does not know."""
    return Refused(code, "no such call", "unknown")


def wrong_app() -> Refused:
    """Return the refusal of an App ID that is not the account's."""
    return Refused(403, "Wrong authorization information. The request is forbidden.", "app")


def no_access() -> Refused:
    """Return the refusal of an endpoint that the plan does not include."""
    said = "you have no auth to access this service, please buy or upgrade your service package"
    return Refused(300, said, "access")


def too_frequent(unit: Unit, limit: int) -> Refused:
    """Return the refusal of a request above a frequency."""
    name = _LETTERS[unit]
    return Refused(300, f"{_PREFIX}{name} limit error, {name} limit = {limit}", name)


def too_new(delay: int) -> Refused:
    """Return the refusal of a span that ends within the data delay (seconds)."""
    return Refused(300, f"{_PREFIX}query latency limit error, query latency limit = {delay}s", "latency")


def too_old(available: int) -> Refused:
    """Return the refusal of a span that starts before what the plan keeps (seconds)."""
    said = f"query time range limit error, query time range limit = {_spelled(available)}"
    return Refused(300, _PREFIX + said, "range")


def too_long(longest: int) -> Refused:
    """Return the refusal of a span as long as the plan's longest (seconds), or longer."""
    said = f"query time length limit error, query time length limit = {_spelled(longest)}"
    return Refused(300, _PREFIX + said, "length")


def _spelled(duration: int) -> str:
    """Spell a duration in the largest unit that divides it."""
    for letter, scale in _SCALES.items():
        if duration % scale == 0:
            return f"{duration // scale}{letter}"
    return f"{duration}s"
