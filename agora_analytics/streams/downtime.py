"""Why a stream did not poll, and when: the log from which a `Gap` takes its reason.

All times are by the service's clock. That clock may become known late, and the machine may sleep in between; what was
recorded before is then moved to where it really was.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from typing import Final

from agora_analytics.quota.service_time import Now, ServiceTime
from agora_analytics.streams.events import Loss

_JUMP: Final = 30.0
"""Seconds by which UTC must outrun the monotonic clock before that counts as a sleep of this machine."""

_MINUTE: Final = 61.0
"""Seconds: a longer wait for quota is for a day's limit, a shorter one for a minute's and part of the attempt."""

_MAX_ENTRIES: Final = 1_024
"""Entries kept: an outage adds one every few minutes, and this covers more than any plan's retention."""

_end_of = itemgetter(1)


class Downtime:
    """Records what kept a stream from polling; calls `on_clock_change` where UTC jumped."""

    def __init__(self, time: ServiceTime, on_clock_change: Callable[[], None]) -> None:
        self._time = time
        self._on_clock_change = on_clock_change
        self._log = DowntimeLog()
        self._last: Now | None = None
        self._clock_known = False
        self._polling_since = 0.0
        self._failing_since: float | None = None
        self._failing: Loss = "outage"
        self._answered_at = 0.0
        self._start: Now | None = None
        self._started_at: float | None = None

    @property
    def is_failing(self) -> bool:
        """Whether requests failed at the last poll."""
        return self._failing_since is not None

    def main_reason(self, start: float, end: float) -> Loss:
        """Return the reason with the largest share of a span (UTC seconds); `quota` where nothing was recorded."""
        return self._log.main_reason(start, end, "quota")

    def start(self, now: Now) -> None:
        """Record that the stream starts to poll."""
        self._start = now
        self._started_at = now.utc if now.confirmed else None

    def started_at(self, now: Now) -> float:
        """Return when the stream started to poll, by all that is known now: it may have waited for quota since."""
        if self._started_at is not None or self._start is None:
            return self._started_at or 0.0
        passed = now.monotonic - self._start.monotonic
        started = now.utc - passed
        # This machine may have slept in a long wait. The host's clock, by which the stream started, did not stop.
        wrong = 0.0 if self._start.host_ahead is not None else now.host_ahead or 0.0
        return started if passed < _JUMP else min(started, self._start.utc - wrong)

    def poll_started(self, now: Now) -> None:
        """Record that a poll starts."""
        self._polling_since = now.utc

    def answer_received(self, now: Now) -> None:
        """Record that an answer was received: its date is the service's time."""
        self._answered_at = now.monotonic

    def poll_finished(self, failure: Loss | None, now: Now, *, answered: bool) -> None:
        """Record why the last poll failed, None if it did not; how long that lasts is recorded with the next poll."""
        self.record_failure(now)
        if answered:
            self.answer_received(now)
        # From the start of the poll: the attempts themselves are part of the outage.
        self._failing_since = self._polling_since if failure else None
        self._failing = failure or self._failing

    def record(self, seconds: float, reason: Loss, now: Now) -> None:
        """Record what took the last `seconds`."""
        end = self._expected(now)
        self._log.add(end - seconds, end, reason)
        self.check_clock(now)

    def record_failure(self, now: Now) -> None:
        """Record that requests have been failing until now, if they have."""
        self.check_clock(now)
        self._record_failing(now.utc)

    @contextmanager
    def waiting_for_quota(self, seconds: float) -> Iterator[None]:
        """Record the time inside as one in which no request was left; `seconds` is the expected wait.

        A wait for a minute's limit is part of the attempt that it is for: if that fails, the failure is the reason.
        """
        start = self._time.now()
        self.record_failure(start)
        failing, short = self.is_failing, seconds <= _MINUTE
        # A long wait is no part of the failure, which goes on after it.
        if not short:
            self._failing_since = None
        try:
            yield
        finally:
            now = self._time.now()
            if short and failing:
                self.record_failure(now)
            else:
                self.record(now.monotonic - start.monotonic, "quota", now)
            if not short:
                self.poll_started(now)
                self._failing_since = now.utc if failing else None

    def check_clock(self, now: Now) -> None:
        """Detect that UTC moved by more than the time that passed: a sleep, or a correction of the clock."""
        expected = self._expected(now)
        # A known service's clock shows a sleep with the first answer after it, the host's clock at once.
        dated = self._last is not None and self._last.host_ahead is not None
        since = self._answered_at if dated or self._last is None else self._last.monotonic
        self._last = now
        slept = now.utc - expected
        if abs(slept) > _JUMP:
            # Refusals may have been due to the wrong clock.
            self._on_clock_change()
            if not self._clock_known:  # what the host's clock does not show as a sleep corrects the clock
                correction = slept - self._time.slept(since)
                self._shift(correction)
                expected, slept = expected + correction, slept - correction
        if now.confirmed and not self._clock_known:
            self._clock_known, self._started_at = True, self.started_at(now)
        if slept > _JUMP:
            self._record_sleep(now, expected, since, slept)

    def _record_sleep(self, now: Now, expected: float, since: float, slept: float) -> None:
        self._record_failing(expected)
        self._failing_since = None if self._failing_since is None else now.utc
        self._polling_since = now.utc
        offset = expected - now.monotonic
        # Oldest first: each sleep moves what a clock that stood still recorded after it.
        for woke, seconds in self._time.sleeps(since, slept):
            self._log.insert_sleep(offset + woke, seconds)
            offset += seconds
        self.answer_received(now)  # or the next sleep would be added to these

    def _expected(self, now: Now) -> float:
        """Return what UTC is if it went on as the monotonic clock did since the last reading."""
        return now.utc if self._last is None else self._last.utc + now.monotonic - self._last.monotonic

    def _record_failing(self, until: float) -> None:
        if self._failing_since is not None:
            self._log.add(self._failing_since, until, self._failing)

    def _shift(self, seconds: float) -> None:
        """Move what was recorded: the clock was wrong by so much."""
        self._log.shift(seconds)
        self._polling_since += seconds
        self._failing_since = None if self._failing_since is None else self._failing_since + seconds


class DowntimeLog:
    """Spans of time with their reasons, in order, of bounded length."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float, Loss]] = []

    def add(self, start: float, end: float, reason: Loss) -> None:
        """Add a span of UTC seconds; joined to the last one if that has the same reason."""
        if end <= start:
            return
        # Within a second: between two failed polls a little time always passes.
        if self._spans and self._spans[-1][2] == reason and start <= self._spans[-1][1] + 1:
            start = self._spans.pop()[0]
        self._spans.append((start, end, reason))
        del self._spans[:-_MAX_ENTRIES]

    def shift(self, seconds: float) -> None:
        """Move all spans: the clock was wrong by so much."""
        self._spans = [(start + seconds, end + seconds, reason) for start, end, reason in self._spans]

    def insert_sleep(self, since: float, seconds: float) -> None:
        """Insert a sleep of this machine: what a clock that stood still recorded after `since` was so much later."""
        recorded, self._spans = self._spans, []
        for start, end, reason in recorded:
            self._spans += [(start, min(end, since), reason)] if start < since else []
        self.add(since, since + seconds, "asleep")
        for start, end, reason in recorded:
            self._spans += [(max(start, since) + seconds, end + seconds, reason)] if end > since else []

    def main_reason(self, start: float, end: float, default: Loss) -> Loss:
        """Return the reason with the largest share of a span; of equal shares, one other than `quota`."""
        shares: dict[Loss, float] = {}
        for first, last, reason in islice(self._spans, bisect_right(self._spans, start, key=_end_of), None):
            if first >= end:
                break
            shares[reason] = shares.get(reason, 0.0) + min(end, last) - max(start, first)
        # Short waits for quota are parts of attempts, so another reason wins a draw.
        return max(shares, key=lambda reason: (shares[reason], reason != "quota"), default=default)
