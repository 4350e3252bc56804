"""Rows of a window, packed if there are many: for thousands of values a checkpoint of plain rows is megabytes."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Generator
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
    """Return rows as they are, or many as compressed lines of JSON in base64."""
    if len(rows) <= _PLAIN:
        return rows
    parts: list[bytes] = []
    for start in range(0, len(rows), SLICE):
        parts.append(encode(rows[start : start + SLICE]))
        yield None
    # A slice has no line break, as JSON escapes those of a text.
    text, found = b"\n".join(parts), list[str]()
    if len(rows) <= SLICE:
        return _compressed(text)
    # In a thread: it takes milliseconds, and releases the interpreter lock.
    yield lambda: found.append(_compressed(text))
    return found[0]


def _compressed(text: bytes) -> str:
    # The fastest level: rows repeat themselves so much that others save little.
    return b64encode(zlib.compress(text, 1)).decode()


def unpacked(rows: Rows | str) -> Generator[None, None, Rows]:
    """Return rows that may be packed; raises `CheckpointError` for a text that is not what `packed` returned."""
    if not isinstance(rows, str):
        return rows
    found: Rows = []
    try:
        for line in zlib.decompress(b64decode(rows, validate=True)).split(b"\n"):
            found += _decode(line)
            yield
    except (*DecodeFailures, ValueError, zlib.error) as error:
        raise unreadable("the checkpoint of the alerts", error) from None
    return found
