"""How a stream spends its time: since when it asks, and what kept it from asking, by the service's clock.

That clock may be known late, and the machine may sleep. What was noted by then is put where it was.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from typing import Final

from agora_analytics.quota.quota import Quota
from agora_analytics.streams.events import Loss

_JUMP: Final = 30.0
"""Seconds by which the service's clock is ahead of what passed here, after which this machine must have slept."""

_MINUTE: Final = 61.0
"""Seconds after which what a minute allows is back, and a little."""

_MOST: Final = 1_024
"""DowntimeLog that are remembered: in an outage another every few minutes, for what the plan keeps and longer."""

_end_of = itemgetter(1)


class Downtime:
    """What kept a stream from asking, and when (UTC seconds); `jumped` is called where the clock was another."""

    def __init__(self, quota: Quota, jumped: Callable[[], None]) -> None:
        self._quota = quota
        self._on_clock_change = jumped
        self._log = DowntimeLog()
        self._last_reading: tuple[float, float] | None = None
        self._was_dated = False
        self._clock_known = False
        self._asking_since = 0.0
        self._failing_since: float | None = None
        self._failing: Loss = "outage"
        self._answered_at = 0.0
        self._started = 0.0
        self._started_by_host = 0.0
        self._started_dated = False
        self._started_at: float | None = None

    @property
    def is_failing(self) -> bool:
        """Whether requests failed at the last poll."""
        return self._failing_since is not None

    def main_reason(self, start: float, end: float) -> Loss:
        """Return what took most of a time: nothing that is known is the quota."""
        return self._log.main_reason(start, end, "quota")

    def start(self) -> None:
        """Note that the stream begins to ask."""
        self._started, self._started_by_host = self._quota.now(), self._quota.utc()
        self._started_dated = self._quota.host_ahead() is not None
        self._started_at = self._started_by_host if self._quota.confirmed else None

    def started_at(self) -> float:
        """Return when the stream began to ask, by all that is known now: it may have waited for quota."""
        if self._started_at is not None:
            return self._started_at
        passed = self._quota.now() - self._started
        began = self._quota.utc() - passed
        # This machine may have slept in a long wait; the host's clock, by which the stream began, went on meanwhile.
        wrong = 0.0 if self._started_dated else self._quota.host_ahead() or 0.0
        return began if passed < _JUMP else min(began, self._started_by_host - wrong)

    def poll_started(self) -> float:
        """Note that a poll begins, and return when that is."""
        self._asking_since = self._quota.utc()
        return self._asking_since

    def answer_received(self) -> None:
        """Note that there was an answer, which tells the time."""
        self._answered_at = self._quota.now()

    def poll_finished(self, why: Loss | None) -> None:
        """Note why the last poll failed, None where it did not: what lasts is noted with the next."""
        self._failing_since = self._asking_since if why else None
        self._failing = why or self._failing

    def record(self, since: float, reason: Loss) -> None:
        """Note what took the time until now."""
        self._log.add(since, self._expected(), reason)
        self.check_clock()

    def record_failure(self) -> None:
        """Note it as a cause that requests failed until now."""
        self.check_clock()
        self._record_failing(self._quota.utc())

    @contextmanager
    def waiting_for_quota(self, seconds: float) -> Iterator[None]:
        """Note the time inside as one in which there was no quota for a request: so many `seconds` are to be waited.

        A minute's wait is a part of the attempt that it is for: where that fails, this is why the time was lost.
        """
        self.record_failure()
        begun, failing, short = self._quota.utc(), self.is_failing, seconds <= _MINUTE
        if not short:
            self._failing_since = None
        try:
            yield
        finally:
            if short and failing:
                self.record_failure()
            else:
                self.record(begun, "quota")
            if not short:
                now = self.poll_started()
                self._failing_since = now if failing else None

    def check_clock(self) -> None:
        """Note it where the service's clock went on for longer than time passed here, or was another than thought."""
        now, utc, expected = self._quota.now(), self._quota.utc(), self._expected()
        # The service's clock shows a sleep with the first answer after it, the host's at once.
        since = self._answered_at if self._was_dated or self._last_reading is None else self._last_reading[0]
        self._last_reading, self._was_dated = (now, utc), self._quota.host_ahead() is not None
        slept = utc - expected
        if abs(slept) > _JUMP:
            self._on_clock_change()
            if not self._clock_known:  # what is no sleep by the host's clock is a lesson
                lesson = slept - self._quota.slept(since)
                self._shift(lesson)
                expected, slept = expected + lesson, slept - lesson
        if self._quota.confirmed and not self._clock_known:
            self._clock_known, self._started_at = True, self.started_at()
        if slept <= _JUMP:
            return
        self._record_failing(expected)
        self._failing_since = None if self._failing_since is None else utc
        self._asking_since = utc
        thought = expected - now
        for woke, seconds in self._quota.sleeps(since, slept):
            self._log.insert_sleep(thought + woke, seconds)
            thought += seconds
        self.answer_received()  # or the next sleep would be added to these

    def _expected(self) -> float:
        """Return what time it is, unless the clock turned out to be another since the last look."""
        if self._last_reading is None:
            return self._quota.utc()
        return self._last_reading[1] + self._quota.now() - self._last_reading[0]

    def _record_failing(self, until: float) -> None:
        if self._failing_since is not None:
            self._log.add(self._failing_since, until, self._failing)

    def _shift(self, seconds: float) -> None:
        """Note that it was another time than was thought."""
        self._log.shift(seconds)
        self._asking_since += seconds
        self._failing_since = None if self._failing_since is None else self._failing_since + seconds


class DowntimeLog:
    """What kept a stream from asking, and when, in order of time: bounded, however long it runs."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float, Loss]] = []

    def add(self, start: float, end: float, reason: Loss) -> None:
        """Note that something kept it from asking from `start` to `end` (UTC seconds)."""
        if end <= start:
            return
        if self._spans and self._spans[-1][2] == reason and start <= self._spans[-1][1] + 1:
            start = self._spans.pop()[0]
        self._spans.append((start, end, reason))
        del self._spans[:-_MOST]

    def shift(self, seconds: float) -> None:
        """Note that it was another time than was thought whenever something was noted."""
        self._spans = [(start + seconds, end + seconds, reason) for start, end, reason in self._spans]

    def insert_sleep(self, since: float, seconds: float) -> None:
        """Note that this machine slept: what was noted since then, by a clock that stood still, was that much later."""
        noted, self._spans = self._spans, []
        for start, end, reason in noted:
            self._spans += [(start, min(end, since), reason)] if start < since else []
        self.add(since, since + seconds, "asleep")
        for start, end, reason in noted:
            self._spans += [(max(start, since) + seconds, end + seconds, reason)] if end > since else []

    def main_reason(self, start: float, end: float, default: Loss) -> Loss:
        """Return what took most of a time; of equal shares not the quota, whose short waits are parts of attempts."""
        shares: dict[Loss, float] = {}
        for begun, over, reason in islice(self._spans, bisect_right(self._spans, start, key=_end_of), None):
            if begun >= end:
                break
            shares[reason] = shares.get(reason, 0.0) + min(end, over) - max(start, begun)
        return max(shares, key=lambda reason: (shares[reason], reason != "quota"), default=default)
