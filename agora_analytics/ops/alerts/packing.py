"""Rows of a window, packed if there are many: for thousands of values a checkpoint of plain rows is megabytes."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from typing import Final

from agora_analytics._core.decoding.json import DecodeFailures, encode, strict_decoder
from agora_analytics._core.decoding.scanner import Steps
from agora_analytics.models.points import Number
from agora_analytics.streams.checkpoints import unreadable

Rows = list[tuple[str | None, Number]]
"""Pairs of group and value."""

SLICE: Final = 500
"""Rows between two breaks."""

_PLAIN: Final = 50
"""The most rows that are not packed: as many as people can read."""

_decode = strict_decoder(Rows)


def packed(rows: Rows) -> Steps[Rows | str]:
    """Return rows as they are, or many as compressed JSON in base64."""
    if len(rows) <= _PLAIN:
        return rows
    parts: list[bytes] = []
    for start in range(0, len(rows), SLICE):
        # Without the brackets: the slices are joined to one list.
        parts.append(encode(rows[start : start + SLICE])[1:-1])
        yield None
    text, found = b"[%s]" % b",".join(parts), list[str]()
    if len(rows) <= SLICE:
        return _compressed(text)
    # In a thread: it takes milliseconds, and releases the interpreter lock.
    yield lambda: found.append(_compressed(text))
    return found[0]


def _compressed(text: bytes) -> str:
    # The fastest level: rows repeat themselves so much that others save little.
    return b64encode(zlib.compress(text, 1)).decode()


def unpacked(rows: Rows | str) -> Rows:
    """Return rows that may be packed; raises `CheckpointError` for a text that is not what `packed` returned."""
    if not isinstance(rows, str):
        return rows
    try:
        return _decode(zlib.decompress(b64decode(rows, validate=True)))
    except (*DecodeFailures, ValueError, zlib.error) as error:
        raise unreadable("the checkpoint of the alerts", error) from None
