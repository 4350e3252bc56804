"""The first signal drains an export: no answer that is under way is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest
from helpers.fleet_service import Accounts, app, listening
from helpers.paths import ROOT

from agora_analytics.spans import DAY, HOUR

pytestmark = [
    pytest.mark.process,
    pytest.mark.real_time,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals"),
]


@pytest.fixture
async def service(tmp_path, monkeypatch):
    accounts = Accounts(1)
    async with listening(accounts) as url:
        for name, value in {
            "AGORA_BASE_URL": url,
            "AGORA_CUSTOMER_ID": "customer0",
            "AGORA_CUSTOMER_SECRET": "secret0",
            "AGORA_APP_ID": app(0),
            "AGORA_PLAN": "enterprise",
            "XDG_STATE_HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        }.items():
            monkeypatch.setenv(name, value)
        yield accounts


async def started(folder) -> asyncio.subprocess.Process:
    # Yesterday's: none of the calls is open.
    start = int(time.time()) // DAY * DAY - DAY
    span = ("--start", str(start), "--end", str(start + HOUR))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agora_analytics.cli", "export", str(folder), "--format", "jsonl"),
        *("--datasets", "calls,sessions", *span),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finished(process) -> tuple[int, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), err.decode()


def requests(service) -> int:
    return sum(service.services["customer0"].counts.values())


async def until(service, count: int) -> None:
    async with asyncio.timeout(60):
        while requests(service) < count:  # noqa: ASYNC110 - the service has no event for it
            await asyncio.sleep(0.02)


async def test_the_first_signal_loses_no_answer(service, tmp_path):
    assert (await finished(await started(tmp_path / "whole")))[0] == 0
    whole, service.delay = requests(service), 0.8
    process = await started(tmp_path / "two")
    await until(service, whole + 5)
    process.send_signal(signal.SIGTERM)
    code, out, err = await finished(process)
    assert code == 143
    assert "pending: " in out
    assert "stopping: waiting for answers that are under way; a second signal ends it at once" in err
    service.delay = 0.0
    assert requests(service) < 2 * whole
    assert (await finished(await started(tmp_path / "two")))[0] == 0
    assert requests(service) == 2 * whole


@pytest.mark.slow
async def test_what_does_not_end_in_ten_seconds_is_cancelled(service, tmp_path):
    service.delay = 25.0
    process = await started(tmp_path / "stuck")
    await until(service, 1)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    code, _, err = await finished(process)
    assert 9 < time.monotonic() - begun < 20
    assert code == 130
    assert err.splitlines()[-1] == "stopped: run the same command again to resume"
