"""The first signal drains an export: no answer that is under way is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from io import StringIO

import pytest
from helpers.fleet_service import Accounts, app, listening
from helpers.paths import ROOT
from rich.console import Console

from agora_analytics.cli.output import Screen
from agora_analytics.cli.tables import Table
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


@pytest.fixture
async def start():
    """Return a function that starts an export; those still running at the end are killed."""
    started = []
    # Yesterday's: none of the calls is open.
    begin = int(time.time()) // DAY * DAY - DAY
    span = ("--start", str(begin), "--end", str(begin + HOUR))

    async def start_process(folder) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agora_analytics.cli", "export", str(folder), "--format", "jsonl"),
            *("--datasets", "calls,sessions", *span),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # A shell ignores Ctrl-C in background jobs, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield start_process
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def finished(process) -> tuple[int, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), err.decode()


def requests(service) -> int:
    return sum(service.services["customer0"].counts.values())


async def until(service, count: int) -> None:
    async with asyncio.timeout(60):
        while requests(service) < count:  # noqa: ASYNC110 - the service has no event for it
            await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_the_first_signal_loses_no_answer(service, start, tmp_path):
    assert (await finished(await start(tmp_path / "whole")))[0] == 0
    whole, service.delay = requests(service), 0.8
    process = await start(tmp_path / "two")
    await until(service, whole + 5)
    process.send_signal(signal.SIGTERM)
    code, out, err = await finished(process)
    assert code == 143
    assert "pending: " in out
    assert "stopping: waiting for answers that are under way; a second signal ends it at once" in err
    service.delay = 0.0
    assert requests(service) < 2 * whole
    assert (await finished(await start(tmp_path / "two")))[0] == 0
    assert requests(service) == 2 * whole


@pytest.mark.slow
async def test_what_does_not_end_in_ten_seconds_is_cancelled(service, start, tmp_path):
    service.delay = 25.0
    process = await start(tmp_path / "stuck")
    await until(service, 1)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    code, _, err = await finished(process)
    assert 9 < time.monotonic() - begun < 20
    assert code == 130
    assert err.splitlines()[-1] == "stopped: run the same command again to resume"


def test_a_note_beside_the_live_table_stays(monkeypatch):
    terminal = Console(file=StringIO(), force_terminal=True, width=80, legacy_windows=False)
    monkeypatch.setattr("agora_analytics.cli.output._console", lambda **_: terminal)
    with Screen().live_table() as view:
        for number in range(3):
            view.table(Table("", ("stage", "now"), (("requests made", str(number)),)))
            if number == 1:
                view.notice("stopping")
    shown = terminal.file.getvalue()
    before, after = shown.split("stopping")
    # The table is erased for the note, which ends its line; what is drawn next moves up over the table alone.
    assert before.rpartition("requests made")[2].count("\x1b[2K") >= 3
    assert after.partition("\n")[0] == "\x1b[0m"
    assert after.count("\x1b[1A") == after.count("\n") - 1
