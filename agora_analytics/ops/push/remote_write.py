"""Remote write 1.0 of Prometheus: a `WriteRequest` in protocol buffers, as a raw block of snappy."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from agora_analytics.ops.metrics.families import Value

HEADERS: Final = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

_LITERAL: Final = 65_536
"""Bytes of a literal of snappy whose length takes two bytes; up to 60 are part of its tag."""


def body(values: Iterable[Value], ts: int) -> bytes:
    """Return a request with one sample of each series at a time in UTC seconds."""
    return snappy(b"".join(_field(1, _series(value, ts * 1_000)) for value in values))


def snappy(data: bytes) -> bytes:
    """Return a block that holds the bytes as they are: a few kilobytes a window are not worth a compressor."""
    parts = (data[start : start + _LITERAL] for start in range(0, len(data), _LITERAL))
    return _varint(len(data)) + b"".join(_tag(len(part) - 1) + part for part in parts)


def _tag(last: int) -> bytes:
    """Return the start of a literal, by the index of its last byte."""
    return bytes([last << 2]) if last < 60 else b"\xf4" + last.to_bytes(2, "little")  # noqa: PLR2004 - of the format


def _series(value: Value, milliseconds: int) -> bytes:
    labels = {"__name__": value.family.name, **value.labels}
    pairs = (_field(1, name.encode()) + _field(2, labels[name].encode()) for name in sorted(labels))
    sample = b"\x09" + struct.pack("<d", value.value) + b"\x10" + _varint(milliseconds)
    return b"".join(_field(1, pair) for pair in pairs) + _field(2, sample)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:  # noqa: PLR2004 - seven bits a byte
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes((*encoded, number))
