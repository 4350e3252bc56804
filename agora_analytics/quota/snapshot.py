"""What can be seen of the quota from outside: values for people, tables and health checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Self

import attrs

from agora_analytics.plans import Unit
from agora_analytics.quota.clock_reading import ClockReading
from agora_analytics.quota.wait_queue import Priority

__all__ = ["ClockState", "Forecast", "QuotaSnapshot", "QuotaState"]


@attrs.frozen(kw_only=True)
class QuotaState:
    """How much of one counter's allowance per unit is used.

    `used` counts requests under way and tokens that are not back yet, of all who share the ledger; `left` those that
    could go now; `resets_in` is seconds until more are left (0 where some are). `waiting` are those of this process in
    line for the counter, by priority in `priorities`; `refusals` how often the service refused one for its frequency;
    `expected` (of the day) what streams will still need of it, which exports leave to them, and `others` what programs
    that do not share the ledger take of a day, as earlier days showed that were spent too early. `planned` is the
    plan's own limit; where a refusal named another, `limit` is that one and `learned` the seconds since, of a day at
    most.
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
    """The service's clock: seconds it is ahead of the host's wall clock at least, and by how much more it may be.

    `confirmed` tells that two witnesses agree on it: two answers, or an answer and the host's clock. Until then nothing
    is refused on its account.
    """

    offset: float
    uncertainty: float
    confirmed: bool = False


@attrs.frozen(kw_only=True)
class Forecast:
    """When `requests` more of a counter will have been accepted: in `seconds`, `at` a UTC time of the service's clock.

    That is the earliest: if nobody else spends from the counter, and none of the requests fails.
    """

    counter: str
    requests: int
    seconds: float
    at: datetime

    @classmethod
    def of(cls, counter: str, requests: int, seconds: float, reading: ClockReading) -> Self:
        """Return the forecast of a wait that begins now."""
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
        """How many states there are."""
        return len(self.states)
