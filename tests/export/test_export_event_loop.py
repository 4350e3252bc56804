"""Exports do not block the event loop: modules are loaded and data frames are built on other threads."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from agora_analytics import to_arrow, to_pandas
from agora_analytics.models import Call

LOADED = """
import asyncio, sys, threading
from agora_analytics import Selection
from agora_analytics.simulator import Simulation

class Hook:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is threading.main_thread() and watching:
            print(name)

watching = []
sys.meta_path.insert(0, Hook())

async def main():
    simulation = Simulation()
    async with simulation.client() as client:
        span = client.calls.recent(3_600)
        await client.calls.page(*span)
        watching.append(True)
        await client.export.estimate(Selection(*span))
        await client.export.run(Selection(*span), sys.argv[1], format="jsonl")
        watching.clear()
        print("agora_analytics.export.fetch.run" in sys.modules)

asyncio.run(main())
"""


SMALL_MODULES = {
    "_queue",
    "agora_analytics.export.exporter",
    "agora_analytics.quota.snapshot",
    "aiolimiter",
    "aiolimiter.leakybucket",
    "concurrent.futures.thread",
    "importlib.metadata._adapters",
    "importlib.metadata._text",
    "queue",
}
"""Modules that load in a millisecond or two: `client.export`, rate limiting, forecasts, threads, package metadata."""


def test_an_export_loads_no_large_module_on_the_thread_of_the_event_loop(tmp_path):
    command = [sys.executable, "-c", LOADED, str(tmp_path / "export")]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    *names, loaded = process.stdout.splitlines()
    assert loaded == "True"
    assert set(names) <= SMALL_MODULES


@pytest.mark.parametrize("convert", [to_arrow, to_pandas])
def test_frames_are_built_on_another_thread(convert, monkeypatch):
    from agora_analytics.export import arrow

    threads = []
    for name in ("table", "concat"):
        real = getattr(arrow, name)

        def record_thread(argument, real=real):
            threads.append(threading.current_thread())
            return real(argument)

        monkeypatch.setattr(arrow, name, record_thread)
    calls = [Call(call_id=str(number), created_ts=1) for number in range(2_500)]
    frame = asyncio.run(convert(calls))  # not the virtual loop, which runs no other threads
    assert len(frame) == 2_500
    assert len(threads) == 4  # three batches of up to a thousand rows, and their concatenation
    assert threading.main_thread() not in threads
