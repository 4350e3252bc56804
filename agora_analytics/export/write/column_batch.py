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
class Runs(Generic[T]):
    """Values of a column: each so many times in a row."""

    values: Sequence[T]
    counts: Sequence[int]

    @classmethod
    def of(cls, values: Iterable[T]) -> Runs[T]:
        """Return the runs of values."""
        pairs = [(value, len(list(group))) for value, group in groupby(values)]
        return Runs([value for value, _ in pairs], [count for _, count in pairs])

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(map(repeat, self.values, self.counts))

    def map(self, function: Callable[[T], U]) -> Runs[U]:
        """Return other values, as many times."""
        return Runs([function(value) for value in self.values], self.counts)


Values = Sequence[Any] | Runs[Any]


@attrs.frozen
class Batch:
    """Rows of a dataset, column by column: `time` in UTC seconds, all columns of one length.

    `undated` times of it are null, since what came is no date that a file could hold.
    """

    dataset: Dataset
    rows: int
    columns: tuple[Values, ...]
    undated: int = 0

    def where(self, name: str, keep: Callable[[Any], bool]) -> Batch:
        """Return the rows whose value of a column passes."""
        at = self.dataset.names.index(name)
        return self._of([row for row in zip(*self.columns, strict=True) if keep(row[at])])

    def once(self, *key: str) -> Batch:
        """Return the rows, of those with the same key only the last."""
        places = [self.dataset.names.index(name) for name in key]
        found = {tuple(row[at] for at in places): row for row in zip(*self.columns, strict=True)}
        return self._of(list(found.values()))

    def column(self, name: str) -> Values:
        """Return the values of a column."""
        return self.columns[self.dataset.names.index(name)]

    def having(self, name: str, *, value: object) -> Batch:
        """Return the rows with one value in all of a column."""
        columns = (
            self._same(value) if here == name else one
            for here, one in zip(self.dataset.names, self.columns, strict=True)
        )
        return Batch(self.dataset, self.rows, tuple(columns))

    def _same(self, value: object) -> Values:
        return Runs([value], [self.rows])

    def _of(self, rows: Sequence[tuple[Any, ...]]) -> Batch:
        columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else ((),) * len(self.columns)
        kept = zip(columns, self.columns, strict=True)
        return Batch(
            self.dataset, len(rows), tuple(Runs.of(one) if isinstance(before, Runs) else one for one, before in kept)
        )


def calls(app_id: str, found: Sequence[Call]) -> Batch:
    """Return the rows of calls."""
    return _of_fields(CALLS, found, app_id=app_id)


def sessions(app_id: str, call_id: str, found: Sequence[Session]) -> Batch:
    """Return the rows of sessions of a call."""
    return _of_fields(SESSIONS, found, app_id=app_id, call_id=call_id)


def metrics(app_id: str, call_id: str, found: Iterable[SessionMetrics]) -> Batch:
    """Return the rows of metrics of a call: those of a track in order of time."""
    tracks = [(one.sid, track) for one in found for track in one.data if track.kvs]
    counts = [len(track.kvs) for _, track in tracks]
    undated = 0
    stamps: list[int | None] = []
    values: list[float | None] = []
    for _, track in tracks:
        here, measured = zip(*track.kvs, strict=True)
        if list(here) != sorted(here):
            here, measured = zip(*sorted(track.kvs, key=lambda pair: pair[0]), strict=True)
        if not (is_moment(here[0]) and is_moment(here[-1])):  # in order, so the others are between
            told = here
            here = tuple(_dated(told))
            undated += _fewer(told, here)
        stamps += here
        values += measured
    alike: list[Values] = [
        Runs([sid for sid, _ in tracks], counts),
        Runs([track.mid for _, track in tracks], counts),
        Runs([MIDS.get(track.mid) for _, track in tracks], counts),
        Runs([_uid(track.peer_uid) for _, track in tracks], counts),
    ]
    rows = len(stamps)
    return Batch(METRICS, rows, (Runs([app_id], [rows]), Runs([call_id], [rows]), *alike, stamps, values), undated)


def statistics(
    app_id: str, call_id: str, asked: tuple[str, str], span: tuple[int, int], found: Sequence[Statistic]
) -> Batch:
    """Return the rows of a breakdown (metric, dimension) of a call, or of a part of it."""
    alike: dict[str, Any] = {"metric": asked[0], "dimension": asked[1], "start_ts": span[0], "end_ts": span[1]}
    return _of_fields(STATISTICS, found, app_id=app_id, call_id=call_id, **alike)


def insights(
    app_id: str,
    asked: tuple[str, str | None, str, str | None],
    found: Sequence[tuple[int, float | None, str | None, float | None]],
) -> Batch:
    """Return the rows of a series (metric, product, granularity, dimension): start, value, part, usage."""
    stamps, values, parts, usage = zip(*found, strict=True) if found else ((), (), (), ())
    rows = len(found)
    alike = (Runs([value], [rows]) for value in (app_id, *asked))
    return Batch(INSIGHTS, rows, (*alike, parts, stamps, values, usage, Runs([False], [rows])))


def realtime(
    app_id: str,
    asked: tuple[str, str, str | None, str | None],
    found: Sequence[tuple[int, float | None, str | None, str | None]],
) -> Batch:
    """Return the rows of a series (metric, product, channel, dimension): start, value, part, user."""
    stamps, values, parts, users = zip(*found, strict=True) if found else ((), (), (), ())
    rows = len(found)
    alike = (Runs([value], [rows]) for value in (app_id, *asked))
    last = (stamps, values, Runs([False], [rows]))
    return Batch(REALTIME, rows, (*alike, parts, users, *last))


def joined(batches: Sequence[Batch]) -> Batch:
    """Return the rows of several batches of one dataset as one."""
    if len(batches) == 1:
        return batches[0]
    columns = zip(*(batch.columns for batch in batches), strict=True)
    return Batch(batches[0].dataset, sum(batch.rows for batch in batches), tuple(map(_together, columns)))


def pack(batch: Batch) -> bytes:
    """Return rows as they wait on disk."""
    told = [[one.values, one.counts] if isinstance(one, Runs) else one for one in batch.columns]
    runs = [isinstance(one, Runs) for one in batch.columns]
    return json.encode((batch.rows, runs, told))


def unpack(dataset: str, stored: bytes) -> Batch:
    """Read rows back."""
    rows, runs, told = json.loads(stored)
    columns = tuple(Runs(*one) if is_runs else one for one, is_runs in zip(told, runs, strict=True))
    return Batch(DATASETS[dataset], rows, columns)


def _together(parts: Sequence[Values]) -> Values:
    runs = [part for part in parts if isinstance(part, Runs)]
    if len(runs) < len(parts):
        return list(chain.from_iterable(parts))
    values = list(chain.from_iterable(part.values for part in runs))
    return Runs(values, list(chain.from_iterable(part.counts for part in runs)))


def _of_fields(dataset: Dataset, found: Sequence[object], **alike: object) -> Batch:
    """Return the rows of models, whose fields have the names of the columns that are not `alike` in all rows."""
    rows = len(found)
    own = [column for column in dataset.columns if column.name not in alike]
    fields = json.columns(found, [column.name for column in own]) if found else [()] * len(own)
    told = [_flat(column, values) for column, values in zip(own, fields, strict=True)]
    undated = sum(
        _fewer(before, now) for column, before, now in zip(own, fields, told, strict=True) if column.kind == "time"
    )
    each = iter(told)
    same = (Runs([alike[name]], [rows]) if name in alike else next(each) for name in dataset.names)
    return Batch(dataset, rows, tuple(same), undated)


def _flat(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    """Return the values of a field as a column has them: text of user IDs and of lists, no time for what is no date."""
    if column.kind == "time":
        return _dated(values)
    if column.name == "uid":
        return list(map(_uid, values))
    if column.name == "roles":
        return [None if roles is None else ",".join(roles) for roles in values]
    return values


def _dated(values: Sequence[int | None]) -> Sequence[int | None]:
    """Return times, null where one is no date; 0 is the service's other way to say "not yet"."""
    if not values or (None not in values and is_moment(min(values)) and is_moment(max(values))):  # type: ignore[type-var]
        return values
    return [ts if is_moment(ts) else None for ts in values]


def _fewer(before: Sequence[int | None], now: Sequence[int | None]) -> int:
    """Return how many times are null now that told something before."""
    return 0 if now is before else sum(one is None and bool(was) for was, one in zip(before, now, strict=True))


def _uid(uid: object) -> str | None:
    return None if uid is None else str(uid)
