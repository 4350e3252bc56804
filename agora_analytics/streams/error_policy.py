"""What ends a stream, and what it weathers: one table.

A stream ends when it is stopped or its consumer leaves, and for the errors below. All others are weathered: it asks
again at ever longer pauses, tells in `health` and the log what it waits for, and makes up for what it missed.

| error | nothing was answered yet | once something was |
| --- | --- | --- |
| `CheckpointError` | ends | ends |
| `Unauthorized` | ends | ends after an hour in which no request was accepted |
| `BadRequest`, `NotFound`, `PlanRefused` (`access`) | ends | weathered |
| `PlanRefused` (others) | ends after ten minutes | weathered, with spans that ask for less |
| `LedgerError` | ends | weathered |
| all others | weathered | weathered |

Errors outside of `AgoraError`, such as a client that was closed, end it at once.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import attrs

from agora_analytics.errors import (
    AgoraError,
    BadRequest,
    CheckpointError,
    LedgerError,
    NotFound,
    PlanRefused,
    QuotaExhausted,
    RateLimited,
    Unauthorized,
)

StreamState = Literal["polling", "waiting for quota", "waiting for consumer", "outage", "refused", "stopped"]
"""What a stream is doing: see `Health`."""


@attrs.frozen
class ErrorRule:
    """For how many seconds an error may go on before it ends a stream, and which state that is meanwhile.

    `first` holds before anything was answered, `later` once something was; `kind` is a `PlanRefused`'s, if given.
    `dated` says that it may be the fault of a clock that is not known yet.
    """

    error: type[AgoraError]
    before_success: float
    after_success: float
    state: StreamState
    kind: str | None = None
    clock_dependent: bool = False

    def matches(self, error: AgoraError) -> bool:
        """Whether this is the rule for an error, unless one before it is."""
        return isinstance(error, self.error) and self.kind in {None, getattr(error, "kind", None)}

    def tolerance(self, *, worked: bool, certain: bool) -> float:
        """Return the seconds, given whether anything was answered yet and the service's time is certain."""
        if worked:
            return self.after_success
        return max(self.before_success, _LESSON) if self.clock_dependent and not certain else self.before_success

    def is_calibration(self, seconds: float, *, certain: bool) -> bool:
        """Whether an error that has gone on for so long is no trouble: the clock was wrong, as after a sleep."""
        return self.clock_dependent and not certain and seconds < _LESSON


_NEVER: Final = math.inf
_LESSON: Final = 60.0
"""Seconds in which the service's time is learned, or there is none to be learned."""

RULES: Final = (
    ErrorRule(CheckpointError, 0, 0, "stopped"),
    ErrorRule(Unauthorized, 0, 3_600, "refused"),
    ErrorRule(BadRequest, 0, _NEVER, "refused", clock_dependent=True),
    ErrorRule(NotFound, 0, _NEVER, "refused"),
    ErrorRule(PlanRefused, 0, _NEVER, "refused", kind="access"),
    ErrorRule(PlanRefused, 600, _NEVER, "refused", clock_dependent=True),
    ErrorRule(LedgerError, 0, _NEVER, "outage"),
    ErrorRule(RateLimited, _NEVER, _NEVER, "waiting for quota"),
    ErrorRule(QuotaExhausted, _NEVER, _NEVER, "waiting for quota"),
    ErrorRule(AgoraError, _NEVER, _NEVER, "outage"),
)
"""The table; the first rule that is about an error holds."""


def rule_for(error: AgoraError) -> ErrorRule:
    """Return the rule for an error."""
    return next(rule for rule in RULES if rule.matches(error))
