"""Encodes and decodes JSON: the only file that imports msgspec."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from operator import attrgetter
from reprlib import Repr
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_args, get_origin

import attrs
import msgspec
from msgspec.structs import asdict

from agora_analytics.errors import DecodeError, TransportError

T = TypeVar("T")

if TYPE_CHECKING:
    Whole = int
    """A whole number of at most 64 bits, which is what files and data frames can hold."""
else:
    Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

WIRE_NAMES: Final = {"request_id": "requestId", "calls": "call_lists", "sessions": "call_info"}
"""The service's names of the fields of answers that have another name in Python."""

_FIELDS: Final = {wire: field for field, wire in WIRE_NAMES.items()}
_SHOWN = 200
"""Characters of an untrusted text that an error quotes."""


InvalidJson = msgspec.DecodeError
"""A body that is not JSON."""

DecodeFailures = (InvalidJson, UnicodeDecodeError, RecursionError)
"""What decoding can raise: not JSON, not UTF-8, or nested too deeply."""

SchemaError = msgspec.ValidationError
"""JSON that does not fit the types; a subclass of `InvalidJson`, so catch it first."""


class MisfitError(Exception):
    """A value that does not fit: why, and where in the document."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


class JsonSyntaxError(Exception):
    """A text that is not JSON from some byte on; `ended` if it is truncated."""

    def __init__(self, reason: str, *, ended: bool = False) -> None:
        super().__init__(reason)
        self.ended = ended


def _plain(value: object) -> object:
    """Return a whole number of a subclass of int, such as `HostSecond`, as an int."""
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"no JSON is made of {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_plain)

encode: Callable[[Any], bytes] = _encoder.encode
"""Encode a value as JSON; all JSON of the package is encoded here or by `encode_lines`."""


def encode_lines(values: Iterable[Any]) -> bytes:
    """Encode values as JSON Lines, in one go."""
    # A list: msgspec 0.22 leaks a reference to any other iterable.
    return _encoder.encode_lines(list(values))


def row_struct(name: str, fields: Sequence[str]) -> Callable[..., object]:
    """Return a struct class with these fields, in this order; cheap to create and to encode."""
    return msgspec.defstruct(name, [(field, Any) for field in fields], gc=False)


def wire_name(field: str) -> str:
    """Return the service's name for a field of a model."""
    return WIRE_NAMES.get(field, field)


def field_name(wire: str) -> str:
    """Return the name that models have for a field of the service."""
    return _FIELDS.get(wire, wire)


def struct_like(kind: Any, *, without: Collection[str] = ()) -> type[Any]:
    """Return a struct with the fields of an attrs class, under the service's names on the wire.

    It decodes in half the time, and the garbage collector does not track it. `kind` may be a generic class with its
    argument, such as `Rows[Call]`.
    """
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    fields = []
    for field in attrs.fields(attrs.resolve_types(origin)):
        if field.name not in without:
            generic = arguments and getattr(field.type, "__parameters__", ())
            default = () if field.default is attrs.NOTHING else (field.default,)
            fields.append((field.name, field.type[arguments] if generic else field.type, *default))
    return msgspec.defstruct(origin.__name__, fields, gc=False, kw_only=True, rename=WIRE_NAMES)


def columns(rows: Sequence[Any], names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return these fields of objects of one class (at least one object), column by column."""
    if isinstance(rows[0], msgspec.Struct):  # all fields in one go is several times as fast as these one by one
        fields = dict(
            zip(rows[0].__struct_fields__, zip(*map(msgspec.structs.astuple, rows), strict=True), strict=True)
        )
        return [fields[name] for name in names]
    return list(zip(*map(attrgetter(*names), rows), strict=True))


def strict_decoder(kind: type[T]) -> Callable[[bytes], T]:
    """Return the decoder into a type; it raises `SchemaError` or another of `DecodeFailures`."""

    @cache  # made at first use: each takes nearly a millisecond
    def decoder() -> Callable[[bytes], T]:
        return msgspec.json.Decoder(kind).decode

    def decode(body: bytes) -> T:
        """Read a text into exact types."""
        return decoder()(body)

    return decode


def answer_decoder(
    kind: Any, *, ours: Collection[str], decoder_for: Callable[[Any], Callable[[bytes], Any]]
) -> Callable[[bytes], Any]:
    """Return the decoder into an answer class, whose fields have other names than on the wire.

    `decoder_for` is `strict_decoder` or `lax_decoder`; errors are theirs. What the service sends under the names `ours`
    is ignored, because this library fills those fields in.
    """

    @cache
    def decoder() -> Callable[[bytes], Any]:
        return decoder_for(struct_like(kind, without=ours))

    def decode(body: bytes) -> Any:
        """Read a text into an answer."""
        return kind(**asdict(decoder()(body)))

    return decode


# Texts that msgspec's lax mode takes for a number or null, and user IDs that must stay texts or may be beyond 64 bits.
_DOUBTFUL = re.compile(
    rb'"(?:[+-]?(?:[nN][aA][nN]|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][uU][lL][lL])"'
    rb'|(?:peer_)?uid"[ \t\r\n]*+:[ \t\r\n]*+"(?![0-9]{1,18}"))'
)


def lax_decoder(kind: type[T]) -> Callable[[bytes], T]:
    """Return a decoder that also accepts numbers and booleans as text; it raises as the strict one does.

    It rejects texts that msgspec takes for numbers and this library does not, and user IDs that are not numeric.
    """

    @cache
    def decoder() -> Callable[[bytes], T]:
        return msgspec.json.Decoder(kind, strict=False).decode

    def decode(text: bytes) -> T:
        """Read a text into nearly exact types."""
        value = decoder()(text)
        # An escape may spell any of these.
        if b"\\u00" in text or _DOUBTFUL.search(text):
            raise SchemaError("a text that may be no number")
        return value

    return decode


def convert_or_none(document: object, kind: type[T]) -> T | None:
    """Convert a document to a type; None if it does not fit."""
    try:
        return msgspec.convert(document, kind)
    except SchemaError:
        return None


_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


def item_spans(text: bytes) -> list[tuple[int, int]]:
    """Return where the items of a list start and end; raises one of `DecodeFailures`."""
    try:
        items = _raws(text)
    except InvalidJson:
        # Of the same length, so that the places are right in the caller's text too.
        text = _whole_escapes(text)
        items = _raws(text)
    found, at = [], 1
    for item in map(bytes, items):
        start = text.find(item[:1], at)  # between two items are only spaces and a comma
        at = start + len(item)
        found.append((start, at))
    return found


def loads(body: bytes) -> Any:
    """Parse a text into plain values; raises `DecodeError`, or `TransportError` if it is truncated."""
    try:
        return msgspec.json.decode(body)
    except DecodeFailures as error:
        raise decode_error(body, error, ended=body.rstrip()[-1:] not in b"}]") from error


def parse_value(text: bytes) -> Any:
    """Parse the text of one value; raises `MisfitError`."""
    try:
        return msgspec.json.decode(text)
    except DecodeFailures as error:
        raise MisfitError(f"{one_line(str(error), _SHOWN)}: {excerpt(text)!r}") from error


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)
_HALF = len(rb"\ud800")


def replace_lone_surrogates(text: bytes) -> bytes:
    """Return JSON with U+FFFD in place of lone surrogates and invalid UTF-8."""
    return _whole_escapes(text.decode(errors="replace").encode())


def _whole_escapes(text: bytes) -> bytes:
    """Return JSON of the same length with U+FFFD in place of lone surrogates."""
    if b"\\u" not in text:
        return text
    return _ESCAPE.sub(lambda found: rb"\ufffd" if len(found[0]) == _HALF else found[0], text)


def one_line(text: str, most: int) -> str:
    """Return an untrusted text on one line, without control characters, cut to `most` characters."""
    # Cut before it is split, as it may be megabytes long; to four times the length, as spaces are joined.
    cut = " ".join(text[: 4 * most].split())
    shown = cut[:most]
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else "\ufffd" for char in shown)
    return shown if len(cut) <= most else shown[:-1] + "\u2026"


_short = Repr()
_short.maxlevel = 3


def short_repr(value: object) -> str:
    """Return a short `repr` of an untrusted value."""
    # Python refuses to spell an int of more than 4,300 digits.
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 63:
        return "a number of more than 64 bits"
    return one_line(_short.repr(value), _SHOWN)


def excerpt(body: bytes) -> str:
    """Return the first characters of a body on one line."""
    return one_line(body[: 4 * _SHOWN].decode(errors="replace"), _SHOWN)


_FAULT = (
    "Something between us and the service answered in its place: try again, or check AGORA_BASE_URL and HTTPS_PROXY."
)


def decode_error(body: bytes, error: Exception, *, ended: bool) -> DecodeError | TransportError:
    """Return the error of a body that is not JSON: empty, truncated, or something else.

    A body that does not even start like JSON does not come from the service: that is a retryable `TransportError`.
    """
    first = body[: 1 << 16].lstrip()[:1]
    if not first or (len(body) < _SHOWN and body.strip() == b"null"):
        return TransportError("the answer is empty", hint="Try again.")
    if first not in b'{["-0123456789tfn':
        what = "HTML or XML, not JSON" if first == b"<" else "not JSON"
        return TransportError(f"the answer is {what}: {excerpt(body)!r}", hint=_FAULT)
    if ended and first in b"{[":
        return TransportError(f"the answer is cut off after {len(body)} bytes", hint="Try again.")
    shown = excerpt(body)
    return DecodeError(
        f"the answer is not JSON: {one_line(str(error), _SHOWN)}: {shown!r}", hint=DAMAGED, excerpt=shown
    )


DAMAGED = "The answer was damaged, or the service changed: ask again, and give Agora support the request id."
