"""Which windows are due, and what is known of them: a pure machine of answers in and events out.

Windows leave in order, each once. One leaves as soon as all its series have it; a series that lacks it holds it back
until an answer from after the allowance lacks it still, or until it is too old to be asked for. Nothing but an answer
can say that something is missing: an outage only delays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from agora_analytics.models import Point
from agora_analytics.models.points import Number
from agora_analytics.spans import WINDOW, Span
from agora_analytics.streams._series import Series

_NOTHING: Final[tuple[Point, ...]] = ()


@attrs.frozen(kw_only=True)
class Window:
    """20 seconds from `ts` (UTC), with the points of each series.

    `missing` are series without a point: late beyond the allowance, or lost. `settled` tells that the service will not
    change it any more, as far as is known.
    """

    ts: int
    values: Mapping[Series, tuple[Point, ...]]
    missing: tuple[Series, ...] = ()
    settled: bool = False

    @property
    def span(self) -> Span:
        """The window's 20 seconds."""
        return Span(self.ts, self.ts + WINDOW)

    def value(self, series: Series) -> Number | None:
        """Return the value of a series of one point; None where it is missing."""
        points = self.values.get(series, _NOTHING)
        return points[0].value if points else None


@attrs.frozen(kw_only=True)
class Revision:
    """A series of a window that was delivered before and has changed; `before` is empty where it was missing."""

    ts: int
    series: Series
    before: tuple[Point, ...]
    after: tuple[Point, ...]
    settled: bool = False


@attrs.frozen(kw_only=True)
class Gap:
    """Windows that nobody can ask for any more, of any series: the service has forgotten them."""

    span: Span


Event = Window | Revision | Gap
"""What a watch yields."""


@attrs.define
class _Seen:
    """What is known of one series of one window: its points, and when the service was asked for them last."""

    points: tuple[Point, ...]
    at: float


class Windows:
    """Windows from `due` on, until delivered, and after that until they are settled.

    `allowance` and `settling` are seconds after a window could be asked for first, which is `delay` after its end.
    """

    def __init__(
        self,
        series: Sequence[Series],
        due: int,
        *,
        delay: int,
        allowance: int,
        settling: int,
        revisions: bool = True,
        final: bool = False,
        done: Sequence[Span] = (),
    ) -> None:
        self._done = tuple(done)
        self.due = self._skip(due)
        self._series = tuple(series)
        self._delay = delay
        self._allowance = allowance
        self._settling = settling
        self._revisions = revisions
        self._final = final
        self._seen: dict[int, dict[int, _Seen]] = {}
        self._revised: list[Revision] = []

    def _skip(self, due: int) -> int:
        """Return the first window from `due` on that is not done."""
        for span in self._done:
            if span.start <= due < span.end:
                due = span.end
        return due

    def wanted(self) -> int:
        """Return the oldest window that an answer could still tell something of."""
        return min(self._seen, default=self.due)

    def absorb(self, places: Iterable[int], asked: Span, points: Sequence[Point], at: float) -> None:
        """Take an answer about the series at these places, for the windows of a span, asked for at `at`."""
        groups: dict[int, list[Point]] = {}
        for point in points:
            groups.setdefault(point.ts // WINDOW * WINDOW, []).append(point)
        oldest = self.wanted()
        first = max(asked.start // WINDOW * WINDOW, oldest)
        for ts in range(first, asked.end // WINDOW * WINDOW, WINDOW):
            if ts < self.due and ts not in self._seen:
                continue
            for place in places:
                self._look(ts, place, self._series[place].of(groups.get(ts, ())), at)

    def _look(self, ts: int, place: int, points: tuple[Point, ...], at: float) -> None:
        window = self._seen.setdefault(ts, {})
        known = window.get(place)
        if known is None:
            window[place] = _Seen(points, at)
            return
        known.at = max(at, known.at)
        # Values that are gone again were there: an answer that lacks them takes nothing back.
        if points and points != known.points:
            if ts < self.due and self._revisions:
                change = Revision(
                    ts=ts, series=self._series[place], before=known.points, after=points, settled=self._settled(ts, at)
                )
                self._revised.append(change)
            known.points = points

    def events(self, oldest: int, stop: int | None) -> Iterator[Event]:
        """Yield what can be delivered now; `oldest` is the first window that can still be asked for."""
        while self._revised:
            yield self._revised.pop(0)
        while stop is None or self.due < stop:
            lost = self._lost(oldest, stop)
            if lost is not None:
                self.due = self._skip(lost.end)
                yield Gap(span=lost)
                continue
            if not (self._ready(self.due) or self.due < oldest):
                break
            window = self._window(self.due)
            self.due = self._skip(self.due + WINDOW)
            yield window
        self._forget(oldest)

    def _lost(self, oldest: int, stop: int | None) -> Span | None:
        """Return the windows, from the one that is due on, that can not be asked for and were never seen."""
        end = self.due
        last = oldest if stop is None else min(oldest, stop)
        while end < last and not any(one.points for one in self._seen.get(end, {}).values()):
            if self._ready(end):
                break  # it was asked for in time: it is there, and empty
            self._seen.pop(end, None)
            end += WINDOW
        return Span(self.due, end) if end > self.due else None

    def _ready(self, ts: int) -> bool:
        """Whether every series has the window, or surely lacks it."""
        seen = self._seen.get(ts, {})
        if len(seen) < len(self._series):
            return False
        patience = self._settling if self._final else self._allowance
        overdue = ts + WINDOW + self._delay + patience
        return all(one.at >= overdue or (one.points and not self._final) for one in seen.values())

    def _window(self, ts: int) -> Window:
        seen = self._seen.setdefault(ts, {})
        found = {series: seen[place].points for place, series in enumerate(self._series) if place in seen}
        missing = tuple(series for series in self._series if not found.get(series))
        values = {series: points for series, points in found.items() if points}
        at = min((one.at for one in seen.values()), default=0.0)
        return Window(ts=ts, values=values, missing=missing, settled=self._settled(ts, at))

    def _settled(self, ts: int, at: float) -> bool:
        return at >= ts + WINDOW + self._delay + self._settling

    def _forget(self, oldest: int) -> None:
        """Forget delivered windows that are settled or older than can be asked for; without revisions, all of them."""
        for ts in [ts for ts in self._seen if ts < self.due]:
            seen = self._seen[ts]
            if not self._revisions or ts < oldest or all(self._settled(ts, one.at) for one in seen.values()):
                del self._seen[ts]
