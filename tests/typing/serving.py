"""What a type checker sees of the live page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import assert_type

from aiohttp import web

from agora_analytics import AnalyticsClient, Series
from agora_analytics.ops import FleetMonitor, LiveState, routes


async def serving(client: AnalyticsClient, monitor: FleetMonitor) -> None:
    users = Series("userCount", product="Native")
    state = LiveState(client, users, calls=True, sessions=False, back=timedelta(hours=1), checkpoint="page", gaps=False)
    async with state as opened:
        assert_type(opened, LiveState)
        assert_type(state.on_event(print), Callable[[], None])
        assert_type(state.on_stream(print), Callable[[], None])
        state.add_alert({"text": "freeze"})
        assert_type((state.is_open, state.failed), tuple[bool, bool])
        assert_type(state.series, tuple[Series, ...])
        assert_type(routes(state, token="x" * 16, hosts=["a.example"], title="prod", simulated=True), web.Application)
    assert_type(LiveState(client, users, fleet=monitor).fleet, FleetMonitor | None)
    assert_type(routes(client), web.Application)
