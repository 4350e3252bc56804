"""Which windows are due, and what is known of them: a pure machine of answers in and events out.

Windows leave in order, each once. One leaves as soon as all its series have it; a series that lacks it holds it back
until an answer from after the allowed_lateness lacks it still, or until it is too old to be asked for. Nothing but an
answer can say that something is missing: an outage only delays.

The rows of a series in one window are a set: each has a group (a dimension's value, a user, or nothing) and a value, in
no order. A later answer that has other values, or groups that were not known, changes the window. One that lacks rows
takes nothing back: the reference promises no complete answer, and which groups are shown may depend on what else was
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from agora_analytics.models import Point
from agora_analytics.spans import WINDOW, Span
from agora_analytics.streams.checkpoints import check_known
from agora_analytics.streams.events import Event, Gap, Loss, Missing, Revision, Window, group_of
from agora_analytics.streams.watch.series import Series

Why = Callable[[int], Loss]
"""Returns why a window (its start) could not be asked for in time."""

_DUMPED: Final = frozenset({"at", "rows"})
"""What a checkpoint keeps of a series of a window."""

Row = list[str | int | float | None]
"""A group, a user and a value."""


@attrs.define
class _Seen:
    """What is known of one series of one window: its points, when the service was asked last, and what was delivered.

    `told` is None before the window is delivered.
    """

    points: tuple[Point, ...]
    at: float
    told: tuple[Point, ...] | None = None
    _rows: tuple[tuple[Point, ...], list[Row]] | None = attrs.field(default=None, init=False)

    def dumped(self, told: tuple[Point, ...]) -> dict[str, Any]:
        """Return what a checkpoint keeps of it, with these rows.

        A checkpoint is taken at each event, of many windows that have not changed since: their rows are kept.
        """
        if self._rows is None or self._rows[0] is not told:
            self._rows = told, [[point.dimension_value, point.uid, point.value] for point in told]
        return {"at": self.at, "rows": self._rows[1]}


_GROUPS: Final = frozenset({str, type(None)})
_UIDS: Final = frozenset({int, str, type(None)})
_NUMBERS: Final = frozenset({int, float, type(None)})
"""Types of what a checkpoint keeps of a row."""

_PARTS: Final = 500
"""Into so many parts a long loss is divided to find its reasons: years have millions of windows."""


class Windows:
    """Windows from `due` on, until delivered, and after that until they are settled.

    `allowed_lateness` and `final_after` are seconds after a window could be asked for first, which is `delay` after its
    end.
    """

    def __init__(
        self,
        series: Sequence[Series],
        due: int,
        *,
        delay: int,
        allowed_lateness: int,
        final_after: int,
        revisions: bool = True,
        only_final: bool = False,
        done: Sequence[Span] = (),
    ) -> None:
        self._done = tuple(done)
        self.due = self._skip(due)
        self._series = tuple(series)
        self._delay = delay
        self._allowed_lateness = allowed_lateness
        self._final_after = final_after
        self._revisions = revisions
        self._only_final = only_final
        self._seen: dict[int, dict[int, _Seen]] = {}
        self._changed: dict[tuple[int, int], None] = {}
        self._order = _order(self._series)
        self._dumps: dict[int, Mapping[str, Any]] = {}
        self.absent: frozenset[int] = frozenset()
        """Places of series that cannot be asked for: windows do not wait for these."""

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
        rows: dict[int, list[Point]] = {}
        for point in points:
            rows.setdefault(point.ts // WINDOW * WINDOW, []).append(point)
        first = max(asked.start // WINDOW * WINDOW, self.wanted())
        for ts in range(first, asked.end // WINDOW * WINDOW, WINDOW):
            if ts >= self.due or ts in self._seen:
                for place in places:
                    self._look(ts, place, self._series[place].of(rows.get(ts, ())), at)

    def _look(self, ts: int, place: int, points: tuple[Point, ...], at: float) -> None:
        self._dumps.pop(ts, None)
        window = self._seen.setdefault(ts, {})
        known = window.get(place)
        if known is None:
            known = window[place] = _Seen(united((), points), at, None if ts >= self.due else ())
        else:
            known.at = max(at, known.at)
            known.points = united(known.points, points)
        if known.told is not None and known.points is not known.told and self._revisions:
            self._changed[ts, place] = None

    def events(self, oldest: int, stop: int | None, why: Why = lambda _: "outage") -> Iterator[Event]:
        """Yield what can be delivered now; `oldest` is the first window that can still be asked for."""
        yield from self._revised()
        while stop is None or self.due < stop:
            lost = self._lost(oldest, stop, why)
            if lost is not None:
                yield lost
                self.due = self._skip(lost.span.end)
                continue
            if not (self._ready(self.due) or self.due < oldest):
                break
            yield self._window(self.due, oldest)
            self._dumps.pop(self.due, None)
            self.due = self._skip(self.due + WINDOW)
        self._forget(oldest)

    def _revised(self) -> Iterator[Revision]:
        for ts, place in list(self._changed):
            seen = self._seen[ts][place]
            before = seen.told or ()
            if united(before, seen.points) is not before:
                final = self._is_final(ts, seen.at)
                yield Revision(ts=ts, series=self._series[place], before=before, after=seen.points, final=final)
            self._changed.pop((ts, place), None)
            self._dumps.pop(ts, None)

    def note(self, event: Event) -> None:
        """Know that an event was delivered."""
        if isinstance(event, Revision):
            seen = self._seen.get(event.ts, {}).get(self._series.index(event.series))
            if seen is not None:
                seen.told = event.after
                self._dumps.pop(event.ts, None)

    def _lost(self, oldest: int, stop: int | None, why: Why) -> Gap | None:
        """Return the windows, from the one that is due on, that cannot be asked for and were never seen."""
        start = end = self.due
        bound = oldest if stop is None else min(oldest, stop)
        if bound <= start:
            return None
        last = self._next_known(start, bound)
        if last <= start:
            return None
        reason = why(start)
        step = -(-(last - start) // (WINDOW * _PARTS)) * WINDOW
        while end < last and why(end) == reason:
            end += step
        end = min(end, last)
        for ts in [ts for ts in self._seen if start <= ts < end]:
            self._drop(ts)
        return Gap(span=Span(start, end), reason=reason) if end > start else None

    def _next_known(self, start: int, last: int) -> int:
        """Return the first window from `start` on that was heard of or is done; `last`, or its end, if none is."""
        heard = (ts for ts in self._seen if ts >= start and self._heard(ts))
        done = (span.start for span in self._done if span.end > start)
        first = min((last, *heard, *done))
        return max(start, -(-first // WINDOW) * WINDOW)

    def _heard(self, ts: int) -> bool:
        """Whether any series has the window, or surely lacks it: a window without rows was asked for in time too."""
        return any(one.points or self._lacks(ts, one) for one in self._seen.get(ts, {}).values())

    def _ready(self, ts: int) -> bool:
        """Whether every series has the window, or surely lacks it, but for those that are absent."""
        seen = self._seen.get(ts, {})
        if not seen or not self.absent.issuperset(self._unseen(seen)):
            return False
        patience = self._final_after if self._only_final else self._allowed_lateness
        overdue = ts + WINDOW + self._delay + patience
        return all(one.at >= overdue or (one.points and not self._only_final) for one in seen.values())

    def _unseen(self, seen: Mapping[int, _Seen]) -> set[int]:
        return set(range(len(self._series))) - seen.keys()

    def _window(self, ts: int, oldest: int) -> Window:
        seen = self._seen.setdefault(ts, {})
        values: dict[Series, tuple[Point, ...]] = {}
        missing: dict[Series, Missing] = {}
        for place, series in enumerate(self._series):
            one = seen.get(place)
            if one is not None:
                one.told = one.points
            if one is not None and one.points:
                values[series] = one.points
            else:
                missing[series] = self._missing(ts, one)
        at = min((one.at for one in seen.values()), default=0.0)
        whole = ts < oldest or not self._unseen(seen)
        return Window(ts=ts, values=values, missing=missing, final=whole and self._is_final(ts, at))

    def _missing(self, ts: int, seen: _Seen | None) -> Missing:
        return "no data" if seen is not None and self._lacks(ts, seen) else "not asked"

    def _lacks(self, ts: int, seen: _Seen) -> bool:
        """Whether the service was asked so late that what it did not have then it will not have."""
        patience = min(self._allowed_lateness, self._final_after) if self._only_final else self._allowed_lateness
        return not seen.points and seen.at >= ts + WINDOW + self._delay + patience

    def _is_final(self, ts: int, at: float) -> bool:
        return at >= ts + WINDOW + self._delay + self._final_after

    def _forget(self, oldest: int) -> None:
        """Forget delivered windows that are settled or older than can be asked for; without revisions, all of them."""
        for ts in [ts for ts in self._seen if ts < self.due]:
            if not self._revisions or ts < oldest or self._final_by(ts, self._seen[ts]):
                self._drop(ts)

    def _drop(self, ts: int) -> None:
        del self._seen[ts]
        self._dumps.pop(ts, None)

    def _final_by(self, ts: int, seen: Mapping[int, _Seen]) -> bool:
        """Whether no series of a window will change any more."""
        return not self._unseen(seen) and all(self._is_final(ts, one.at) for one in seen.values())

    def unsettled(self, current: Event | None = None) -> dict[str, Mapping[str, Any]]:
        """Return, as a checkpoint keeps them, the windows that may still change, or were only heard of.

        That is as they were delivered, with `current` as the last event. Series are told by their place in the
        alphabet, so that they may come in another order after a restart.
        """
        changed = {ts for ts, _ in self._changed}
        kept: dict[str, Mapping[str, Any]] = {}
        for ts, seen in self._seen.items():
            rows = self._dumps.get(ts)
            if rows is None:
                rows = self._dumps[ts] = self._dumped(ts, seen, changed=ts in changed)
            if rows:
                kept[str(ts)] = rows
        if current is not None and not isinstance(current, Gap) and current.ts in self._seen:
            self._keep_current(kept, current)
        return kept

    def _dumped(self, ts: int, seen: Mapping[int, _Seen], *, changed: bool) -> dict[str, Any]:
        """Return what a checkpoint keeps of a window, which may be nothing.

        A checkpoint is taken at each event, of many windows of which nothing was heard since: theirs are remembered.
        """
        if ts >= self.due:
            return {str(self._order[place]): one.dumped(one.points) for place, one in seen.items()}
        if not self._revisions or (not changed and self._final_by(ts, seen)):
            return {}
        return {
            str(self._order[place]): self._dumped_as_told(ts, place, one, one.told)
            for place, one in seen.items()
            if one.told is not None
        }

    def _dumped_as_told(self, ts: int, place: int, seen: _Seen, told: tuple[Point, ...]) -> dict[str, Any]:
        """Return what a checkpoint keeps of a series that was delivered: of one that has changed since, not the last.

        That was asked for anew after a restart, or the change would not be told where the window is settled by now.
        """
        dump = seen.dumped(told)
        if (ts, place) in self._changed:
            dump["at"] = min(seen.at, ts + WINDOW + self._delay + self._final_after - 1)
        return dump

    def _keep_current(self, kept: dict[str, Mapping[str, Any]], current: Window | Revision) -> None:
        """Keep a window as it will be once an event is delivered."""
        seen, key, place = self._seen[current.ts], str(current.ts), None
        if isinstance(current, Revision):
            place = self._series.index(current.series)
            kept[key] = {**kept.get(key, {}), str(self._order[place]): seen[place].dumped(current.after)}
        changed = any(ts == current.ts and other != place for ts, other in self._changed)
        if not self._revisions or (not changed and self._final_by(current.ts, seen)):
            kept.pop(key, None)

    def restore(self, kept: Mapping[str, Mapping[str, Any]]) -> None:
        """Take up what `unsettled` kept.

        Raises `CheckpointError` for fields that this version does not know, and `ValueError`, `TypeError`, `KeyError`
        or others for what is no such thing at all.
        """
        places = {str(number): place for place, number in self._order.items()}
        for key, rows in kept.items():
            ts = int(key)
            delivered = self._skip(ts) != ts
            if (delivered and self._revisions) or (not delivered and ts >= self.due):
                self._seen[ts] = {
                    places[name]: _loaded(ts, self._series[places[name]], dump, delivered=delivered)
                    for name, dump in rows.items()
                }


def united(known: tuple[Point, ...], points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Return the rows that are known after more have come; `known` itself where they say nothing new."""
    if points == known:
        return known
    rows = {group_of(point): point for point in known}
    new: dict[str | None, Point] = {}
    for point in points:
        group = group_of(point)
        # Without a value a row says as little as one that is not there; of two for a group the higher counts.
        if point.value is not None and (group not in new or point.value > (new[group].value or 0.0)):
            new[group] = point
    if all(group in rows and rows[group].value == point.value for group, point in new.items()):
        return known
    return tuple({**rows, **new}.values())


def _order(series: Sequence[Series]) -> dict[int, int]:
    """Return each place's rank by its series' text."""
    ranked = sorted(range(len(series)), key=lambda place: (str(series[place]), series[place].weight))
    return {place: rank for rank, place in enumerate(ranked)}


def _loaded(ts: int, series: Series, dump: Mapping[str, Any], *, delivered: bool) -> _Seen:
    check_known(dump, _DUMPED, f"window {ts} in the checkpoint")
    for group, uid, value in dump["rows"]:
        if not (type(group) in _GROUPS and type(uid) in _UIDS and type(value) in _NUMBERS):
            raise TypeError(f"this is no row: {group!r}, {uid!r}, {value!r}")
    points = tuple(
        Point.of(
            ts,
            value,
            metric=series.metric,
            dimension=series.dimension,
            dimension_value=group,
            uid=uid,
        )
        for group, uid, value in dump["rows"]
    )
    return _Seen(points, float(dump["at"]), points if delivered else None)
