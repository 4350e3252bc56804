"""Chance without memory: the same question always gets the same answer, on every machine and in every process."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

_DIGITS = 32


def rng_for(*key: object) -> Random:
    """Return a generator that depends on nothing but the key."""
    # Seeding with text goes through SHA-512; `hash()` of a text would differ from process to process.
    return Random(":".join(map(str, key)))


def fraction(*key: object) -> float:
    """Return a number in [0, 1) that depends on nothing but the key; far cheaper than a generator."""
    digest = blake2b(":".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def token(*key: object) -> str:
    """Return 32 upper-case hexadecimal digits that depend on nothing but the key."""
    return blake2b(":".join(map(str, key)).encode(), digest_size=_DIGITS // 2).hexdigest().upper()
