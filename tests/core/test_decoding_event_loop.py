"""Decoding on the event loop: others have their turn, and what does not fit is told."""

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
    """200,000 values."""
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


class Canned:
    """Gives one answer after the other, the last for ever."""

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


def client_of(clock, *bodies: bytes, **options) -> AnalyticsClient:
    settings = {"app_id": "app", "plan": "premium", "clock": clock, "transport": Canned(*bodies)} | options
    return AnalyticsClient("customer", "the-secret", **settings)


async def measured(client: AnalyticsClient) -> list[str]:
    return [one.sid async for one in client.calls.metrics("c", ["s0", "s1"], *client.calls.recent(600))]


async def test_others_have_their_turn_while_a_large_answer_is_decoded(clock, monkeypatch):
    monkeypatch.setattr(dispatcher, "_MAX_SLICE", 0.0)  # so that nothing depends on how fast this machine is
    turns = 0
    work = asyncio.ensure_future(measured(client_of(clock, metrics())))
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert set(work.result()) >= {"s0", "s19"}
    assert turns > len(metrics()) / 200_000


async def test_others_have_their_turn_while_the_parts_of_a_long_call_are_merged(monkeypatch):
    monkeypatch.setattr(dispatcher, "_MAX_SLICE", 0.0)
    part = SessionMetrics(sid="s", data=tuple(Track(mid=mid, kvs=((1, 1.0), (0, 2.0))) for mid in range(50)))
    turns = 0
    work = asyncio.ensure_future(dispatcher.in_turns(merge.merge_tracks("s", [part, part])))
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert work.result().data[49] == Track(mid=49, kvs=((0, 2.0), (1, 1.0)))
    assert turns > 100


async def test_sessions_are_let_go_one_by_one_and_others_have_their_turn_between_them(clock):
    client = client_of(clock, metrics())
    turns, seen, first = [], [], None
    async for session in client.calls.metrics("c", ["s0", "s1"], *client.calls.recent(600)):
        seen.append(len(turns))
        asyncio.get_running_loop().call_soon(turns.append, session.sid)
        first = first or weakref.ref(session)
        assert (first() is None) is (len(seen) > 1)
    assert seen == list(range(20))


async def test_a_caller_who_leaves_while_an_answer_is_decoded_leaves_at_once(clock, monkeypatch):
    monkeypatch.setattr(dispatcher, "_MAX_SLICE", 0.0)
    client = client_of(clock, metrics())
    work = asyncio.ensure_future(measured(client))
    await asyncio.sleep(0)  # the request
    await asyncio.sleep(0)
    assert client._dispatcher._transport.sent == 1
    assert not work.done()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert "s0" in await measured(client)


async def test_what_does_not_fit_is_skipped_and_told_on_the_page_and_in_the_log(clock, caplog):
    client = client_of(clock, BAD_ROW)
    page = await client.calls.page(*client.calls.recent(600))
    assert [call.call_id for call in page.items] == ["a"]
    assert [spot.path for spot in page.skipped] == ["$.call_lists[1].call_pcu"]
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("GET /beta/analytics/call/lists ")
    assert "$.call_lists[1].call_pcu: expected a whole number, got 2.5" in told


async def test_a_large_answer_that_echoes_the_secret_is_cleaned_a_little_at_a_time(clock):
    secret, asked = "0123456789abcdef0123456789ABCDEF", []

    class Echoing(Canned):
        def scrub(self, body: bytes) -> bytes:
            asked.append(len(body))
            return Scrubber(secret).scrub(body)

    calls = [{"call_id": f"{number} {secret} /appid={number}&"} for number in range(10_000)]
    body = json.dumps({"code": 0, "call_lists": [*calls, {"call_id": "a", "call_pcu": 2.5}]}).encode()
    client = client_of(clock, transport=Echoing(body))
    page = await client.calls.page(*client.calls.recent(600))
    assert [call.call_id for call in page.items] == [f"{number} *** /appid=***&" for number in range(10_000)]
    assert [spot.path for spot in page.skipped] == ["$.call_lists[10000].call_pcu"]
    assert max(asked) < 100_000 < len(body)


async def test_the_first_thousand_spots_of_all_pages_are_told(clock):
    rows = [{"call_id": "a"}, *[{"call_id": "b", "call_pcu": 2.5}] * 600]
    pages = [json.dumps({"call_lists": rows, "has_more": more}).encode() for more in (True, True, False)]
    pages[1] = pages[1].replace(b'"a"', b'"c"')
    client = client_of(clock, *pages)
    found = client.calls.search(*client.calls.recent(600))
    assert [call.call_id async for call in found] == ["a", "c"]
    assert len(found.skipped) == 1_000


async def test_a_session_that_two_batches_of_users_have_comes_once(clock):
    client = client_of(clock, b'{"call_info":[{"sid":"a"},{"sid":"b"}],"has_more":false}')
    found = client.calls.sessions("c", *client.calls.recent(600), uids=range(1, 12))
    assert [session.sid async for session in found] == ["a", "b"]
    assert found.requests == 2


async def test_strictness_is_a_setting_and_the_error_has_what_support_asks_for(clock):
    client = client_of(clock, BAD_ROW, on_bad_row="raise")
    with pytest.raises(DecodeError, match=r"expected a whole number, got 2\.5 at") as caught:
        await client.calls.page(*client.calls.recent(600))
    assert caught.value.request_id == "r-7"
    assert "GET /beta/analytics/call/lists" in str(caught.value)
    with pytest.raises(ValueError, match="on_bad_row='ignore': allowed are skip, raise"):
        client_of(clock, BAD_ROW, on_bad_row="ignore")


@pytest.mark.parametrize("body", [b"", b"<html>moment</html>", b"<?xml version='1.0'?><Error/>", b"null", b'{"code":0'])
async def test_what_is_no_json_passes_and_is_asked_again(clock, body):
    client = client_of(clock, body, b'{"code":0,"call_lists":[{"call_id":"a"}]}')
    assert len((await client.calls.page(*client.calls.recent(600))).items) == 1
    for_ever = client_of(clock, body)
    with pytest.raises(TransportError):
        await for_ever.calls.page(*for_ever.calls.recent(600))
    assert for_ever._dispatcher._transport.sent == 4
