"""The process with the watch and the follow, killed or stopped once a day, and the machine that it runs on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import attrs

from agora_analytics import Checkpoint
from agora_analytics.protocols import Request, Response
from agora_analytics.quota import LedgerState, decode
from agora_analytics.simulator import Service, Simulation, SimulatorTransport, VirtualLoop, World
from agora_analytics.simulator.world.rng import rng_for
from benchmarks.endurance.judge import Judge
from benchmarks.endurance.schedule import Schedule, Trouble
from benchmarks.endurance.truth import SERIES, Asked

T = TypeVar("T")

_LOOK: Final = 300.0
"""Seconds between two readings of the service's counters."""

_WINDOWS: Final = 1
_CALLS: Final = 50
"""Events of a stream in one transaction of its sink."""


class Recorder(SimulatorTransport):
    """A transport that records which windows were requested, and whether that was answered."""

    def __init__(self, service: Service, latency: Callable[[], tuple[float, float]], judge: Judge, life: int) -> None:
        super().__init__(service, latency=latency)
        self._clock = service.clock
        self._judge = judge
        self._life = life

    async def send(self, request: Request, host: int = 0) -> Response:
        """Send a request, and return the answer."""
        sent = self._clock()
        ignorant = self._judge.ignorant
        response = await super().send(request, host)
        self._judge.answered(request, response, self._clock(), ignorant=ignorant)
        if request.endpoint.table == "realtime" and _success(response):
            params = dict(parse_qsl(request.query))
            place = next(
                number
                for number, one in enumerate(SERIES)
                if (one.metric, one.product) == (params["metric"], params["productType"])
            )
            asked = Asked(sent, self._clock(), self._life, int(params["startTs"]), int(params["endTs"]))
            self._judge.questions.add(place, asked)
        return response


def _success(response: Response) -> bool:
    try:
        return response.status == 200 and json.loads(response.body)["code"] == 200  # noqa: PLR2004 - a success
    except (ValueError, TypeError, KeyError):
        return False


class Disk:
    """A ledger that outlives its process, like a `FileLedger`, but without a thread, which virtual time excludes."""

    def __init__(self) -> None:
        self._state = LedgerState()

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        """Apply a change to the state of the only account."""
        assert account  # noqa: S101 - there is but one
        return change(self._state)

    async def close(self) -> None:
        """Close nothing."""

    def reopen(self, now: float, wall: float) -> None:
        """Act like a file that another process opens."""
        self._state = decode(self._state.encode())
        self._state.reclaim(self._state.process_slot, now)
        self._state.rebase(now, wall)


@attrs.define
class Sink:
    """Commits rows with the checkpoint in one transaction; what was not committed is lost with the process."""

    write: Callable[[float, int, Any], None]
    batch: int
    checkpoint: str = ""
    pending: list[tuple[float, int, Any]] = attrs.field(factory=list)

    def take(self, at: float, life: int, event: Any, stream: Any) -> None:
        """Take an event, and commit once there are enough."""
        self.pending.append((at, life, event))
        if len(self.pending) >= self.batch:
            self.commit(stream)

    def commit(self, stream: Any) -> None:
        """Commit what is pending, and the stream's checkpoint."""
        for row in self.pending:
            self.write(*row)
        self.pending.clear()
        self.checkpoint = stream.checkpoint.encode()

    def resume(self) -> Checkpoint | None:
        """Return the committed checkpoint for a new process."""
        self.pending.clear()
        return Checkpoint.decode(self.checkpoint) if self.checkpoint else None


class Month:
    """Runs a schedule, and passes everything on to the judge."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.simulation = Simulation(
            world=World(seed=schedule.seed, calls_per_hour=schedule.calls / 24),
            plan="premium",
            clock=float(schedule.begin),
            faults=schedule.faults(),
            variants=schedule.variants(),
        )
        self.judge = Judge(self.simulation, schedule)
        self._ledger = Disk()
        self._windows = Sink(self.judge.windows.take, _WINDOWS)
        self._calls = Sink(self.judge.calls.take, _CALLS)
        self._life = 0
        self._streams: tuple[Any, ...] = ()
        self._process: asyncio.Task[None] | None = None

    @property
    def now(self) -> float:
        """The service's time."""
        return self.simulation.clock()

    async def run(self) -> Judge:
        """Run the whole schedule."""
        self._start()
        looking = asyncio.create_task(self._look_on())
        try:
            for at, act in self._acts():
                await self._until(at)
                await act()
            await self._until(self.schedule.stop)
            await self._end(kill=False)
        finally:
            looking.cancel()
        self._look()
        self.judge.close(self.now)
        return self.judge

    def _acts(self) -> list[tuple[float, Callable[[], Coroutine[Any, Any, None]]]]:
        """Return everything that happens to the machine and the process, in order of time."""
        schedule = self.schedule
        sleeps = [(one.start, partial(self._sleep, one)) for one in schedule.sleeps]
        steps = [(one.at, partial(self._step, one.wrong)) for one in schedule.steps]
        restarts = [
            (one.start, partial(self._restart, one, kill=number % 2 == 0))
            for number, one in enumerate(schedule.restarts)
        ]
        acts: list[tuple[float, Callable[[], Coroutine[Any, Any, None]]]] = [*sleeps, *steps, *restarts]
        return sorted(acts, key=lambda act: act[0])

    async def _until(self, moment: float) -> None:
        while self.now < moment:
            # In a loop, because a sleep of the machine delays the timer, and a step of the clock moves the goal.
            await asyncio.sleep(max(moment - self.now, 0.001))
            self._notice_death()

    async def _sleep(self, sleep: Trouble) -> None:
        begun = self.now
        self.simulation.clock.suspend(sleep.end - sleep.start)
        self.judge.slept(begun, self.now)

    async def _step(self, wrong: float) -> None:
        self.simulation.host_clock.wrong = wrong

    async def _restart(self, down: Trouble, *, kill: bool) -> None:
        begun = self.now
        await self._end(kill=kill)
        await self._until(begun + down.end - down.start)
        self.judge.hindrances.add(attrs.evolve(down, start=begun, end=self.now))
        self._start()

    def _start(self) -> None:
        self._life += 1
        self._streams = ()
        self.judge.begins(self.now)
        self._process = asyncio.create_task(self._live())

    async def _end(self, *, kill: bool) -> None:
        """Kill the process, or stop it gracefully if its streams have started."""
        process = self._process
        if process is None:
            return
        kill = kill or not self._streams
        if kill:
            process.cancel()
        else:
            begun = self.now
            for one in self._streams:
                one.stop()
        await asyncio.wait([process])
        if not kill and self.now - begun > 1:
            self.judge.fault("stop", f"stop() took {self.now - begun:.1f} s")
        self._process = None
        if not process.cancelled() and process.exception():
            self.judge.died(self.now, process.exception())

    def _notice_death(self) -> None:
        if self._process is not None and self._process.done():
            self.judge.died(self.now, None if self._process.cancelled() else self._process.exception())
            self._start()

    async def _live(self) -> None:
        """Run a process: a client, a watch and a follow, each with a sink."""
        draw = rng_for(self.schedule.seed, "latency", self._life)
        judge, life = self.judge, self._life
        recorder = Recorder(
            self.simulation.service, lambda: (draw.uniform(0.02, 0.3), draw.uniform(0.02, 0.3)), judge, life
        )
        self._ledger.reopen(asyncio.get_running_loop().time(), self.simulation.host_clock())
        async with self.simulation.client(ledger=self._ledger, transport=recorder) as client:
            client._dispatcher._random = draw  # noqa: SLF001 - the same jitter in each run
            watch = client.realtime.watch(*SERIES, start=self.schedule.begin, checkpoint=self._windows.resume())
            follow = client.calls.follow(start=self.schedule.begin, checkpoint=self._calls.resume(), with_sessions=True)
            self._streams = (watch, follow)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._consume(watch, self._windows, life))
                group.create_task(self._consume(follow, self._calls, life))

    async def _consume(self, source: Any, sink: Sink, life: int) -> None:
        async with source as events:
            async for event in events:
                sink.take(self.now, life, event, source)
            sink.commit(source)

    async def _look_on(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(_LOOK)

    def _look(self) -> None:
        self.judge.look(self.now, (self._windows.checkpoint, self._calls.checkpoint))


def run(schedule: Schedule) -> Judge:
    """Run a schedule on virtual time, and return the judge with the results."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_run(schedule))


async def _run(schedule: Schedule) -> Judge:
    return await Month(schedule).run()
