"""A worker that stood still ends what it had, since others may have it already."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from agora_analytics.fleet import freeze_watch, stream_turns
from agora_analytics.fleet.failures import JobTakenError
from agora_analytics.fleet.freeze_watch import FreezeWatch
from agora_analytics.fleet.stream_turns import StreamTurns
from agora_analytics.fleet.turns import Turns
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
    reporter = SimpleNamespace(begin=begin, end=note, has_successor=no, alive=1)
    pool, sink = SimpleNamespace(client=given), SimpleNamespace(place=given)
    turns = StreamTurns({"a": (None, None)}, pool=pool, sink=sink, reporter=reporter, seconds=60)
    turn = asyncio.create_task(turns.take("a"))
    await asyncio.sleep(0)
    getattr(turns, end)()
    began.set()
    await turn
    assert stream.began_stopped


async def test_a_job_that_another_worker_has_is_offered_again_only_after_its_turn():
    pool, reporter = SimpleNamespace(), SimpleNamespace(worker="one", begin=begun, forget=lambda key: None)
    turns = Turns(pool, reporter, seconds=30)

    async def lose(status):
        raise JobTakenError

    clock = asyncio.get_running_loop().time
    first = asyncio.create_task(turns.run("a", None, lose))
    second = asyncio.create_task(turns.run("b", None, lose))
    began = clock()
    await asyncio.sleep(5)
    assert (len(turns), "a" in turns, "b" in turns) == (0, True, True)
    # The turn of its successor is over.
    assert turns.decline("b") > 0
    assert await second == 0
    assert clock() - began == pytest.approx(5, abs=0.1)
    assert await first == 0
    assert clock() - began == pytest.approx(30, abs=0.1)
    third = asyncio.create_task(turns.run("c", None, lose))
    await asyncio.sleep(1)
    turns.drain()
    assert await third == 0
    assert clock() - began == pytest.approx(31, abs=0.1)


async def begun(key):
    return SimpleNamespace(key=key)
