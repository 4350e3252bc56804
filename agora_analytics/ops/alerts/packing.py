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
    """Return rows as they are, or many as lines of compressed JSON in base64, one for each slice."""
    if len(rows) <= _PLAIN:
        return rows
    lines: list[str] = []
    for start in range(0, len(rows), SLICE):
        # The fastest level: rows repeat themselves so much that others save little.
        lines.append(b64encode(zlib.compress(encode(rows[start : start + SLICE]), 1)).decode())
        yield None
    return "\n".join(lines)


def unpacked(rows: Rows | str) -> Generator[None, None, Rows]:
    """Return rows that may be packed; raises `CheckpointError` for a text that is not what `packed` returned."""
    if not isinstance(rows, str):
        return rows
    found: Rows = []
    try:
        for line in rows.split("\n"):
            found += _decode(zlib.decompress(b64decode(line, validate=True)))
            yield
    except (*DecodeFailures, ValueError, zlib.error) as error:
        raise unreadable("the checkpoint of the alerts", error) from None
    return found
