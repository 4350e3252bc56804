"""From what the service answered to rows, column by column, and how these wait on disk.

Columns in which few values recur are kept as runs of one value, so that a metric's thousand points cost one name.
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
    from agora_analytics.models import Call, Session, SessionMetrics, Statistic

T = TypeVar("T")
U = TypeVar("U")


@attrs.frozen
class RunLength(Generic[T]):
    """Values of a column: each so many times in a row."""

    values: Sequence[T]
    counts: Sequence[int]

    @classmethod
    def of(cls, values: Iterable[T]) -> RunLength[T]:
        """Return the runs of values."""
        pairs = [(value, len(list(group))) for value, group in groupby(values)]
        return RunLength([value for value, _ in pairs], [count for _, count in pairs])

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(map(repeat, self.values, self.counts))

    def map(self, function: Callable[[T], U]) -> RunLength[U]:
        """Return other values, as many times."""
        return RunLength([function(value) for value in self.values], self.counts)


Values = Sequence[Any] | RunLength[Any]


@attrs.frozen
class ColumnBatch:
    """Rows of a dataset, column by column: `time` in UTC seconds, all columns of one length.

    `undated` times of it are null, since what came is no date that a file could hold.
    """

    dataset: Dataset
    rows: int
    columns: tuple[Values, ...]
    invalid_times: int = 0

    def filter(self, name: str, keep: Callable[[Any], bool]) -> ColumnBatch:
        """Return the rows whose value of a column passes."""
        at = self.dataset.names.index(name)
        return self._of([row for row in zip(*self.columns, strict=True) if keep(row[at])])

    def drop_duplicates(self, *key: str) -> ColumnBatch:
        """Return the rows, of those with the same key only the last."""
        places = [self.dataset.names.index(name) for name in key]
        found = {tuple(row[at] for at in places): row for row in zip(*self.columns, strict=True)}
        return self._of(list(found.values()))

    def column(self, name: str) -> Values:
        """Return the values of a column."""
        return self.columns[self.dataset.names.index(name)]

    def with_constant(self, name: str, *, value: object) -> ColumnBatch:
        """Return the rows with one value in all of a column."""
        columns = (
            self._same(value) if here == name else one
            for here, one in zip(self.dataset.names, self.columns, strict=True)
        )
        return ColumnBatch(self.dataset, self.rows, tuple(columns))

    def _same(self, value: object) -> Values:
        return RunLength([value], [self.rows])

    def _of(self, rows: Sequence[tuple[Any, ...]]) -> ColumnBatch:
        columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else ((),) * len(self.columns)
        kept = zip(columns, self.columns, strict=True)
        return ColumnBatch(
            self.dataset,
            len(rows),
            tuple(RunLength.of(one) if isinstance(before, RunLength) else one for one, before in kept),
        )


def calls(app_id: str, found: Sequence[Call]) -> ColumnBatch:
    """Return the rows of calls."""
    return _from_models(CALLS, found, app_id=app_id)


def sessions(app_id: str, call_id: str, found: Sequence[Session]) -> ColumnBatch:
    """Return the rows of sessions of a call."""
    return _from_models(SESSIONS, found, app_id=app_id, call_id=call_id)


def metrics(app_id: str, call_id: str, found: Iterable[SessionMetrics]) -> ColumnBatch:
    """Return the rows of metrics of a call: those of a track in order of time."""
    tracks = [(one.sid, track) for one in found for track in one.data if track.kvs]
    counts = [len(track.kvs) for _, track in tracks]
    invalid_times = 0
    stamps: list[int | None] = []
    values: list[float | None] = []
    for _, track in tracks:
        here, measured = zip(*track.kvs, strict=True)
        if list(here) != sorted(here):
            here, measured = zip(*sorted(track.kvs, key=lambda pair: pair[0]), strict=True)
        if not (is_moment(here[0]) and is_moment(here[-1])):  # in order, so the others are between
            told = here
            here = tuple(_valid_times(told))
            invalid_times += _count_dropped(told, here)
        stamps += here
        values += measured
    alike: list[Values] = [
        RunLength([sid for sid, _ in tracks], counts),
        RunLength([track.mid for _, track in tracks], counts),
        RunLength([MIDS.get(track.mid) for _, track in tracks], counts),
        RunLength([_uid(track.peer_uid) for _, track in tracks], counts),
    ]
    rows = len(stamps)
    return ColumnBatch(
        METRICS,
        rows,
        (RunLength([app_id], [rows]), RunLength([call_id], [rows]), *alike, stamps, values),
        invalid_times,
    )


def statistics(
    app_id: str, call_id: str, asked: tuple[str, str], span: tuple[int, int], found: Sequence[Statistic]
) -> ColumnBatch:
    """Return the rows of a breakdown (metric, dimension) of a call, or of a part of it."""
    alike: dict[str, Any] = {"metric": asked[0], "dimension": asked[1], "start_ts": span[0], "end_ts": span[1]}
    return _from_models(STATISTICS, found, app_id=app_id, call_id=call_id, **alike)


def insights(
    app_id: str,
    asked: tuple[str, str | None, str, str | None],
    found: Sequence[tuple[int, float | None, str | None, float | None]],
) -> ColumnBatch:
    """Return the rows of a series (metric, product, granularity, dimension): start, value, part, usage."""
    stamps, values, parts, usage = zip(*found, strict=True) if found else ((), (), (), ())
    rows = len(found)
    alike = (RunLength([value], [rows]) for value in (app_id, *asked))
    return ColumnBatch(INSIGHTS, rows, (*alike, parts, stamps, values, usage, RunLength([False], [rows])))


def realtime(
    app_id: str,
    asked: tuple[str, str, str | None, str | None],
    found: Sequence[tuple[int, float | None, str | None, str | None]],
) -> ColumnBatch:
    """Return the rows of a series (metric, product, channel, dimension): start, value, part, user."""
    stamps, values, parts, users = zip(*found, strict=True) if found else ((), (), (), ())
    rows = len(found)
    alike = (RunLength([value], [rows]) for value in (app_id, *asked))
    last = (stamps, values, RunLength([False], [rows]))
    return ColumnBatch(REALTIME, rows, (*alike, parts, users, *last))


def concat(batches: Sequence[ColumnBatch]) -> ColumnBatch:
    """Return the rows of several batches of one dataset as one."""
    if len(batches) == 1:
        return batches[0]
    columns = zip(*(batch.columns for batch in batches), strict=True)
    return ColumnBatch(batches[0].dataset, sum(batch.rows for batch in batches), tuple(map(_concat_columns, columns)))


def serialize(batch: ColumnBatch) -> bytes:
    """Return rows as they wait on disk."""
    told = [[one.values, one.counts] if isinstance(one, RunLength) else one for one in batch.columns]
    runs = [isinstance(one, RunLength) for one in batch.columns]
    return json.encode((batch.rows, runs, told))


def deserialize(dataset: str, stored: bytes) -> ColumnBatch:
    """Read rows back."""
    rows, runs, told = json.document(stored)
    columns = tuple(RunLength(*one) if is_runs else one for one, is_runs in zip(told, runs, strict=True))
    return ColumnBatch(DATASETS[dataset], rows, columns)


def _concat_columns(parts: Sequence[Values]) -> Values:
    runs = [part for part in parts if isinstance(part, RunLength)]
    if len(runs) < len(parts):
        return list(chain.from_iterable(parts))
    values = list(chain.from_iterable(part.values for part in runs))
    return RunLength(values, list(chain.from_iterable(part.counts for part in runs)))


def _from_models(dataset: Dataset, found: Sequence[object], **alike: object) -> ColumnBatch:
    """Return the rows of models, whose fields have the names of the columns that are not `alike` in all rows."""
    rows = len(found)
    own = [column for column in dataset.columns if column.name not in alike]
    fields = json.columns(found, [column.name for column in own]) if found else [()] * len(own)
    told = [_column_values(column, values) for column, values in zip(own, fields, strict=True)]
    invalid_times = sum(
        _count_dropped(before, now)
        for column, before, now in zip(own, fields, told, strict=True)
        if column.kind == "time"
    )
    each = iter(told)
    same = (RunLength([alike[name]], [rows]) if name in alike else next(each) for name in dataset.names)
    return ColumnBatch(dataset, rows, tuple(same), invalid_times)


def _column_values(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    """Return the values of a field as a column has them: text of user IDs and of lists, no time for what is no date."""
    if column.kind == "time":
        return _valid_times(values)
    if column.name == "uid":
        return list(map(_uid, values))
    if column.name == "roles":
        return [None if roles is None else ",".join(roles) for roles in values]
    return values


def _valid_times(values: Sequence[int | None]) -> Sequence[int | None]:
    """Return times, null where one is no date; 0 is the service's other way to say "not yet"."""
    if not values or (None not in values and is_moment(min(values)) and is_moment(max(values))):  # type: ignore[type-var]
        return values
    return [ts if is_moment(ts) else None for ts in values]


def _count_dropped(before: Sequence[int | None], now: Sequence[int | None]) -> int:
    """Return how many times are null now that told something before."""
    return 0 if now is before else sum(one is None and bool(was) for was, one in zip(before, now, strict=True))


def _uid(uid: object) -> str | None:
    return None if uid is None else str(uid)
