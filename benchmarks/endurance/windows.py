"""Checks a watch: each window once, in order, with the final value, or lost with the right reason."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

import attrs

from agora_analytics import Gap, Revision, Window
from agora_analytics.plans import PREMIUM
from agora_analytics.simulator import World
from agora_analytics.spans import WINDOW
from agora_analytics.streams import Event
from benchmarks.endurance.schedule import LATE
from benchmarks.endurance.truth import SERIES, Asked, Hindrances, Questions, value

_LIMITS: Final = PREMIUM.limits["realtime"]
_ALLOWANCE: Final = 120
_PACE: Final = 1_900.0
"""Seconds without a hindrance in which each series is polled at least once, even after one failure."""

_JUDGED: Final = 14 * 3_600
"""Seconds after which no more events of a window can come."""

_LATEST: Final = 120.0
"""Seconds within which a new process sends its first request; what has expired by then counts as before its start."""

_LOW: Final = 0.9

Report = Callable[[str, str], None]
"""Takes a promise's name, and how it was broken."""


@attrs.define
class _Delivered:
    """What was delivered of a window: each series' value, or why it is missing; when, and by which process."""

    at: float
    life: int
    values: list[float | None]
    missing: dict[int, str]
    lost: str = ""
    too_old: bool = False


class WindowJudge:
    """Takes the committed events of all processes, in order."""

    def __init__(self, world: World, begin: int, hindrances: Hindrances, questions: Questions, report: Report) -> None:
        self._world = world
        self._hindrances = hindrances
        self._questions = questions
        self._report = report
        self._delivered: dict[int, _Delivered] = {}
        self._commits: deque[tuple[float, int]] = deque()
        self.due = begin
        self.judged = begin
        self.seen: Counter[str] = Counter()
        self.ages: list[float] = []
        self.lives: list[float] = []
        self.dozes: list[tuple[float, float]] = []

    def take(self, at: float, life: int, event: Event) -> None:
        """Take an event that was committed."""
        self._commits.append((at, life))
        self.seen[type(event).__name__] += 1
        if isinstance(event, Revision):
            self._revise(event)
            return
        if event.span.start != self.due:
            self._report("windows in order, each once", f"{event} came where {self.due} was due")
        self.due = event.span.end
        if isinstance(event, Gap):
            self.seen[f"windows lost: {event.reason}"] += event.span.duration // WINDOW
            for ts in range(event.span.start, event.span.end, WINDOW):
                too_old = ts + _LIMITS.retention < self.lives[life - 1] + _LATEST
                self._delivered[ts] = _Delivered(at, life, [], {}, lost=event.reason, too_old=too_old)
            return
        self._window(at, life, event)

    def _window(self, at: float, life: int, window: Window) -> None:
        self.ages.append(at - window.ts - WINDOW - _LIMITS.delay)
        missing = {place: window.missing[one] for place, one in enumerate(SERIES) if one in window.missing}
        self._delivered[window.ts] = delivered = _Delivered(at, life, [window.value(one) for one in SERIES], missing)
        for place, reason in missing.items():
            self.seen[f"values missing: {reason}"] += 1
            overdue = window.ts + WINDOW + _LIMITS.delay + _ALLOWANCE
            heard = [one for one in self._questions.about(place, window.ts, overdue) if one.received <= at]
            # What an earlier process received is known only if it was committed.
            surely = [one for one in heard if one.life == life]
            if surely if reason != "no data" else not heard:
                self._report("missing with the right reason", f"{window.ts} {SERIES[place]}: {reason}, heard {heard}")
        for place, found in enumerate(delivered.values):
            true = value(self._world, SERIES[place], window.ts)
            if found is not None and (true is None or not _LOW * true - 1.001 <= found <= true):
                self._report("values are the world's", f"{window.ts} {SERIES[place]}: {found}, not {true}")

    def _revise(self, event: Revision) -> None:
        delivered = self._delivered.get(event.ts)
        place = SERIES.index(event.series)
        if delivered is None or delivered.lost:
            self._report("revisions of what was delivered", str(event))
            return
        if event.after[0].value == delivered.values[place]:
            self._report("revisions change something", str(event))
        delivered.values[place] = event.after[0].value
        delivered.missing.pop(place, None)

    def judge(self, now: float) -> None:
        """Judge the windows of which no more events can come, and forget them."""
        while self.judged < min(now - _JUDGED, self.due):
            delivered = self._delivered.pop(self.judged, None)
            if delivered is not None and delivered.lost:
                self._judge_lost(self.judged, delivered)
            elif delivered is not None:
                self._judge_values(self.judged, delivered)
            self.judged += WINDOW
        while self._commits and self._commits[0][0] < now - 2 * _JUDGED:
            self._commits.popleft()

    def close(self, stop: int) -> None:
        """Judge the windows that are left; the stream was stopped at `stop`."""
        self.judge(float("inf"))
        if self.due < stop - WINDOW - _LIMITS.delay - _ALLOWANCE - _PACE:
            self._report("windows to the end", f"the last was that before {self.due}, stopped at {stop}")

    def _judge_lost(self, ts: int, delivered: _Delivered) -> None:
        first, last = ts + WINDOW + _LIMITS.delay, ts + _LIMITS.retention
        causes = {_REASONS[kind] for kind in self._hindrances.kinds(first, last)}
        causes |= {"before_start"} if delivered.too_old else set()
        if self._begun_failing(first, last):
            causes.add("outage")
        if self._hindrances.free(first, last) > _PACE:
            self._report("nothing lost that could be asked for", f"{ts}: {delivered.lost}")
        causes |= {"asleep"} if any(begun < last and over > first for begun, over in self.dozes) else set()
        if delivered.lost not in causes:
            self._report("gaps with the reason that was there", f"{ts}: {delivered.lost}, not of {sorted(causes)}")
        for place, series in enumerate(SERIES):
            # What a process had received and not delivered is lost with it.
            heard = [one for one in self._questions.about(place, ts, first + LATE) if one.life == delivered.life]
            if heard and value(self._world, series, ts) is not None:
                self._report("nothing lost that was answered", f"{ts} {series}: {delivered.lost}, {heard[0]}")

    def _begun_failing(self, first: float, last: float) -> bool:
        """Whether the last request failed in an outage: with no requests left, a stream cannot know that it is over."""
        asked = [self._questions.last(place, first) for place in range(len(SERIES))]
        return "outage" in self._hindrances.kinds(max(asked), last)

    def _judge_values(self, ts: int, delivered: _Delivered) -> None:
        final, last = ts + WINDOW + _LIMITS.delay + LATE, ts + _LIMITS.retention
        for place, series in enumerate(SERIES):
            true = value(self._world, series, ts)
            if delivered.values[place] == true:
                continue
            heard = self._heard(self._questions.about(place, ts, final))
            if heard:
                self._report("final values", f"{ts} {series}: {delivered.values[place]}, not {true}, {heard[0]}")
            elif self._hindrances.free(final, last) > _PACE:
                self._report("asked again until final", f"{ts} {series}: {delivered.values[place]}, not {true}")
            else:
                self.seen["values not final: could not be asked for again"] += 1

    def _heard(self, answers: list[Asked]) -> list[Asked]:
        """Return the answers after which the same process committed something; others were lost with it."""
        return [one for one in answers if any(life == one.life and at >= one.received for at, life in self._commits)]


_REASONS: Final = {"outage": "outage", "asleep": "asleep", "spent": "quota", "down": ""}
