"""A worker that stood still ends what it had, since others may have it already."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from agora_analytics.fleet import freeze_watch, stream_turns
from agora_analytics.fleet.freeze_watch import FreezeWatch
from agora_analytics.fleet.stream_turns import StreamTurns
from agora_analytics.quota.store_clock import elapsed


@pytest.mark.parametrize(("seconds", "calls"), [(3.0, 0), (4.5, 1)])
async def test_it_is_noticed_once_if_leases_may_be_over(monkeypatch, seconds, calls):
    noticed = []
    watch = FreezeWatch(lambda: noticed.append(True))
    await asyncio.sleep(1)
    monkeypatch.setattr(freeze_watch, "elapsed", lambda: elapsed() + seconds)
    await asyncio.sleep(1)
    watch.stop()
    assert len(noticed) == calls


class Stream:
    """A stream that notes whether it was stopped before it began."""

    def __init__(self) -> None:
        self.is_stopped = self.began_stopped = False

    def stop(self) -> None:
        self.is_stopped = True

    drain = stop

    async def __aenter__(self):
        self.began_stopped = self.is_stopped
        return self

    async def __aexit__(self, *_):
        pass

    async def __aiter__(self):
        for event in ():
            yield event


@pytest.mark.parametrize("end", ["stop", "drain_running"])
async def test_a_turn_that_is_just_beginning_ends_too(monkeypatch, end):
    began, stream = asyncio.Event(), Stream()

    async def begin(key):
        await began.wait()
        return SimpleNamespace(key=key)

    async def note(key, **_):
        pass

    async def no(key):
        return False

    @asynccontextmanager
    async def given(_):
        yield SimpleNamespace(checkpoint="")

    monkeypatch.setattr(stream_turns, "_stream", lambda *_: stream)
    reporter = SimpleNamespace(begin=begin, end=note, is_taken=no, alive=1)
    pool, sink = SimpleNamespace(client=given), SimpleNamespace(place=given)
    turns = StreamTurns({"a": (None, None)}, pool=pool, sink=sink, reporter=reporter, seconds=60)
    turn = asyncio.create_task(turns.take("a"))
    await asyncio.sleep(0)
    getattr(turns, end)()
    began.set()
    await turn
    assert stream.began_stopped
