"""How often to ask: as often as the day's requests allow, never more often than there is something new.

Time is counted in windows, and asking happens as one becomes available, for a moment later it would only be older.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import attrs

from agora_analytics.plans import REALTIME_USAGE, Plan
from agora_analytics.spans import DAY, WINDOW

__all__ = ["Coverage"]

_WINDOWS: Final = DAY // WINDOW
_DOUBLINGS: Final = 16
_IMPATIENT: Final = 16
"""Failures after which a query is tried only twice a pace, and as many more after which it is tried less still."""


def steps(weights: Sequence[float], requests: int, windows: int, least: int = 1) -> list[int]:
    """Return after how many windows each query is asked again, if so many requests must last for so many windows.

    None is asked more often than every `least` windows; where there are not enough requests for anything, all come
    after the last window.
    """
    if requests < len(weights):
        return [windows + 1] * len(weights)
    found = [least] * len(weights)
    if windows * len(weights) / least <= requests:
        return found
    # Those that are heavy enough for every window are asked so, and the others share what is left.
    free = list(range(len(weights)))
    left = float(requests)
    while free:
        step = windows * sum(weights[place] for place in free) / max(left, 1e-9)
        quick = [place for place in free if step / weights[place] <= least]
        if not quick:
            for place in free:
                found[place] = math.ceil(step / weights[place] - 1e-9)
            break
        left -= windows / least * len(quick)
        free = [place for place in free if place not in quick]
    return found


class Schedule:
    """When each query is due, in windows; one that failed is tried again ever later, at most a pace later.

    What a plan keeps is short, and an outage may end at any time: at first that is four times a pace. But each try may
    cost a request or two, and after a long outage there must be some left for the rest of the day.
    """

    def __init__(self, weights: Sequence[float], least: int) -> None:
        self._weights = tuple(weights)
        self._least = least
        self._last = [0] * len(self._weights)
        self._failed = [0] * len(self._weights)
        self._next = [0] * len(self._weights)

    def needed(self, windows: int, reach: float) -> float:
        """Return so many requests that none is asked less often than every `reach` windows, for so many windows.

        The lightest waits longest. Without a request for each query nothing would be tried again that failed.
        """
        return max(windows * sum(self._weights) / (min(self._weights) * reach), len(self._weights))

    def due(self, here: int) -> list[int]:
        """Return the queries that are due."""
        return [place for place, due in enumerate(self._next) if due <= here]

    def answered(self, place: int, here: int) -> None:
        """Note that a query was answered."""
        self._last[place], self._failed[place] = here, 0

    def worked(self, place: int) -> bool:
        """Whether a query was answered when it was asked last."""
        return not self._failed[place]

    def failed(self, place: int, here: int) -> None:
        """Note that a query failed, or was not even tried because others did."""
        self._last[place] = here
        self._failed[place] += 1

    def next(self, here: int, requests: int, windows: int) -> int:
        """Return when something is due again, if so many requests must last for so many windows."""
        paces = steps(self._weights, requests, windows, self._least)
        # A clock that was wrong may have been set back since.
        self._last = [min(last, here) for last in self._last]
        if requests < len(paces):
            self._next = [here + pace for pace in paces]
            return min(self._next)
        for place, pace in enumerate(paces):
            self._next[place] = max(self._last[place] + self._pause(self._failed[place], pace), here + 1)
        return min(self._next)

    def _pause(self, failed: int, pace: int) -> int:
        """Return how many windows after its last try a query is due that has failed so often in a row."""
        if not failed:
            return pace
        longest = max(pace * min(1 + failed // _IMPATIENT, 4) // 4, self._least)
        doubled: int = self._least * 2 ** min(failed - 1, _DOUBLINGS)
        return min(doubled, longest)


@attrs.frozen(kw_only=True)
class Coverage:
    """What a plan can do for a set of series, if all of the day's real-time requests are theirs.

    Attributes:
        requests_per_poll: requests that ask for all series once.
        requests_per_day: what the plan allows.
        interval: seconds between two polls; the longest of all series, where their weights differ.
        freshness: seconds from the end of a window to its delivery, on average.
        complete: whether every window of every series can be had.
        most: how many such requests the plan could carry without gaps.

    """

    requests_per_poll: int
    requests_per_day: int
    interval: int
    freshness: float
    complete: bool
    most: int

    def __str__(self) -> str:
        if self.complete:
            return (
                f"{self.requests_per_poll} of {self.requests_per_day} requests a day every {self.interval} s;"
                f" windows are {self.freshness:.0f} s old on average"
            )
        return (
            f"{self.requests_per_poll} requests a poll are more than {self.requests_per_day} a day can carry without"
            f" gaps: {self.most} series fit"
        )


def reach(plan: Plan) -> int:
    """Return how many windows one request can bring at most, whenever it is made."""
    limits = plan.of_endpoint(REALTIME_USAGE)
    return (limits.available - limits.delay - 2) // WINDOW


def coverage(plan: Plan, weights: Sequence[float], least: int = 1) -> Coverage:
    """Say what a plan can do for queries of these weights."""
    limits = plan.of_endpoint(REALTIME_USAGE)
    found = steps(weights, limits.per_day, _WINDOWS, least)
    longest = max(found)
    mean = sum((step - 1) / 2 * WINDOW for step in found) / len(found)
    most = limits.per_day // math.ceil(_WINDOWS / reach(plan))
    return Coverage(
        requests_per_poll=len(weights),
        requests_per_day=limits.per_day,
        interval=longest * WINDOW,
        freshness=limits.delay + 1 + mean,
        complete=longest <= reach(plan) and len(weights) <= most,
        most=most,
    )
