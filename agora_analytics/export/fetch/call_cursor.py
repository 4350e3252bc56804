"""The position of a call's next request, and its form in the state, which outlives the process."""

from __future__ import annotations

from typing import Final

import attrs

from agora_analytics._core.decoding import json

SESSIONS: Final = "sessions"
METRICS: Final = "metrics"
STATISTICS: Final = "statistics"

STAGES: Final = frozenset({SESSIONS, METRICS, STATISTICS})
"""The stages of a call's details. States contain these names: they must not change."""


@attrs.frozen
class CallCursor:
    """The next request of a call. States contain it as JSON: names and meanings of the fields must not change.

    Attributes:
        stage: what is fetched, one of `STAGES`.
        slice_seconds: length of the slices into which the call's span is split.
        slice: index of the slice.
        page: page of the list of sessions, from 1 on.
        rows_read: rows of this list that were read.
        item: index of the batch of sessions, or of the breakdown.
        total: rows of the list as the page before reported them, 0 if unknown.

    """

    stage: str
    slice_seconds: int = 0
    slice: int = 0
    page: int = 1
    rows_read: int = 0
    item: int = 0
    total: int = 0


_decode = json.strict_decoder(CallCursor)


def stored(cursor: CallCursor) -> str:
    """Return a cursor in its stored form."""
    return json.encode(cursor).decode()


def restored(text: str) -> CallCursor:
    """Read a cursor back; raises `ValueError` for an invalid one, or a stage that this version does not know."""
    try:
        cursor = _decode(text.encode())
    except (json.SchemaError, *json.DecodeFailures) as error:
        raise ValueError(f"{text!r} is no cursor of a call") from error
    if (
        cursor.stage not in STAGES
        or cursor.slice_seconds < 1
        or cursor.page < 1
        or min(cursor.slice, cursor.rows_read, cursor.item, cursor.total) < 0
    ):
        raise ValueError(f"{text!r} is no cursor of a call that this version knows")
    return cursor
