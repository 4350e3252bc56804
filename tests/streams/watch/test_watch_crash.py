"""Exactly once: a consumer commits windows together with the checkpoint, and is killed at random moments."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE
from contextlib import closing, suppress
from random import Random

import pytest
from helpers.paths import ROOT

from agora_analytics import Plan
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Service, World
from agora_analytics.simulator.server import serve

pytestmark = [pytest.mark.process, pytest.mark.real_time]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform has no SIGKILL")
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
async def test_each_window_is_stored_once_although_its_writer_is_killed_repeatedly(tmp_path, kills):
    table = tmp_path / "windows.db"
    service = Service(World(seed=5), Plan.of("enterprise").with_limits("realtime", per_minute=1_000))
    random = Random(7)

    async def write(lines: int, *, kill: bool) -> int:
        """Run the example; kill it after it has printed so many lines, or let it end after so many windows."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(ROOT / "examples/watch_windows.py"), str(table)),
            # On a busy machine the signal is late: with no end it would write all windows that there are, and after
            # those one comes in 20 s.
            *(str(lines + 3 * kill), "58"),
            env=environment,
            stdout=PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(120):
            for _ in range(lines):
                await process.stdout.readline()
            if kill:
                await asyncio.sleep(random.random() * 0.005)
                with suppress(ProcessLookupError):
                    process.kill()
            await process.communicate()
        return process.returncode or 0

    async with serve(service) as url:
        environment = os.environ | {
            "AGORA_CUSTOMER_ID": CUSTOMER_ID,
            "AGORA_CUSTOMER_SECRET": CUSTOMER_SECRET,
            "AGORA_APP_ID": APP_ID,
            "AGORA_PLAN": "enterprise",
            "AGORA_BASE_URL": url,
            "PYTHONPATH": str(ROOT),
        }
        codes = [await write(random.randint(0, 4), kill=True) for _ in range(kills)]
        assert await write(5, kill=False) == 0

    assert set(codes) <= {0, -signal.SIGKILL}
    assert -signal.SIGKILL in codes
    with closing(sqlite3.connect(table)) as database:
        rows = database.execute("SELECT ts, count FROM users ORDER BY rowid").fetchall()
    stamps = [ts for ts, _ in rows]
    assert stamps == list(range(stamps[0], stamps[0] + 20 * len(rows), 20))
    assert [count for _, count in rows] == [service.world.users("Native", ts, None)[""] for ts in stamps]
