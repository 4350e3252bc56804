"""What ends a run early: the requests that it may make, and errors that a later run may not meet."""

from __future__ import annotations

from typing import Final

import attrs

from agora_analytics.errors import AgoraError, QuotaExhausted, RateLimited, ServerError, TransportError

CUTS: Final = (QuotaExhausted, RateLimited, TransportError, ServerError)
"""Errors that end a run early; it keeps what it has, and the next run continues."""


class RunCutShortError(Exception):
    """The run ends here: what was yielded is kept."""


@attrs.define
class RunBudget:
    """The requests of a run, shared by all resources of a source.

    Attributes:
        most: requests after which no more are begun; None: no limit.
        used: requests so far.

    """

    most: int | None
    used: int = 0

    def check(self) -> None:
        """Raise `RunCutShortError` if the requests are used up."""
        if self.most is not None and self.used >= self.most:
            raise RunCutShortError(f"max_requests={self.most} were made")

    def at_most(self, count: int) -> int:
        """Return how many of `count` requests may still be begun; raises `RunCutShortError` if that is none."""
        self.check()
        return count if self.most is None else min(count, self.most - self.used)


def cut_reason(error: AgoraError | RunCutShortError) -> str:
    """Return why a run was cut short, in one line."""
    return f"{type(error).__name__}: {error}" if isinstance(error, AgoraError) else str(error)
