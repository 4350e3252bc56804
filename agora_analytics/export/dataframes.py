"""Turns any stream of models into a table: Arrow, pandas, Polars. The only file that imports pandas and polars."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from agora_analytics._core import validation
from agora_analytics._core.extras import install_command
from agora_analytics.export.schema import CALLS, METRICS, SESSIONS, Column, Dataset
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import ColumnBatch
from agora_analytics.models import Call, Point, Session, SessionMetrics
from agora_analytics.streams.events import Window

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["to_arrow", "to_pandas", "to_polars"]

_CHUNK: Final = 1_000
"""Models that are converted at once: on another thread, which holds the interpreter lock meanwhile."""

_TIMES: Final = frozenset({"ts", "window_start", "window_end"})


async def to_arrow(models: AsyncIterable[object] | Iterable[object], *, model: type | None = None) -> pa.Table:
    """Return the models of a stream, or of a sequence, as an Arrow table.

    ```python
    async with AnalyticsClient.from_env() as client:
        start, end = client.calls.recent(timedelta(hours=6))
        table = await to_arrow(client.calls.search(start, end), model=Call)
        print(table.num_rows, table.column_names)
    ```

    One row for each model; for `SessionMetrics` and `Window` one row for each value. Columns are the fields; times are
    UTC timestamps in milliseconds. All models must be of one class; `model` names it, so that an empty stream makes a
    table with its columns. Needs the extra `parquet`. Raises `TypeError` for anything but models, and whatever the
    stream raises.
    """
    # These are iterable too, and never meant.
    if isinstance(models, str | bytes | Mapping) or not isinstance(models, AsyncIterable | Iterable):
        raise validation.type_error("models", models, "a stream or a list of models")
    arrow = await asyncio.to_thread(_needed, "arrow", "parquet")
    kind = None if model is None else _kind_of(model)
    tables: list[Any] = []
    async for chunk in _chunks(models):
        kind = kind or _kind_of(type(chunk[0]))
        other = next((model for model in chunk if not isinstance(model, kind)), None)
        if other is not None:
            raise TypeError(
                f"models: a stream of {kind.__name__} has a {type(other).__name__} in it: all must be of one class"
            )
        # On another thread: a thousand models take longer than the event loop may be held.
        tables.append(await asyncio.to_thread(_table, arrow, kind, chunk))
    if kind is not None and not tables:
        tables.append(await asyncio.to_thread(_table, arrow, kind, []))
    return await asyncio.to_thread(arrow.concat, tables)


async def to_pandas(models: AsyncIterable[object] | Iterable[object], *, model: type | None = None) -> pd.DataFrame:
    """Return the models of a stream as a pandas data frame; see `to_arrow`. Needs the extra `pandas`.

    ```python
    async with AnalyticsClient.from_env() as client:
        start, end = client.calls.recent(timedelta(hours=6))
        frame = await to_pandas(client.calls.search(start, end), model=Call)
        print(frame.nlargest(3, "call_audio_freeze_rate")[["cname", "call_audio_freeze_rate"]])
    ```
    """
    await asyncio.to_thread(_pandas)
    table = await to_arrow(models, model=model)
    frame: pd.DataFrame = await asyncio.to_thread(table.to_pandas)
    return frame


async def to_polars(models: AsyncIterable[object] | Iterable[object], *, model: type | None = None) -> pl.DataFrame:
    """Return the models of a stream as a Polars data frame; see `to_arrow`. Needs the extra `polars`.

    ```python
    async with AnalyticsClient.from_env() as client:
        start, end = client.calls.recent(timedelta(hours=6))
        frame = await to_polars(client.calls.search(start, end), model=Call)
        print(frame.select("cname", "call_video_freeze_rate").drop_nulls().head(3))
    ```
    """
    polars = await asyncio.to_thread(_polars)
    frame: pl.DataFrame = await asyncio.to_thread(polars.from_arrow, await to_arrow(models, model=model))
    return frame


def _pandas() -> None:
    """Load pandas, which pyarrow needs for data frames; that takes half a second."""
    try:
        import pandas as _  # noqa: F401, ICN001, PLC0415 - an extra
    except ModuleNotFoundError:
        raise _missing("pandas", "pandas") from None


def _polars() -> Any:
    try:
        import polars  # noqa: ICN001, PLC0415 - an extra
    except ModuleNotFoundError:
        raise _missing("polars", "polars") from None
    return polars


def _needed(name: str, extra: str) -> Any:
    try:
        from agora_analytics.export import arrow  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise _missing(error.name or name, extra) from None
    return arrow


def _missing(library: str, extra: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"this needs {library}: {install_command(extra)}", name=library)


async def _chunks(models: AsyncIterable[object] | Iterable[object]) -> AsyncIterator[list[Any]]:
    """Yield models in lists of up to `_CHUNK`, never empty."""
    chunk: list[Any] = []
    async for model in _each(models):
        chunk.append(model)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


async def _each(models: AsyncIterable[object] | Iterable[object]) -> AsyncIterator[object]:
    if isinstance(models, AsyncIterable):
        async for model in models:
            yield model
    else:
        for model in models:
            yield model


def _kind_of(kind: type) -> type:
    """Return the class of a table's models: all points are of one, whatever class was made for their metric."""
    if not isinstance(kind, type) or not attrs.has(kind):
        name = getattr(kind, "__name__", repr(kind))
        raise TypeError(f"models: {name} is no model: allowed are the classes of agora_analytics.models, and Window")
    return Point if issubclass(kind, Point) else kind


def _table(arrow: Any, kind: type, models: Sequence[Any]) -> pa.Table:
    return arrow.table(_batch(kind, models))


def _batch(kind: type, models: Sequence[Any]) -> ColumnBatch:
    convert = _CONVERTERS.get(kind)
    return convert(models) if convert else _of_fields(kind, models)


def _calls(models: Sequence[Call]) -> ColumnBatch:
    return _without(column_batch.calls("", models), CALLS, "app_id")


def _sessions(models: Sequence[Session]) -> ColumnBatch:
    return _without(column_batch.sessions("", "", models), SESSIONS, "app_id", "call_id")


def _metrics(models: Sequence[SessionMetrics]) -> ColumnBatch:
    return _without(column_batch.metrics("", "", models), METRICS, "app_id", "call_id")


def _points(models: Sequence[Point]) -> ColumnBatch:
    return _of_columns(
        "points",
        {
            "ts": [one.ts for one in models],
            "value": [one.value for one in models],
            "dimension_value": [one.dimension_value for one in models],
            "uid": [None if one.uid is None else str(one.uid) for one in models],
        },
    )


def _windows(models: Sequence[Window]) -> ColumnBatch:
    rows = [(window, series, point) for window in models for series, found in window.values.items() for point in found]  # noqa: PD011
    points = _points([point for _, _, point in rows])
    series = _of_columns(
        "windows",
        {"series": [str(series) for _, series, _ in rows], "final": [window.final for window, _, _ in rows]},
    )
    together = (*points.dataset.columns, *series.dataset.columns)
    return ColumnBatch(
        Dataset(name="windows", row="a value", columns=together), len(rows), (*points.columns, *series.columns)
    )


_CONVERTERS: Final[Mapping[type, Callable[[Sequence[Any]], ColumnBatch]]] = {
    Call: _calls,
    Session: _sessions,
    SessionMetrics: _metrics,
    Point: _points,
    Window: _windows,
}


def _of_fields(kind: type, models: Sequence[Any]) -> ColumnBatch:
    """Return a column for each field of models whose fields are plain values."""
    names = [field.name for field in attrs.fields(kind)]
    return _of_columns(kind.__name__, {name: [getattr(one, name) for one in models] for name in names})


def _of_columns(name: str, columns: Mapping[str, list[Any]]) -> ColumnBatch:
    made = tuple(Column(name=key, kind=_kind(key, values), meaning="") for key, values in columns.items())
    rows = len(next(iter(columns.values()), ()))
    return ColumnBatch(Dataset(name=name, row="a model", columns=made), rows, tuple(columns.values()))


def _kind(name: str, values: Sequence[Any]) -> Any:
    """Return the type of a column, by its name and values; a column without values is of numbers."""
    if name in _TIMES or name.endswith("_ts"):
        return "time"
    kinds = {type(value) for value in values if value is not None}
    # By name, too: a column of an empty stream has no values to tell its type.
    if kinds == {bool} or name == "final":
        return "boolean"
    if str in kinds or name in {"uid", "series", "dimension_value", "bucket"}:
        return "text"
    return "integer" if name.endswith(("_count", "Count")) and kinds <= {int} else "number"


def _without(batch: ColumnBatch, dataset: Dataset, *names: str) -> ColumnBatch:
    """Return rows without the columns that only an export has."""
    kept = [at for at, name in enumerate(dataset.names) if name not in names]
    columns = tuple(dataset.columns[at] for at in kept)
    return ColumnBatch(attrs.evolve(dataset, columns=columns), batch.rows, tuple(batch.columns[at] for at in kept))
