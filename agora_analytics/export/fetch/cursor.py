"""The position of a call's next request, and its form in the state, which outlives the process."""

from __future__ import annotations

from typing import Final

import attrs

from agora_analytics._core.decoding import json

SESSIONS: Final = "sessions"
METRICS: Final = "metrics"
STATISTICS: Final = "statistics"

STEPS: Final = frozenset({SESSIONS, METRICS, STATISTICS})
"""The stages of a call's details. States contain these names: they must not change."""


@attrs.frozen
class CallCursor:
    """The next request of a call. States contain it as JSON: names and meanings of the fields must not change.

    Attributes:
        step: the stage, one of `STEPS`.
        cut: seconds of the parts into which the call's span is split.
        part: index of the part.
        page: page of the list of sessions, from 1 on.
        count: rows of this list that were read.
        number: index of the batch of sessions, or of the breakdown.
        total: rows of the list as the page before reported them, 0 if unknown.

    """

    step: str
    cut: int = 0
    part: int = 0
    page: int = 1
    count: int = 0
    number: int = 0
    total: int = 0


_decode = json.strict_decoder(CallCursor)


def stored(cursor: CallCursor) -> str:
    """Return a cursor in its stored form."""
    return json.encode(cursor).decode()


def restored(text: str) -> CallCursor:
    """Read a cursor back; raises `ValueError` for an invalid one, or a step that this version does not know."""
    try:
        cursor = _decode(text.encode())
    except (json.SchemaError, *json.DecodeFailures) as error:
        raise ValueError(f"{text!r} is no cursor of a call") from error
    if (
        cursor.step not in STEPS
        or cursor.cut < 1
        or cursor.page < 1
        or min(cursor.part, cursor.count, cursor.number, cursor.total) < 0
    ):
        raise ValueError(f"{text!r} is no cursor of a call that this version knows")
    return cursor
