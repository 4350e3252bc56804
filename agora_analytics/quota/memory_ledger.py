"""A ledger in memory: right for one process, forgotten with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from agora_analytics.quota.ledger_state import Book

__all__ = ["MemoryLedger"]

T = TypeVar("T")


class MemoryLedger:
    """Keeps the books of all accounts for as long as it lives; clients of one process may share it."""

    def __init__(self) -> None:
        self._books: defaultdict[str, Book] = defaultdict(Book)

    async def change(self, account: str, change: Callable[[Book], T]) -> T:
        """Apply a change to the book of an account and return its result."""
        return change(self._books[account])

    def book(self, account: str) -> Book:
        """Return the book of an account itself, for those who change it at once, without awaiting anything."""
        return self._books[account]

    async def close(self) -> None:
        """Close nothing: nothing is open."""
