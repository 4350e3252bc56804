"""What one answer gives to an export, as it waits on disk for its file, and the rows that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final, TypeVar

import attrs

from agora_analytics import _json
from agora_analytics.export._columns import (
    CALLS,
    INSIGHTS,
    METRICS,
    MIDS,
    REALTIME,
    SESSIONS,
    STATISTICS,
    Batch,
    Dataset,
)
from agora_analytics.models import Call, Session, SessionMetrics, Statistic

T = TypeVar("T")


@attrs.frozen
class CallsPiece:
    """Calls of one page of a list."""

    calls: tuple[Call, ...]

    dataset = CALLS

    def __len__(self) -> int:
        return len(self.calls)

    def batch(self, app_id: str) -> Batch:
        """Return its rows."""
        return _of_fields(CALLS, self.calls, app_id=[app_id] * len(self))


@attrs.frozen
class SessionsPiece:
    """Sessions of one page of a call."""

    call_id: str
    sessions: tuple[Session, ...]

    dataset = SESSIONS

    def __len__(self) -> int:
        return len(self.sessions)

    def batch(self, app_id: str) -> Batch:
        """Return its rows."""
        return _of_fields(
            SESSIONS,
            self.sessions,
            app_id=[app_id] * len(self),
            call_id=[self.call_id] * len(self),
            uid=[_uid(session.uid) for session in self.sessions],
            roles=[None if session.roles is None else ",".join(session.roles) for session in self.sessions],
        )


@attrs.frozen
class MetricsPiece:
    """Metrics of up to twenty sessions of a call."""

    call_id: str
    metrics: tuple[SessionMetrics, ...]

    dataset = METRICS

    def __len__(self) -> int:
        return sum(len(track.kvs) for session in self.metrics for track in session.data)

    def batch(self, app_id: str) -> Batch:
        """Return its rows: those of a track in order of time."""
        sids: list[str] = []
        mids: list[int] = []
        names: list[str | None] = []
        peers: list[str | None] = []
        kvs: list[tuple[int, float | None]] = []
        for session in self.metrics:
            for track in session.data:
                count = len(track.kvs)
                sids += [session.sid] * count
                mids += [track.mid] * count
                names += [MIDS.get(track.mid)] * count
                peers += [_uid(track.peer_uid)] * count
                kvs += sorted(track.kvs, key=_first)
        stamps, values = zip(*kvs, strict=True) if kvs else ((), ())
        count = len(kvs)
        return Batch(METRICS, ([app_id] * count, [self.call_id] * count, sids, mids, names, peers, stamps, values))


@attrs.frozen
class StatisticsPiece:
    """One breakdown of a call, or of a part of it from `start` to `end`."""

    call_id: str
    metric: str
    dimension: str
    start: int
    end: int
    rows: tuple[Statistic, ...]

    dataset = STATISTICS

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, app_id: str) -> Batch:
        """Return its rows."""
        alike = (app_id, self.call_id, self.metric, self.dimension)
        own: list[list[Any]] = [
            [row.dimension_value for row in self.rows],
            [row.user_count for row in self.rows],
            [row.value for row in self.rows],
        ]
        return Batch(STATISTICS, (*_same(alike, len(self)), *own, *_same((self.start, self.end), len(self))))


@attrs.frozen
class InsightsPiece:
    """Values of a series of Data Insights: start of the bucket, value, part of the dimension, usage."""

    metric: str
    product: str | None
    granularity: str
    dimension: str | None
    rows: tuple[tuple[int, float | None, str | None, float | None], ...]
    provisional: bool = False

    dataset = INSIGHTS

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, app_id: str) -> Batch:
        """Return its rows."""
        stamps, values, parts, usage = zip(*self.rows, strict=True) if self.rows else ((), (), (), ())
        alike = _same((app_id, self.metric, self.product, self.granularity, self.dimension), len(self))
        return Batch(INSIGHTS, (*alike, parts, stamps, values, usage, [self.provisional] * len(self)))


@attrs.frozen
class RealtimePiece:
    """Values of a real-time series: start of the window, value, part of the dimension, user."""

    metric: str
    product: str
    cname: str | None
    dimension: str | None
    rows: tuple[tuple[int, float | None, str | None, str | None], ...]
    provisional: bool = False

    dataset = REALTIME

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, app_id: str) -> Batch:
        """Return its rows."""
        stamps, values, parts, users = zip(*self.rows, strict=True) if self.rows else ((), (), (), ())
        alike = _same((app_id, self.metric, self.product, self.cname, self.dimension), len(self))
        return Batch(REALTIME, (*alike, parts, users, stamps, values, [self.provisional] * len(self)))


SeriesPiece = InsightsPiece | RealtimePiece
Piece = CallsPiece | SessionsPiece | MetricsPiece | StatisticsPiece | InsightsPiece | RealtimePiece

_KINDS: Final[tuple[type[Any], ...]] = (
    CallsPiece,
    SessionsPiece,
    MetricsPiece,
    StatisticsPiece,
    InsightsPiece,
    RealtimePiece,
)


@attrs.frozen
class Packed:
    """A piece as it is stored: a tenth of what its rows take while they are objects."""

    dataset: str
    rows: int
    stored: bytes


def packed(piece: Piece) -> Packed:
    """Return a piece as it is stored."""
    return Packed(piece.dataset.name, len(piece), _json.encode(piece))


def decode(dataset: str, piece: bytes) -> Piece:
    """Read a piece back."""
    found: Piece = _DECODERS[dataset](piece)
    return found


def _decoder(kind: type[T]) -> Callable[[bytes], T]:
    strict = _json.strict(kind)

    def decode(piece: bytes) -> T:
        try:
            return strict(piece)
        except _json.Mismatch:
            # User IDs that are text; see `models.Uid`.
            from agora_analytics._tolerant import structure  # noqa: PLC0415 - hardly ever needed

            return structure(_json.document(piece), kind)

    return decode


_DECODERS: Final[Mapping[str, Callable[[bytes], Any]]] = {kind.dataset.name: _decoder(kind) for kind in _KINDS}


def decode_metrics(piece: bytes) -> MetricsPiece:
    """Read a piece of metrics back."""
    found: MetricsPiece = _DECODERS[METRICS.name](piece)
    return found


def _of_fields(dataset: Dataset, rows: Sequence[object], **given: Sequence[object]) -> Batch:
    """Return the rows of models, whose fields have the names of the columns where none are `given`."""
    own = [name for name in dataset.names if name not in given]
    found = zip(*map(attrgetter(*own), rows), strict=True) if rows else [()] * len(own)
    columns = [*map(({**given, **dict(zip(own, found, strict=True))}).__getitem__, dataset.names)]
    for at, column in enumerate(dataset.columns):
        if column.kind == "time":
            columns[at] = [one or None for one in columns[at]]  # the service's other way to say "not yet" is 0
    return Batch(dataset, tuple(columns))


def _same(values: Sequence[object], count: int) -> tuple[list[Any], ...]:
    return tuple([value] * count for value in values)


def _uid(uid: object) -> str | None:
    return None if uid is None else str(uid)


def _first(pair: tuple[int, float | None]) -> int:
    return pair[0]


def joined(batches: Sequence[Batch]) -> Batch:
    """Return the rows of several batches of one dataset as one."""
    if len(batches) == 1:
        return batches[0]
    columns = zip(*(batch.columns for batch in batches), strict=True)
    return Batch(batches[0].dataset, tuple(list(chain.from_iterable(parts)) for parts in columns))
