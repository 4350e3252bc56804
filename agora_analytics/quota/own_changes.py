"""The changes that a process has stored lately, to be made again where their store has forgotten them.

A store that crashes goes back to what its disk has. The first process to come goes on from there, perhaps without
having seen what others had stored meanwhile: then no state has all of it. So each process looks into every state for
the number of its own newest change, and makes the missing ones again. Changes of different processes commute: counts
are added, and permits have numbers of their own.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple

from agora_analytics.quota.bucket import WindowCounter
from agora_analytics.quota.ledger_state import LedgerState

_KEPT: Final = 60.0
"""Seconds in which a change can be made again: no store forgets more in a crash."""

_MOST: Final = 2_048
"""Changes that are remembered at most; one has about a kilobyte."""


class _Contents(NamedTuple):
    """What a counter holds: requests by day, what it maps, times, and the day that is spent."""

    used: Mapping[int, int]
    items: tuple[Mapping[Any, Any], ...]
    times: tuple[list[float], ...]
    exhausted_day: int | None


Contents = Mapping[str, _Contents]
"""What counters hold, by name."""

_NOTHING: Final = _Contents({}, ({},) * 5, ([],) * 2, None)


class _Difference(NamedTuple):
    """What a change has done to a counter: requests by day, items that it set and dropped, and times that it added."""

    used: Mapping[int, int]
    items: tuple[Mapping[Any, Any], ...]
    gone: tuple[AbstractSet[Any], ...]
    times: tuple[Sequence[float], ...]
    exhausted_day: int | None


class _Change(NamedTuple):
    number: int
    at: float
    differences: Mapping[str, _Difference]


class OwnChanges:
    """The newest changes of the process `name`, by number."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._drawn = self._newest = self._issued = 0
        self._changes = deque[_Change](maxlen=_MOST)

    def number_next(self, state: LedgerState, now: float) -> None:
        """Note in a state which change it has of this process, and forget processes that made none for long."""
        self._drawn += 1  # never the same again: a change that failed may have been stored
        kept = {name: change for name, change in state.newest_changes.items() if abs(now - change[1]) < 2 * _KEPT}
        state.newest_changes = {**kept, self.name: (self._drawn, int(now))}

    def on_stored(self, state: LedgerState, before: Contents, at: float) -> None:
        """Remember a change: the state that is stored now, what `contents` returned before it, and seconds."""
        number, _ = state.newest_changes.get(self.name, (0, 0))
        if number <= self._newest:
            return  # it has no change
        self._newest, self._issued = number, state.issued
        pairs = ((name, before.get(name, _NOTHING), after) for name, after in contents(state).items())
        changed = {name: _difference(earlier, after) for name, earlier, after in pairs if after != earlier}
        self._changes.append(_Change(self._newest, at, changed))
        while self._changes[0].at < at - _KEPT:
            self._changes.popleft()

    def restore(self, state: LedgerState, at: float) -> int:
        """Make those changes again that a state lacks, and return how many; `at` are seconds as in `on_stored`."""
        known, _ = state.newest_changes.get(self.name, (0, 0))
        if known >= self._newest:
            return 0
        missing = [one for one in self._changes if one.number > known and one.at > at - _KEPT]
        for change in missing:
            for name, difference in change.differences.items():
                _apply(difference, state.counter(name))
        if missing:
            # Or the next permit would get the number of one of them.
            state.issued = max(state.issued, self._issued)
        return len(missing)

    def on_clock_set(self) -> None:
        """Forget all times: they are of another clock. The requests of days remain."""
        for place, change in enumerate(self._changes):
            days = {name: one._replace(items=(), gone=(), times=()) for name, one in change.differences.items()}
            self._changes[place] = change._replace(differences=days)


def contents(state: LedgerState) -> Contents:
    """Return what the counters of a state hold now."""
    return {
        name: _Contents(
            dict(counter.used_per_day),
            tuple(map(dict, _mappings(counter))),
            tuple(map(list, _times(counter))),
            counter.exhausted_day,
        )
        for name, counter in state.counters.items()
    }


def _mappings(counter: WindowCounter) -> tuple[dict[Any, Any], ...]:
    return (
        counter.in_flight,
        counter.early_in_flight,
        counter.reservations,
        counter.rate_limited_at,
        counter.blocked,
    )


def _times(counter: WindowCounter) -> tuple[list[float], ...]:
    return counter.completed, counter.completed_early


def _difference(before: _Contents, after: _Contents) -> _Difference:
    return _Difference(
        {day: used - before.used.get(day, 0) for day, used in after.used.items() if used != before.used.get(day)},
        tuple(dict(new.items() - old.items()) for old, new in zip(before.items, after.items, strict=True)),
        tuple(old.keys() - new.keys() for old, new in zip(before.items, after.items, strict=True)),
        tuple(_added(old, new) for old, new in zip(before.times, after.times, strict=True)),
        after.exhausted_day if after.exhausted_day != before.exhausted_day else None,
    )


def _added(old: list[float], new: list[float]) -> Sequence[float]:
    if new[: len(old)] == old:  # as nearly always
        return new[len(old) :]
    return tuple((Counter(new) - Counter(old)).elements())


def _apply(difference: _Difference, counter: WindowCounter) -> None:
    for day, used in difference.used.items():
        counter.used_per_day[day] = max(0, counter.used_per_day.get(day, 0) + used)
    for held, items, gone in zip(_mappings(counter), difference.items, difference.gone, strict=False):
        held.update(items)
        for key in gone:
            held.pop(key, None)
    for times, added in zip(_times(counter), difference.times, strict=False):
        times.extend(added)
        times.sort()
    # The oldest first, as they expire.
    counter.in_flight = dict(sorted(counter.in_flight.items()))
    if difference.exhausted_day is not None:
        counter.exhausted_day = max(counter.exhausted_day or 0, difference.exhausted_day)
