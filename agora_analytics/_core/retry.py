"""Retry policy, backoff and host failover: pure arithmetic, no clock and no sleep.

Only errors that a retry may fix are retried here: failed connections and a failing service. The dispatcher also
retries `RateLimited`, when the rate limiter allows, and limits the wait for a `Retry-After`.
"""

from __future__ import annotations

from functools import partial
from random import Random

import attrs

from agora_analytics._core import validation
from agora_analytics.errors import AgoraError, ResponseError, ServerError, TransportError

__all__ = ["Retry"]

# More would only overflow: the cap has long been reached.
_DOUBLINGS = 60

_THRESHOLD = 2
"""Failures of a host in a row before failover: the vendor advises to try the same host once more, then the other."""

_RECOVERY_TIME = 300.0
"""Seconds until the first host, which is the nearest, is tried again: two requests at most if it still fails."""


@attrs.frozen(kw_only=True)
class Retry:
    """Retry policy: exponential backoff with full jitter.

    `attempts` includes the first (1: no retry). Delays are seconds, drawn evenly from 0 to `base * 2**n` but at most
    `cap`; `n` is the number of retries so far. No retry is due later than `total` seconds after the start. Each attempt
    costs one request of the quota.

    >>> Retry(attempts=2, cap=3.0)
    Retry(attempts=2, base=1.0, cap=3.0, total=120.0)
    """

    attempts: int = 4
    base: float = 1.0
    cap: float = 8.0
    total: float = 120.0

    def __attrs_post_init__(self) -> None:
        any_length = partial(validation.number_in_range, endless=True)
        validation.apply_rules(
            self,
            attempts=partial(validation.int_in_range, least=1),
            base=validation.number_in_range,
            cap=any_length,
            total=any_length,
        )

    def delay(self, error: AgoraError, attempt: int, elapsed: float, random: Random) -> float | None:
        """Return seconds to wait before the next attempt, or None to give up.

        `attempt` counts from 1, `elapsed` is seconds since the first started. A `Retry-After` is added.
        """
        if not error.retryable or attempt >= self._allowed(error):
            return None
        delay = random.uniform(0, backoff(self.base, attempt - 1, self.cap))
        if isinstance(error, ResponseError) and error.retry_after is not None:
            # The service's time is the minimum; the jitter on top keeps clients from coming back all at once.
            delay += error.retry_after
        return delay if elapsed + delay <= self.total else None

    def _allowed(self, error: AgoraError) -> int:
        # The input is probably to blame: one retry is enough.
        body_only = isinstance(error, ServerError) and not host_failed(error)
        return min(self.attempts, 2) if body_only else self.attempts


def backoff(first: float, doublings: int, longest: float) -> float:
    """Return a pause of `first` seconds, doubled so many times, but at most `longest`; for any number of doublings."""
    return min(longest, first * 2.0 ** min(doublings, _DOUBLINGS))


def host_failed(error: AgoraError) -> bool:
    """Whether a host itself failed: with a code 500 inside a 200, the API answers input that it does not understand."""
    return isinstance(error, ServerError) and error.status >= 500  # noqa: PLR2004 - HTTP's own number


class HostSelector:
    """Failover between hosts; `current` is the index of the one in use.

    It moves on to the next after two failures in a row, and back to the first after five minutes.
    """

    def __init__(self, count: int) -> None:
        self.current = 0
        self._count = count
        self._failures = 0
        self._left_at = 0.0

    def pick(self, now: float) -> int:
        """Return the host for a request that starts at `now` (monotonic seconds)."""
        if self.current and now - self._left_at >= _RECOVERY_TIME:
            self.current, self._failures = 0, 0
        return self.current

    def report_success(self, host: int) -> None:
        """Record that a host answered, whatever the status."""
        if host == self.current:
            self._failures = 0

    def report_failure(self, host: int, error: AgoraError, now: float) -> None:
        """Record an error, if it shows that the host failed, and if that host is still in use."""
        # Requests are sent concurrently: a late failure of a host that was left is no news. A refusal is the answer of
        # a healthy host.
        if host != self.current or not (isinstance(error, TransportError) or host_failed(error)):
            return
        self._failures += 1
        if self._failures >= _THRESHOLD and self._count > 1:
            self.current = (self.current + 1) % self._count
            self._failures, self._left_at = 0, now
