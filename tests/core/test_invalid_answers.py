"""Answers that do not fit the reference, at every endpoint: a bad row is skipped and told, no data is an error."""

from __future__ import annotations

import json

import pytest
from helpers.raw_answers import QUESTIONS, client_of

from agora_analytics import DecodeError

pytestmark = pytest.mark.real_time

HUGE = ["1e999", "-1e999", "1" + "0" * 400, "-1" + "0" * 400, "1e400", "NaN", "Infinity"]


def spoilt(name: str, number: str) -> bytes:
    """Return an answer of two rows, with this text for a number of the second."""
    question = QUESTIONS[name]
    good = json.dumps(question.row)
    bad = (
        json.dumps(question.row | {question.number: "@"})
        if question.number
        else good[::-1].replace("3", '"@"', 1)[::-1]
    )
    if name == "metrics":
        bad = good.replace("1.5", '"@"').replace('"s"', '"t"')
    bad = bad.replace('"@"', number)
    rows = f"[{good},{bad}]"
    rows = f'{{"list":{rows}}}' if question.listed else rows
    return f'{{"code":200,"has_more":false,"{question.rows}":{rows}}}'.encode()


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_row_with_a_number_beyond_all_numbers_is_skipped_alone_and_told(name, number):
    async with client_of(spoilt(name, number)) as client:
        found, items = await QUESTIONS[name].answer(client)
    assert len(items) == (2 if name == "metrics" else 1)
    assert len(found.skipped) == 1
    assert found.skipped[0].path.startswith(f"$.{QUESTIONS[name].rows}")


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("name", QUESTIONS)
async def test_where_it_is_asked_for_such_a_row_is_an_error(name, number):
    async with client_of(spoilt(name, number), on_bad_row="raise") as client:
        with pytest.raises(DecodeError):
            await QUESTIONS[name].answer(client)


@pytest.mark.parametrize("body", [b"{}", b'{"code":200}', b'{"code":0,"message":"success","requestId":"r"}'])
@pytest.mark.parametrize("name", QUESTIONS)
async def test_an_answer_without_data_is_an_error_that_names_the_field(name, body):
    async with client_of(body) as client:
        with pytest.raises(DecodeError) as caught:
            await QUESTIONS[name].answer(client)
    assert f"field '{QUESTIONS[name].rows}' is missing at $" in str(caught.value)
    assert caught.value.path == f"$.{QUESTIONS[name].rows}"
    if b"requestId" in body:
        assert caught.value.request_id == "r"


@pytest.mark.parametrize("data", ["null", "[]"])
@pytest.mark.parametrize("name", QUESTIONS)
async def test_an_answer_with_no_rows_is_an_empty_one(name, data):
    async with client_of(f'{{"code":200,"{QUESTIONS[name].rows}":{data}}}'.encode()) as client:
        found, items = await QUESTIONS[name].answer(client)
    assert [one for one in items if getattr(one, "data", True)] == []
    assert found.skipped == ()
