"""A live state whose windows, calls and alerts a test puts in, with everything that the page can show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import attrs
from helpers.streaming import BUSY, FREEZES, NETWORKS, USERS, WEB
from helpers.times import NOON
from helpers.web_server import gap, grouped, revision, until

from agora_analytics import AnalyticsClient, Point, Window
from agora_analytics.models import Call
from agora_analytics.ops import LiveState
from agora_analytics.ops.alerts.alert import Alert, WorstCall
from agora_analytics.ops.web.board import listed
from agora_analytics.simulator import Simulation

SERIES = (USERS, WEB, FREEZES, NETWORKS)
START = NOON - 3_600

HOSTILE = (
    "<img src=x onerror=\"document.title='hacked'\">",
    "\u202egnp.exe\u202c",
    "W" * 300,
    "",
    "<script>alert(1)</script>",
)
"""Names of channels that must be shown as text, and must not break the layout."""


def add_users(state: LiveState, ts: int, native: int, web: int = 7) -> None:
    """Add a window of both products."""
    values = {USERS: (Point.of(ts, native, metric="userCount"),), WEB: (Point.of(ts, web, metric="userCount"),)}
    rate = 0.02 + 0.06 * (ts % 400 < 40)
    values[FREEZES] = (Point.of(ts, rate, metric="videoFreezeRate"),)
    state._add_event(Window(ts=ts, values=values, missing={}, final=False))


def filled(client: AnalyticsClient) -> LiveState:
    """Return a state without streams, which has an hour of windows with a gap, a late one and a missing one."""
    state = LiveState(client, *SERIES, calls=False)
    for ts in range(START, NOON, 20):
        if not START + 800 <= ts < START + 1_400:
            add_users(state, ts, native=40 + ts // 20 % 17)
    state._add_event(gap(START + 800, START + 1_400))
    state._add_event(revision(NOON - 400, "Native", 41, 55))
    state._add_event(
        Window(ts=NOON - 200, values={}, missing=dict.fromkeys((USERS, WEB, FREEZES), "no data"), final=False)
    )
    state._add_event(grouped(NOON - 20, NETWORKS, [("WIFI", 30), ("4G", 12), ("<b>5G</b>", 1)]))
    for at, name in enumerate((*HOSTILE, *(f"room {number}" for number in range(60)))):
        state.calls.add(listed(call(at, name), NOON))
    worst = WorstCall(call_id="C3", cname=HOSTILE[0], started_ts=NOON - 700, users=12, video_freeze_rate=0.31)
    common = {
        "rule": "videoFreezeRate:Native > 5%",
        "series": "videoFreezeRate Native",
        "ts": NOON - 60,
        "since": NOON - 80,
    }
    for number, kind in enumerate(("no_data", "recovered", "firing")):
        alert = Alert(key=f"k{number}", incident="k", kind=kind, windows=2, value=0.27, users=53, **common)
        state.add_alert(attrs.evolve(alert, calls=(worst,)) if kind == "firing" else alert)
    return state


@asynccontextmanager
async def following(**options: Any) -> AsyncIterator[LiveState]:
    """Follow the calls of a simulated service, until some of them are over; `options` are those of `Simulation`."""
    simulation = Simulation(world=BUSY, clock=NOON, **{"plan": "enterprise", **options})
    async with simulation.client() as client, LiveState(client, USERS, FREEZES, back=timedelta(hours=1)) as state:
        await until(lambda: len(state.calls) > 10 and state.board.newest())
        yield state


def over(state: LiveState) -> Call:
    """Return a call of several users whose details can be loaded."""
    return next(
        entry.call
        for entry in state.calls.sorted("worst")
        if entry.call.span and entry.call.span.end < NOON - 300 and (entry.call.call_pcu or 0) > 3
    )


def call(at: int, name: str) -> Call:
    """A finished call; the first are the worst, with numbers that nobody expects."""
    rates = [1e200, 0.31, 0.08, None, 0.0]
    return Call(
        call_id=f"C{at}",
        cname=name,
        created_ts=NOON - 900 - 10 * at,
        destroyed_ts=NOON - 300,
        finished=True,
        call_pcu=2**62 if at == 0 else 3 + at % 40,
        call_acu=2.5,
        call_audio_freeze_rate=rates[at] if at < len(rates) else 0.01,
        call_video_freeze_rate=0.02 if at > 1 else 0.4,
    )
