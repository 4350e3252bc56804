"""How values of one type are read: the decoders of a list, of an item, and of what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

PIECE: Final = 65_536
"""Bytes that are decoded at once, in half a millisecond."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ValueFormat:
    """How to read values of one type.

    `many` and `one` are strict decoders of a list and of a value; `lax` and `lax_one` also accept numbers as text (None
    if rows are read in Python anyway). `lenient` converts a parsed document that these reject; `load` returns what must
    be called before it. `parts` are the fields that are lists of items; `wrapped` ones may also be an object with a
    `list`, or a single item. `flat` items are sequences themselves, which are chained.
    """

    many: Callable[[bytes], Any]
    one: Callable[[bytes], Any]
    lenient: Callable[[Any], Any]
    lax: Callable[[bytes], Any] | None = None
    lax_one: Callable[[bytes], Any] | None = None
    load: Callable[[], Callable[[], object] | None] | None = None
    parts: Mapping[str, ValueFormat] = attrs.field(factory=dict)
    wrapped: bool = False
    flat: bool = False
    size: int = PIECE
