"""The quota as the page shows it: each counter, when it is full again, and how long the day lasts at today's pace."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from agora_analytics.errors import LedgerError
from agora_analytics.plans import Unit
from agora_analytics.quota.snapshot import ClockState, QuotaSnapshot, QuotaState
from agora_analytics.spans import DAY, HOUR


@attrs.frozen(kw_only=True)
class CounterView:
    """One unit of one counter as JSON; the fields of `QuotaState`, with times in UTC seconds.

    `free_at` is when the next request can be sent, null where some are left. Of a day, `resets_at` is when it ends,
    `last_hour` the requests of this process in the last hour, and `lasts_until` when the day is used up at that pace,
    null if it is not; counters are equal whatever that is, as it moves with the time.
    """

    counter: str
    unit: Unit
    limit: int
    used: int
    left: int
    waiting: Mapping[str, int]
    free_at: int | None
    refusals: int
    expected: int
    others: int
    planned: int
    resets_at: int | None = None
    last_hour: int | None = None
    lasts_until: int | None = attrs.field(default=None, eq=False)


@attrs.frozen(kw_only=True)
class QuotaView:
    """The quota as JSON: when it was read, and each counter; `ledger` is why it cannot be read now, empty if it can."""

    at: int | None
    enforced: bool
    counters: tuple[CounterView, ...] = ()
    ledger: str = ""

    def differs(self, other: QuotaView | None) -> bool:
        """Whether anything but the time and the seconds, which are always different, has changed."""
        return other is None or self.ledger != other.ledger or _lasting(self) != _lasting(other)


def _lasting(view: QuotaView) -> list[CounterView]:
    # A second is over before it is shown.
    return [one for one in view.counters if one.unit != "second"]


def quota_view(snapshot: QuotaSnapshot, now: float, *, enforced: bool, last_hour: Mapping[str, int]) -> QuotaView:
    """Return a snapshot as JSON; `last_hour` has the requests of the last hour by counter."""
    counters = tuple(_counter(state, now, last_hour.get(state.counter, 0)) for state in snapshot)
    return QuotaView(at=int(now), enforced=enforced, counters=counters)


def unread(last: QuotaView | None, error: LedgerError, *, enforced: bool) -> QuotaView:
    """Return the quota as it was last read, with the reason why it cannot be read now."""
    return attrs.evolve(last or QuotaView(at=None, enforced=enforced), ledger=str(error))


def _counter(state: QuotaState, now: float, last_hour: int) -> CounterView:
    is_day = state.unit == "day"
    return CounterView(
        counter=state.counter,
        unit=state.unit,
        limit=state.limit,
        used=state.used,
        left=state.left,
        waiting={str(priority): count for priority, count in state.priorities.items()},
        free_at=None if state.left else int(now + state.resets_in),
        refusals=state.refusals,
        expected=state.expected,
        others=state.others,
        planned=state.planned,
        resets_at=_midnight(now) if is_day else None,
        last_hour=last_hour if is_day else None,
        lasts_until=_lasts_until(state.left, now, last_hour) if is_day else None,
    )


def _midnight(now: float) -> int:
    return int(now // DAY + 1) * DAY


def _lasts_until(left: int, now: float, last_hour: int) -> int | None:
    """Return when so many requests are used up at the pace of the last hour, None if the day ends before."""
    until = now + left * HOUR / last_hour if last_hour else math.inf
    return int(until) if until < _midnight(now) else None


@attrs.frozen(kw_only=True)
class ClockView:
    """The service's clock as JSON; see `ClockState`."""

    offset: float
    uncertainty: float | None
    confirmed: bool

    @classmethod
    def of(cls, clock: ClockState | None) -> ClockView | None:
        """Return a clock's state as JSON: infinity is null."""
        if clock is None:
            return None
        known = clock.uncertainty if clock.uncertainty < DAY else None
        return cls(offset=clock.offset, uncertainty=known, confirmed=clock.confirmed)
