"""A worker that is cancelled while it starts: it ends, in whatever step it was."""

from __future__ import annotations

import asyncio
import gc

import pytest
from helpers.fleet_service import described
from helpers.redis_server import MISSING, REDIS

from agora_analytics.fleet import Fleet

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.process,
    pytest.mark.skipif(REDIS is None, reason=MISSING),
]


async def ignore(key, event) -> None:
    """Take an event."""


async def test_a_worker_ends_in_whichever_step_of_its_start_it_is_cancelled(redis):
    await asyncio.to_thread(__import__, "docket")  # so that each start takes the same steps
    for steps in range(40):
        fleet = Fleet(*described(1, "http://127.0.0.1:9"), store=redis.url, name=f"fleet-{steps}")
        running = asyncio.ensure_future(fleet.run_worker(ignore))
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        _, left = await asyncio.wait([running], timeout=20)
        assert not left, f"cancelled after {steps} steps"
        assert running.cancelled()
        gc.collect()  # which warns of a connection that is open
