"""Public values of the quota: for tables, logs and health checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Self

import attrs

from agora_analytics.plans import Unit
from agora_analytics.quota.clock_reading import ClockReading
from agora_analytics.quota.priority import Priority

__all__ = ["ClockState", "Forecast", "QuotaSnapshot", "QuotaState"]


@attrs.frozen(kw_only=True)
class QuotaState:
    """One unit of one counter: how much of its limit is used.

    Attributes:
        counter: the counter's name, as in the plan.
        unit: `second`, `minute` or `day`.
        limit: the limit that holds.
        used: requests charged to the unit, of everyone who shares the ledger; those in flight are among them.
        left: requests that could be sent now.
        waiting: requests of this process that wait for the counter.
        resets_in: seconds until a request can be sent, 0 where some are left.
        priorities: `waiting` by priority.
        refusals: how many rate-limit errors the service has sent for the counter.
        expected: of a day, what streams have reserved of the rest; exports leave it to them.
        others: of a day, what programs outside the ledger probably use, by days that were spent early.
        planned: the plan's own limit.
        learned: seconds since a rate-limit error named `limit`, a day at most; None where `limit` is the plan's.

    """

    counter: str
    unit: Unit
    limit: int
    used: int
    left: int
    waiting: int
    resets_in: float
    priorities: Mapping[Priority, int] = attrs.field(factory=dict)
    refusals: int = 0
    expected: int = 0
    others: int = 0
    planned: int = 0
    learned: float | None = None


@attrs.frozen(kw_only=True)
class ClockState:
    """The service's clock: seconds it is ahead of the host's wall clock, at least, and how much more it may be.

    `confirmed` is true once two sources agree on it: two answers, or an answer and the host's clock. Until then
    nothing is refused because of the time.
    """

    offset: float
    uncertainty: float
    confirmed: bool = False


@attrs.frozen(kw_only=True)
class Forecast:
    """When `requests` more of a counter will have been accepted: in `seconds`, `at` a UTC time of the service's clock.

    This is the earliest time: it holds if no other requests are made and none of these fails.
    """

    counter: str
    requests: int
    seconds: float
    at: datetime

    @classmethod
    def of(cls, counter: str, requests: int, seconds: float, reading: ClockReading) -> Self:
        """Return the forecast of a wait of so many seconds from a reading on."""
        at = datetime.fromtimestamp(reading.utc + seconds, UTC)
        return cls(counter=counter, requests=requests, seconds=seconds, at=at)


@attrs.frozen(kw_only=True)
class QuotaSnapshot:
    """The state of every counter and unit, in the plan's order, and of the service's clock (None: not known yet)."""

    states: tuple[QuotaState, ...]
    clock: ClockState | None = None

    def __iter__(self) -> Iterator[QuotaState]:
        """The states."""
        return iter(self.states)

    def __len__(self) -> int:
        """The number of states."""
        return len(self.states)
