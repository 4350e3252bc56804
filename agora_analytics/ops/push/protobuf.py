"""The wire format of Protocol Buffers, as far as remote write and OTLP need it.

Generated classes would tie users to the versions of `protobuf` that fit them, for two messages of few fields.
"""

from __future__ import annotations

import struct
from typing import Final

_VARINT: Final = 0
_FIXED_64: Final = 1
_BYTES: Final = 2
_FIXED_32: Final = 5
_SIZES: Final = {_FIXED_64: 8, _FIXED_32: 4}

_SMALL: Final = tuple(bytes([number]) for number in range(128))
"""Numbers of one byte: nearly all keys and sizes."""

_MAX_SHIFT: Final = 63
"""A number has 64 bits at most, in ten bytes of seven bits."""


def varint(number: int) -> bytes:
    """Return a number that is not negative, seven bits a byte, the lowest first."""
    if number < len(_SMALL):
        return _SMALL[number]
    encoded = bytearray()
    while number > 127:  # noqa: PLR2004 - seven bits
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes((*encoded, number))


def integer(number: int, value: int) -> bytes:
    """Return a field of type `int64`."""
    return varint(number << 3 | _VARINT) + varint(value)


def fixed(number: int, value: int) -> bytes:
    """Return a field of type `fixed64`."""
    return varint(number << 3 | _FIXED_64) + value.to_bytes(8, "little")


def double(number: int, value: float) -> bytes:
    """Return a field of type `double`."""
    return varint(number << 3 | _FIXED_64) + struct.pack("<d", value)


def field(number: int, value: bytes | str) -> bytes:
    """Return a field that is a text, bytes, or a message."""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | _BYTES) + varint(len(data)) + data


def fields(message: bytes) -> dict[int, int | bytes]:
    """Return the last value of each field of a message; raises `ValueError` if it is none."""
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(message):
        key, at = _number_at(message, at)
        if key & 7 == _VARINT:
            found[key >> 3], at = _number_at(message, at)
            continue
        size = _SIZES.get(key & 7)
        if size is None:
            if key & 7 != _BYTES:
                raise ValueError(f"a field of type {key & 7} at byte {at}")
            size, at = _number_at(message, at)
        if at + size > len(message):
            raise ValueError(f"a field of {size} bytes at byte {at} is cut off")
        found[key >> 3] = message[at : at + size]
        at += size
    return found


def _number_at(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at an index, and the index after it."""
    number = shift = 0
    while at < len(message) and shift <= _MAX_SHIFT:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:  # noqa: PLR2004 - the eighth bit says whether another byte follows
            return number, at
    raise ValueError(f"a number is cut off or too long at byte {at}")
