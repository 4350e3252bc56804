"""A cancellation of the caller's arrives, whatever else ends its request in the same turn of the loop."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from agora_analytics import AnalyticsClient, Retry, Timeouts
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET

pytestmark = pytest.mark.real_time

TOTAL = 0.2


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take a request, and answer nothing."""
    try:
        await reader.read()
    finally:
        writer.close()


async def asked(run, session: aiohttp.ClientSession | None = None) -> None:
    """Do something with a client whose requests take as long as they may."""
    server = await asyncio.start_server(never, "127.0.0.1")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = {"plan": "premium", "app_id": APP_ID, "quotas": False, "retry": Retry(attempts=1), "session": session}
    timeouts = Timeouts(total=TOTAL)
    async with AnalyticsClient(CUSTOMER_ID, CUSTOMER_SECRET, base_url=url, timeouts=timeouts, **settings) as client:
        await run(lambda: client.calls.page(*client.calls.recent(3_600)))
    server.close()


def stalled() -> None:
    """Hold the loop until every timer is due."""
    time.sleep(2 * TOTAL)


async def test_a_cancellation_arrives_though_the_request_times_out_at_once():
    async def run(ask) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(ask())
        loop.call_later(TOTAL + 0.1, task.cancel)
        loop.call_later(TOTAL / 2, stalled)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (task.cancelled(), task.cancelling()) == (True, 1)

    await asked(run)


async def test_a_time_out_of_the_caller_ends_its_call_though_the_request_times_out_at_once():
    async def run(ask) -> None:
        asyncio.get_running_loop().call_later(TOTAL / 2, stalled)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(TOTAL):
                await ask()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    await asked(run)


async def test_a_callback_of_a_given_session_that_fails_does_not_hide_the_cancellation():
    async def failing(*_: object) -> None:
        raise ValueError("the callback's own")

    tracing = aiohttp.TraceConfig()
    tracing.on_request_exception.append(failing)

    async def run(ask) -> None:
        task = asyncio.ensure_future(ask())
        asyncio.get_running_loop().call_later(TOTAL / 2, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    async with aiohttp.ClientSession(trace_configs=[tracing]) as session:
        await asked(run, session)
