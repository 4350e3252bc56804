"""A worker that stood still ends what it had, since others may have it already."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from agora_analytics.fleet import freeze_watch, stream_turns
from agora_analytics.fleet.export_turns import ExportTurns
from agora_analytics.fleet.freeze_watch import FreezeWatch
from agora_analytics.fleet.queue import JobTakenError
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
    """A stream that delivers nothing until it is ended."""

    def __init__(self, fault: BaseException | None = None) -> None:
        self.ended, self.entered, self.fault = asyncio.Event(), False, fault

    def stop(self) -> None:
        self.ended.set()

    drain = stop

    async def __aenter__(self):
        self.entered = True
        return self

    async def __aexit__(self, *_):
        pass

    async def __aiter__(self):
        await self.ended.wait()
        if self.fault:
            raise self.fault
        for event in ():
            yield event


class Turn:
    """One turn of a stream, which waits at a step; it notes the steps that it has passed."""

    def __init__(
        self, monkeypatch, waits_at: str = "", *, taken: bool = False, fault: BaseException | None = None
    ) -> None:
        self.steps: list[str] = []
        self.go_on, self.stream, self._waits_at, self._taken = asyncio.Event(), Stream(fault), waits_at, taken
        monkeypatch.setattr(stream_turns, "_stream", lambda *_: self.stream)
        reporter = SimpleNamespace(
            worker="one", alive=1, begin=self._begin, end=self._end, is_taken=self._is_taken, **ignoring
        )
        pool, sink = SimpleNamespace(client=self._at("client")), SimpleNamespace(place=self._at("place"))
        self.turns = StreamTurns(
            {"a": (SimpleNamespace(name="acme"), None)}, pool=pool, sink=sink, reporter=reporter, seconds=60
        )

    async def begun(self) -> asyncio.Task:
        turn = asyncio.create_task(self.turns.take("a"))
        await asyncio.sleep(1)
        return turn

    async def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self._waits_at:
            await self.go_on.wait()

    async def _begin(self, key):
        await self._step("begin")
        return SimpleNamespace(key=key, failures=0)

    def _at(self, name: str):
        @asynccontextmanager
        async def entered(_):
            await self._step(name)
            yield SimpleNamespace(checkpoint="")

        return entered

    async def _is_taken(self, _):
        self.steps.append("is_taken")
        return self._taken

    async def _end(self, key, **_):
        self.steps.append("end")


ignoring = {"note": lambda key, **_: None, "forget": lambda key: None}
BEGUN = ["begin", "client", "place"]


@pytest.mark.parametrize("end", ["stop", "drain_running", "drain"])
@pytest.mark.parametrize("step", BEGUN)
async def test_a_turn_that_is_just_beginning_ends_before_it_takes_the_place(monkeypatch, end, step):
    turn = Turn(monkeypatch, step)
    task = await turn.begun()
    getattr(turn.turns, end)()
    turn.go_on.set()
    assert await task == 0
    assert ("place" in turn.steps, turn.stream.entered) == (step == "place", False)
    assert turn.steps[-1] == "end"


@pytest.mark.parametrize("fault", [None, OSError("of a user"), asyncio.CancelledError()])
async def test_a_turn_that_is_stopped_leaves_its_job_to_a_successor(monkeypatch, fault):
    turn = Turn(monkeypatch, taken=True, fault=fault)
    task = await turn.begun()
    turn.turns.stop()
    with pytest.raises(JobTakenError):
        await task
    assert turn.steps == [*BEGUN, "is_taken"]


async def test_a_worker_that_drains_reads_of_no_successor(monkeypatch):
    turn = Turn(monkeypatch, taken=True)
    task = await turn.begun()
    turn.turns.drain()
    assert await task == 0
    assert turn.steps == [*BEGUN, "end"]


@pytest.mark.parametrize(("end", "is_left"), [("stop", True), ("drain", False)])
async def test_an_export_that_is_stopped_is_left_to_a_successor(end, is_left):
    ended = []

    async def begin(key):
        return SimpleNamespace(key=key, failures=0)

    async def is_taken(_):
        return True

    async def note_end(key, **_):
        ended.append(key)

    @asynccontextmanager
    async def client(_):
        getattr(turns, end)()
        yield

    reporter = SimpleNamespace(worker="one", begin=begin, is_taken=is_taken, end=note_end, **ignoring)
    turns = ExportTurns({"a": SimpleNamespace(account=None)}, pool=SimpleNamespace(client=client), reporter=reporter)
    (result,) = await asyncio.gather(turns.take("a"), return_exceptions=True)
    assert (isinstance(result, JobTakenError), ended) == (is_left, [] if is_left else ["a"])
