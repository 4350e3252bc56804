"""The caller's cancellation takes effect, whatever else ends its request in the same iteration of the event loop."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from agora_analytics import AnalyticsClient, Retry, Timeouts
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET

pytestmark = pytest.mark.real_time

TOTAL = 0.2


async def never_respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read a request, and never respond."""
    try:
        await reader.read()
    finally:
        writer.close()


async def with_unanswered_request(run, session: aiohttp.ClientSession | None = None) -> None:
    """Run a function with a request that gets no response and times out."""
    server = await asyncio.start_server(never_respond, "127.0.0.1")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = {"plan": "premium", "app_id": APP_ID, "quotas": False, "retry": Retry(attempts=1), "session": session}
    timeouts = Timeouts(total=TOTAL)
    async with AnalyticsClient(CUSTOMER_ID, CUSTOMER_SECRET, base_url=url, timeouts=timeouts, **settings) as client:
        await run(lambda: client.calls.page(*client.calls.recent(3_600)))
    server.close()


def block_loop() -> None:
    """Block the event loop until every timer is due."""
    time.sleep(2 * TOTAL)


async def test_a_cancellation_takes_effect_although_the_request_times_out_in_the_same_iteration():
    async def run(list_calls) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(list_calls())
        loop.call_later(TOTAL + 0.1, task.cancel)
        loop.call_later(TOTAL / 2, block_loop)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (task.cancelled(), task.cancelling()) == (True, 1)

    await with_unanswered_request(run)


async def test_the_callers_timeout_takes_effect_although_the_request_times_out_in_the_same_iteration():
    async def run(list_calls) -> None:
        asyncio.get_running_loop().call_later(TOTAL / 2, block_loop)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(TOTAL):
                await list_calls()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    await with_unanswered_request(run)


async def test_a_failing_callback_of_the_callers_session_does_not_hide_the_cancellation():
    async def failing(*_: object) -> None:
        raise ValueError("the callback's own")

    tracing = aiohttp.TraceConfig()
    tracing.on_request_exception.append(failing)

    async def run(list_calls) -> None:
        task = asyncio.ensure_future(list_calls())
        asyncio.get_running_loop().call_later(TOTAL / 2, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    async with aiohttp.ClientSession(trace_configs=[tracing]) as session:
        await with_unanswered_request(run, session)
