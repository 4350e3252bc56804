"""What ends a run early: its requests, the quota, and failures that concern more than one item."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import attrs

from agora_analytics.errors import (
    AgoraError,
    CertificateError,
    QuotaExhausted,
    RateLimited,
    ServerError,
    TransportError,
)
from agora_analytics.export.fetch.skip_reasons import may_be_own


class RunCutShortError(Exception):
    """The run ends here: what was yielded is kept."""


SPENT: Final = (RunCutShortError, QuotaExhausted, RateLimited)
"""What every other request of the run would meet, too."""


_OUTAGES_IN_A_ROW: Final = 2
"""App IDs, or series, that fail one after the other until the rest is left to the next run."""

log = logging.getLogger("agora_analytics")


@attrs.define
class RunBudget:
    """The requests of a run, shared by all resources of a source.

    Attributes:
        most: requests after which no more are begun; None: no limit.
        used: requests so far.
        begun: whether any resource was read.
        exceeded: whether more requests were wanted than `most`.

    """

    most: int | None
    used: int = 0
    begun: bool = False
    exceeded: bool = False

    @property
    def left(self) -> int | None:
        """The requests that may still be begun; None: no limit."""
        return None if self.most is None else max(0, self.most - self.used)

    def check(self) -> None:
        """Raise `RunCutShortError` if the requests are used up."""
        if self.left == 0:
            raise self.cut()

    def cut(self) -> RunCutShortError:
        """Return the error that ends the run because of this budget."""
        self.exceeded = True
        return RunCutShortError(f"max_requests={self.most} were made")

    def at_most(self, count: int) -> int:
        """Return how many of `count` requests may still be begun; raises `RunCutShortError` if that is none."""
        self.check()
        return count if self.left is None else min(count, self.left)


@attrs.define
class FailureStreak:
    """Tells the failure of one item, which is left to the next run, from one of the service or of the settings.

    An item's failure is its own if the next item is answered.
    """

    first: AgoraError | None = None
    _failing: AgoraError | None = None

    def answered(self) -> None:
        """Record an answer."""
        self._failing = None

    def failed(self, errors: Sequence[AgoraError]) -> None:
        """Record items that were requested together, none of which was answered; raises if the one before failed."""
        for error in errors:
            self.check(error)
            if self._failing is not None:
                raise error
        self._failing = errors[0]

    def check(self, error: AgoraError) -> None:
        """Record the failure of an item, or raise it if it cannot be the item's own."""
        if isinstance(error, SPENT) or not may_be_own(error):
            raise error
        self.first = self.first or error

    def finish(self) -> AgoraError | None:
        """Return the first failure that was passed over; raises it if no answer followed."""
        if self._failing is not None:
            raise self._failing
        return self.first


@attrs.define
class RunOutcome:
    """What the App IDs, or series, of a dataset have met in a run.

    Attributes:
        cut: why the rest is left to the next run.
        answered: whether anything was answered.

    """

    _dataset: str
    cut: str | None = None
    answered: bool = False
    _refusal: AgoraError | None = None
    _outages: int = 0

    def completed(self) -> None:
        """Record that all of one was requested."""
        self.answered, self._outages = True, 0

    def failed(self, error: RunCutShortError | AgoraError) -> None:
        """Record why one ended early. The others may still be answered, unless they share what it met."""
        log.warning("the load of %s was cut short, and the next run continues it: %s", self._dataset, cut_reason(error))
        if isinstance(error, SPENT):
            self.cut = cut_reason(error)
        elif isinstance(error, TransportError | ServerError) and not isinstance(error, CertificateError):
            self._outages += 1
            self.cut = cut_reason(error) if self._outages == _OUTAGES_IN_A_ROW else None
        else:
            self._refusal = self._refusal or error

    def finish(self) -> None:
        """Raise a refusal if nothing was answered: then the settings are wrong."""
        if self._refusal is not None and not self.answered:
            raise self._refusal


def cut_reason(error: AgoraError | RunCutShortError) -> str:
    """Return why a run was cut short, in one line."""
    return f"{type(error).__name__}: {error}" if isinstance(error, AgoraError) else str(error)
