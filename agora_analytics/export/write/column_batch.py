"""Rows as columns: made from models, and serialized for staging.

A column in which values repeat is run-length encoded, so that the thousand points of a metric store its name once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, repeat
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from agora_analytics._core.decoding import json
from agora_analytics.export.schema import (
    CALLS,
    DATASETS,
    INSIGHTS,
    METRICS,
    MIDS,
    REALTIME,
    SESSIONS,
    STATISTICS,
    Column,
    Dataset,
)
from agora_analytics.spans import is_moment

if TYPE_CHECKING:
    from agora_analytics.models import Call, Session, SessionMetrics, Statistic, Track

T = TypeVar("T")
U = TypeVar("U")


@attrs.frozen
class RunLength(Generic[T]):
    """A run-length encoded column: `values[i]` repeats `counts[i]` times."""

    values: Sequence[T]
    counts: Sequence[int]

    @classmethod
    def of(cls, values: Iterable[T]) -> RunLength[T]:
        """Encode values."""
        pairs = [(value, len(list(group))) for value, group in groupby(values)]
        return RunLength([value for value, _ in pairs], [count for _, count in pairs])

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(map(repeat, self.values, self.counts))

    def map(self, function: Callable[[T], U]) -> RunLength[U]:
        """Return a column with `function` applied to each distinct value."""
        return RunLength([function(value) for value in self.values], self.counts)


Values = Sequence[Any] | RunLength[Any]


@attrs.frozen
class ColumnBatch:
    """Rows of a dataset, by column. All columns have one length; times are UTC seconds.

    Attributes:
        dataset: the dataset.
        rows: number of rows.
        columns: the columns, in the order of the dataset.
        invalid_times: number of times that are null here, since the service sent one that is outside of the calendar.

    """

    dataset: Dataset
    rows: int
    columns: tuple[Values, ...]
    invalid_times: int = 0

    def filter(self, name: str, keep: Callable[[Any], bool]) -> ColumnBatch:
        """Return the rows whose value in a column passes `keep`."""
        at = self.dataset.names.index(name)
        return self._with_rows([row for row in zip(*self.columns, strict=True) if keep(row[at])])

    def drop_duplicates(self, *key: str) -> ColumnBatch:
        """Return the rows without duplicates: of those with the same key columns, the last."""
        indexes = [self.dataset.names.index(name) for name in key]
        rows = {tuple(row[at] for at in indexes): row for row in zip(*self.columns, strict=True)}
        return self._with_rows(list(rows.values()))

    def column(self, name: str) -> Values:
        """Return a column by name."""
        return self.columns[self.dataset.names.index(name)]

    def with_constant(self, name: str, *, value: object) -> ColumnBatch:
        """Return the rows with one value in every row of a column."""
        columns = list(self.columns)
        columns[self.dataset.names.index(name)] = RunLength([value], [self.rows])
        return ColumnBatch(self.dataset, self.rows, tuple(columns))

    def _with_rows(self, rows: Sequence[tuple[Any, ...]]) -> ColumnBatch:
        """Return other rows, with the columns encoded as they are here."""
        columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else ((),) * len(self.columns)
        encoded = (
            RunLength.of(values) if isinstance(before, RunLength) else values
            for values, before in zip(columns, self.columns, strict=True)
        )
        return ColumnBatch(self.dataset, len(rows), tuple(encoded))


def calls(app_id: str, found: Sequence[Call]) -> ColumnBatch:
    """Return calls as rows."""
    return _from_models(CALLS, found, app_id=app_id)


def sessions(app_id: str, call_id: str, found: Sequence[Session]) -> ColumnBatch:
    """Return the sessions of a call as rows."""
    return _from_models(SESSIONS, found, app_id=app_id, call_id=call_id)


def metrics(app_id: str, call_id: str, found: Iterable[SessionMetrics]) -> ColumnBatch:
    """Return the metrics of a call as rows, each track ordered by time."""
    # Columns are filled in one pass over 100,000 points: longer than 25 lines for that.
    tracks = [(one.sid, track) for one in found for track in one.data if track.kvs]
    counts = [len(track.kvs) for _, track in tracks]
    invalid_times = 0
    times: list[int | None] = []
    values: list[float | None] = []
    for _, track in tracks:
        track_times: Sequence[int | None]
        track_times, track_values = _sorted_points(track)
        if not (is_moment(track_times[0]) and is_moment(track_times[-1])):  # sorted: all others are between them
            valid = _valid_times(track_times)
            invalid_times += _count_dropped(track_times, valid)
            track_times = valid
        times += track_times
        values += track_values
    rows = len(times)
    columns: tuple[Values, ...] = (
        RunLength([app_id], [rows]),
        RunLength([call_id], [rows]),
        RunLength([sid for sid, _ in tracks], counts),
        RunLength([track.mid for _, track in tracks], counts),
        RunLength([MIDS.get(track.mid) for _, track in tracks], counts),
        RunLength([_uid(track.peer_uid) for _, track in tracks], counts),
        times,
        values,
    )
    return ColumnBatch(METRICS, rows, columns, invalid_times)


def _sorted_points(track: Track) -> tuple[Sequence[int], Sequence[float | None]]:
    """Return times and values of a track, ordered by time; most tracks are."""
    times, values = zip(*track.kvs, strict=True)
    # Sorting what is sorted is linear; comparing each pair in Python would be slower.
    if list(times) != sorted(times):
        times, values = zip(*sorted(track.kvs, key=lambda point: point[0]), strict=True)
    return times, values


def statistics(
    app_id: str, call_id: str, query: tuple[str, str], span: tuple[int, int], found: Sequence[Statistic]
) -> ColumnBatch:
    """Return a breakdown `(metric, dimension)` of a call, or of a span of it, as rows."""
    constants: dict[str, Any] = {"metric": query[0], "dimension": query[1], "start_ts": span[0], "end_ts": span[1]}
    return _from_models(STATISTICS, found, app_id=app_id, call_id=call_id, **constants)


def insights(
    app_id: str,
    query: tuple[str, str | None, str, str | None],
    found: Sequence[tuple[int, float | None, str | None, float | None]],
) -> ColumnBatch:
    """Return a series `(metric, product, granularity, dimension)` as rows.

    A point is start, value, dimension value and usage.
    """
    stamps, values, parts, usage = zip(*found, strict=True) if found else ((), (), (), ())
    rows = len(found)
    constants = (RunLength([value], [rows]) for value in (app_id, *query))
    return ColumnBatch(INSIGHTS, rows, (*constants, parts, stamps, values, usage, RunLength([False], [rows])))


def realtime(
    app_id: str,
    query: tuple[str, str, str | None, str | None],
    found: Sequence[tuple[int, float | None, str | None, str | None]],
) -> ColumnBatch:
    """Return a series `(metric, product, channel, dimension)` as rows.

    A point is start, value, dimension value and user.
    """
    stamps, values, parts, users = zip(*found, strict=True) if found else ((), (), (), ())
    rows = len(found)
    constants = (RunLength([value], [rows]) for value in (app_id, *query))
    last = (stamps, values, RunLength([False], [rows]))
    return ColumnBatch(REALTIME, rows, (*constants, parts, users, *last))


def concat(batches: Sequence[ColumnBatch]) -> ColumnBatch:
    """Concatenate batches of one dataset."""
    if len(batches) == 1:
        return batches[0]
    columns = zip(*(batch.columns for batch in batches), strict=True)
    return ColumnBatch(batches[0].dataset, sum(batch.rows for batch in batches), tuple(map(_concat_columns, columns)))


def serialize(batch: ColumnBatch) -> bytes:
    """Serialize a batch for staging: one line of JSON."""
    encoded = [[column.values, column.counts] if isinstance(column, RunLength) else column for column in batch.columns]
    is_run_length = [isinstance(column, RunLength) for column in batch.columns]
    return json.encode((batch.rows, is_run_length, encoded))


def deserialize(dataset: str, payload: bytes) -> ColumnBatch:
    """Restore a batch."""
    rows, is_run_length, encoded = json.loads(payload)
    columns = tuple(RunLength(*column) if runs else column for column, runs in zip(encoded, is_run_length, strict=True))
    return ColumnBatch(DATASETS[dataset], rows, columns)


def _concat_columns(parts: Sequence[Values]) -> Values:
    runs = [part for part in parts if isinstance(part, RunLength)]
    if len(runs) < len(parts):
        return list(chain.from_iterable(parts))
    values = list(chain.from_iterable(part.values for part in runs))
    return RunLength(values, list(chain.from_iterable(part.counts for part in runs)))


def _from_models(dataset: Dataset, found: Sequence[object], **constants: object) -> ColumnBatch:
    """Return models as rows: columns in `constants` have one value, all others are fields of that name."""
    rows = len(found)
    varying = [column for column in dataset.columns if column.name not in constants]
    fields = json.columns(found, [column.name for column in varying]) if found else [()] * len(varying)
    converted = [_column_values(column, values) for column, values in zip(varying, fields, strict=True)]
    invalid_times = sum(
        _count_dropped(before, now)
        for column, before, now in zip(varying, fields, converted, strict=True)
        if column.kind == "time"
    )
    values = iter(converted)
    columns = (RunLength([constants[name]], [rows]) if name in constants else next(values) for name in dataset.names)
    return ColumnBatch(dataset, rows, tuple(columns), invalid_times)


def _column_values(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    """Convert the values of a field: user IDs and lists to text, invalid times to null."""
    if column.kind == "time":
        return _valid_times(values)
    if column.name == "uid":
        return list(map(_uid, values))
    if column.name == "roles":
        return [None if roles is None else ",".join(roles) for roles in values]
    return values


def _valid_times(values: Sequence[int | None]) -> Sequence[int | None]:
    """Replace invalid times by null; 0 is another way of the service to say "not yet"."""
    # Mostly all are valid, which the lowest and the highest show without a copy.
    if not values or (None not in values and is_moment(min(values)) and is_moment(max(values))):  # type: ignore[type-var]
        return values
    return [ts if is_moment(ts) else None for ts in values]


def _count_dropped(before: Sequence[int | None], now: Sequence[int | None]) -> int:
    """Return how many times were replaced by null, apart from 0."""
    return 0 if now is before else sum(one is None and bool(was) for was, one in zip(before, now, strict=True))


def _uid(uid: object) -> str | None:
    # Text, because the service has IDs that are no numbers, and a column has one type.
    return None if uid is None else str(uid)
