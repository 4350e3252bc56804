"""How often to poll: as often as the day's requests allow, and never more often than there is a new window.

Time is counted in windows. A poll is made as soon as a window is queryable, because a later one only brings older data.
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
_MAX_DOUBLINGS: Final = 16
"""Doublings of the backoff: to more windows than a day has. Any further one would only make a huge number."""

_PATIENCE: Final = 16
"""Failures after which the cap of the backoff grows by a quarter of the interval, up to the interval."""


def poll_intervals(weights: Sequence[float], requests: int, windows: int, min_interval: int = 1) -> list[int]:
    """Return the polling interval of each query, in windows, so that `requests` last for `windows`.

    No interval is shorter than `min_interval`. With fewer requests than queries, all are longer than `windows`.
    """
    if requests < len(weights):
        return [windows + 1] * len(weights)
    intervals = [min_interval] * len(weights)
    if windows * len(weights) / min_interval <= requests:
        return intervals
    # Queries heavy enough for the shortest interval get it; the others share the rest by weight.
    free = list(range(len(weights)))
    left = float(requests)
    while free:
        # Repeated, because each query that is cut to the shortest interval leaves more requests to the others.
        step = windows * sum(weights[index] for index in free) / max(left, 1e-9)
        shortest = [index for index in free if step / weights[index] <= min_interval]
        if not shortest:
            for index in free:
                # Rounded up, so that the requests last; less a little, or a rounding error would cost a whole window.
                intervals[index] = math.ceil(step / weights[index] - 1e-9)
            break
        left -= windows / min_interval * len(shortest)
        free = [index for index in free if index not in shortest]
    return intervals


class PollSchedule:
    """When each query is due, in windows; a failed query is retried with exponential backoff.

    The backoff is capped at a quarter of the polling interval at first, because the service keeps windows only for a
    short time. In a long outage the cap grows to the interval itself, so that requests are left for the rest of the
    day.
    """

    def __init__(self, weights: Sequence[float], min_interval: int) -> None:
        self._weights = tuple(weights)
        self._min_interval = min_interval
        self._last_poll = [0] * len(self._weights)
        self._failures = [0] * len(self._weights)
        self._next_poll = [0] * len(self._weights)

    def requests_needed(self, windows: int, max_interval: float) -> float:
        """Return the requests that poll every query at least once in `max_interval`, for `windows`.

        The query of least weight waits longest. There is at least one request for each query, or failed ones could not
        be retried.
        """
        return max(windows * sum(self._weights) / (min(self._weights) * max_interval), len(self._weights))

    def due(self, current: int) -> list[int]:
        """Return the queries that are due."""
        return [index for index, due in enumerate(self._next_poll) if due <= current]

    def record_success(self, index: int, current: int) -> None:
        """Record that a query was answered."""
        self._last_poll[index], self._failures[index] = current, 0

    def record_failure(self, index: int, current: int) -> None:
        """Record that a query failed, or was skipped because others failed."""
        self._last_poll[index] = current
        self._failures[index] += 1

    def last_succeeded(self, index: int) -> bool:
        """Whether the last poll of a query was answered."""
        return not self._failures[index]

    def next_due(self, current: int, requests: int, windows: int, after: int = 1) -> int:
        """Return when the next query is due, `after` windows from now or later, if `requests` last for `windows`."""
        intervals = poll_intervals(self._weights, requests, windows, self._min_interval)
        # The clock may have been set back since.
        self._last_poll = [min(last, current) for last in self._last_poll]
        # Too few to poll every query once: none is polled before the time is over, when there is a new budget.
        if requests < len(intervals):
            self._next_poll = [current + interval for interval in intervals]
            return min(self._next_poll)
        for index, interval in enumerate(intervals):
            delay = self._retry_interval(self._failures[index], interval)
            # By default not before the next window: an answer in the same one would be the same.
            self._next_poll[index] = max(self._last_poll[index] + delay, current + after)
        return min(self._next_poll)

    def _retry_interval(self, failures: int, interval: int) -> int:
        """Return the windows between the last poll and the next, after so many failures in a row."""
        if not failures:
            return interval
        cap = max(interval * min(1 + failures // _PATIENCE, 4) // 4, self._min_interval)
        backoff: int = self._min_interval * 2 ** min(failures - 1, _MAX_DOUBLINGS)
        return min(backoff, cap)


@attrs.frozen(kw_only=True)
class Coverage:
    """How well a plan covers a set of series, if it can spend all of its real-time requests on them.

    Attributes:
        requests_per_poll: requests that poll all series once.
        requests_per_day: requests that the plan allows.
        poll_interval: seconds between two polls; the longest of all series, where their weights differ.
        mean_age: seconds from the end of a window to its delivery, on average.
        complete: whether every window of every series can be delivered.
        max_requests_per_poll: the most requests per poll that the plan could carry without gaps.

    """

    requests_per_poll: int
    requests_per_day: int
    poll_interval: int
    mean_age: float
    complete: bool
    max_requests_per_poll: int

    @property
    def polled_per_day(self) -> int:
        """Requests that the polls of a day take."""
        return min(self.requests_per_poll * DAY // self.poll_interval, self.requests_per_day)

    def __str__(self) -> str:
        if self.complete:
            requests = "1 request" if self.requests_per_poll == 1 else f"{self.requests_per_poll} requests"
            return (
                f"{requests} every {self.poll_interval} s, of {self.requests_per_day:,} a day;"
                f" windows are {self.mean_age:.0f} s old on average"
            )
        return (
            f"{self.requests_per_poll} requests a poll are more than {self.requests_per_day:,} a day can carry without"
            f" gaps: at most {self.max_requests_per_poll} fit"
        )


def max_windows_per_request(plan: Plan) -> int:
    """Return how many windows one request can bring at most, whenever it is made."""
    limits = plan.of_endpoint(REALTIME_USAGE)
    # The two ends of a span are strict, at the cost of a second each.
    return (limits.retention - limits.delay - 2) // WINDOW


def coverage(plan: Plan, weights: Sequence[float], min_interval: int = 1) -> Coverage:
    """Return how well a plan covers queries of these weights."""
    limits = plan.of_endpoint(REALTIME_USAGE)
    intervals = poll_intervals(weights, limits.per_day, _WINDOWS, min_interval)
    longest = max(intervals)
    # With a poll every n windows, the newest of these waits 0 windows for its poll, and the oldest n - 1.
    mean_wait = sum((interval - 1) / 2 * WINDOW for interval in intervals) / len(intervals)
    # A query that is polled as seldom as possible still needs a request for each span that one can bring.
    most = limits.per_day // math.ceil(_WINDOWS / max_windows_per_request(plan))
    return Coverage(
        requests_per_poll=len(weights),
        requests_per_day=limits.per_day,
        poll_interval=longest * WINDOW,
        mean_age=limits.delay + 1 + mean_wait,
        complete=longest <= max_windows_per_request(plan) and len(weights) <= most,
        max_requests_per_poll=most,
    )
