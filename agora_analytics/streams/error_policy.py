"""Which errors end a stream, and which it survives: one table.

A stream ends when it is stopped, when its consumer leaves, and for the errors below. It survives all others: it retries
with exponential backoff, reports the state in `health` and the log, and backfills what it missed.

| error | before the first answer | afterwards |
| --- | --- | --- |
| `CheckpointError` | ends | ends |
| `Unauthorized` | ends | ends after an hour without an accepted request |
| `BadRequest`, `NotFound`, `PlanRefused` (`access`) | ends | survives |
| `PlanRefused` (other kinds) | ends after ten minutes | survives, with smaller spans |
| `LedgerError` | ends | survives |
| all others | survives | survives |

Until the service's clock is known, a `BadRequest` is survived for a minute: it may have been for a wrong time. Errors
that are no `AgoraError`, such as the one for a closed client, end a stream at once.
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
    """For how many seconds an error may last before it ends a stream, and the state meanwhile.

    `before_success` holds until the first answer, `after_success` from then on; `kind` is that of a `PlanRefused`, if
    given. `clock_dependent` marks errors that an unknown clock may cause.
    """

    error: type[AgoraError]
    before_success: float
    after_success: float
    state: StreamState
    kind: str | None = None
    clock_dependent: bool = False

    def matches(self, error: AgoraError) -> bool:
        """Whether this rule applies to an error; the first that does counts."""
        return isinstance(error, self.error) and self.kind in {None, getattr(error, "kind", None)}

    def tolerance(self, *, worked: bool, certain: bool) -> float:
        """Return the seconds; `worked` says whether anything was answered, `certain` whether the clock is known."""
        if worked:
            return self.after_success
        if self.clock_dependent and not certain:
            return max(self.before_success, _CALIBRATION)
        return self.before_success

    def is_calibration(self, seconds: float, *, certain: bool) -> bool:
        """Whether an error that has lasted so long is only due to a wrong clock, as after a sleep."""
        return self.clock_dependent and not certain and seconds < _CALIBRATION


_NEVER: Final = math.inf
_CALIBRATION: Final = 60.0
"""Seconds in which the service's time becomes known, if it can be known."""

RULES: Final = (
    ErrorRule(CheckpointError, 0, 0, "stopped"),
    # Refused at the start, credentials are wrong. Later a gateway may refuse right ones for minutes; after an hour
    # without an accepted request they were revoked.
    ErrorRule(Unauthorized, 0, 3_600, "refused"),
    # What was accepted once is no mistake of the caller: the service has changed, or fails.
    ErrorRule(BadRequest, 0, _NEVER, "refused", clock_dependent=True),
    ErrorRule(NotFound, 0, _NEVER, "refused"),
    ErrorRule(PlanRefused, 0, _NEVER, "refused", kind="access"),
    # Ten minutes, in which smaller spans are tried: see `retention`.
    ErrorRule(PlanRefused, 600, _NEVER, "refused", clock_dependent=True),
    ErrorRule(LedgerError, 0, _NEVER, "outage"),
    # Other programs may use up the quota of any account: it comes back by itself.
    ErrorRule(RateLimited, _NEVER, _NEVER, "waiting for quota"),
    ErrorRule(QuotaExhausted, _NEVER, _NEVER, "waiting for quota"),
    ErrorRule(AgoraError, _NEVER, _NEVER, "outage"),
)
"""The table; the first rule that matches counts."""


def rule_for(error: AgoraError) -> ErrorRule:
    """Return the rule for an error."""
    return next(rule for rule in RULES if rule.matches(error))
