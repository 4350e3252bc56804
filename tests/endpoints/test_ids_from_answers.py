"""Ids of responses that no request can carry: an invalid response, and not a mistake of the caller."""

from __future__ import annotations

import json

import pytest
from helpers.raw_answers import make_client

from agora_analytics import Call, DecodeError, Session

pytestmark = pytest.mark.real_time

METRICS_BODY = json.dumps({"code": 200, "metrics": [{"sid": "s", "data": [{"mid": 1, "kvs": [[1, 2]]}]}]}).encode()
NOW = 1_795_521_600


@pytest.mark.parametrize("call_id", ["", " "])
async def test_a_listed_call_with_an_invalid_id_raises_a_decode_error(call_id):
    call = Call(call_id=call_id, created_ts=NOW - 7_200, destroyed_ts=NOW - 3_600, finished=True)
    async with make_client(b"{}") as client:
        for method in (client.calls.sessions, client.calls.metrics):
            with pytest.raises(DecodeError, match="cannot be sent back"):
                method(call)
        with pytest.raises(ValueError, match="is empty"):
            client.calls.sessions(call_id, NOW - 7_200, NOW - 3_600)


async def test_a_listed_session_with_an_invalid_id_has_no_metrics_and_costs_no_request():
    invalid = [Session(sid=""), Session(sid="a,b")]
    async with make_client(METRICS_BODY) as client:
        metrics = client.calls.metrics
        results = [
            one async for one in metrics("c", [invalid[0], Session(sid="s"), invalid[1]], NOW - 7_200, NOW - 3_600)
        ]
        assert [(one.sid, len(one.data)) for one in results] == [("", 0), ("s", 1), ("a,b", 0)]
    async with make_client(b"no answer at all") as client:
        results = [one async for one in client.calls.metrics("c", invalid, NOW - 7_200, NOW - 3_600)]
        assert [(one.sid, one.data) for one in results] == [("", ()), ("a,b", ())]
