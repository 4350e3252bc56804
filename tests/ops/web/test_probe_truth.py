"""What the probes and the state say of strange days: nothing that is not so."""

from __future__ import annotations

import asyncio

import pytest
from attrs import evolve
from helpers.streaming import DAY, HOUR, USERS, simulated
from helpers.times import NOON
from helpers.web_server import window

from agora_analytics.models import Call
from agora_analytics.ops import LiveState
from agora_analytics.ops.web.board import CallBoard, listed
from agora_analytics.ops.web.readiness import probe
from agora_analytics.streams import Health


async def test_windows_without_values_are_windows_all_the_same():
    async with simulated("enterprise").client() as client, LiveState(client, USERS, calls=False) as state:
        for at in range(200):
            state._add_event(window(NOON + 20 * at, Native=None))
        assert state.board.newest() is None
        assert (probe(state).status, probe(state).ready) == ("ok", True)


async def test_an_outage_that_waits_for_quota_is_an_outage(monkeypatch):
    async with simulated("enterprise").client() as client, LiveState(client, USERS, calls=False) as state:
        await asyncio.sleep(60)
        health = Health(state="waiting for quota", until=NOON + DAY)
        monkeypatch.setattr(state._watch.stream._poller.monitor, "health", health)
        assert probe(state).ready
        assert [note.code for note in probe(state).notes] == ["quota"]
        monkeypatch.setattr(state._watch.stream._poller.monitor, "health", evolve(health, failures=2))
        found = probe(state)
        assert (found.status, found.ready, found.notes) == ("degraded", False, ())
        assert [reason.code for reason in found.reasons] == ["windows"]


@pytest.mark.parametrize("wrong", [-5 * HOUR, 3 * DAY])
async def test_the_start_is_given_by_the_service_s_clock_though_the_host_s_was_wrong(wrong):
    def clock() -> float:
        return NOON + wrong + asyncio.get_running_loop().time()

    async with simulated("enterprise").client(clock=clock) as client, LiveState(client, USERS) as state:
        await asyncio.sleep(300)
        assert abs(state.started - NOON) <= 2
        assert probe(state).ready


async def test_a_state_that_is_open_is_not_opened_again():
    simulation = simulated("enterprise")
    async with simulation.client() as client, LiveState(client, USERS) as state:
        with pytest.raises(RuntimeError, match="open"):
            await state.__aenter__()
        await asyncio.sleep(60)
        assert probe(state).ready


async def test_a_state_that_is_opened_once_more_has_viewers_again():
    async with simulated("enterprise").client() as client:
        state = LiveState(client, USERS)
        async with state:
            pass
        assert state.feed.closed
        async with state:
            assert not state.feed.closed


async def test_a_failing_listener_of_streams_ends_nothing(caplog):
    async with simulated("enterprise").client() as client:
        state = LiveState(client, USERS)
        state.on_stream(lambda _: 1 / 0)
        async with state:
            await asyncio.sleep(60)
            assert probe(state).ready
    assert "the live state: a listener failed" in caplog.text


def test_calls_that_a_search_found_stay_known_on_a_full_board():
    board = CallBoard()
    for at in range(1_390):
        board.add(listed(call(f"C{at}", NOON + at), NOON))
    for at in range(100):
        board.add_found(listed(call(f"old {at}", NOON - DAY + at), NOON))
    for at in range(2_000):
        board.add(listed(call(f"D{at}", NOON + 9_000 + at), NOON))
        assert len(board) <= 1_400
    assert all(board.get(f"old {at}") for at in range(100))
    for at in range(300):
        board.add_found(listed(call(f"older {at}", NOON - 2 * DAY + at), NOON))
        assert len(board) <= 1_400
    assert all(board.get(f"older {at}") for at in range(200, 300))


def call(call_id: str, created: int) -> Call:
    return Call(call_id=call_id, cname="room", created_ts=created, destroyed_ts=created + 60, finished=True)
