"""The place of a call's next request, and how the state keeps it from one process to the next."""

from __future__ import annotations

from typing import Final

import attrs

from agora_analytics._core.decoding import json

SESSIONS: Final = "sessions"
METRICS: Final = "metrics"
STATISTICS: Final = "statistics"

STEPS: Final = frozenset({SESSIONS, METRICS, STATISTICS})
"""What is asked of a call, under the names that states have: these outlast every renaming of what asks."""


@attrs.frozen
class Cursor:
    """The next request of a call: what, for which part of its span (cut so long), which page or which of a list.

    `total` is how many rows the list had by the page before, 0 where that is not known.
    """

    step: str
    cut: int = 0
    part: int = 0
    page: int = 1
    count: int = 0
    number: int = 0
    total: int = 0


_decode = json.strict_decoder(Cursor)


def stored(cursor: Cursor) -> str:
    """Return a cursor as the state keeps it."""
    return json.encode(cursor).decode()


def restored(text: str) -> Cursor:
    """Read a cursor back; raises `ValueError` for what is none, or has a step that this version does not know."""
    try:
        found = _decode(text.encode())
    except (json.SchemaError, *json.DecodeFailures) as error:
        raise ValueError(f"{text!r} is no place in a call") from error
    if (
        found.step not in STEPS
        or found.cut < 1
        or found.page < 1
        or min(found.part, found.count, found.number, found.total) < 0
    ):
        raise ValueError(f"{text!r} is no place in a call that this version knows")
    return found
