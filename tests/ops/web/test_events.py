"""Server-sent events: order, resumption, slow viewers, viewers who leave, and the end of the server."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import AsyncExitStack

import pytest
from helpers.streaming import USERS, simulated
from helpers.times import NOON
from helpers.web_server import next_event, site, until, window

from agora_analytics.ops import LiveState, routes
from agora_analytics.ops.web import feed as feed_module
from agora_analytics.ops.web import live
from agora_analytics.ops.web.feed import EventFeed

pytestmark = pytest.mark.real_time

EVENTS = "/api/v1/events"


@pytest.fixture
async def state():
    async with simulated("enterprise").client() as client:
        yield LiveState(client, USERS)


def add(state, *values: int) -> None:
    """Let windows come as from the watch."""
    for value in values:
        state._add_event(window(NOON + 20 * value, Native=value))


async def values_of(response, count: int) -> list[int]:
    found = [json.loads((await next_event(response, "windows")).data) for _ in range(count)]
    return [one["changes"][0]["cell"]["value"] for one in found]


async def test_a_viewer_gets_what_changed_since_it_loaded_the_page(state):
    add(state, 1)
    async with site(routes(state)) as here:
        event = (await here.get("/api/v1/series"))["event"]
        add(state, 2, 3)
        async with here.http.get(EVENTS, params={"after": event}) as response:
            assert response.content_type == "text/event-stream"
            assert response.headers["X-Accel-Buffering"] == "no"
            assert response.headers["Cache-Control"] == "no-store"
            assert await values_of(response, 2) == [2, 3]
            add(state, 4)
            assert await values_of(response, 1) == [4]


async def test_an_event_has_the_whole_window(state):
    async with site(routes(state)) as here, here.http.get(EVENTS) as response:
        add(state, 5)
        event = await next_event(response)
        assert event.kind == "windows"
        assert event.id == state.feed.event_id
        assert json.loads(event.data) == {
            "start": NOON + 100,
            "end": NOON + 120,
            "changes": [
                {
                    "series": "userCount Native",
                    "cell": {"state": "complete", "value": 5, "groups": None, "reason": "", "revisions": 0},
                    "final_before": None,
                }
            ],
        }


async def test_a_viewer_that_comes_back_misses_nothing_and_gets_nothing_twice(state):
    add(state, 1, 2)
    async with site(routes(state)) as here:
        async with here.http.get(EVENTS, params={"after": state.feed.event_id}) as response:
            add(state, 3, 4)
            await next_event(response)
            last = (await next_event(response)).id
        add(state, 5, 6)
        # A browser repeats the address that it opened first, with the newest id as a header.
        again = {"after": "00000000-0"}
        async with here.http.get(EVENTS, params=again, headers={"Last-Event-ID": last}) as response:
            assert await values_of(response, 2) == [5, 6]


@pytest.mark.parametrize(
    "seen", ["00000000-1", "1", "deadbeef-99999999999999999999", "x" * 5_000, "%(run)s-9", "%(run)s--1", "%(run)s-٣"]
)
async def test_a_viewer_with_an_unknown_position_loads_again(state, seen):
    add(state, 1)
    run = state.feed.event_id.partition("-")[0]
    async with site(routes(state)) as here, here.http.get(EVENTS, params={"after": seen % {"run": run}}) as response:
        event = await next_event(response)
        assert (event.kind, event.id) == ("reset", state.feed.event_id)
        assert json.loads(event.data) == {"event": state.feed.event_id, "missed": None}
        add(state, 2)
        assert await values_of(response, 1) == [2]


async def test_a_viewer_that_was_away_too_long_loads_again(state):
    add(state, 1)
    before = state.feed.event_id
    add(state, *range(2, 2_100))
    async with site(routes(state)) as here, here.http.get(EVENTS, headers={"Last-Event-ID": before}) as response:
        event = await next_event(response)
        assert (event.kind, json.loads(event.data)["missed"]) == ("reset", 2_098 - 2_000)
        assert (await here.get("/api/v1/status"))["missed"] == 98


async def test_after_a_restart_of_the_server_a_viewer_loads_again(state):
    async with site(routes(state)) as here:
        port, seen = here.port, state.feed.event_id
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(simulated("enterprise").client())
        here = await stack.enter_async_context(site(routes(LiveState(client, USERS)), port))
        response = await stack.enter_async_context(here.http.get(EVENTS, headers={"Last-Event-ID": seen}))
        assert (await next_event(response)).kind == "reset"


async def test_a_silent_stream_has_comments(state, monkeypatch):
    monkeypatch.setattr(live, "PING_EVERY", 0.05)
    async with site(routes(state)) as here, here.http.get(EVENTS) as response:
        lines = [await response.content.readline() for _ in range(6)]
        assert lines == [b"retry: 2000\n", b"\n", b": still here\n", b"\n", b": still here\n", b"\n"]


async def test_fifty_viewers_get_an_event_that_is_encoded_once(state, monkeypatch):
    encoded = []
    encode = feed_module.encode
    monkeypatch.setattr(feed_module, "encode", lambda value: encoded.append(value) or encode(value))
    async with site(routes(state)) as here, AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(here.http.get(EVENTS)) for _ in range(50)]
        await until(lambda: len(viewers) == 50)
        add(state, 1, 2)
        assert await asyncio.gather(*(values_of(viewer, 2) for viewer in viewers)) == [[1, 2]] * 50
        assert len(encoded) == 2


async def viewer_that_does_not_read(port: int) -> socket.socket:
    silent = socket.socket()
    silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    silent.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(silent, ("127.0.0.1", port))
    await loop.sock_sendall(silent, f"GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return silent


async def test_a_slow_viewer_is_dropped_and_delays_nobody(state, monkeypatch):
    monkeypatch.setattr(live, "SLOW", 0.3)
    application = routes(state)
    async with site(application) as here, here.http.get(EVENTS) as response:
        with await viewer_that_does_not_read(here.port):
            await until(lambda: here.viewers() == 2)
            for at in range(40):
                state.add_alert("x" * 100_000)
                await next_event(response, "alert")
                assert state.feed.size <= 4 * 2**20 + 200_000, at
            await until(lambda: here.viewers() == 1)
            add(state, 7)
            assert await values_of(response, 1) == [7]


async def test_a_viewer_who_leaves_frees_its_place(state):
    async with site(routes(state)) as here:
        for _ in range(3):
            async with here.http.get(EVENTS):
                await until(lambda: here.viewers() == 1)
            await until(lambda: here.viewers() == 0)


async def test_the_viewers_are_limited(state, monkeypatch):
    monkeypatch.setattr(live, "MAX_VIEWERS", 1)
    async with site(routes(state)) as here, here.http.get(EVENTS), here.http.get(EVENTS) as response:
        assert response.status == 503
        assert (await response.json())["error"]["code"] == "viewers"


async def test_the_end_of_the_server_ends_all_streams_at_once(state):
    async with AsyncExitStack() as stack, site(routes(state)) as here:
        responses = [await stack.enter_async_context(here.http.get(EVENTS)) for _ in range(10)]
        begun = time.perf_counter()
        task = asyncio.gather(*(response.read() for response in responses))
        await here.stop()
        assert await task == [b"retry: 2000\n\n"] * 10
        assert time.perf_counter() - begun < 1


async def test_head_of_the_events_is_refused(state):
    async with site(routes(state)) as here:
        assert await here.status(EVENTS, "HEAD") == 405


def test_large_events_push_out_the_older_ones():
    feed = EventFeed()
    for at in range(100):
        feed.publish("alert", "x" * 100_000)
        assert feed.size <= 4 * 2**20, at
    feed.publish("alert", "x" * 10 * 2**20)
    (event,) = feed.after(100, 5)
    assert event.startswith(f"id: {feed.event_id}\nevent: alert\n".encode())
