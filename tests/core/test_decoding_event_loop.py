"""Decoding on the event loop: other tasks keep running, and bad rows are reported."""

from __future__ import annotations

import asyncio
import json
import weakref
from functools import cache

import pytest

from agora_analytics import AnalyticsClient, DecodeError, TransportError
from agora_analytics._core import dispatcher, merge
from agora_analytics._core.redaction import Scrubber
from agora_analytics.models import SessionMetrics, Track
from agora_analytics.protocols import Request, Response

BAD_ROW = b'{"code":0,"requestId":"r-7","call_lists":[{"call_id":"a"},{"call_id":"b","call_pcu":2.5}]}'


@cache
def metrics() -> bytes:
    """A response with 200,000 samples."""
    return json.dumps(
        {
            "code": 200,
            "metrics": [
                {
                    "sid": f"s{sid}",
                    "data": [{"mid": mid, "kvs": [[ts, 1.5] for ts in range(1_000)]} for mid in range(10)],
                }
                for sid in range(20)
            ],
        }
    ).encode()


class CannedTransport:
    """A transport that returns one body after the other, and repeats the last one."""

    hosts = 1

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = list(bodies)
        self.sent = 0

    async def send(self, request: Request, host: int = 0) -> Response:
        self.sent += 1
        return Response(200, {}, self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0])

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        pass


def make_client(clock, *bodies: bytes, **options) -> AnalyticsClient:
    settings = {"app_id": "app", "plan": "premium", "clock": clock, "transport": CannedTransport(*bodies)} | options
    return AnalyticsClient("customer", "the-secret", **settings)


async def session_ids(client: AnalyticsClient) -> list[str]:
    return [one.sid async for one in client.calls.metrics("c", ["s0", "s1"], *client.calls.recent(600))]


async def test_other_tasks_run_while_a_large_response_is_decoded(clock, monkeypatch):
    monkeypatch.setattr(dispatcher, "_MAX_SLICE", 0.0)  # independent of the speed of the machine
    turns = 0
    task = asyncio.ensure_future(session_ids(make_client(clock, metrics())))
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert set(task.result()) >= {"s0", "s19"}
    assert turns > len(metrics()) / 200_000


async def test_other_tasks_run_while_the_slices_of_a_long_call_are_merged(monkeypatch):
    monkeypatch.setattr(dispatcher, "_MAX_SLICE", 0.0)
    part = SessionMetrics(sid="s", data=tuple(Track(mid=mid, kvs=((1, 1.0), (0, 2.0))) for mid in range(50)))
    turns = 0
    task = asyncio.ensure_future(dispatcher.in_turns(merge.merge_tracks("s", [part, part])))
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert task.result().data[49] == Track(mid=49, kvs=((0, 2.0), (1, 1.0)))
    assert turns > 100


async def test_sessions_are_released_one_by_one_and_other_tasks_run_in_between(clock):
    client = make_client(clock, metrics())
    turns, seen, first = [], [], None
    async for session in client.calls.metrics("c", ["s0", "s1"], *client.calls.recent(600)):
        seen.append(len(turns))
        asyncio.get_running_loop().call_soon(turns.append, session.sid)
        first = first or weakref.ref(session)
        assert (first() is None) is (len(seen) > 1)
    assert seen == list(range(20))


async def test_a_cancellation_during_decoding_takes_effect_at_once(clock, monkeypatch):
    monkeypatch.setattr(dispatcher, "_MAX_SLICE", 0.0)
    client = make_client(clock, metrics())
    task = asyncio.ensure_future(session_ids(client))
    await asyncio.sleep(0)  # sends the request
    await asyncio.sleep(0)
    assert client._dispatcher._transport.sent == 1
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "s0" in await session_ids(client)


async def test_an_invalid_row_is_reported_on_the_page_and_in_the_log(clock, caplog):
    client = make_client(clock, BAD_ROW)
    page = await client.calls.page(*client.calls.recent(600))
    assert [call.call_id for call in page.items] == ["a"]
    assert [bad_row.path for bad_row in page.skipped] == ["$.call_lists[1].call_pcu"]
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert message.startswith("GET /beta/analytics/call/lists ")
    assert "$.call_lists[1].call_pcu: expected a whole number, got 2.5" in message


async def test_a_large_response_that_echoes_the_secret_is_redacted_in_small_pieces(clock):
    secret, sizes = "0123456789abcdef0123456789ABCDEF", []

    class Echoing(CannedTransport):
        def scrub(self, body: bytes) -> bytes:
            sizes.append(len(body))
            return Scrubber(secret).scrub(body)

    calls = [{"call_id": f"{number} {secret} /appid={number}&"} for number in range(10_000)]
    body = json.dumps({"code": 0, "call_lists": [*calls, {"call_id": "a", "call_pcu": 2.5}]}).encode()
    client = make_client(clock, transport=Echoing(body))
    page = await client.calls.page(*client.calls.recent(600))
    assert [call.call_id for call in page.items] == [f"{number} *** /appid=***&" for number in range(10_000)]
    assert [bad_row.path for bad_row in page.skipped] == ["$.call_lists[10000].call_pcu"]
    assert max(sizes) < 100_000 < len(body)


async def test_at_most_a_thousand_bad_rows_of_all_pages_are_reported(clock):
    rows = [{"call_id": "a"}, *[{"call_id": "b", "call_pcu": 2.5}] * 600]
    pages = [json.dumps({"call_lists": rows, "has_more": more}).encode() for more in (True, True, False)]
    pages[1] = pages[1].replace(b'"a"', b'"c"')
    client = make_client(clock, *pages)
    results = client.calls.search(*client.calls.recent(600))
    assert [call.call_id async for call in results] == ["a", "c"]
    assert len(results.skipped) == 1_000


async def test_a_session_in_two_batches_of_users_is_delivered_once(clock):
    client = make_client(clock, b'{"call_info":[{"sid":"a"},{"sid":"b"}],"has_more":false}')
    results = client.calls.sessions("c", *client.calls.recent(600), uids=range(1, 12))
    assert [session.sid async for session in results] == ["a", "b"]
    assert results.requests == 2


async def test_on_bad_row_raise_raises_an_error_with_the_request_id(clock):
    client = make_client(clock, BAD_ROW, on_bad_row="raise")
    with pytest.raises(DecodeError, match=r"expected a whole number, got 2\.5 at") as caught:
        await client.calls.page(*client.calls.recent(600))
    assert caught.value.request_id == "r-7"
    assert "GET /beta/analytics/call/lists" in str(caught.value)
    with pytest.raises(ValueError, match="on_bad_row='ignore': allowed are skip, raise"):
        make_client(clock, BAD_ROW, on_bad_row="ignore")


@pytest.mark.parametrize("body", [b"", b"<html>moment</html>", b"<?xml version='1.0'?><Error/>", b"null", b'{"code":0'])
async def test_a_body_that_is_not_json_is_retried(clock, body):
    client = make_client(clock, body, b'{"code":0,"call_lists":[{"call_id":"a"}]}')
    assert len((await client.calls.page(*client.calls.recent(600))).items) == 1
    broken_client = make_client(clock, body)
    with pytest.raises(TransportError):
        await broken_client.calls.page(*broken_client.calls.recent(600))
    assert broken_client._dispatcher._transport.sent == 4
