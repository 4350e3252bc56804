"""Frequency limits, counted as the service counts them: fixed UTC seconds, minutes and days of its own clock."""

from __future__ import annotations

from collections.abc import Mapping

from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.simulator.service.error_responses import ErrorResponse, too_frequent

_KEPT = 3
"""Windows remembered per unit: hosts behind one name differ in time, so an older window may still be counted in."""

_NOBODY: Mapping[Unit, int] = {}


class RateLimits:
    """Counters of requests by UTC window; a few numbers per counter, however long it runs.

    `refusals_count` says whether a request that is refused is counted.
    """

    def __init__(self, *, refusals_count: bool = True) -> None:
        self.refusals_count = refusals_count
        self._counted: dict[tuple[str, Unit], dict[int, int]] = {}

    def count(
        self,
        counter: str,
        rates: Mapping[Unit, int],
        now: float,
        others: Mapping[Unit, int] = _NOBODY,
    ) -> ErrorResponse | None:
        """Count a request at `now` and return its refusal if it is one too many; the longest unit speaks first.

        `others` is what other programs have spent in the current windows.
        """
        refused = None
        for unit, limit in sorted(rates.items(), key=lambda rate: -WINDOWS[rate[0]]):
            if self.spent(counter, unit, now) + others.get(unit, 0) >= limit and refused is None:
                refused = too_frequent(unit, limit)
        if refused is None or self.refusals_count:
            self.add(counter, rates, now)
        return refused

    def add(self, counter: str, rates: Mapping[Unit, int], now: float, requests: int = 1) -> None:
        """Count requests at `now`, whatever the limits are."""
        for unit in rates:
            windows = self._counted.setdefault((counter, unit), {})
            window = int(now // WINDOWS[unit])
            windows[window] = windows.get(window, 0) + requests
            if len(windows) > _KEPT:
                del windows[min(windows)]

    def spent(self, counter: str, unit: Unit, now: float) -> int:
        """Return the requests counted in the window of `now`."""
        return self._counted.get((counter, unit), {}).get(int(now // WINDOWS[unit]), 0)
