"""JSON in and out: the only file that imports msgspec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

import attrs
import msgspec

from agora_analytics.errors import DecodeError, TransportError

T = TypeVar("T")

_SHOWN = 200

NotJson = msgspec.DecodeError
"""A body that is not JSON."""

Unreadable = (NotJson, UnicodeDecodeError, RecursionError)
"""What reading a body can raise: no JSON, no UTF-8, or nested beyond reason."""

Mismatch = msgspec.ValidationError
"""JSON that does not fit the exact types; a kind of `NotJson`, so catch it first."""

encode: Callable[[Any], bytes] = msgspec.json.encode


_encoder = msgspec.json.Encoder()


def lines(values: Iterable[Any]) -> bytes:
    """Encode values as JSON Lines, in one go."""
    # A list, since of any other iterable msgspec (0.22) keeps a reference for ever, and with it all that it holds.
    return _encoder.encode_lines(list(values))


def row(name: str, fields: Sequence[str]) -> Callable[..., object]:
    """Return a maker of objects with these fields, in this order, as cheap to make as to encode."""
    return msgspec.defstruct(name, [(field, Any) for field in fields], gc=False)


def twin(kind: type[Any]) -> type[Any]:
    """Return a struct with the fields of an attrs class: read in half the time, and no garbage collector's business."""
    told = attrs.fields(attrs.resolve_types(kind))
    fields = [(one.name, one.type, *(() if one.default is attrs.NOTHING else (one.default,))) for one in told]
    return msgspec.defstruct(kind.__name__, fields, gc=False)


def columns(rows: Sequence[Any], names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return these fields of objects of one class, at least one, column by column."""
    if isinstance(rows[0], msgspec.Struct):  # all fields in one go is several times as fast as these one by one
        fields = dict(
            zip(rows[0].__struct_fields__, zip(*map(msgspec.structs.astuple, rows), strict=True), strict=True)
        )
        return [fields[name] for name in names]
    return list(zip(*map(attrgetter(*names), rows), strict=True))


def strict(kind: type[T]) -> Callable[[bytes], T]:
    """Return the decoder into exact types; it raises `Mismatch` or another of `Unreadable`."""
    return msgspec.json.Decoder(kind).decode


def document(body: bytes) -> Any:
    """Read a body into plain values; raises `DecodeError`, or `TransportError` where it ends early."""
    try:
        return msgspec.json.decode(body)
    except Unreadable as error:
        raise refusal(body, error) from error


def excerpt(body: bytes) -> str:
    """Return the first characters of a body on one line."""
    return " ".join(body[:_SHOWN].decode(errors="replace").split())


def refusal(body: bytes, error: Exception) -> DecodeError | TransportError:
    """Say what a body is that is not JSON: cut off, HTML, or something else."""
    if not body.strip():
        return TransportError("the answer is empty", advice="Try again.")
    # A number cut off after its sign, point or exponent is told as an invalid one at the very end.
    ended = "truncated" in str(error) or str(error).endswith(f"invalid number (byte {len(body)})")
    if ended and body.lstrip()[:1] in b"{[":
        return TransportError(f"the answer is cut off after {len(body)} bytes", advice="Try again.")
    if body.lstrip()[:1] == b"<":
        what = "the answer is HTML, not JSON"
        advice = "A proxy, a captive portal or a wrong host answered: check AGORA_BASE_URL and HTTPS_PROXY."
    else:
        what, advice = f"the answer is not JSON: {error}", "Something else than the API answered: check AGORA_BASE_URL."
    shown = excerpt(body)
    return DecodeError(f"{what}: {shown!r}", advice=advice, excerpt=shown)
