"""Decodes answers into models: strictly and in one go, or in pieces where an answer is large or does not fit.

`wire.raise_for_code` decides whether an answer is an error.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from importlib import import_module
from typing import Any, Generic, TypeVar, get_args, get_origin

import attrs

from agora_analytics._core.decoding import json, rows
from agora_analytics._core.decoding.chunks import ChunkReader, TooManyMisfitsError
from agora_analytics._core.decoding.json import JsonSyntaxError, MisfitError, short_repr
from agora_analytics._core.decoding.scanner import Steps, finish
from agora_analytics._core.decoding.value_format import PIECE, ValueFormat
from agora_analytics.errors import AgoraError, DecodeError
from agora_analytics.models import Answer, Point, Ranked, Rows, Total, shape
from agora_analytics.models.envelope import OURS

AnswerT = TypeVar("AnswerT", bound=Answer)
AnswerT_co = TypeVar("AnswerT_co", bound=Answer, covariant=True)

_ROWS_PIECE = 8_192
"""Bytes of rows that are read one by one between two yields."""


@attrs.frozen(eq=False, repr=False)
class Decode(Generic[AnswerT_co]):
    """Decodes bodies into answers: `decode(body)`, or in steps between which others may run.

    Both raise `DecodeError` for a body that does not fit (with the envelope so far as its `answer`), and
    `TransportError` for a body that is truncated or does not come from the service.
    """

    _form: Callable[[], ValueFormat]
    _exact: Callable[[bytes], AnswerT_co] | None = None

    def __call__(self, body: bytes, *, strict: bool = False) -> AnswerT_co:
        """Decode at once; `strict` raises for rows that would be skipped."""
        return finish(self.steps(body, strict=strict))

    def steps(self, body: bytes, *, strict: bool = False) -> Steps[AnswerT_co]:
        """Decode in steps of a millisecond at most."""
        if self._exact is not None and len(body) <= PIECE:
            try:
                # Nearly all answers: small ones that fit, in one call of the C decoder.
                return self._exact(body)
            except json.DecodeFailures:
                pass
        found: AnswerT_co = yield from _read(self._form(), body, strict=strict)
        return found


def decoder(kind: type[AnswerT], exact: type[AnswerT] | None = None) -> Decode[AnswerT]:
    """Return the decoder of answers whose fields are known, into `exact` if that is given."""
    # Rows alone may be wrapped: an object with a `list`, or a single row.
    if getattr(kind, "__origin__", None) is Rows:
        return Decode(cache(lambda: _rows_form(_form(get_args(kind)[0]), kind)), _strict(kind))
    # Lazy: evaluating the types' annotations takes milliseconds.
    return Decode(cache(partial(_form, exact or kind, kind)), _strict(exact or kind))


# Each call makes a class and decoders. Bounded, as a metric may be any text.
@lru_cache(maxsize=256)
def points_decoder(metric: str, dimension: str | None = None) -> Decode[Rows[Point]]:
    """Return the decoder of points about a metric, by a dimension if one is given."""
    row: Any = shape(metric, dimension)
    form = ValueFormat(
        many=json.strict_decoder(list[row]),
        one=json.strict_decoder(row),
        lax=json.lax_decoder(list[row]),
        lax_one=json.lax_decoder(row),
        lenient=lambda document: rows.point(document, metric, dimension),
    )
    return Decode(cache(partial(_rows_form, form, Rows[row])), _strict(Rows[row]))


def user_points_decoder(metric: str) -> Decode[Rows[Point]]:
    """Return the decoder of points by user."""
    return _rows_decoder(lambda row: rows.user_points(row, metric), flat=True)


def totals_decoder(metric: str, dimension: str | None = None) -> Decode[Rows[Total]]:
    """Return the decoder of values over a whole span."""
    return _rows_decoder(lambda row: rows.total(row, metric, dimension))


def ranked_decoder(metric: str, dimension: str) -> Decode[Rows[Ranked]]:
    """Return the decoder of top lists."""
    return _rows_decoder(lambda row: rows.ranked(row, metric, dimension))


def envelope(document: object) -> Answer:
    """Read code, message and request id of any document; empty if it has none."""
    fields: Mapping[str, Any] = document if isinstance(document, dict) else {}
    code, message, request_id = (fields.get(name) for name in ("code", "message", "requestId"))
    return Answer(
        code=_code(code),
        message=message if isinstance(message, str) else None,
        request_id=request_id if isinstance(request_id, str) else None,
    )


def _code(value: object) -> int | None:
    """Read a code, a whole number or its text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, int):
        # A larger number is no code, and would only make the error long.
        return value if abs(value) < 10**9 else None
    found = re.fullmatch(r"(-?[0-9]{1,9})(?:\.0{0,9})?", str(value))
    return int(found[1]) if found else None


def _read(form: ValueFormat, body: bytes, *, strict: bool) -> Steps[Any]:
    """Read a body in pieces; raises errors of this library."""
    reading = ChunkReader(body, strict=strict)
    try:
        answer = yield from reading.whole(form)
    except (MisfitError, TooManyMisfitsError) as error:
        failure: AgoraError = DecodeError(
            f"the answer does not fit the reference: {error.reason} at {error.path}",
            hint="The service may have changed: look for a newer version, or give Agora support the request id.",
            path=error.path,
        )
        # With it the caller can tell an error of the service, whose body does not fit either, from damage.
        failure.answer = envelope(reading.known)  # type: ignore[attr-defined]
    except JsonSyntaxError as error:
        failure = json.decode_error(body, error, ended=error.ended)
    else:
        return attrs.evolve(answer, skipped=tuple(reading.skipped)) if reading.skipped or answer.skipped else answer
    raise failure


def _strict(kind: Any) -> Callable[[bytes], Any]:
    """Return the strict decoder of one model: an answer's fields have other names than on the wire."""
    if issubclass(get_origin(kind) or kind, Answer):
        return json.answer_decoder(kind, ours=OURS, decoder_for=json.strict_decoder)
    return json.strict_decoder(kind)


def _lax(kind: Any) -> Callable[[bytes], Any]:
    if issubclass(get_origin(kind) or kind, Answer):
        return json.answer_decoder(kind, ours=OURS, decoder_for=json.lax_decoder)
    return json.lax_decoder(kind)


def _form(exact: Any, kind: Any = None) -> ValueFormat:
    """Return how to read models: into `exact`, or leniently into `kind` first."""
    return ValueFormat(
        many=json.strict_decoder(list[exact]),
        one=_strict(exact),
        lax=json.lax_decoder(list[exact]),
        lax_one=_lax(exact),
        lenient=partial(_structure, kind or exact, exact),
        load=_load,
        parts=_parts(exact, kind or exact) if attrs.has(exact) else {},
    )


def _parts(exact: Any, kind: Any) -> dict[str, ValueFormat]:
    """Return the fields that are lists of models or of pairs."""
    exact_items, items = _items(exact), _items(kind)
    listed = {name: item for name, item in items.items() if attrs.has(item) or len(_members(item)) > 1}
    return {json.wire_name(name): _form(exact_items[name], item) for name, item in listed.items() if name not in OURS}


def _items(kind: Any) -> dict[str, Any]:
    return {field.name: _item_kind(field.type) for field in attrs.fields(attrs.resolve_types(kind))}


def _item_kind(kind: Any) -> Any:
    """Return the item type of a list, or of a list or None; None for other types."""
    lists = [_members(one)[0] for one in (kind, *get_args(kind)) if get_args(one)[-1:] == (...,)]
    return lists[0] if lists else None


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is tuple else ()


_TOLERANT = "agora_analytics._core.decoding.lenient"


def _load() -> Callable[[], object] | None:
    # Hardly any answer needs cattrs, and its import costs more than those of msgspec and attrs.
    return None if _TOLERANT in sys.modules else partial(import_module, _TOLERANT)


def _structure(kind: Any, exact: Any, document: object) -> Any:
    from agora_analytics._core.decoding.lenient import structure  # noqa: PLC0415 - as above

    value = structure(document, kind)
    return value if exact is kind else exact(**attrs.asdict(value, recurse=False))


def _rows_decoder(read: Callable[[object], Any], *, flat: bool = False) -> Decode[Rows[Any]]:
    """Return the decoder of rows whose keys are not known in advance."""
    form = ValueFormat(
        many=lambda text: [read(row) for row in json.parse_value(text)],
        one=lambda text: read(json.parse_value(text)),
        lenient=read,
        flat=flat,
        size=_ROWS_PIECE,
    )
    return Decode(cache(partial(_rows_form, form, Rows[Any])))


def _rows_form(item: ValueFormat, kind: Any) -> ValueFormat:
    return ValueFormat(
        many=json.strict_decoder(list[Any]),
        one=_strict(kind),
        lenient=_rows_outline,
        parts={"data": attrs.evolve(item, wrapped=True)},
        wrapped=True,
    )


def _rows_outline(document: Any) -> Rows[Any]:
    """Return an answer without its rows."""
    # An answer without rows must not pass for an empty one.
    if "data" not in document:
        raise MisfitError("field 'data' is missing", ".data")
    if document["data"] not in (None, []):
        raise MisfitError(f"expected rows, got {short_repr(document['data'])}", ".data")
    outer = envelope(document)
    if outer.code is None and document.get("code") is not None:
        raise MisfitError(f"expected a whole number, got {short_repr(document['code'])}", ".code")
    return Rows(data=(), code=outer.code, message=outer.message, request_id=outer.request_id)
