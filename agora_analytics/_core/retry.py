"""When to try again: pure arithmetic, bounded in count and in time.

Only what a second try can mend is tried again: a broken transport and a failing service. A refusal never is.
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


@attrs.frozen(kw_only=True)
class Retry:
    """How often and for how long to try.

    `attempts` counts the first one too (1: never again); waits are seconds, drawn evenly from 0 to `base * 2**n` but at
    most `cap` ("full jitter"); no attempt begins later than `total` seconds after the first. Every attempt pays for its
    own quota token.
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

    def wait(self, error: AgoraError, attempt: int, elapsed: float, random: Random) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        `attempt` counts from 1, `elapsed` is seconds since the first began. A `Retry-After` is a lower bound.
        """
        if not error.retryable or attempt >= self._allowed(error):
            return None
        wait = random.uniform(0, min(self.cap, self.base * 2.0 ** min(attempt - 1, _DOUBLINGS)))
        if isinstance(error, ResponseError) and error.retry_after is not None:
            wait += error.retry_after
        return wait if elapsed + wait <= self.total else None

    def _allowed(self, error: AgoraError) -> int:
        # A code 500 inside a 200 is how the service answers input it does not understand: once more is enough.
        body_only = isinstance(error, ServerError) and not _failed_itself(error)
        return min(self.attempts, 2) if body_only else self.attempts


def _failed_itself(error: AgoraError) -> bool:
    """Whether the host failed, rather than answered that something did."""
    return isinstance(error, ServerError) and error.status >= 500  # noqa: PLR2004 - HTTP's own number


class HostSelector:
    """Which host to use next: the same once more after a failure, then the other, and back home after a while.

    `current` is an index. A host that failed is left after `patience` failures in a row; the first host is tried again
    after `home` seconds.
    """

    def __init__(self, count: int, *, threshold: int = 2, recovery_time: float = 300.0) -> None:
        self.current = 0
        self._count = count
        self._threshold = threshold
        self._recovery_time = recovery_time
        self._failures = 0
        self._left_at = 0.0

    def pick(self, now: float) -> int:
        """Return the host for a request that begins at `now` (monotonic seconds)."""
        if self.current and now - self._left_at >= self._recovery_time:
            self.current, self._failures = 0, 0
        return self.current

    def report_success(self, host: int) -> None:
        """Note that a host answered, whatever it said."""
        if host == self.current:
            self._failures = 0

    def report_failure(self, host: int, error: AgoraError, now: float) -> None:
        """Note that a host gave no usable answer; late news about another host changes nothing."""
        if host != self.current or not (isinstance(error, TransportError) or _failed_itself(error)):
            return
        self._failures += 1
        if self._failures >= self._threshold and self._count > 1:
            self.current = (self.current + 1) % self._count
            self._failures, self._left_at = 0, now
