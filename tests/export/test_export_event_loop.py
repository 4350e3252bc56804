"""What holds the event loop is done elsewhere: it is loaded, and frames are made, on other threads."""

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


SMALL = {
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
"""The door itself, what paces requests and foresees when, threads, and what reads the version: a millisecond or two."""


def test_nothing_large_is_loaded_in_the_loops_thread_by_an_export(tmp_path):
    command = [sys.executable, "-c", LOADED, str(tmp_path / "export")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *names, loaded = done.stdout.splitlines()
    assert loaded == "True"
    assert set(names) <= SMALL


@pytest.mark.parametrize("make", [to_arrow, to_pandas])
def test_frames_are_made_on_another_thread(make, monkeypatch):
    from agora_analytics.export import arrow

    threads = []
    for name in ("table", "concat"):
        real = getattr(arrow, name)

        def noted(given, real=real):
            threads.append(threading.current_thread())
            return real(given)

        monkeypatch.setattr(arrow, name, noted)
    calls = [Call(call_id=str(number), created_ts=1) for number in range(2_500)]
    frame = asyncio.run(make(calls))  # not the virtual loop, which has no other threads
    assert len(frame) == 2_500
    assert len(threads) == 4  # a thousand at a time, and all together
    assert threading.main_thread() not in threads
