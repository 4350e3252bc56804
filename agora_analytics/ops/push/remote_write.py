"""Remote write 1.0 of Prometheus: a `WriteRequest` in Protocol Buffers, as a raw block of snappy."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from agora_analytics._core.decoding.scanner import Steps
from agora_analytics.ops.metrics.families import Value
from agora_analytics.ops.push.protobuf import double, field, integer, varint

HEADERS: Final = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

RETRIED: Final = frozenset({429, *range(500, 600)})
"""Statuses after which a request may be sent again."""

TOO_OLD: Final = "too old sample"
"""How Prometheus says, before 2.43 with a status of 500, that it will never take a sample."""

_LITERAL: Final = 65_536
"""Bytes of a literal of snappy whose length takes two bytes; up to 60 are part of its tag."""


def body(values: Iterable[Value], ts: int) -> Steps[bytes]:
    """Return a request with one sample of each series at a time in UTC seconds."""
    series = bytearray()
    for value in values:
        series += field(1, _series(value, ts * 1_000))
        yield None
    return snappy(bytes(series))


def snappy(data: bytes) -> bytes:
    """Return a block that holds the bytes as they are: a few kilobytes a window are not worth a compressor."""
    parts = (data[start : start + _LITERAL] for start in range(0, len(data), _LITERAL))
    return varint(len(data)) + b"".join(_tag(len(part) - 1) + part for part in parts)


def _tag(last: int) -> bytes:
    """Return the start of a literal, by the index of its last byte."""
    return bytes([last << 2]) if last < 60 else b"\xf4" + last.to_bytes(2, "little")  # noqa: PLR2004 - of the format


def _series(value: Value, milliseconds: int) -> bytes:
    labels = {"__name__": value.family.name, **value.labels}
    sample = double(1, value.value) + integer(2, milliseconds)
    # Receivers refuse labels that are not in the order of their names.
    return b"".join(_label(name, labels[name]) for name in sorted(labels)) + field(2, sample)


@lru_cache(maxsize=4_096)  # each window has nearly the same
def _label(name: str, text: str) -> bytes:
    return field(1, field(1, name) + field(2, text))
