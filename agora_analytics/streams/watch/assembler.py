"""Assembles windows from answers: a state machine without I/O: points go in; windows, revisions and gaps come out.

Windows are deduplicated and delivered in order; the *watermark* is the next one to deliver. A window is complete once
every series has points for it. A series without points holds it back until an answer from after the allowed lateness
still lacks them, or until the window is too old to be queried. Only an answer can show that something is missing; an
outage merely delays.

The rows of one series in one window are a set: a group (a dimension's value, a user, or nothing) and a value each, in
no order. Late data with other values or new groups makes a revision. An answer that lacks rows takes nothing back: the
reference does not promise complete answers, and which groups are shown may depend on what else was requested.

docs/concepts/streams.md explains this with a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from agora_analytics.models import Point
from agora_analytics.models.points import group_of
from agora_analytics.spans import WINDOW, Span
from agora_analytics.streams.checkpoints import check_known
from agora_analytics.streams.events import Event, Gap, Loss, Missing, Revision, Window
from agora_analytics.streams.watch.series import Series

LossReason = Callable[[int], Loss]
"""Returns why a window (by its start) was not queried in time."""

Row = list[str | int | float | None]
"""A group, a user and a value."""

_STATE_FIELDS: Final = frozenset({"at", "rows"})
_GROUP_TYPES: Final = frozenset({str, type(None)})
_UID_TYPES: Final = frozenset({int, str, type(None)})
_VALUE_TYPES: Final = frozenset({int, float, type(None)})
"""What a checkpoint keeps of one series in one window, and the types in a row."""

_GAP_STEPS: Final = 500
"""Steps in which a long gap is searched for changes of its reason: years have millions of windows."""


@attrs.define
class _SeriesState:
    """One series in one window: its points, when it was last requested, and what was delivered (None: nothing)."""

    points: tuple[Point, ...]
    requested_at: float
    delivered: tuple[Point, ...] | None = None
    _encoded: tuple[tuple[Point, ...], list[Row]] | None = attrs.field(default=None, init=False)

    def encode(self, points: tuple[Point, ...]) -> dict[str, Any]:
        """Return what a checkpoint keeps, with these points.

        Rows are cached: a checkpoint is taken at each event, and most windows have not changed since the last one.
        """
        if self._encoded is None or self._encoded[0] is not points:
            self._encoded = points, [[point.dimension_value, point.uid, point.value] for point in points]
        return {"at": self.requested_at, "rows": self._encoded[1]}


class WindowAssembler:
    """Buffers windows until they are delivered, and then until they are final.

    `allowed_lateness` and `final_after` count seconds from when a window is first queryable, `delay` after its end.
    Series are given by their index.
    """

    def __init__(
        self,
        series: Sequence[Series],
        watermark: int,
        *,
        delay: int,
        allowed_lateness: int,
        final_after: int,
        revisions: bool = True,
        only_final: bool = False,
        done: Sequence[Span] = (),
    ) -> None:
        self._done = tuple(done)
        self.watermark = self._skip_done(watermark)
        self.excluded: frozenset[int] = frozenset()
        """Series that cannot be polled: windows do not wait for them."""

        self._series = tuple(series)
        self._delay = delay
        self._allowed_lateness = allowed_lateness
        self._final_after = final_after
        self._revisions = revisions
        self._only_final = only_final
        self._buffer: dict[int, dict[int, _SeriesState]] = {}
        self._pending_revisions: dict[tuple[int, int], None] = {}
        self._ranks = _ranks(self._series)
        self._encoded: dict[int, Mapping[str, Any]] = {}

    def _skip_done(self, ts: int) -> int:
        """Return the first window from `ts` on that is not done."""
        for span in self._done:
            if span.start <= ts < span.end:
                ts = span.end
        return ts

    def oldest_open(self) -> int:
        """Return the oldest window that an answer could still change."""
        return min(self._buffer, default=self.watermark)

    def final_before(self, index: int) -> int:
        """Return the oldest window in which a series may still change, the watermark at the latest."""
        changing = (ts for ts in sorted(self._buffer) if self._may_change(ts, index))
        return min(self.watermark, next(changing, self.watermark))

    def _may_change(self, ts: int, index: int) -> bool:
        state = self._buffer[ts].get(index)
        return state is None or (ts, index) in self._pending_revisions or not self._is_final(ts, state.requested_at)

    # Answers.

    def add(self, indexes: Iterable[int], span: Span, points: Sequence[Point], requested_at: float) -> None:
        """Add the answer about these series for the windows of a span, requested at `requested_at` (UTC seconds)."""
        rows = {index: _by_window(self._series[index].select(points)) for index in indexes}
        # Windows before it are final or lost: an answer cannot change them.
        first = max(span.start // WINDOW * WINDOW, self.oldest_open())
        for ts in range(first, span.end // WINDOW * WINDOW, WINDOW):
            if ts < self.watermark and ts not in self._buffer:
                continue
            self._encoded.pop(ts, None)
            window = self._buffer.setdefault(ts, {})
            for index, windows in rows.items():
                state, new = window.get(index), windows.get(ts, ())
                if state is not None and state.points is state.delivered and state.points == new:
                    # Most windows do not change until they are final.
                    state.requested_at = max(requested_at, state.requested_at)
                else:
                    self._merge(ts, index, window, new, requested_at)

    def _merge(
        self, ts: int, index: int, window: dict[int, _SeriesState], points: tuple[Point, ...], requested_at: float
    ) -> None:
        state = window.get(index)
        if state is None:
            # A delivered window lacked this series, so its points are a revision of nothing.
            delivered = None if ts >= self.watermark else ()
            state = window[index] = _SeriesState(merge_rows((), points), requested_at, delivered)
        else:
            state.requested_at = max(requested_at, state.requested_at)
            state.points = merge_rows(state.points, points)
        if state.delivered is not None and state.points is not state.delivered and self._revisions:
            self._pending_revisions[ts, index] = None

    # Delivery.

    def drain(self, oldest: int, stop: int | None, loss_reason: LossReason = lambda _: "outage") -> Iterator[Event]:
        """Yield what can be delivered now; `oldest` is the first window that is still queryable."""
        # Revisions first: they are of windows before those that follow.
        yield from self._drain_revisions()
        while stop is None or self.watermark < stop:
            gap = self._expired_gap(oldest, stop, loss_reason)
            if gap is not None:
                yield gap
                self.watermark = self._skip_done(gap.span.end)
                continue
            if not (self._is_complete(self.watermark) or self.watermark < oldest):
                break
            yield self._build_window(self.watermark, oldest)
            self._encoded.pop(self.watermark, None)
            self.watermark = self._skip_done(self.watermark + WINDOW)
        self._evict(oldest)

    def _drain_revisions(self) -> Iterator[Revision]:
        for ts, index in list(self._pending_revisions):
            state = self._buffer[ts][index]
            before = state.delivered or ()
            if merge_rows(before, state.points) is not before:
                final = self._is_final(ts, state.requested_at)
                yield Revision(ts=ts, series=self._series[index], before=before, after=state.points, final=final)
            # After the yield: a consumer that leaves has not got it, and its checkpoint must not say so.
            self._pending_revisions.pop((ts, index), None)
            self._encoded.pop(ts, None)

    def mark_delivered(self, event: Event) -> None:
        """Record that an event was delivered."""
        if isinstance(event, Revision):
            state = self._buffer.get(event.ts, {}).get(self._series.index(event.series))
            if state is not None:
                state.delivered = event.after
                self._encoded.pop(event.ts, None)

    def _expired_gap(self, oldest: int, stop: int | None, loss_reason: LossReason) -> Gap | None:
        """Return the windows, from the watermark on, that are no longer queryable and of which nothing is known."""
        start = end = self.watermark
        bound = oldest if stop is None else min(oldest, stop)
        if bound <= start:
            return None
        last = self._next_known(start, bound)
        if last <= start:
            return None
        reason = loss_reason(start)
        step = -(-(last - start) // (WINDOW * _GAP_STEPS)) * WINDOW
        while end < last and loss_reason(end) == reason:
            end += step
        # The last step may reach beyond the span.
        end = min(end, last)
        # They have states without points, of answers that came too early to say that there is nothing.
        for ts in [ts for ts in self._buffer if start <= ts < end]:
            self._discard(ts)
        return Gap(span=Span(start, end), reason=reason) if end > start else None

    def _next_known(self, start: int, last: int) -> int:
        """Return the first window from `start` on that is known or done; `last`, or its end, if there is none."""
        known = (ts for ts in self._buffer if ts >= start and self._is_known(ts))
        done = (span.start for span in self._done if span.end > start)
        first = min((last, *known, *done))
        return max(start, -(-first // WINDOW) * WINDOW)

    def _is_known(self, ts: int) -> bool:
        """Whether any series has points or certainly has none: a window without rows was queried in time too."""
        return any(state.points or self._is_missing(ts, state) for state in self._buffer.get(ts, {}).values())

    def _is_complete(self, ts: int) -> bool:
        """Whether every series, except the excluded, has points or certainly has none."""
        window = self._buffer.get(ts, {})
        if not window or not self.excluded.issuperset(self._unanswered(window)):
            return False
        lateness = self._final_after if self._only_final else self._allowed_lateness
        deadline = self._queryable_at(ts) + lateness
        return all(
            state.requested_at >= deadline or (state.points and not self._only_final) for state in window.values()
        )

    def _queryable_at(self, ts: int) -> int:
        return ts + WINDOW + self._delay

    def _unanswered(self, window: Mapping[int, _SeriesState]) -> set[int]:
        return set(range(len(self._series))) - window.keys()

    def _build_window(self, ts: int, oldest: int) -> Window:
        window = self._buffer.setdefault(ts, {})
        values: dict[Series, tuple[Point, ...]] = {}
        missing: dict[Series, Missing] = {}
        for index, series in enumerate(self._series):
            state = window.get(index)
            if state is not None:
                state.delivered = state.points
            if state is not None and state.points:
                values[series] = state.points
            else:
                missing[series] = "no data" if state is not None and self._is_missing(ts, state) else "not requested"
        requested_at = min((state.requested_at for state in window.values()), default=0.0)
        whole = ts < oldest or not self._unanswered(window)
        return Window(ts=ts, values=values, missing=missing, final=whole and self._is_final(ts, requested_at))

    def _is_missing(self, ts: int, state: _SeriesState) -> bool:
        """Whether the service was queried so late that data which it lacked then will not come."""
        # A final window waits no longer than until it is final: what it lacks then will not come.
        lateness = min(self._allowed_lateness, self._final_after) if self._only_final else self._allowed_lateness
        return not state.points and state.requested_at >= self._queryable_at(ts) + lateness

    def _is_final(self, ts: int, requested_at: float) -> bool:
        return requested_at >= self._queryable_at(ts) + self._final_after

    def _is_wholly_final(self, ts: int, window: Mapping[int, _SeriesState]) -> bool:
        return not self._unanswered(window) and all(self._is_final(ts, state.requested_at) for state in window.values())

    def _evict(self, oldest: int) -> None:
        """Discard delivered windows that are final or no longer queryable; without revisions, all of them."""
        for ts in [ts for ts in self._buffer if ts < self.watermark]:
            if not self._revisions or ts < oldest or self._is_wholly_final(ts, self._buffer[ts]):
                self._discard(ts)

    def _discard(self, ts: int) -> None:
        del self._buffer[ts]
        self._encoded.pop(ts, None)

    # Checkpoints.

    def snapshot(self, current: Event | None = None) -> dict[str, Mapping[str, Any]]:
        """Return the buffered windows for a checkpoint, as they were delivered, with `current` as the last event.

        Series are identified by their rank in the alphabet, so that their order may change between runs.
        """
        revised = {ts for ts, _ in self._pending_revisions}
        kept: dict[str, Mapping[str, Any]] = {}
        for ts, window in self._buffer.items():
            rows = self._encoded.get(ts)
            if rows is None:
                rows = self._encoded[ts] = self._encode(ts, window, revised=ts in revised)
            if rows:
                kept[str(ts)] = rows
        if current is not None and not isinstance(current, Gap) and current.ts in self._buffer:
            self._apply_current(kept, current)
        return kept

    def _encode(self, ts: int, window: Mapping[int, _SeriesState], *, revised: bool) -> dict[str, Any]:
        if ts >= self.watermark:
            return {str(self._ranks[index]): state.encode(state.points) for index, state in window.items()}
        if not self._revisions or (not revised and self._is_wholly_final(ts, window)):
            return {}
        return {
            str(self._ranks[index]): self._encode_delivered(ts, index, state, state.delivered)
            for index, state in window.items()
            if state.delivered is not None
        }

    def _encode_delivered(
        self, ts: int, index: int, state: _SeriesState, delivered: tuple[Point, ...]
    ) -> dict[str, Any]:
        """Return what a checkpoint keeps of a delivered series.

        A pending revision is not kept: the series counts as requested before it was final: a restart requests it again.
        """
        kept = state.encode(delivered)
        if (ts, index) in self._pending_revisions:
            kept["at"] = min(state.requested_at, self._queryable_at(ts) + self._final_after - 1)
        return kept

    def _apply_current(self, kept: dict[str, Mapping[str, Any]], current: Window | Revision) -> None:
        """Change a snapshot to what it will be once `current` is delivered."""
        window, key, revised_index = self._buffer[current.ts], str(current.ts), None
        if isinstance(current, Revision):
            revised_index = self._series.index(current.series)
            rank = str(self._ranks[revised_index])
            kept[key] = {**kept.get(key, {}), rank: window[revised_index].encode(current.after)}
        others = any(ts == current.ts and index != revised_index for ts, index in self._pending_revisions)
        if not self._revisions or (not others and self._is_wholly_final(current.ts, window)):
            kept.pop(key, None)

    def restore(self, kept: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore what `snapshot` returned.

        Raises `CheckpointError` for unknown fields, and `ValueError`, `TypeError`, `KeyError` or others for anything
        else that is no snapshot.
        """
        indexes = {str(rank): index for index, rank in self._ranks.items()}
        for key, rows in kept.items():
            ts = int(key)
            delivered = self._skip_done(ts) != ts
            if (delivered and self._revisions) or (not delivered and ts >= self.watermark):
                self._buffer[ts] = {
                    indexes[rank]: _decode(ts, self._series[indexes[rank]], entry, delivered=delivered)
                    for rank, entry in rows.items()
                }


def _by_window(points: Iterable[Point]) -> dict[int, tuple[Point, ...]]:
    rows: dict[int, list[Point]] = {}
    for point in points:
        rows.setdefault(point.ts // WINDOW * WINDOW, []).append(point)
    return {ts: tuple(row) for ts, row in rows.items()}


def merge_rows(known: tuple[Point, ...], points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Return the known rows with the new ones merged in; `known` itself if there is nothing new."""
    if points == known:
        return known
    rows = {group_of(point): point for point in known}
    new: dict[str | None, Point] = {}
    for point in points:
        group = group_of(point)
        # A row without a value says nothing. Of two rows for one group the higher counts, as rows come in any order:
        # the last one would make a revision of each answer in another order.
        if point.value is not None and (group not in new or point.value > (new[group].value or 0.0)):
            new[group] = point
    if not rows:
        return tuple(new.values())
    if all(group in rows and rows[group].value == point.value for group, point in new.items()):
        return known
    return tuple({**rows, **new}.values())


def _ranks(series: Sequence[Series]) -> dict[int, int]:
    """Return the rank of each series' index in the order of their texts."""
    ranked = sorted(range(len(series)), key=lambda index: (str(series[index]), series[index].weight))
    return {index: rank for rank, index in enumerate(ranked)}


def _decode(ts: int, series: Series, entry: Mapping[str, Any], *, delivered: bool) -> _SeriesState:
    check_known(entry, _STATE_FIELDS, f"window {ts} in the checkpoint")
    for group, uid, value in entry["rows"]:
        if not (type(group) in _GROUP_TYPES and type(uid) in _UID_TYPES and type(value) in _VALUE_TYPES):
            raise TypeError(f"this is no row: {group!r}, {uid!r}, {value!r}")
    points = tuple(
        Point.of(ts, value, metric=series.metric, dimension=series.dimension, dimension_value=group, uid=uid)
        for group, uid, value in entry["rows"]
    )
    return _SeriesState(points, float(entry["at"]), points if delivered else None)
