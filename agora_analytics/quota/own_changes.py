"""The changes that a process has stored lately, to be made again where their store has forgotten them.

A store that crashes goes back to what its disk has. The first process to come goes on from there, perhaps without
having seen what others had stored meanwhile: then no state has all of it. So each process looks into every state for
the number of its own newest change, and makes the missing ones again. Changes of different processes commute: counts
are added, and permits have numbers of their own.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from agora_analytics.quota.bucket import WindowCounter
from agora_analytics.quota.ledger_state import LedgerState, NewestChange

_KEPT: Final = 60.0
"""Seconds in which a change can be made again: a store that keeps a log forgets a few in a crash."""

_MOST: Final = 2_048
"""Changes that are remembered at most; one has two kilobytes."""


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
    gone: tuple[Mapping[Any, Any], ...]
    times: tuple[Sequence[float], ...]
    exhausted_day: int | None

    def without_times(self) -> _Difference:
        return self._replace(items=(), gone=(), times=())


class _Change(NamedTuple):
    """A change by its number, and its place among those of all processes; when it was sent, and what it has done."""

    number: int
    place: int
    at: float
    issued: int
    differences: Mapping[str, _Difference]

    def without_times(self) -> _Change:
        return self._replace(differences={name: one.without_times() for name, one in self.differences.items()})


class OwnChanges:
    """The newest changes of the process `name`; times `at` are seconds of a clock that is never set."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._drawn = self._newest = self._issued = 0
        self._attempted: dict[int, _Change] = {}
        self._stored = deque[_Change](maxlen=_MOST)

    def attempt(self, state: LedgerState, before: Contents, place: int, now: float, at: float) -> None:
        """Number a change that is about to be stored; `before` is what `contents` returned, `now` the store's time.

        Until a state shows its number nobody knows whether it was stored.
        """
        self._drawn += 1  # never the same again
        _forget_old(state, now)
        state.newest_changes[self.name] = NewestChange(self._drawn, int(now), place)
        pairs = ((name, before.get(name, _NOTHING), after) for name, after in contents(state).items())
        changed = {name: _difference(earlier, after) for name, earlier, after in pairs if after != earlier}
        self._attempted = {number: one for number, one in self._attempted.items() if one.at > at - _KEPT}
        self._attempted[self._drawn] = _Change(self._drawn, place, at, state.issued, changed)

    def has_last_attempt(self, state: LedgerState) -> bool:
        """Return whether a state has the last attempt."""
        return self._number_in(state) == self._drawn

    def on_seen(self, state: LedgerState, at: float) -> None:
        """Learn from a state that is stored which attempt was made."""
        if (number := self._number_in(state)) <= self._newest:
            return
        self._newest = number
        change = self._attempted.get(number)
        if change is not None and change.differences:
            self._issued = max(self._issued, change.issued)
            self._stored.append(change)
        self._attempted.clear()  # the others expected a state that is gone
        self.forget_old(at)

    def forget_old(self, at: float) -> None:
        """Forget changes that are too old to be made again."""
        while self._stored and self._stored[0].at < at - _KEPT:
            self._stored.popleft()

    def restore(self, state: LedgerState, at: float) -> int:
        """Make those changes again that a state lacks, and return how many."""
        self.on_seen(state, at)
        known = self._number_in(state)
        if known >= self._newest or not self._stored:
            return 0
        # Without a number they may be there: others have forgotten it, as this host stood still or a clock was set.
        after = 0 if known else state.forgotten_until
        self.forget_old(at)
        missing = [one for one in self._stored if one.number > known and one.place > after]
        for change in missing:
            for name, difference in change.differences.items():
                _apply(difference, state.counter(name))
        if missing:
            # Or the next permit would get the number of one of them.
            state.issued = max(state.issued, self._issued)
        return len(missing)

    def on_clock_set(self) -> None:
        """Forget all times: they are of another clock. The requests of days remain."""
        self._stored = deque((one.without_times() for one in self._stored), maxlen=_MOST)
        self._attempted = {number: one.without_times() for number, one in self._attempted.items()}

    def _number_in(self, state: LedgerState) -> int:
        return state.newest_changes[self.name].number if self.name in state.newest_changes else 0


def _forget_old(state: LedgerState, now: float) -> None:
    """Forget processes that made no change for long."""
    newest = state.newest_changes
    # Where the clock was set, or nobody came for long, nobody knows which are old: all get the present date.
    if abs(now - max((one.at for one in newest.values()), default=now)) >= _KEPT:
        state.newest_changes = {name: one._replace(at=int(now)) for name, one in newest.items()}
        return
    for name, one in list(newest.items()):
        if now - one.at >= 2 * _KEPT:
            state.forgotten_until = max(state.forgotten_until, one.place)
            del newest[name]


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
        tuple(_gone(old, new) for old, new in zip(before.items, after.items, strict=True)),
        tuple(_added(old, new) for old, new in zip(before.times, after.times, strict=True)),
        after.exhausted_day if after.exhausted_day != before.exhausted_day else None,
    )


def _gone(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return {key: old[key] for key in old.keys() - new.keys()}


def _added(old: list[float], new: list[float]) -> Sequence[float]:
    if new[: len(old)] == old:  # as nearly always
        return new[len(old) :]
    return tuple((Counter(new) - Counter(old)).elements())


def _apply(difference: _Difference, counter: WindowCounter) -> None:
    for day, used in difference.used.items():
        counter.used_per_day[day] = max(0, counter.used_per_day.get(day, 0) + used)
    for held, items, gone in zip(_mappings(counter), difference.items, difference.gone, strict=False):
        # Permits have numbers of their own; refusals are everybody's, and the newest holds.
        is_shared = held is counter.rate_limited_at or held is counter.blocked
        held.update({key: max(item, held.get(key, item)) for key, item in items.items()} if is_shared else items)
        for key, item in gone.items():
            if not is_shared or held.get(key) == item:
                held.pop(key, None)
    for times, added in zip(_times(counter), difference.times, strict=False):
        times.extend(added)
        times.sort()
    # The oldest first, as they expire.
    counter.in_flight = dict(sorted(counter.in_flight.items()))
    if difference.exhausted_day is not None:
        counter.exhausted_day = max(counter.exhausted_day or 0, difference.exhausted_day)
