"""The state of one rule: a state machine without I/O that takes final windows in order of time and returns alerts.

A window counts for a value, against it, or not at all: without a value, in a gap, or with an unknown number of users it
is *unknown*. An unknown window interrupts a run in both directions: it neither starts an alert nor ends one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from agora_analytics._core.redaction import fingerprint
from agora_analytics.models.points import Number
from agora_analytics.ops.alerts.alert import Alert, Kind, Unknown
from agora_analytics.ops.alerts.packing import SLICE
from agora_analytics.ops.alerts.rules import Rule
from agora_analytics.spans import HOUR, WINDOW, Span

Group = str | None
Values = Mapping[Group, Number]

_MAX_UNKNOWN: Final = 8
"""Spans of unknown windows that are remembered."""

_FORGET_AFTER: Final = HOUR // WINDOW
"""Windows without a row of a dimension's value, though others have one, after which it is no longer tracked."""


@attrs.define(kw_only=True)
class ValueState:
    """One value of the dimension (or the only one): its current run, and its alert if there is one.

    `run` windows in a row hold, or `calm` ones recover, from `since` on. `incident` is the key of the alert that fires,
    empty if none does. `quiet_until` ends the silence after it. `absent` windows in a row have no row of it.
    """

    group: str | None
    run: int = 0
    since: int = 0
    calm: int = 0
    incident: str = ""
    fired_since: int = 0
    quiet_until: int = 0
    absent: int = 0

    def interrupt(self) -> None:
        """Forget the runs: what follows is not known to follow in a row."""
        self.run = self.calm = 0

    def idle(self, ts: int) -> bool:
        """Whether nothing has to be remembered."""
        return not (self.run or self.incident or self.quiet_until > ts)


@attrs.define(kw_only=True)
class ConditionState:
    """What a rule remembers: JSON in a checkpoint.

    `next` is the window that it expects (None before the first event), `valued_until` the end of the last one with a
    value, and `silent` the key of the alert about missing data, empty if there is none; `silent_ts` is the window that
    decided it. It has `begun` with the first window; gaps before that are ignored.
    """

    next: int | None = None
    begun: bool = False
    valued_until: int = 0
    silent: str = ""
    silent_ts: int = 0
    values: list[ValueState] = attrs.field(factory=list)
    unknown: list[Unknown] = attrs.field(factory=list)

    @property
    def reported(self) -> bool:
        """Whether an alert has begun and not ended."""
        return bool(self.silent) or any(value.incident for value in self.values)


class Condition:
    """Applies one rule; `source` distinguishes the keys of alerts about different projects."""

    def __init__(self, rule: Rule, source: str, state: ConditionState | None = None) -> None:
        self.rule = rule
        self.state = state or ConditionState()
        self._source = source
        self._name = str(rule)
        self._values = {value.group: value for value in self.state.values}

    def snapshot(self) -> ConditionState:
        """Return the state, to be encoded at once: it goes on changing."""
        self.state.values = list(self._values.values())
        return self.state

    # Windows.

    def skip(self, span: Span, reason: str, *, window: bool = False) -> Iterator[Alert]:
        """Take windows of which nothing is known: a gap, or one `window`; those that it does not expect are ignored."""
        self._begin(span.start if window else None)
        start = span.start if self.state.next is None else max(span.start, self.state.next)
        if start >= span.end:
            return
        self.state.next = span.end
        if not self.state.begun:
            self.state.valued_until = span.end
            return
        self._interrupt(Span(start, span.end), reason)
        yield from self.missing_until(span.end)

    def take(self, ts: int, values: Values, users: Values | str | None) -> Iterator[Alert | None]:
        """Take a window with values; `users` are by the same groups, the reason why there are none, or None.

        None is for a rule without a least number of users. Yields alerts, and None for a break.
        """
        self._begin(ts)
        if self.state.next is None or ts < self.state.next:
            return
        if ts > self.state.next:
            # A window that never came interrupts a run, whatever the reason.
            yield from self.skip(Span(self.state.next, ts), "not delivered")
        self.state.next = ts + WINDOW
        # Before the values: an alert about missing data ends before one about values begins.
        yield from self._data_again(ts)
        self.state.valued_until = ts + WINDOW
        if isinstance(users, str):
            self._note(Unknown(span=Span(ts, ts + WINDOW), reason=users, of="users"))
        yield from self._judge(ts, values, {} if isinstance(users, str) else users)

    def _begin(self, ts: int | None) -> None:
        """Begin with the first window, None for a gap."""
        if ts is not None and not self.state.begun:
            # A gap before the first window is from before the rule, and no reason to alert.
            self.state.begun = True
            if self.state.next is None:
                self.state.next = ts
                self.state.valued_until = self.state.valued_until or ts

    def silent(self, seconds: float, utc: float) -> Iterator[Alert]:
        """Return the alert about missing data if no event has come for so many seconds, until `utc`."""
        if self.rule.no_data is not None and seconds >= self.rule.no_data:
            if self.state.next is None:
                self.state.valued_until = int(utc - seconds) // WINDOW * WINDOW
            yield from self.missing_until(self.state.valued_until + self.rule.no_data)

    def missing_until(self, end: int) -> Iterator[Alert]:
        """Return the alert about missing data if there has been no value for long enough by `end`."""
        allowed = self.rule.no_data
        if allowed is not None and not self.state.silent and end - self.state.valued_until >= allowed:
            # The window in which the time was over, whenever that was noticed: so the key does not depend on any clock.
            ts = -(-(self.state.valued_until + allowed) // WINDOW) * WINDOW - WINDOW
            self.state.silent, self.state.silent_ts = self._key("no_data", None, self.state.valued_until), ts
            yield self._alert("no_data", self.state.silent, ts, self.state.valued_until, about="data")

    def _data_again(self, ts: int) -> Iterator[Alert]:
        """Return the end of the alert about missing data; values of the span that it was about may come after it."""
        if self.state.silent and ts > self.state.silent_ts:
            incident, self.state.silent = self.state.silent, ""
            yield self._alert("recovered", incident, ts, self.state.valued_until, about="data")

    # Values.

    def _judge(self, ts: int, values: Values, users: Values | None) -> Iterator[Alert | None]:
        untracked = yield from self._track(values, users)
        for group, state in list(self._values.items()):
            value = values.get(group)
            count = None if users is None else users.get(group)
            if value is None:
                yield from self._absent(ts, state)
            else:
                state.absent = 0
                yield from self._count(ts, state, value, count, untracked)
            # Most of thousands of values hold for a window or two: their states are not kept.
            if state.idle(ts + WINDOW):
                del self._values[group]

    def _track(self, values: Values, users: Values | None) -> Generator[None, None, int]:
        """Begin to track the values that hold, the worst first; return how many there is no room for."""
        sign = -1 if self.rule.comparison in {">", ">="} else 1
        room = max(self.rule.max_values - len(self._values), 0)
        found, new = 0, list[tuple[Number, Group]]()
        for number, (group, value) in enumerate(values.items(), 1):
            if group not in self._values and self._verdict(group, value, users):
                found += 1
                new.append((sign * value, group))
            if not number % SLICE:
                _keep_first(new, room)
                yield
        _keep_first(new, room)
        self._values |= {group: ValueState(group=group) for _, group in new}
        return found - len(new)

    def _verdict(self, group: Group, value: Number, users: Values | None) -> bool | None:
        """Return whether a window holds; None if that depends on an unknown number of users."""
        if not self.rule.holds(value):
            return False
        if users is None:
            return True
        return users[group] >= self.rule.min_users if group in users else None

    def _count(
        self, ts: int, state: ValueState, value: Number, count: Number | None, untracked: int
    ) -> Iterator[Alert]:
        holds = self._verdict(state.group, value, None if not self.rule.min_users else _one(state.group, count))
        if holds:
            # `since` is of the current run, whichever of the two it is: a run ends the other.
            state.since = state.since if state.run else ts
            state.run, state.calm = state.run + 1, 0
            if not state.incident and state.run >= self.rule.windows and ts >= state.quiet_until:
                yield self._fire(ts, state, value, count, untracked)
            return
        # Too few users is calm as well, or an alert would stay when the people have left.
        few_users = self.rule.min_users and count is not None and count < self.rule.min_users
        calm = holds is not None and (self.rule.recovers(value) or bool(few_users))
        state.since = state.since if calm and state.calm else ts
        state.run, state.calm = 0, state.calm + 1 if calm else 0
        if state.incident and state.calm >= (self.rule.recovery_windows or self.rule.windows):
            yield self._recover(ts, state, value, count)

    def _fire(self, ts: int, state: ValueState, value: Number, count: Number | None, untracked: int) -> Alert:
        state.incident = self._key("firing", state.group, ts)
        state.fired_since, state.quiet_until = state.since, ts + self.rule.silence
        return self._alert(
            "firing",
            state.incident,
            ts,
            state.since,
            group=state.group,
            windows=state.run,
            value=value,
            users=count,
            unknown=self._unknown_since(state.since),
            untracked=untracked,
        )

    def _recover(self, ts: int, state: ValueState, value: Number, count: Number | None) -> Alert:
        incident, state.incident = state.incident, ""
        unknown = self._unknown_since(state.fired_since)
        return self._alert(
            "recovered",
            incident,
            ts,
            state.since,
            group=state.group,
            windows=state.calm,
            value=value,
            users=count,
            unknown=unknown,
        )

    def _absent(self, ts: int, state: ValueState) -> Iterator[Alert]:
        """Take a window in which other values have rows, and this one has none: nothing is known of it."""
        state.interrupt()
        state.absent += 1
        # Otherwise an alert about a value that never comes back would never end.
        if state.incident and state.absent >= _FORGET_AFTER:
            incident, state.incident = state.incident, ""
            since = ts + WINDOW - state.absent * WINDOW
            yield self._alert("no_data", incident, ts, since, group=state.group, windows=state.absent)

    # Unknown windows.

    def _interrupt(self, span: Span, reason: str) -> None:
        self._note(Unknown(span=span, reason=reason))
        for group, state in list(self._values.items()):
            state.interrupt()
            if state.idle(span.end):
                del self._values[group]

    def _note(self, unknown: Unknown) -> None:
        known = self.state.unknown
        last = known[-1] if known else None
        if last is not None and (last.reason, last.of, last.span.end) == (
            unknown.reason,
            unknown.of,
            unknown.span.start,
        ):
            known[-1] = attrs.evolve(last, span=Span(last.span.start, unknown.span.end))
        else:
            known.append(unknown)
            del known[:-_MAX_UNKNOWN]

    def _unknown_since(self, start: int) -> tuple[Unknown, ...]:
        """Return the unknown spans that end at `start` or later: just before a run, or during an incident."""
        return tuple(unknown for unknown in self.state.unknown if unknown.span.end >= start)

    # Alerts.

    def _key(self, kind: Kind, group: Group, ts: int) -> str:
        return fingerprint("\n".join((self._source, self._name, kind, "" if group is None else f"={group}", str(ts))))

    def _alert(self, kind: Kind, incident: str, ts: int, since: int, **more: Any) -> Alert:
        group = more.get("group")
        # An alert that begins an incident has its key; only one can end it, so its own key follows from that.
        begins = kind == "firing" or (kind == "no_data" and group is None)
        key = incident if begins else fingerprint(f"{incident}\n{kind}")
        return Alert(
            key=key,
            incident=incident,
            kind=kind,
            rule=self._name,
            series=str(self.rule.series),
            ts=ts,
            since=since,
            **more,
        )


def _one(group: Group, count: Number | None) -> Values:
    return {} if count is None else {group: count}


def _keep_first(ranked: list[tuple[Number, Group]], room: int) -> None:
    # With the group as tie-breaker, so that the same values give the same alerts in any order of rows.
    ranked.sort(key=lambda one: (one[0], one[1] or ""))
    del ranked[room:]


def groups_of(points: Iterable[tuple[Group, Number | None]]) -> dict[Group, Number]:
    """Return values by group, without those that the service sent as null."""
    return {group: value for group, value in points if value is not None}
