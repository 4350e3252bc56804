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

_STATE_FIELDS: Final = frozenset({"at", "rows"})
"""What a checkpoint keeps of a series of a window."""

Row = list[str | int | float | None]
"""A group, a user and a value."""


@attrs.define
class _SeriesState:
    """What is known of one series of one window: its points, when the service was asked last, and what was delivered.

    `told` is None before the window is delivered.
    """

    points: tuple[Point, ...]
    asked_at: float
    delivered: tuple[Point, ...] | None = None
    _encoded_rows: tuple[tuple[Point, ...], list[Row]] | None = attrs.field(default=None, init=False)

    def encode(self, told: tuple[Point, ...]) -> dict[str, Any]:
        """Return what a checkpoint keeps of it, with these rows.

        A checkpoint is taken at each event, of many windows that have not changed since: their rows are kept.
        """
        if self._encoded_rows is None or self._encoded_rows[0] is not told:
            self._encoded_rows = told, [[point.dimension_value, point.uid, point.value] for point in told]
        return {"at": self.asked_at, "rows": self._encoded_rows[1]}


_GROUPS: Final = frozenset({str, type(None)})
_UIDS: Final = frozenset({int, str, type(None)})
_NUMBERS: Final = frozenset({int, float, type(None)})
"""Types of what a checkpoint keeps of a row."""

_PARTS: Final = 500
"""Into so many parts a long loss is divided to find its reasons: years have millions of windows."""


class WindowAssembler:
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
        self.watermark = self._skip(due)
        self._series = tuple(series)
        self._delay = delay
        self._allowed_lateness = allowed_lateness
        self._final_after = final_after
        self._revisions = revisions
        self._only_final = only_final
        self._buffer: dict[int, dict[int, _SeriesState]] = {}
        self._pending_revisions: dict[tuple[int, int], None] = {}
        self._order = _order(self._series)
        self._encoded: dict[int, Mapping[str, Any]] = {}
        self.excluded: frozenset[int] = frozenset()
        """Places of series that cannot be asked for: windows do not wait for these."""

    def _skip(self, due: int) -> int:
        """Return the first window from `due` on that is not done."""
        for span in self._done:
            if span.start <= due < span.end:
                due = span.end
        return due

    def oldest_open(self) -> int:
        """Return the oldest window that an answer could still tell something of."""
        return min(self._buffer, default=self.watermark)

    def add(self, places: Iterable[int], asked: Span, points: Sequence[Point], at: float) -> None:
        """Take an answer about the series at these places, for the windows of a span, asked for at `at`."""
        rows: dict[int, list[Point]] = {}
        for point in points:
            rows.setdefault(point.ts // WINDOW * WINDOW, []).append(point)
        first = max(asked.start // WINDOW * WINDOW, self.oldest_open())
        for ts in range(first, asked.end // WINDOW * WINDOW, WINDOW):
            if ts >= self.watermark or ts in self._buffer:
                for place in places:
                    self._merge(ts, place, self._series[place].select(rows.get(ts, ())), at)

    def _merge(self, ts: int, place: int, points: tuple[Point, ...], at: float) -> None:
        self._encoded.pop(ts, None)
        window = self._buffer.setdefault(ts, {})
        known = window.get(place)
        if known is None:
            known = window[place] = _SeriesState(merge_rows((), points), at, None if ts >= self.watermark else ())
        else:
            known.asked_at = max(at, known.asked_at)
            known.points = merge_rows(known.points, points)
        if known.delivered is not None and known.points is not known.delivered and self._revisions:
            self._pending_revisions[ts, place] = None

    def drain(self, oldest: int, stop: int | None, why: Why = lambda _: "outage") -> Iterator[Event]:
        """Yield what can be delivered now; `oldest` is the first window that can still be asked for."""
        yield from self._drain_revisions()
        while stop is None or self.watermark < stop:
            lost = self._expired_gap(oldest, stop, why)
            if lost is not None:
                yield lost
                self.watermark = self._skip(lost.span.end)
                continue
            if not (self._is_complete(self.watermark) or self.watermark < oldest):
                break
            yield self._build_window(self.watermark, oldest)
            self._encoded.pop(self.watermark, None)
            self.watermark = self._skip(self.watermark + WINDOW)
        self._evict(oldest)

    def _drain_revisions(self) -> Iterator[Revision]:
        for ts, place in list(self._pending_revisions):
            seen = self._buffer[ts][place]
            before = seen.delivered or ()
            if merge_rows(before, seen.points) is not before:
                final = self._is_final(ts, seen.asked_at)
                yield Revision(ts=ts, series=self._series[place], before=before, after=seen.points, final=final)
            self._pending_revisions.pop((ts, place), None)
            self._encoded.pop(ts, None)

    def mark_delivered(self, event: Event) -> None:
        """Know that an event was delivered."""
        if isinstance(event, Revision):
            seen = self._buffer.get(event.ts, {}).get(self._series.index(event.series))
            if seen is not None:
                seen.delivered = event.after
                self._encoded.pop(event.ts, None)

    def _expired_gap(self, oldest: int, stop: int | None, why: Why) -> Gap | None:
        """Return the windows, from the one that is due on, that cannot be asked for and were never seen."""
        start = end = self.watermark
        bound = oldest if stop is None else min(oldest, stop)
        if bound <= start:
            return None
        last = self._next_heard_of(start, bound)
        if last <= start:
            return None
        reason = why(start)
        step = -(-(last - start) // (WINDOW * _PARTS)) * WINDOW
        while end < last and why(end) == reason:
            end += step
        end = min(end, last)
        for ts in [ts for ts in self._buffer if start <= ts < end]:
            self._discard(ts)
        return Gap(span=Span(start, end), reason=reason) if end > start else None

    def _next_heard_of(self, start: int, last: int) -> int:
        """Return the first window from `start` on that was heard of or is done; `last`, or its end, if none is."""
        heard = (ts for ts in self._buffer if ts >= start and self._is_heard_of(ts))
        done = (span.start for span in self._done if span.end > start)
        first = min((last, *heard, *done))
        return max(start, -(-first // WINDOW) * WINDOW)

    def _is_heard_of(self, ts: int) -> bool:
        """Whether any series has the window, or surely lacks it: a window without rows was asked for in time too."""
        return any(one.points or self._is_missing(ts, one) for one in self._buffer.get(ts, {}).values())

    def _is_complete(self, ts: int) -> bool:
        """Whether every series has the window, or surely lacks it, but for those that are absent."""
        seen = self._buffer.get(ts, {})
        if not seen or not self.excluded.issuperset(self._unanswered(seen)):
            return False
        patience = self._final_after if self._only_final else self._allowed_lateness
        overdue = ts + WINDOW + self._delay + patience
        return all(one.asked_at >= overdue or (one.points and not self._only_final) for one in seen.values())

    def _unanswered(self, seen: Mapping[int, _SeriesState]) -> set[int]:
        return set(range(len(self._series))) - seen.keys()

    def _build_window(self, ts: int, oldest: int) -> Window:
        seen = self._buffer.setdefault(ts, {})
        values: dict[Series, tuple[Point, ...]] = {}
        missing: dict[Series, Missing] = {}
        for place, series in enumerate(self._series):
            one = seen.get(place)
            if one is not None:
                one.delivered = one.points
            if one is not None and one.points:
                values[series] = one.points
            else:
                missing[series] = self._missing_reason(ts, one)
        at = min((one.asked_at for one in seen.values()), default=0.0)
        whole = ts < oldest or not self._unanswered(seen)
        return Window(ts=ts, values=values, missing=missing, final=whole and self._is_final(ts, at))

    def _missing_reason(self, ts: int, seen: _SeriesState | None) -> Missing:
        return "no data" if seen is not None and self._is_missing(ts, seen) else "not asked"

    def _is_missing(self, ts: int, seen: _SeriesState) -> bool:
        """Whether the service was asked so late that what it did not have then it will not have."""
        patience = min(self._allowed_lateness, self._final_after) if self._only_final else self._allowed_lateness
        return not seen.points and seen.asked_at >= ts + WINDOW + self._delay + patience

    def _is_final(self, ts: int, at: float) -> bool:
        return at >= ts + WINDOW + self._delay + self._final_after

    def _evict(self, oldest: int) -> None:
        """Forget delivered windows that are settled or older than can be asked for; without revisions, all of them."""
        for ts in [ts for ts in self._buffer if ts < self.watermark]:
            if not self._revisions or ts < oldest or self._is_wholly_final(ts, self._buffer[ts]):
                self._discard(ts)

    def _discard(self, ts: int) -> None:
        del self._buffer[ts]
        self._encoded.pop(ts, None)

    def _is_wholly_final(self, ts: int, seen: Mapping[int, _SeriesState]) -> bool:
        """Whether no series of a window will change any more."""
        return not self._unanswered(seen) and all(self._is_final(ts, one.asked_at) for one in seen.values())

    def snapshot(self, current: Event | None = None) -> dict[str, Mapping[str, Any]]:
        """Return, as a checkpoint keeps them, the windows that may still change, or were only heard of.

        That is as they were delivered, with `current` as the last event. Series are told by their place in the
        alphabet, so that they may come in another order after a restart.
        """
        changed = {ts for ts, _ in self._pending_revisions}
        kept: dict[str, Mapping[str, Any]] = {}
        for ts, seen in self._buffer.items():
            rows = self._encoded.get(ts)
            if rows is None:
                rows = self._encoded[ts] = self._encode(ts, seen, changed=ts in changed)
            if rows:
                kept[str(ts)] = rows
        if current is not None and not isinstance(current, Gap) and current.ts in self._buffer:
            self._apply_current(kept, current)
        return kept

    def _encode(self, ts: int, seen: Mapping[int, _SeriesState], *, changed: bool) -> dict[str, Any]:
        """Return what a checkpoint keeps of a window, which may be nothing.

        A checkpoint is taken at each event, of many windows of which nothing was heard since: theirs are remembered.
        """
        if ts >= self.watermark:
            return {str(self._order[place]): one.encode(one.points) for place, one in seen.items()}
        if not self._revisions or (not changed and self._is_wholly_final(ts, seen)):
            return {}
        return {
            str(self._order[place]): self._encode_delivered(ts, place, one, one.delivered)
            for place, one in seen.items()
            if one.delivered is not None
        }

    def _encode_delivered(self, ts: int, place: int, seen: _SeriesState, told: tuple[Point, ...]) -> dict[str, Any]:
        """Return what a checkpoint keeps of a series that was delivered: of one that has changed since, not the last.

        That was asked for anew after a restart, or the change would not be told where the window is settled by now.
        """
        dump = seen.encode(told)
        if (ts, place) in self._pending_revisions:
            dump["at"] = min(seen.asked_at, ts + WINDOW + self._delay + self._final_after - 1)
        return dump

    def _apply_current(self, kept: dict[str, Mapping[str, Any]], current: Window | Revision) -> None:
        """Keep a window as it will be once an event is delivered."""
        seen, key, place = self._buffer[current.ts], str(current.ts), None
        if isinstance(current, Revision):
            place = self._series.index(current.series)
            kept[key] = {**kept.get(key, {}), str(self._order[place]): seen[place].encode(current.after)}
        changed = any(ts == current.ts and other != place for ts, other in self._pending_revisions)
        if not self._revisions or (not changed and self._is_wholly_final(current.ts, seen)):
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
            if (delivered and self._revisions) or (not delivered and ts >= self.watermark):
                self._buffer[ts] = {
                    places[name]: _decode(ts, self._series[places[name]], dump, delivered=delivered)
                    for name, dump in rows.items()
                }


def merge_rows(known: tuple[Point, ...], points: tuple[Point, ...]) -> tuple[Point, ...]:
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


def _decode(ts: int, series: Series, dump: Mapping[str, Any], *, delivered: bool) -> _SeriesState:
    check_known(dump, _STATE_FIELDS, f"window {ts} in the checkpoint")
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
    return _SeriesState(points, float(dump["at"]), points if delivered else None)
