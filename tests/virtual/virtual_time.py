"""An event loop whose time passes by waiting: a day of requests in a second, the same at every run."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class VirtualSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Instead of waiting for the loop's next timer, adds the wait to a counter."""

    elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen: every task waits for another")
        if timeout > 0:
            # At least a microsecond, or a rounding residue of a timer is waited for without end.
            self.elapsed += max(timeout, 1e-6)
        events: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()` starts at 0 and is what has been waited for."""

    def __init__(self) -> None:
        self._virtual: Any = VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        elapsed: float = self._virtual.elapsed
        return elapsed
