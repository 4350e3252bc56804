"""What all streams do between two events: wait for quota, ask, weather what goes wrong, rest, and stop at once."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from agora_analytics.errors import AgoraError, LedgerError, PlanRefused, QuotaExhausted, RateLimited
from agora_analytics.plans import Endpoint
from agora_analytics.quota.limiter import Budget
from agora_analytics.quota.quota import Quota, Reserve
from agora_analytics.spans import DAY
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.error_policy import rule_of
from agora_analytics.streams.health import Monitor, log
from agora_analytics.streams.position import Place
from agora_analytics.streams.retention import Edges
from agora_analytics.streams.time_accounting import Times

T = TypeVar("T")
R = TypeVar("R")

_LOOK: Final = 60.0
"""Seconds after which a stream looks again: some quota may be back, its client closed, or the machine have slept."""

_REFUSALS: Final = 5
"""Refusals for frequency in a row after which a request counts as failed."""

_MOST_RETRY_AFTER: Final = 3_600.0

_CLOSE: Final = 5.0
"""Seconds by which a clock may be wrong without having made a request wrong."""

_LESSONS: Final = 3
_NEXT_SECOND: Final = 1.1
"""Seconds after which another second has begun: an answer is dated later than the one before, and can confirm it."""

_SLOWEST: Final = 300.0
"""Seconds between two attempts to learn the time in an outage: a window is kept for 40 minutes at least."""

_DOUBLINGS: Final = 10
_BUSY: Final = 1.0


class StoppedError(Exception):
    """The stream was stopped while it waited."""


class Poller(ABC, Generic[T]):
    """The machine behind a stream: `run()` yields its events."""

    def __init__(self, name: str, quota: Quota, place: Place, edges: Edges) -> None:
        self.current: T | None = None
        self.monitor = Monitor(name, quota)
        self._quota = quota
        self.place = place
        self._edges = edges
        self.times = Times(quota, edges.forget_refusals)
        self._stopped = asyncio.Event()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._answered = False
        self._budgets: dict[Reserve, Budget] = {}

    @property
    @abstractmethod
    def checkpoint(self) -> Checkpoint:
        """Where the stream will be once `current`, the event that its consumer works on, is done."""

    @property
    @abstractmethod
    def read_to(self) -> float | None:
        """The moment up to which events were delivered (UTC seconds), None before any."""

    @abstractmethod
    def events(self) -> AsyncGenerator[T]:
        """Yield without end, or until stopped."""

    def stop(self) -> None:
        """End after the event that is being worked on; cuts every wait. Any thread and signal handler may call it."""
        self._stopping = True
        if self._loop is None:  # nobody waits yet
            self._stopped.set()
            return
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._stopped.set)

    async def run(self) -> AsyncGenerator[T]:
        """Yield the events, and leave the place in the end."""
        self._loop = asyncio.get_running_loop()
        self.watch_host_clock()
        events = self.events()
        try:
            async for event in events:
                begun = self._quota.utc()
                yield event
                if self._quota.utc() - begun > _BUSY:
                    self.times.note(begun, "consumer")
        except StoppedError:
            pass
        finally:
            try:
                await events.aclose()
            finally:  # also when this is cancelled, or the name would be in use until the process ends
                if self._looking is not None:
                    self._looking.cancel()
                self.monitor.stopped()
                await self.place.leave()

    def watch_host_clock(self) -> None:
        """Look at the host's clock now, and again in a while: it tells when this machine slept."""
        self._quota.utc()
        self._looking = asyncio.get_running_loop().call_later(_LOOK, self.watch_host_clock)

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return self._stopping

    async def unless_stopped(self, work: Coroutine[Any, Any, R]) -> R:
        """Return what comes of some work; raises `StoppedError`, and cancels it, as soon as the stream is stopped."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise StoppedError
            return task.result()
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))

    async def each(self, source: AsyncGenerator[R]) -> AsyncGenerator[R]:
        """Yield what a source yields; raises `StoppedError` as soon as the stream is stopped while that takes time."""
        async with aclosing(source):
            while True:
                try:
                    item = await self.unless_stopped(_next(source))
                except StopAsyncIteration:
                    return
                yield item

    async def pause(self, seconds: float) -> None:
        """Sleep, unless stopped meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass

    async def ask(self, endpoint: Endpoint, send: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Return the answer to a request that is sent as soon as there is quota for it, however long that takes.

        A refusal for frequency is waited out; other errors, and the fifth of these in a row, come through.
        """
        refusals = 0
        while True:
            await self.ready(endpoint)
            if self.stopped:
                raise StoppedError
            try:
                answer = await send()
            except QuotaExhausted as error:
                await self.without_quota(max(error.resets_in, 1.0))
            except RateLimited as error:
                refusals += 1
                if refusals >= _REFUSALS:
                    raise
                # Where nothing is counted, nothing else holds the next attempt back.
                rest = error.retry_after or (0.0 if self._quota.enforced else _NEXT_SECOND)
                until = self._quota.now() + min(rest, _MOST_RETRY_AFTER)
                while (left := until - self._quota.now()) > 0 and not (self.stopped or self._quota.closed):
                    await self.without_quota(left, whole=rest)
            else:
                self._answered = True
                return answer

    def reserved(self, endpoint: Endpoint) -> _Reserved:
        """Return what keeps requests for the stream until it ends, whether the ledger can be written to then or not."""
        return _Reserved(self._quota.reserve(endpoint))

    async def budget(self, kept: Reserve, rest: int, daily: int, weight: float = 1.0) -> Budget:
        """Keep so many requests (see `Reserve.keep`), and return what can be counted on; the last, if that fails."""
        try:
            self._budgets[kept] = await kept.keep(rest, daily, weight)
        except LedgerError as error:
            self.judge([error], answered=False, certain=True)
        return self._budgets.get(kept) or Budget(rest, DAY - self._quota.utc() % DAY)

    def after_quota(self) -> float:
        """Seconds by which a request is better late, after it waited for quota."""
        return 0.0

    async def ready(self, endpoint: Endpoint) -> None:
        """Wait until a request may be sent."""
        if self._quota.closed:
            raise RuntimeError("the client of this stream is closed")
        waited = 0.0
        while (next_one := await self._quota.forecast(1, endpoint)).seconds > 0 and not self.stopped:
            waited = max(waited, next_one.seconds)
            await self.without_quota(next_one.seconds, next_one.at.timestamp(), whole=waited)
            if self._quota.closed:
                raise RuntimeError("the client of this stream is closed")
        if waited:
            await self.pause(self.after_quota())
        if not self.stopped:
            self.monitor.goes_on()

    async def without_quota(self, seconds: float, until: float | None = None, whole: float = 0.0) -> None:
        """Wait for quota, a minute at most of the `whole`, and tell it in `health` and as a reason for what is lost."""
        if seconds < _BUSY:
            await self.pause(seconds)
            return
        with self.times.without_quota(max(seconds, whole)):
            self.monitor.waits(seconds, self._quota.utc() + seconds if until is None else until)
            await self.pause(min(seconds, _LOOK))

    async def learn(self) -> None:
        """Learn the service's time from requests that are due anyway: from a few answers, for some have no date.

        Until there is an answer nothing else is done, for what is asked by the host's clock alone may be of any time.
        """
        await self._quota.snapshot()  # a ledger may know it already
        self.times.begin()
        begun = self.mark()
        lessons = failures = 0
        while lessons < _LESSONS and not (self._quota.confirmed or self.stopped):
            mark = self.mark()
            error = await self.unless_stopped(self.lesson(failures))
            certain = self.certain(mark)
            if error is not None:
                self.judge([error], answered=False, certain=certain)
            failures = failures + 1 if error is not None and rule_of(error).state == "outage" else 0
            lessons += not failures
            if not certain:
                self.forget_lesson()
                await self.pause(min(_NEXT_SECOND * 2 ** min(failures, _DOUBLINGS), _SLOWEST))
        self.times.look()
        self.times.answered()
        if self._quota.confirmed and abs(self.shift(begun)) > _CLOSE:
            log.warning("%s: this host's clock is wrong by %.0f s", self.monitor.name, -self.shift(begun))

    def first(self) -> int:
        """Return the oldest that could be asked for when the stream began to ask, by all that is known now."""
        return self._edges.kept_from(self.times.began_at())

    def check_time(self) -> None:
        """Raise `CheckpointError` where the place lies in the future, if the service's time is known."""
        if self._quota.confirmed:
            self.place.check_time(self._quota.utc())

    @abstractmethod
    async def lesson(self, number: int) -> AgoraError | None:
        """Make a request that is due anyway, another where the last one failed, and return what went wrong with it."""

    @abstractmethod
    def forget_lesson(self) -> None:
        """Forget what was answered: it was asked at another time than was thought."""

    def mark(self) -> tuple[float, float]:
        """Return the moment at which a poll begins, by both clocks."""
        return self._quota.now(), self.times.ask()

    def shift(self, mark: tuple[float, float]) -> float:
        """Seconds by which the service's clock turned out to be ahead of what was thought at a moment."""
        return self._quota.utc() - mark[1] - (self._quota.now() - mark[0])

    def certain(self, mark: tuple[float, float]) -> bool:
        """Whether the service's time was known at a moment, by all that is known now."""
        return self._quota.confirmed and abs(self.shift(mark)) < _CLOSE

    def judge(self, errors: list[AgoraError], *, answered: bool, certain: bool, over: bool = True) -> None:
        """Take in how a poll went: what failed in it, nothing perhaps; raises what ends the stream.

        `answered` says whether anything was answered, `certain` whether the service's clock was known when it began,
        `over` whether what failed in earlier polls works again.
        """
        self.times.note_failure()
        refused = all(isinstance(error, RateLimited | QuotaExhausted) for error in errors)
        self.times.failed(("quota" if refused else "outage") if errors else None)
        for error in errors:
            if isinstance(error, PlanRefused) and certain:
                self._edges.refused(error, self._quota.utc())
        if self._answered:
            self.monitor.accepted()
            self.times.answered()
        if errors:
            self.monitor.failed(errors, answered=answered, certain=certain)
        elif self._answered and over:  # where nothing was asked, nothing works yet
            self.monitor.worked()
        self._answered = False


class _Reserved:
    """Keeps requests while inside; no generator, which a loop that is shut down would close before its user."""

    def __init__(self, kept: Reserve) -> None:
        self._kept = kept

    async def __aenter__(self) -> Reserve:
        return await self._kept.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(LedgerError):
            await self._kept.__aexit__(kind, error, trace)


async def _next(source: AsyncGenerator[R]) -> R:
    return await anext(source)
