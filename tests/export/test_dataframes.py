"""Streams of models are converted to Arrow tables and to data frames of pandas and Polars."""

from __future__ import annotations

import pyarrow as pa
import pytest
from helpers.export_runs import NOON

from agora_analytics import (
    Call,
    FreezeBucket,
    Gap,
    Point,
    Series,
    Session,
    SessionMetrics,
    Span,
    Statistic,
    Window,
    to_arrow,
    to_pandas,
    to_polars,
)

HOUR = 3_600


@pytest.fixture
async def client(simulation):
    async with simulation.client() as client:
        yield client


async def test_calls_become_typed_columns(client):
    table = await to_arrow(client.calls.search(NOON - 3 * HOUR, NOON - 600))
    assert table.num_rows > 20
    assert table.schema.field("created_ts").type == pa.timestamp("ms", tz="UTC")
    assert table.schema.field("finished").type == pa.bool_()
    assert table.schema.field("call_pcu").type == pa.int64()
    assert "app_id" not in table.column_names
    calls = [call async for call in client.calls.search(NOON - 3 * HOUR, NOON - 600)]
    assert table.column("call_id").to_pylist() == [call.call_id for call in calls]
    assert table.column("created_ts").to_pylist() == [call.started_at for call in calls]


async def test_metrics_become_one_row_per_point(client):
    calls = [call async for call in client.calls.search(NOON - HOUR, NOON - 600) if call.finished]
    found = [one async for one in client.calls.metrics(calls[0])]
    table = await to_arrow(client.calls.metrics(calls[0]))
    assert table.num_rows == sum(len(track.kvs) for one in found for track in one.data) > 0
    assert set(table.column_names) == {"sid", "mid", "metric", "peer_uid", "ts", "value"}


async def test_points_and_real_time_windows_become_tables(client):
    points = await client.insights.usage("userCount", NOON - 5 * 86_400, NOON - 86_400)
    table = await to_arrow(points)
    assert table.column("value").to_pylist() == [point.value for point in points]
    series = Series("userCount", product="Native")
    watch = client.realtime.watch(series, start=NOON - 600)
    windows = [await anext(watch) for _ in range(3)]
    await watch.aclose()
    table = await to_arrow(windows)
    assert table.column("ts").to_pylist() == [window.span.started_at for window in windows]
    assert table.column("series").to_pylist() == ["userCount Native"] * 3


async def test_frames_of_pandas_and_polars_have_the_same_rows(client):
    pandas_frame = await to_pandas(client.calls.search(NOON - 3 * HOUR, NOON - 600))
    assert str(pandas_frame["created_ts"].dtype).startswith("datetime64")
    polars_frame = await to_polars(client.calls.search(NOON - 3 * HOUR, NOON - 600))
    assert polars_frame["call_id"].to_list() == pandas_frame["call_id"].tolist()


async def test_statistics_become_columns_and_an_empty_stream_has_no_rows():
    statistics = (Statistic(dimension_value="India", user_count=3, value=0.5), Statistic(dimension_value=None))
    table = await to_arrow(statistics)
    assert table.to_pylist() == [
        {"dimension_value": "India", "user_count": 3, "value": 0.5},
        {"dimension_value": None, "user_count": None, "value": None},
    ]
    assert (await to_arrow(())).num_rows == 0


@pytest.mark.parametrize("model", [Call, Session, SessionMetrics, Point, Window, Statistic, FreezeBucket])
async def test_an_empty_stream_of_a_named_model_has_its_columns(model):
    table = await to_arrow((), model=model)
    assert table.num_rows == 0
    assert table.num_columns >= 2
    assert list((await to_pandas([], model=model)).columns) == (await to_polars([], model=model)).columns
    assert (await to_pandas([], model=model)).columns.tolist() == table.column_names


async def test_an_empty_stream_has_the_schema_of_one_with_rows(client):
    found = await to_arrow(client.calls.search(NOON - 3 * HOUR, NOON - 600), model=Call)
    assert (await to_arrow([], model=Call)).schema == found.schema


async def test_times_are_utc_milliseconds_and_ids_are_not_categories(client):
    pandas_frame = await to_pandas(client.calls.search(NOON - 3 * HOUR, NOON - 600))
    polars_frame = await to_polars(client.calls.search(NOON - 3 * HOUR, NOON - 600))
    assert str(pandas_frame["created_ts"].dtype) == "datetime64[ms, UTC]"
    assert str(polars_frame["created_ts"].dtype) == "Datetime(time_unit='ms', time_zone='UTC')"
    assert str(pandas_frame["call_id"].dtype) != "category"


async def test_a_model_that_does_not_fit_the_stream_is_rejected():
    with pytest.raises(TypeError, match="int is no model"):
        await to_arrow((), model=int)
    with pytest.raises(TypeError, match="a stream of Call has a Session in it"):
        await to_arrow([Session(sid="1")], model=Call)


async def test_streams_of_other_values_or_of_mixed_models_are_rejected():
    with pytest.raises(TypeError, match="int is no model"):
        await to_arrow([1])
    with pytest.raises(TypeError, match="a stream of Session has a Point in it"):
        await to_arrow([Session(sid="1"), Point.of(1, 2)])
    with pytest.raises(TypeError, match="Gap"):
        await to_arrow([Session(sid="1"), Gap(span=Span(0, 20))])
