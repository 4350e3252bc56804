"""How a request ended, as its limiter records it."""

from __future__ import annotations

from typing import Final, NamedTuple

from agora_analytics.errors import RateLimited
from agora_analytics.quota.date_trust import DateSample

_SAME_CLOCK: Final = 0.25
"""Seconds by which two readings of a ledger's clock may differ that was not set in between."""


class Settlement(NamedTuple):
    """How a request ended: when its answer was received, the `Date` sample in it, and the rate-limit error if any.

    `received` is of the event loop's clock, which nobody sets meanwhile; the times in `sample` are of the ledger's.
    `sample` is None where the answer says nothing reliable about the time; `host` is the index of the host that
    answered. `received` is None where no answer came.
    """

    received: float | None = None
    sample: DateSample | None = None
    error: RateLimited | None = None
    host: int = 0

    def sample_by(self, received: float | None) -> DateSample | None:
        """Return the sample, given when the answer was received by the ledger's clock as it is now.

        None if that clock was set since the request was sent: its times say nothing then.
        """
        if self.sample is None or received is None or self.sample.sent > self.sample.received:
            return None
        return self.sample if abs(self.sample.received - received) < _SAME_CLOCK else None
