"""Bytes to models, twice over: at full speed into the exact types, and patiently where an answer does not fit them.

A decoder is a function from a body to an `Answer`. It raises `DecodeError` (or `TransportError`, for a body that ends
early); whether the answer is a refusal is not its business but that of `_wire.judge_code`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from reprlib import repr as shorten
from typing import Any, TypeVar

from agora_analytics import _json, _rows
from agora_analytics.errors import DecodeError
from agora_analytics.models import Answer, Point, Ranked, Rows, Total, shape

AnswerT = TypeVar("AnswerT", bound=Answer)
RowT = TypeVar("RowT")
Decode = Callable[[bytes], AnswerT]


def decoder(kind: type[AnswerT], exact: type[AnswerT] | None = None) -> Decode[AnswerT]:
    """Return the decoder of answers whose fields are known; what fits becomes an `exact` one where that is given."""
    strict = _json.strict(exact or kind)

    def decode(body: bytes) -> AnswerT:
        try:
            return strict(body)
        except _json.Mismatch:
            # Imported here, since nearly no answer needs cattrs, and importing it costs more than msgspec and attrs.
            from agora_analytics._tolerant import structure  # noqa: PLC0415

            return structure(_json.document(body), kind)
        except _json.Unreadable as error:
            raise _json.refusal(body, error) from error

    return decode


@lru_cache(maxsize=256)
def points_decoder(metric: str, dimension: str | None = None) -> Decode[Rows[Point]]:
    """Return the decoder of points about a metric, by a dimension where one is given."""
    row: Any = shape(metric, dimension)
    strict: Decode[Rows[Point]] = _json.strict(Rows[row])
    tolerant = _rows_decoder(lambda data: _rows.points(data, metric, dimension))

    def decode(body: bytes) -> Rows[Point]:
        try:
            return strict(body)
        except _json.Unreadable:
            return tolerant(body)

    return decode


def user_points_decoder(metric: str) -> Decode[Rows[Point]]:
    """Return the decoder of points by user."""
    return _rows_decoder(lambda data: _rows.user_points(data, metric))


def totals_decoder(metric: str, dimension: str | None = None) -> Decode[Rows[Total]]:
    """Return the decoder of values over a whole span."""
    return _rows_decoder(lambda data: _rows.totals(data, metric, dimension))


def ranked_decoder(metric: str, dimension: str) -> Decode[Rows[Ranked]]:
    """Return the decoder of top lists."""
    return _rows_decoder(lambda data: _rows.ranked(data, metric, dimension))


def envelope(document: object) -> Answer:
    """Read code, message and request id of whatever came; empty where it has none."""
    fields = document if isinstance(document, dict) else {}
    code, message, request_id = (fields.get(name) for name in ("code", "message", "requestId"))
    return Answer(
        code=_code(code),
        message=message if isinstance(message, str) else None,
        requestId=request_id if isinstance(request_id, str) else None,
    )


def _code(value: object) -> int | None:
    """Read a code that is a whole number or text that says one; None for anything else."""
    found = re.fullmatch(r"(-?\d{1,9})(?:\.0*)?", str(value))
    return int(found[1]) if found else None


def _rows_decoder(read: Callable[[object], tuple[RowT, ...]]) -> Decode[Rows[RowT]]:
    def decode(body: bytes) -> Rows[RowT]:
        document = _json.document(body)
        if not isinstance(document, dict) or "data" not in document:
            raise DecodeError("the answer does not fit the reference: field 'data' is missing at $", path="$")
        outer = envelope(document)
        if outer.code is None and document.get("code") is not None:
            said = shorten(document["code"])
            raise DecodeError(
                f"the answer does not fit the reference: expected a whole number, got {said} at $.code", path="$.code"
            )
        return Rows(data=read(document["data"]), code=outer.code, message=outer.message, requestId=outer.requestId)

    return decode
