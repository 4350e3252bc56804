"""The slow road from bytes to models: forgiving where the service is careless, exact about what cannot be forgiven.

Taken only for an answer that the strict types refuse, so `cattrs` is imported only then. It takes numbers and booleans
written as text, one value where a list is due, null where an empty list is due, and cuts fractions off where a whole
number is due.
"""

from __future__ import annotations

from reprlib import repr as shorten
from typing import Any, TypeVar, get_args, get_origin

from cattrs import Converter, transform_error
from cattrs.gen import make_dict_structure_fn, override

from agora_analytics.errors import DecodeError
from agora_analytics.models.calls import Session, Track

T = TypeVar("T")


def structure(document: object, kind: type[T]) -> T:
    """Make a `kind` of a JSON document; raises `DecodeError` that names the first place which does not fit."""
    if not isinstance(document, dict):
        raise DecodeError(
            f"the answer does not fit the reference: expected an object, got {shorten(document)} at $", path="$"
        )
    try:
        return _converter.structure(document, kind)
    except Exception as error:
        reason, _, path = transform_error(error, path="$", format_exception=_say)[0].rpartition(" @ ")
        msg = f"the answer does not fit the reference: {reason} at {path}"
        raise DecodeError(msg, path=path) from error


def _say(error: BaseException, _: type | None) -> str:
    if isinstance(error, KeyError):
        return f"field {error} is missing"
    return str(error)


def _integer(value: object, _: object = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"expected a whole number, got {shorten(value)}")
    try:
        return int(value)
    except ValueError:
        return int(_float(value))


def _float(value: object, _: object = None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"expected a number, got {shorten(value)}")
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"expected a number, got {shorten(value)}") from None


def _text(value: object, _: object = None) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"expected text, got {shorten(value)}")
    return str(value)


def _boolean(value: object, _: object = None) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    try:
        return known[str(value).lower()]
    except KeyError:
        raise ValueError(f"expected true or false, got {shorten(value)}") from None


def _uid(value: object, _: object = None) -> int | str | None:
    """Read a user ID: numeric text becomes a number, other text stays as it is."""
    if value is None or (isinstance(value, str) and not value.isdecimal()):
        return value
    return _integer(value)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[-1:] == (...,)


def _list(value: object, kind: Any) -> tuple[Any, ...]:
    """Read a list; one bare text counts as a list of one, null as an empty one."""
    if value is None:
        return ()
    if not isinstance(value, list | str):
        raise TypeError(f"expected a list, got {shorten(value)}")
    items = [value] if isinstance(value, str) else value
    item: Any = get_args(kind)[0]
    return tuple(_converter.structure(items, list[item]))


_converter = Converter()
_converter.register_structure_hook(int, _integer)
_converter.register_structure_hook(float, _float)
_converter.register_structure_hook(str, _text)
_converter.register_structure_hook(bool, _boolean)
_converter.register_structure_hook_func(_is_list, _list)
_converter.register_structure_hook(Session, make_dict_structure_fn(Session, _converter, uid=override(struct_hook=_uid)))
_converter.register_structure_hook(
    Track, make_dict_structure_fn(Track, _converter, peer_uid=override(struct_hook=_uid))
)
