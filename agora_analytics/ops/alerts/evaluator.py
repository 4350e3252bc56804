"""Applies rules to the events of a watch: pure, so the same events give the same alerts.

A window counts once it is *final*. Until then it waits here, with the revisions that come for it. When it becomes final
does not change what it says, so neither do alerts depend on how often the watch polled or on any clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import attrs

from agora_analytics._core import validation
from agora_analytics._core.decoding.json import DecodeFailures, encode, strict_decoder
from agora_analytics._core.decoding.scanner import Steps, finish
from agora_analytics._core.redaction import fingerprint
from agora_analytics.models import Point
from agora_analytics.models.points import group_of
from agora_analytics.ops.alerts.alert import Alert
from agora_analytics.ops.alerts.condition import Condition, ConditionState, Values, groups_of
from agora_analytics.ops.alerts.packing import SLICE, Rows, packed, unpacked
from agora_analytics.ops.alerts.rules import Rule, unweighted, watched
from agora_analytics.spans import WINDOW, Span
from agora_analytics.streams.checkpoints import Checkpoint, unreadable
from agora_analytics.streams.events import Event, Gap, Revision, Window
from agora_analytics.streams.watch.series import Series

__all__ = ["Evaluator"]

FinalBefore = Mapping[Series, int | None]
"""The start of the first window in which each series may still change: `Watch.final_before`."""

_MAX_WAITING: Final = 1_000
"""Windows that may wait to become final: more than any plan keeps. Beyond that the oldest counts as unknown."""

_STREAM: Final = "alerts"
_WAITING: Final = "waiting"
DELIVERY: Final = "delivery"
"""Keys of the entries of a checkpoint that are no rule's: this one is added by `evaluate`."""


@attrs.define(kw_only=True)
class WaitingWindow:
    """A window, or a gap of several, that not all rules have taken.

    `rows` are pairs of group and value by series, many of them packed; `missing` are the reasons by series. A gap has a
    `gap` reason.
    """

    start: int
    end: int
    final: bool = False
    gap: str = ""
    rows: dict[str, Rows | str] = attrs.field(factory=dict)
    missing: dict[str, str] = attrs.field(factory=dict)
    finals: list[str] = attrs.field(factory=list)

    def copy(self) -> WaitingWindow:
        """Return a copy that revisions do not change; the rows themselves are shared, as there may be thousands."""
        return attrs.evolve(self, rows=dict(self.rows), missing=dict(self.missing), finals=list(self.finals))


class Evaluator:
    """Applies rules to events one by one; `evaluate` does this for a watch.

    Use it yourself to save alerts, `watch.checkpoint` and `evaluator.checkpoint` in one transaction, or to try rules on
    events that you have stored:

    ```python
    from agora_analytics.models import Point
    from agora_analytics.ops import alerts

    rule = alerts.parse("userCount:Native < 10 for 2")
    evaluator = alerts.Evaluator([rule])
    for ts, users in ((1_795_521_600, 7), (1_795_521_620, 5)):
        points = (Point.of(ts, users, metric="userCount"),)
        for alert in evaluator.add(Window(ts=ts, values={rule.series: points}, final=True)):
            print(alert)  # firing: userCount Native 5 at 2026-11-24T12:00:20Z, 2 windows from 2026-11-24T12:00:00Z …
    ```

    `source` distinguishes the keys of alerts about different projects. `checkpoint` is that of an earlier one with the
    same source; states of rules that are not given are dropped. Raises `CheckpointError` for any other checkpoint.
    """

    def __init__(self, rules: Iterable[Rule], *, source: str = "", checkpoint: Checkpoint | None = None) -> None:
        self.rules = checked(rules)
        self._stream = f"{_STREAM} {fingerprint(source)}"
        self._series = watched(self.rules)
        self._texts = {series: str(series) for series in self._series}
        states = {} if checkpoint is None else _states(checkpoint.check(self._stream, "the checkpoint of the alerts"))
        self._conditions = [Condition(rule, source, states.pop(str(rule), None)) for rule in self.rules]
        self.dropped = tuple(rule for rule, state in states.items() if state.reported)
        """Rules of the checkpoint that are not given any more, and of which an alert has not recovered."""

        self._waiting = deque(_waiting(checkpoint))

    @property
    def checkpoint(self) -> Checkpoint:
        """The state after the last event: save it after its alerts, and before the watch's own checkpoint moves on."""
        state: dict[str, Mapping[str, Any]] = {
            str(condition.rule): {"state": attrs.asdict(condition.snapshot())} for condition in self._conditions
        }
        state[_WAITING] = {"windows": [window.copy() for window in self._waiting]}
        return Checkpoint(stream=self._stream, open=state)

    def add(self, event: Event, final_before: FinalBefore | None = None) -> list[Alert]:
        """Return the alerts of an event, in order; an event that was added before changes nothing.

        A window with `final=True` counts at once, another one once `final_before` has passed it, or a revision says so.
        """
        return finish(self.steps(event, final_before))

    def steps(self, event: Event, final_before: FinalBefore | None = None) -> Steps[list[Alert]]:
        """Do the same in steps: many windows may become final at once, with thousands of values."""
        match event:
            case Window():
                yield from self._add_window(event)
            case Revision():
                yield from self._revise(event)
            case Gap():
                self._add_gap(event.span, event.reason)
        marks = {unweighted(series): ts for series, ts in (final_before or {}).items() if ts is not None}
        found: list[Alert] = []
        for alert in self._settle(marks):
            if alert is None:
                yield None
            else:
                found.append(alert)
        return found

    def silent(self, seconds: float, utc: float) -> list[Alert]:
        """Return the alerts about missing data after so many seconds without an event, until `utc`."""
        return [alert for condition in self._conditions for alert in condition.silent(seconds, utc)]

    # Events.

    def _add_window(self, window: Window) -> Steps[None]:
        if self._is_known(window.ts):
            return
        values = {unweighted(series): points for series, points in window.values.items()}
        missing = {unweighted(series): reason for series, reason in window.missing.items()}
        rows: dict[str, Rows | str] = {}
        for series in self._series:
            if series in values:
                rows[self._texts[series]] = yield from _rows(values[series])
        self._waiting.append(
            WaitingWindow(
                start=window.ts,
                end=window.ts + WINDOW,
                final=window.final,
                rows=rows,
                missing={
                    self._texts[one]: missing.get(one, "not requested") for one in self._series if one not in values
                },
            )
        )

    def _revise(self, revision: Revision) -> Steps[None]:
        text = self._texts.get(unweighted(revision.series))
        window = next((one for one in self._waiting if one.start == revision.ts and not one.gap), None)
        if text is None or window is None:
            return
        window.rows[text] = yield from _rows(revision.after)
        window.missing.pop(text, None)
        if revision.final:
            # Only this series: the window may still change in others.
            window.finals.append(text)

    def _add_gap(self, span: Span, reason: str) -> None:
        # After a restart events come again, and what was added already changes nothing.
        start = max(span.start, self._end or span.start)
        if start < span.end:
            self._waiting.append(WaitingWindow(start=start, end=span.end, gap=reason))

    def _is_known(self, ts: int) -> bool:
        return self._end is not None and ts < self._end

    @property
    def _end(self) -> int | None:
        """The end of the newest window that was added."""
        if self._waiting:
            return self._waiting[-1].end
        taken = [condition.state.next for condition in self._conditions if condition.state.next is not None]
        return max(taken, default=None)

    # Rules.

    def _settle(self, marks: Mapping[Series, int]) -> Iterator[Alert | None]:
        """Let each rule take the windows that are final for its series, in order; None is a break."""
        # Without a bound a watch that never says what is final would fill the memory.
        for window in islice(self._waiting, max(len(self._waiting) - _MAX_WAITING, 0)):
            if not window.gap:
                window.final, window.rows = True, {}
                window.missing = dict.fromkeys(self._texts.values(), "not final")
        for condition in self._conditions:
            for window in self._waiting:
                taken = condition.state.next is not None and window.end <= condition.state.next
                if not taken:
                    if not self._is_final(window, condition.rule, marks):
                        # Windows are taken in order, as runs are of windows in a row.
                        break
                    yield from self._take(condition, window)
                    yield None
        while self._waiting and all(self._waiting[0].end <= (one.state.next or 0) for one in self._conditions):
            self._waiting.popleft()

    def _is_final(self, window: WaitingWindow, rule: Rule, marks: Mapping[Series, int]) -> bool:
        if window.gap or window.final:
            return True
        needed = (unweighted(series) for series in (rule.series, rule.users) if series is not None)
        return all(window.start < marks.get(series, 0) or self._texts[series] in window.finals for series in needed)

    def _take(self, condition: Condition, window: WaitingWindow) -> Iterator[Alert | None]:
        span, rule = Span(window.start, window.end), condition.rule
        text = self._texts[unweighted(rule.series)]
        values = yield from _values(window, text)
        if window.gap or not values:
            reason = window.gap or window.missing.get(text, "no data")
            yield from condition.skip(span, reason, window=not window.gap)
        elif rule.users is None:
            yield from condition.take(window.start, values, None)
        else:
            users = self._texts[unweighted(rule.users)]
            counts = yield from _values(window, users)
            yield from condition.take(window.start, values, counts or window.missing.get(users, "no data"))


def checked(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return rules, at least one and each once; raises `ValueError` or `TypeError`."""
    found = validation.instances("rules", rules, Rule)
    if not found:
        raise ValueError("rules is empty: at least one is needed")
    if (twice := validation.repeated(map(str, found))) is not None:
        raise ValueError(f"rules: {twice!r} is there twice")
    return found


def _values(window: WaitingWindow, series: str) -> Generator[None, None, Values]:
    rows = yield from unpacked(window.rows.get(series, []))
    values = groups_of(rows)
    yield
    return values


def _rows(points: Iterable[Point]) -> Steps[Rows | str]:
    rows: Rows = []
    for number, point in enumerate(points, 1):
        if point.value is not None:
            rows.append((group_of(point), point.value))
        if not number % SLICE:
            yield None
    return (yield from packed(rows))


# Checkpoints.

_decode_state = strict_decoder(ConditionState)
_decode_windows = strict_decoder(list[WaitingWindow])


def _states(checkpoint: Checkpoint) -> dict[str, ConditionState]:
    try:
        entries = {name: entry for name, entry in checkpoint.open.items() if name not in {_WAITING, DELIVERY}}
        return {name: _decode_state(encode(entry["state"])) for name, entry in entries.items()}
    except (*DecodeFailures, KeyError, ValueError, TypeError) as error:
        raise unreadable("the checkpoint of the alerts", error) from None


def _waiting(checkpoint: Checkpoint | None) -> list[WaitingWindow]:
    entry = {} if checkpoint is None else checkpoint.open.get(_WAITING, {})
    try:
        return _decode_windows(encode(entry.get("windows", [])))
    except (*DecodeFailures, ValueError, TypeError) as error:
        raise unreadable("the checkpoint of the alerts", error) from None
