"""An account's book: all that must be shared by those who spend from it, and changed by one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from agora_analytics._core.decoding.json import encode, strict_decoder
from agora_analytics.quota.bucket import DELAY, PATIENCE, Counter
from agora_analytics.quota.date_trust import Trust
from agora_analytics.quota.service_clock import ServerClock

__all__ = ["Book", "decode"]

_STEPPED: Final = 60.0
"""Seconds by which wall and monotonic clock may part before the book is from before a restart of the machine."""

SLOTS: Final = 4096
"""How many processes can share a book at a time."""


@attrs.define
class Book:
    """The service's clock and why it is believed, the counters by name, and how many tokens were given so far.

    `slot` is the process that has it open, one of those that share it; its tokens' numbers tell.
    """

    clock: ServerClock = attrs.field(factory=ServerClock)
    counters: dict[str, Counter] = attrs.field(factory=dict)
    given: int = 0
    booted: float = 0.0
    slot: int = 0
    trust: Trust = attrs.field(factory=Trust)

    def counter(self, name: str) -> Counter:
        """Return the counter of this name, a new one at first."""
        found = self.counters.get(name)
        if found is None:
            found = self.counters[name] = Counter()
        return found

    def number(self) -> int:
        """Return a number for a token that none had before."""
        self.given += 1
        return self.given * SLOTS + self.slot

    def doubtful(self, now: float) -> bool:
        """Whether a token of another process has been under way for so long that the process may be gone."""
        return any(
            number % SLOTS != self.slot and until < now + PATIENCE - DELAY
            for counter in self.counters.values()
            for number, until in (*counter.underway.items(), *dict.fromkeys(counter.expected, now).items())
        )

    def bury(self, slot: int, now: float) -> None:
        """Give up on what a process had under way or expected that is gone."""
        for counter in self.counters.values():
            counter.give_up([number for number in counter.underway if number % SLOTS == slot], now + DELAY)
            for number in [number for number in counter.expected if number % SLOTS == slot]:
                del counter.expected[number]

    def encode(self) -> bytes:
        """Return the book as JSON."""
        return encode(self)

    def reopen(self, now: float, wall: float) -> None:
        """Look at a book that may be of before a restart of the machine, when monotonic time began anew."""
        if abs(wall - now - self.booted) > _STEPPED:
            self.clock.restart()
            self.trust.forget()
            for counter in self.counters.values():
                counter.forget_after(now)
        self.booted = wall - now


decode: Callable[[bytes], Book] = strict_decoder(Book)
"""Read a book back."""
