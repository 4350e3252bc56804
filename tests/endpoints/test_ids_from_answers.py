"""Ids that the service sent and that no request can carry: an answer that does not fit, no mistake of the caller's."""

from __future__ import annotations

import json

import pytest
from helpers.raw_answers import client_of

from agora_analytics import Call, DecodeError, Session

pytestmark = pytest.mark.real_time

ANSWER = json.dumps({"code": 200, "metrics": [{"sid": "s", "data": [{"mid": 1, "kvs": [[1, 2]]}]}]}).encode()
NOW = 1_795_521_600


@pytest.mark.parametrize("call_id", ["", " "])
async def test_a_listed_call_that_cannot_be_asked_about_is_no_wrong_argument(call_id):
    call = Call(call_id=call_id, created_ts=NOW - 7_200, destroyed_ts=NOW - 3_600, finished=True)
    async with client_of(b"{}") as client:
        for ask in (client.calls.sessions, client.calls.metrics):
            with pytest.raises(DecodeError, match="cannot be asked for"):
                ask(call)
        with pytest.raises(ValueError, match="is empty"):
            client.calls.sessions(call_id, NOW - 7_200, NOW - 3_600)


async def test_a_listed_session_that_cannot_be_asked_about_has_no_metrics_and_costs_nothing():
    bad = [Session(sid=""), Session(sid="a,b")]
    async with client_of(ANSWER) as client:
        metrics = client.calls.metrics
        found = [one async for one in metrics("c", [bad[0], Session(sid="s"), bad[1]], NOW - 7_200, NOW - 3_600)]
        assert [(one.sid, len(one.data)) for one in found] == [("", 0), ("s", 1), ("a,b", 0)]
    async with client_of(b"no answer at all") as client:
        found = [one async for one in client.calls.metrics("c", bad, NOW - 7_200, NOW - 3_600)]
        assert [(one.sid, one.data) for one in found] == [("", ()), ("a,b", ())]
