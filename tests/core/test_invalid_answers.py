"""Responses that do not fit the reference, at every endpoint: a bad row is skipped, a missing field raises."""

from __future__ import annotations

import json

import pytest
from helpers.raw_answers import ENDPOINT_CALLS, make_client

from agora_analytics import DecodeError

pytestmark = pytest.mark.real_time

OUT_OF_RANGE = ["1e999", "-1e999", "1" + "0" * 400, "-1" + "0" * 400, "1e400", "NaN", "Infinity"]


def body_with_bad_row(name: str, number: str) -> bytes:
    """Return a response of two rows, with this text as a number of the second."""
    endpoint_call = ENDPOINT_CALLS[name]
    good = json.dumps(endpoint_call.valid_row)
    bad = (
        json.dumps(endpoint_call.valid_row | {endpoint_call.number_field: "@"})
        if endpoint_call.number_field
        else good[::-1].replace("3", '"@"', 1)[::-1]
    )
    if name == "metrics":
        bad = good.replace("1.5", '"@"').replace('"s"', '"t"')
    bad = bad.replace('"@"', number)
    rows = f"[{good},{bad}]"
    rows = f'{{"list":{rows}}}' if endpoint_call.in_list_object else rows
    return f'{{"code":200,"has_more":false,"{endpoint_call.rows_field}":{rows}}}'.encode()


@pytest.mark.parametrize("number", OUT_OF_RANGE)
@pytest.mark.parametrize("name", ENDPOINT_CALLS)
async def test_a_row_with_an_out_of_range_number_is_skipped_alone_and_reported(name, number):
    async with make_client(body_with_bad_row(name, number)) as client:
        result, items = await ENDPOINT_CALLS[name].fetch(client)
    assert len(items) == (2 if name == "metrics" else 1)
    assert len(result.skipped) == 1
    assert result.skipped[0].path.startswith(f"$.{ENDPOINT_CALLS[name].rows_field}")


@pytest.mark.parametrize("number", OUT_OF_RANGE)
@pytest.mark.parametrize("name", ENDPOINT_CALLS)
async def test_a_row_with_an_out_of_range_number_raises_with_on_bad_row_raise(name, number):
    async with make_client(body_with_bad_row(name, number), on_bad_row="raise") as client:
        with pytest.raises(DecodeError):
            await ENDPOINT_CALLS[name].fetch(client)


@pytest.mark.parametrize("body", [b"{}", b'{"code":200}', b'{"code":0,"message":"success","requestId":"r"}'])
@pytest.mark.parametrize("name", ENDPOINT_CALLS)
async def test_a_response_without_data_raises_an_error_that_names_the_field(name, body):
    async with make_client(body) as client:
        with pytest.raises(DecodeError) as caught:
            await ENDPOINT_CALLS[name].fetch(client)
    assert f"field '{ENDPOINT_CALLS[name].rows_field}' is missing at $" in str(caught.value)
    assert caught.value.path == f"$.{ENDPOINT_CALLS[name].rows_field}"
    if b"requestId" in body:
        assert caught.value.request_id == "r"


@pytest.mark.parametrize("data", ["null", "[]"])
@pytest.mark.parametrize("name", ENDPOINT_CALLS)
async def test_a_response_without_rows_gives_an_empty_result(name, data):
    async with make_client(f'{{"code":200,"{ENDPOINT_CALLS[name].rows_field}":{data}}}'.encode()) as client:
        result, items = await ENDPOINT_CALLS[name].fetch(client)
    assert [item for item in items if getattr(item, "data", True)] == []
    assert result.skipped == ()
