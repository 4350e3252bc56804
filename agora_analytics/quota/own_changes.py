"""The changes that a process has stored lately, to be replayed where their store has forgotten them.

A store that crashes goes back to what its disk has. Each process finds the number of its own newest change in every
state that it reads, and replays its later ones. Changes of different processes commute: counts are added, and permits
have numbers of their own. What is not replayed is learned again: limits, habits of other programs, and the service's
clock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from agora_analytics.quota.bucket import WindowCounter
from agora_analytics.quota.ledger_state import UNDER_WAY, LedgerState, NewestChange

REPLAYABLE: Final = 60.0
"""Seconds in which a change can be replayed: a store that keeps a log forgets a few in a crash."""

_MAX_CHANGES: Final = 2_048
"""Changes that are remembered at most, each of up to two kilobytes: 34 a second are remembered for a minute."""


class _Contents(NamedTuple):
    """What a counter holds.

    Attributes:
        used: requests by day.
        own: what is kept for each permit or reservation, by its number.
        shared: what is kept of refusals, by unit.
        times: when requests were answered.
        exhausted_day: the day that is spent.

    """

    used: Mapping[int, int]
    own: tuple[Mapping[int, Any], ...]
    shared: tuple[Mapping[Any, Any], ...]
    times: tuple[Sequence[float], ...]
    exhausted_day: int | None


ContentsByName = Mapping[str, _Contents]

_EMPTY: Final = _Contents({}, ({},) * 3, ({},) * 2, ((),) * 2, None)


class _Difference(NamedTuple):
    """What a change has done to a counter: what it `set`, of `used` and `times` what it added, and what it dropped."""

    set: _Contents
    own_gone: tuple[Mapping[int, Any], ...]
    shared_gone: tuple[Mapping[Any, Any], ...]

    def at(self, now: float) -> _Difference:
        """Return it as if it had happened now: its times are of another clock."""
        in_flight, _, reservations = self.set.own
        answered = [now] * sum(map(len, self.set.times))
        none: Mapping[int, Any] = {}
        own = (dict.fromkeys(in_flight, now + UNDER_WAY), none, reservations)
        made = self.set._replace(own=own, shared=(none, none), times=(answered, ()))
        return self._replace(set=made, shared_gone=(none, none))


class _Change(NamedTuple):
    """A change by its number, and its place among those of all processes; when it was sent, and what it has done."""

    number: int
    place: int
    sent: float
    issued: int
    differences: Mapping[str, _Difference]

    def at(self, now: float) -> _Change:
        return self._replace(differences={name: one.at(now) for name, one in self.differences.items()})


class OwnChanges:
    """The newest changes of the process `name`.

    `now` is the store's time, and `elapsed` is of a clock of this host that is never set.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._drawn = self._newest = self._issued = 0
        self._attempted: dict[int, _Change] = {}
        self._stored = deque[_Change](maxlen=_MAX_CHANGES)

    def attempt(self, state: LedgerState, before: ContentsByName, place: int, *, now: float, elapsed: float) -> int:
        """Number a change that is about to be stored, and return the number; `before` is what `contents` returned.

        Until a state shows its number nobody knows whether it was stored.
        """
        self._drawn += 1  # never the same again
        _forget_processes(state, now)
        state.newest_changes[self.name] = NewestChange(self._drawn, int(now), place)
        pairs = ((name, before.get(name, _EMPTY), after) for name, after in contents(state).items())
        changed = {name: _difference(earlier, after) for name, earlier, after in pairs if after != earlier}
        self._attempted = {number: one for number, one in self._attempted.items() if one.sent > elapsed - REPLAYABLE}
        self._attempted[self._drawn] = _Change(self._drawn, place, elapsed, state.issued, changed)
        return self._drawn

    def number_in(self, state: LedgerState) -> int:
        """Return the number of the newest change that a state has, 0 for none."""
        return state.newest_changes[self.name].number if self.name in state.newest_changes else 0

    def on_seen(self, state: LedgerState, *, elapsed: float) -> None:
        """Learn from a state that is stored which attempt was made."""
        if (number := self.number_in(state)) <= self._newest:
            return
        self._newest = number
        change = self._attempted.get(number)
        if change is not None and change.differences:
            self._issued = max(self._issued, change.issued)
            self._stored.append(change)
        self._attempted.clear()  # the others expected a state that is gone
        self._drop_old(elapsed)

    def replay(self, state: LedgerState, *, elapsed: float) -> int:
        """Replay those changes that a state lacks, and return how many."""
        self.on_seen(state, elapsed=elapsed)
        known = self.number_in(state)
        if known >= self._newest or not self._stored:
            return 0
        # No entry: it may have been dropped. Then all changes up to `forgotten_until` are in the state.
        after = 0 if known else state.forgotten_until
        self._drop_old(elapsed)
        missing = [one for one in self._stored if one.number > known and one.place > after]
        for change in missing:
            for name, difference in change.differences.items():
                _apply(difference, state.counter(name))
        if missing:
            # Or the next permit would get the number of one of them.
            state.issued = max(state.issued, self._issued)
        return len(missing)

    def on_clock_set(self, now: float) -> None:
        """Let all changes have happened now, by another clock: nobody knows how long ago they were."""
        self._stored = deque((one.at(now) for one in self._stored), maxlen=_MAX_CHANGES)
        self._attempted = {number: one.at(now) for number, one in self._attempted.items()}

    def _drop_old(self, elapsed: float) -> None:
        while self._stored and self._stored[0].sent < elapsed - REPLAYABLE:
            self._stored.popleft()


def _forget_processes(state: LedgerState, now: float) -> None:
    """Forget processes that made no change for long."""
    newest = state.newest_changes
    # Where the clock was set, or nobody came for long, nobody knows which are old: all get the present date.
    if abs(now - max((one.at for one in newest.values()), default=now)) >= REPLAYABLE:
        state.newest_changes = {name: one._replace(at=int(now)) for name, one in newest.items()}
        return
    for name, one in list(newest.items()):
        if now - one.at >= 2 * REPLAYABLE:
            state.forgotten_until = max(state.forgotten_until, one.place)
            del newest[name]


def contents(state: LedgerState) -> ContentsByName:
    """Return what the counters of a state hold now."""
    return {
        name: _Contents(
            dict(counter.used_per_day),
            tuple(map(dict, _own(counter))),
            tuple(map(dict, _shared(counter))),
            tuple(map(tuple, _times(counter))),
            counter.exhausted_day,
        )
        for name, counter in state.counters.items()
    }


def _own(counter: WindowCounter) -> tuple[dict[int, Any], ...]:
    return counter.in_flight, counter.early_in_flight, counter.reservations


def _shared(counter: WindowCounter) -> tuple[dict[Any, Any], ...]:
    return counter.rate_limited_at, counter.blocked


def _times(counter: WindowCounter) -> tuple[list[float], ...]:
    return counter.completed, counter.completed_early


def _difference(before: _Contents, after: _Contents) -> _Difference:
    return _Difference(
        _Contents(
            {day: used - before.used.get(day, 0) for day, used in after.used.items() if used != before.used.get(day)},
            tuple(map(_new, before.own, after.own)),
            tuple(map(_new, before.shared, after.shared)),
            tuple(map(_added, before.times, after.times)),
            after.exhausted_day if after.exhausted_day != before.exhausted_day else None,
        ),
        tuple(map(_gone, before.own, after.own)),
        tuple(map(_gone, before.shared, after.shared)),
    )


def _new(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return dict(new.items() - old.items())


def _gone(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return {key: old[key] for key in old.keys() - new.keys()}


def _added(old: Sequence[float], new: Sequence[float]) -> Sequence[float]:
    if new[: len(old)] == old:  # as nearly always
        return new[len(old) :]
    return tuple((Counter(new) - Counter(old)).elements())


def _apply(difference: _Difference, counter: WindowCounter) -> None:
    for day, used in difference.set.used.items():
        counter.used_per_day[day] = max(0, counter.used_per_day.get(day, 0) + used)
    for held, items, own_gone in zip(_own(counter), difference.set.own, difference.own_gone, strict=True):
        held.update(items)
        for number in own_gone:
            held.pop(number, None)
    # Refusals are everybody's: the newest holds.
    for held, items, gone in zip(_shared(counter), difference.set.shared, difference.shared_gone, strict=True):
        held.update({unit: max(item, held.get(unit, item)) for unit, item in items.items()})
        for unit in [unit for unit, item in gone.items() if held.get(unit) == item]:
            del held[unit]
    for times, added in zip(_times(counter), difference.set.times, strict=True):
        times.extend(added)
        times.sort()
    # The oldest first, as they expire.
    counter.in_flight = dict(sorted(counter.in_flight.items()))
    if difference.set.exhausted_day is not None:
        counter.exhausted_day = max(counter.exhausted_day or 0, difference.set.exhausted_day)
