"""From when to when a stream is to go."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

import attrs

from agora_analytics._core import validation
from agora_analytics.spans import Instant, length, seconds

Beginning = Instant | timedelta | None
"""A moment; a duration before the newest that can be asked for; or the newest."""


@attrs.frozen
class Period:
    """From `start`, or `back` seconds before the newest that can be asked for, to `stop` (None: without end)."""

    start: int | None
    back: int | None
    stop: int | None

    @classmethod
    def of(cls, start: Beginning, stop: Instant | None) -> Self:
        """Return the period of these arguments; raises `ValueError` or `TypeError` for what is none."""
        back = length(start, "start") if isinstance(start, timedelta) else None
        begin = None if start is None or isinstance(start, timedelta) else _moment(start)
        end = None if stop is None else seconds(stop, "stop")
        if begin is not None and end is not None and end <= begin:
            raise ValueError(f"stop={end} must be after start={begin}")
        return cls(begin, back, end)


def _moment(start: Instant) -> int:
    try:
        return seconds(start, "start")
    except TypeError:
        allowed = "a timedelta, an aware datetime, or whole seconds since 1970 as an int"
        raise validation.type_error("start", start, allowed) from None
