"""Rate limits, counted as the service counts them: in fixed UTC seconds, minutes and days of its own clock."""

from __future__ import annotations

from collections.abc import Mapping

from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.simulator.service.error_responses import ErrorResponse, too_frequent

_MAX_WINDOWS = 3
"""Windows kept for each unit: the clocks of hosts differ, so requests may still arrive in an older window."""

_NO_REQUESTS: Mapping[Unit, int] = {}


class RateLimits:
    """Counters of requests in fixed windows of UTC time, in constant memory.

    `refusals_count` says whether a request rejected by a rate limit is counted too.
    """

    def __init__(self, *, refusals_count: bool = True) -> None:
        self.refusals_count = refusals_count
        self._counted: dict[tuple[str, Unit], dict[int, int]] = {}

    def count(
        self,
        counter: str,
        rates: Mapping[Unit, int],
        now: float,
        others: Mapping[Unit, int] = _NO_REQUESTS,
    ) -> ErrorResponse | None:
        """Count a request at `now`; return the error if it exceeds a limit, that of the longest unit first.

        `others` is the number of requests by other programs in the current windows.
        """
        error = None
        # Of two limits that are exceeded, the longer one helps the caller: after a second, the day is still spent.
        for unit, limit in sorted(rates.items(), key=lambda rate: -WINDOWS[rate[0]]):
            if self.spent(counter, unit, now) + others.get(unit, 0) >= limit and error is None:
                error = too_frequent(unit, limit)
        # The service may or may not count refused requests; the client must stay within the plan either way.
        if error is None or self.refusals_count:
            self.add(counter, rates, now)
        return error

    def add(self, counter: str, rates: Mapping[Unit, int], now: float, requests: int = 1) -> None:
        """Count requests at `now`, regardless of the limits."""
        for unit in rates:
            windows = self._counted.setdefault((counter, unit), {})
            window = int(now // WINDOWS[unit])
            windows[window] = windows.get(window, 0) + requests
            if len(windows) > _MAX_WINDOWS:
                del windows[min(windows)]

    def spent(self, counter: str, unit: Unit, now: float) -> int:
        """Return the requests counted in the window of `now`."""
        return self._counted.get((counter, unit), {}).get(int(now // WINDOWS[unit]), 0)
