"""Tokens of one unit, conservatively: safe under any delay, without knowing the service's clock.

The service counts a request somewhere between our sending it and our reading the answer. So a token that went out with
a request comes back one whole window after the *answer* arrived: by then the window it was counted in is over. What
never got an answer may be counted as late as a guard after we gave up on it, so its token comes back a window and that
guard later. (Tokens aligned to the service's own seconds would replace this class alone.)
"""

from __future__ import annotations

from heapq import heappop, heappush, nsmallest


class Bucket:
    """`limit` tokens per `window` seconds; times are monotonic seconds, given by the caller."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit = limit
        self.window = window
        self._free = limit
        # When the tokens of finished requests come back; what is neither here nor free is under way.
        self._returning: list[float] = []

    def free(self, now: float) -> int:
        """Tokens that can be taken now; below zero while a lowered limit is being paid back."""
        while self._returning and self._returning[0] <= now:
            heappop(self._returning)
            self._free += 1
        return self._free

    def take(self) -> None:
        """Take a token; look at `free` first."""
        self._free -= 1

    def put_back(self) -> None:
        """Return a token whose request was not sent."""
        self._free += 1

    def settle(self, at: float) -> None:
        """Let a token come back one window after `at`, when its request was answered or given up."""
        heappush(self._returning, at + self.window)

    def wait(self, now: float, ahead: int = 0) -> float:
        """Seconds until a token is free for one who has `ahead` others before him; a lower bound."""
        short = ahead + 1 - self.free(now)
        if short <= 0:
            return 0.0
        rounds, place = divmod(short - 1, max(self.limit, 1))
        known = nsmallest(place + 1, self._returning)
        # What is under way cannot be back before a window from now.
        first = known[place] - now if place < len(known) else self.window
        return first + rounds * self.window

    def refuse(self, now: float, limit: int | None) -> None:
        """Learn from a refusal: nothing goes before a window has passed, and the limit may be another."""
        if limit is not None:
            self._free += limit - self.limit
            self.limit = limit
        for _ in range(self.free(now)):
            self._free -= 1
            self.settle(now)
