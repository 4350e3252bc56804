"""Lenient decoding of one model, for items that the strict decoder rejects; only then is `cattrs` imported.

It accepts numbers and booleans as text, one value in place of a list, and null in place of an empty list. It never
converts one number into another.
"""

from __future__ import annotations

from functools import cache
from typing import Any, get_args, get_origin

import attrs
from cattrs import Converter

from agora_analytics._core.decoding import rows
from agora_analytics._core.decoding.json import WIRE_NAMES, MisfitError, convert_or_none, short_repr, wire_name

_UIDS = ("uid", "peer_uid")


def structure(document: object, kind: Any) -> Any:
    """Convert a JSON document to a `kind`; raises `MisfitError` that names the first field that does not fit."""
    if attrs.has(kind):
        return _fields(document, kind)
    return _items(document, kind)


def _fields(document: object, kind: Any) -> Any:
    if not isinstance(document, dict):
        raise MisfitError(f"expected an object, got {short_repr(document)}")
    # Apart from the rest: the text of a number becomes a number, and a name stays a text.
    users = [name for name in _users(kind) if name in document]
    rest = {name: value for name, value in document.items() if name not in users} if users else document
    rest = _by_field(rest, kind)
    try:
        # Strictly first, which is faster: a user ID that is a name is often all that is odd.
        value = convert_or_none(rest, kind) or _converter.structure(rest, kind)
        return attrs.evolve(value, **{name: _uid(document[name]) for name in users}) if users else value
    except MisfitError:
        raise MisfitError(*_misfit(document, kind)) from None
    except KeyError as error:
        name = wire_name(error.args[0])
        raise MisfitError(f"field {name!r} is missing", f".{name}") from error


@cache
def _users(kind: Any) -> list[str]:
    return [name for name in _UIDS if name in attrs.fields_dict(kind)]


@cache
def _renamed(kind: Any) -> list[str]:
    """Return the fields of a class that have another name on the wire."""
    return [name for name in WIRE_NAMES if name in attrs.fields_dict(kind)]


def _by_field(document: dict[str, Any], kind: Any) -> dict[str, Any]:
    """Return a document with the names of a class's fields in place of the wire's."""
    renamed = _renamed(kind)
    if not renamed:
        return document
    found = {name: value for name, value in document.items() if name not in renamed}
    return found | {name: document[wire_name(name)] for name in renamed if wire_name(name) in document}


def _misfit(document: dict[str, Any], kind: type[Any]) -> tuple[str, str]:
    """Return what is wrong with the first field that does not fit, and its name."""
    for field in attrs.fields(attrs.resolve_types(kind)):
        name = wire_name(field.name)
        if name in document:
            try:
                _field(document[name], field)
            except MisfitError as error:
                return error.reason, f".{name}{error.path}"
    raise AssertionError("unreachable")


def _field(value: object, field: Any) -> object:
    # By name: by its type alone a user ID would be any text or number.
    return _uid(value) if field.name in _UIDS else _converter.structure(value, field.type)


def _items(document: object, kind: Any) -> Any:
    """Return a tuple whose parts have types of their own, such as a pair."""
    kinds = get_args(kind)
    if not isinstance(document, list) or len(document) != len(kinds):
        raise MisfitError(f"expected a list of {len(kinds)}, got {short_repr(document)}")
    made = []
    for index, (value, part) in enumerate(zip(document, kinds, strict=True)):
        try:
            made.append(_converter.structure(value, part))
        except MisfitError as error:
            raise MisfitError(error.reason, f"[{index}]") from error
    return tuple(made)


def _integer(value: object, _: object = None) -> int:
    return rows.whole(value)


def _float(value: object, _: object = None) -> float:
    return rows.decimal(value)


def _text(value: object, _: object = None) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise MisfitError(f"expected text, got {short_repr(value)}")
    return str(value)


def _boolean(value: object, _: object = None) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, bool | int | str) and str(value).lower() in known:
        return known[str(value).lower()]
    raise MisfitError(f"expected true or false, got {short_repr(value)}")


def _uid(value: object, _: object = None) -> int | str | None:
    return None if value is None else rows.uid(value)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[-1:] == (...,)


def _list(value: object, kind: Any) -> tuple[Any, ...]:
    """Read a list; null counts as an empty one and, where texts are due, a bare one as a list of one."""
    if value is None:
        return ()
    item = get_args(kind)[0]
    items = [value] if isinstance(value, str) and item is str else value
    if not isinstance(items, list):
        raise MisfitError(f"expected a list, got {short_repr(value)}")
    return tuple(_converter.structure(one, item) for one in items)


# The first misfit is enough; where it is, is looked up when there is one.
_converter = Converter(detailed_validation=False)
_converter.register_structure_hook(int, _integer)
_converter.register_structure_hook(float, _float)
_converter.register_structure_hook(str, _text)
_converter.register_structure_hook(bool, _boolean)
_converter.register_structure_hook_func(_is_list, _list)
