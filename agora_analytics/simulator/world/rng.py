"""Seeded randomness without state: the same key gives the same result on every machine and in every process."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

_DIGITS = 32


def rng_for(*key: object) -> Random:
    """Return a random generator seeded with `key` alone."""
    # A str seed is hashed with SHA-512; `hash()` of a str differs between processes.
    return Random(":".join(map(str, key)))


def fraction(*key: object) -> float:
    """Return a number in [0, 1) derived from `key` alone; far cheaper than a generator."""
    # Seeding `Random` fills 624 words of state; some callers draw a single number for each row.
    digest = blake2b(":".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def token(*key: object) -> str:
    """Return 32 upper-case hexadecimal digits derived from `key` alone."""
    return blake2b(":".join(map(str, key)).encode(), digest_size=_DIGITS // 2).hexdigest().upper()
