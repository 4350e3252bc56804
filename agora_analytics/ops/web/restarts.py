"""When a stream that has ended starts again: as soon as its cause may be gone, and not so often that it costs the day.

A start may cost a request, which the service counts even if it refuses it.
"""

from __future__ import annotations

from random import Random
from typing import Final

from agora_analytics._core.retry import backoff
from agora_analytics.errors import (
    BadRequest,
    CheckpointError,
    NotFound,
    PlanRefused,
    QuotaExhausted,
    RateLimited,
    Unauthorized,
)
from agora_analytics.spans import DAY, MINUTE

_REFUSALS: Final = (BadRequest, NotFound, PlanRefused, Unauthorized)
_REFUSED: Final = 60.0, 600.0
_OTHERS: Final = 5.0, 300.0
"""Seconds of the first pause and of the longest: after a refusal, which a person must mend, and after other errors."""

STEADY: Final = 600.0
"""Seconds that a stream must run before the next pause is a first one again."""


def restart_pause(error: Exception | None, failures: int, now: float, random: Random) -> float:
    """Return the seconds until a stream starts again that has ended for the `failures`-th time in a row.

    `now` is in UTC seconds by the service's clock. Jitter keeps several servers from starting at once.
    """
    if isinstance(error, QuotaExhausted):
        return max(error.resets_in, 1.0) + random.uniform(0, MINUTE)
    # Before midnight each start would only be refused again.
    if isinstance(error, RateLimited) and error.unit == "day":
        return DAY - now % DAY + random.uniform(0, MINUTE)
    # Two servers with one name take it from each other: seldom, until a person gives one of them another name.
    taken_over = isinstance(error, CheckpointError) and error.kind == "taken_over"
    first, longest = _REFUSED if taken_over or isinstance(error, _REFUSALS) else _OTHERS
    return backoff(first, failures - 1, longest) * random.uniform(0.5, 1.0)
