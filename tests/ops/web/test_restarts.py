"""When a stream of a live state starts again: what ended it decides, and the status and the probe say when."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise

import pytest
from helpers.streaming import DAY, HOUR, USERS, simulated
from helpers.times import NOON

from agora_analytics import CheckpointError, MemoryCheckpoints, QuotaExhausted, RateLimited, Unauthorized
from agora_analytics.errors import LedgerError
from agora_analytics.ops import LiveState
from agora_analytics.ops.web.feeding import StreamReader
from agora_analytics.ops.web.readiness import probe


def day_refused() -> RateLimited:
    error = RateLimited("too many", status=429)
    error.unit = "day"
    return error


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [
        (QuotaExhausted("spent", resets_in=5_000.0), [5_000] * 6, [5_060] * 6),
        (day_refused(), [DAY // 2, *[DAY - 60] * 5], [DAY // 2 + 60, *[DAY + 60] * 5]),
        (Unauthorized("no"), [30, 60, 120, 240, 300, 300], [60, 120, 240, 480, 600, 600]),
        (LedgerError("locked"), [2.5, 5, 10, 20, 40, 80], [5, 10, 20, 40, 80, 160]),
        (CheckpointError("leased", kind="in_use"), [2.5, 5, 10, 20, 40, 80], [5, 10, 20, 40, 80, 160]),
        (CheckpointError("lost", kind="taken_over"), [30, 60, 120, 240, 300, 300], [60, 120, 240, 480, 600, 600]),
    ],
    ids=["quota", "day", "credentials", "ledger", "checkpoint", "takeover"],
)
async def test_the_pause_depends_on_what_ended_the_stream(error, least, most):
    starts, enough, loop = [], asyncio.Event(), asyncio.get_running_loop()

    def fail(_: object) -> None:
        starts.append(loop.time())
        if len(starts) == 7:
            enough.set()
        raise error

    reader = StreamReader("windows", fail, lambda _: None, lambda: NOON + loop.time())
    task = asyncio.create_task(reader.run())
    await asyncio.sleep(0)
    assert NOON + least[0] - 1 <= reader.view().restarts_at <= NOON + most[0]
    assert re.search(r"starts again at 2026-\d\d-\d\dT\d\d:\d\d:\d\dZ: ", reader.view().trouble)
    await enough.wait()
    task.cancel()
    pauses = [after - before for before, after in pairwise(starts)]
    assert all(low <= pause <= high + 1 for low, pause, high in zip(least, pauses, most, strict=True))


class Broken(MemoryCheckpoints):
    """A store that fails for a while, after the windows of a poll were delivered."""

    broken = True

    async def save(self, name, checkpoint, epoch):
        if self.broken:
            raise CheckpointError(name)
        await super().save(name, checkpoint, epoch)


async def test_a_store_that_stays_broken_costs_few_requests_and_is_tried_again_within_minutes():
    simulation, store = simulated("premium"), Broken()
    async with (
        simulation.client(checkpoints=store) as client,
        LiveState(client, USERS, calls=False, checkpoint="page") as state,
    ):
        await asyncio.sleep(HOUR)
        assert sum(one.requests for one in state.usage.hours()) < 40
        store.broken = False
        await asyncio.sleep(400)
        assert probe(state).ready
