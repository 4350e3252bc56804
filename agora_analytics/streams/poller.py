"""The loop that all streams share: wait for quota, send, survive errors, sleep, and stop without delay."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from agora_analytics._core.futures import cancel_and_wait, retrieve_error
from agora_analytics._core.retry import backoff
from agora_analytics.errors import AgoraError, CheckpointError, LedgerError, PlanRefused, QuotaExhausted, RateLimited
from agora_analytics.plans import Endpoint
from agora_analytics.quota.budget import Budget
from agora_analytics.quota.limiters import Limiters, Reserve
from agora_analytics.quota.service_time import CLOCK_TOLERANCE, Now
from agora_analytics.spans import DAY
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.downtime import Downtime
from agora_analytics.streams.error_policy import rule_for
from agora_analytics.streams.events import Loss
from agora_analytics.streams.health import HealthMonitor, log
from agora_analytics.streams.position import Position
from agora_analytics.streams.retention import RetentionBounds

T = TypeVar("T")
R = TypeVar("R")

_CHECK_INTERVAL: Final = 60.0
"""Seconds after which a waiting stream checks whether quota came back, its client closed, or the machine slept."""

_MAX_RATE_LIMITED: Final = 5
"""Rate limit refusals in a row after which a request counts as failed."""

_MAX_RETRY_AFTER: Final = 3_600.0
"""Longest `Retry-After` in seconds that is honoured."""

_MAX_PROBES: Final = 3
"""Answers after which a stream starts even if the clock is not confirmed: some services send no date."""

_NEXT_SECOND: Final = 1.1
"""Seconds after which another second has begun, so that a second answer has a later date and can confirm the clock."""

_MAX_PROBE_INTERVAL: Final = 300.0
"""Seconds between two probes in an outage, at most: every plan keeps windows for 40 minutes or longer."""

_BUSY: Final = 1.0
"""Seconds: shorter waits for quota, and shorter work of the consumer, are not recorded as downtime."""


class StoppedError(Exception):
    """The stream was stopped while it waited."""


class Poller(ABC, Generic[T]):
    """Polls on behalf of a stream; `run()` yields the events."""

    def __init__(self, name: str, limiters: Limiters, position: Position, bounds: RetentionBounds) -> None:
        self.current: T | None = None
        self.monitor = HealthMonitor(name, limiters.time)
        self.position = position
        position.on_saved = self.monitor.checkpoint_saved
        position.on_lost = self.stop
        self.downtime = Downtime(limiters.time, bounds.forget_refusals)
        self._limiters = limiters
        self._time = limiters.time
        self._bounds = bounds
        self._stopped = asyncio.Event()
        self._ending = asyncio.Event()
        self.stopped = self.ending = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock_timer: asyncio.TimerHandle | None = None
        self._was_answered = False
        self._last_budgets: dict[Reserve, Budget] = {}

    @property
    @abstractmethod
    def checkpoint(self) -> Checkpoint:
        """The checkpoint once the consumer is done with `current`, the event it is working on."""

    @property
    @abstractmethod
    def read_to(self) -> float | None:
        """UTC seconds up to which events were delivered; None before the first."""

    @abstractmethod
    def events(self) -> AsyncGenerator[T]:
        """Yield events until stopped."""

    @abstractmethod
    async def probe(self, number: int) -> AgoraError | None:
        """Make a request that is due anyway, for the date of its answer; return the error if it failed.

        `number` counts the failures, so that another request can be tried.
        """

    @abstractmethod
    def discard_probe(self) -> None:
        """Discard the answer to a probe, because the clock was wrong when it was sent."""

    def stop(self) -> None:
        """End after the current event, and end every wait now. May be called from any thread or signal handler."""
        self.stopped = True
        self._set(self._stopped)
        self.drain()

    def drain(self) -> None:
        """Send no further poll, and end once the answers that are there or under way are delivered."""
        self.ending = True
        self._set(self._ending)

    def _set(self, event: asyncio.Event) -> None:
        if self._loop is None:  # nothing waits yet
            event.set()
            return
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(event.set)

    async def run(self) -> AsyncGenerator[T]:
        """Yield events; release the checkpoint at the end."""
        self._loop = asyncio.get_running_loop()
        self.check_host_clock()
        events = self.events()
        with self._showing_why():
            try:
                async for event in events:
                    self.position.check_held()  # the next holder delivers it
                    delivered_at = self._loop.time()
                    yield event
                    busy = self._loop.time() - delivered_at
                    if busy > _BUSY:
                        self.downtime.record(busy, "consumer", self.read_clock())
            except StoppedError:
                pass
            finally:
                try:
                    # Before the release below: it saves the last checkpoint, for which the name must still be leased.
                    await events.aclose()
                finally:  # even when cancelled, or the name would stay leased until the process ends
                    if self._clock_timer is not None:
                        self._clock_timer.cancel()
                    self.monitor.stopped()
                    await self.position.release()

    @contextmanager
    def _showing_why(self) -> Iterator[None]:
        """Raise, and show in `health`, that the checkpoint ended the stream, such as that it was taken over."""
        try:
            yield
            self.position.check_held()
        except CheckpointError as error:
            self.monitor.update(last_error=str(error))
            raise

    def check_host_clock(self) -> None:
        """Read the host's clock now and every minute: its jumps show when this machine slept."""
        self._time.utc()
        self._clock_timer = asyncio.get_running_loop().call_later(_CHECK_INTERVAL, self.check_host_clock)

    def read_clock(self) -> Now:
        """Read the clocks, once for each step."""
        return self._time.now()

    # Waiting.

    async def unless_stopped(self, work: Coroutine[Any, Any, R]) -> R:
        """Return the result of `work`; cancel it and raise `StoppedError` as soon as the stream is stopped."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(retrieve_error)  # it may fail in the turn in which it is no longer waited for
        stop = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise StoppedError
            return task.result()
        finally:
            stop.cancel()
            if not task.done():
                # Until it has ended, so that its permit is returned before the stream goes on to close.
                await cancel_and_wait(task)

    async def iterate_until_stopped(self, source: AsyncGenerator[R]) -> AsyncGenerator[R]:
        """Yield from `source` until the stream is to end; raise `StoppedError` as soon as it is stopped meanwhile."""
        async with aclosing(source):
            while True:
                try:
                    item = await self.unless_stopped(_next(source))
                except StopAsyncIteration:
                    return
                yield item
                if self.ending:  # the next run fetches the rest
                    return

    async def pause(self, seconds: float) -> None:
        """Sleep, or return early when the stream is to end."""
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            pass

    # Requests and their quota.

    async def request(self, endpoint: Endpoint, send: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Wait for quota, however long that takes, send a request and return its answer.

        Waits out rate limit refusals, and raises the fifth in a row. Raises other errors at once.
        """
        refusals = 0
        while True:
            if not await self.wait_for_quota(endpoint):
                raise StoppedError
            try:
                answer = await send()
            except QuotaExhausted as error:
                # `resets_in` is a lower bound, and may be 0: without a minimum this would be a busy loop.
                await self.sleep_without_quota(max(error.resets_in, 1.0))
            except RateLimited as error:
                refusals += 1
                if refusals >= _MAX_RATE_LIMITED:
                    raise
                await self._back_off(error)
            else:
                self._was_answered = True
                return answer
            if self.ending:  # no wait was long enough
                raise StoppedError

    async def _back_off(self, error: RateLimited) -> None:
        # Without a quota of our own, nothing else delays the next attempt.
        delay = error.retry_after or (0.0 if self._limiters.enforced else _NEXT_SECOND)
        until = self._time.monotonic() + min(delay, _MAX_RETRY_AFTER)
        while (left := until - self._time.monotonic()) > 0 and not (self.ending or self._limiters.closed):
            await self.sleep_without_quota(left, expected=delay)

    async def wait_for_quota(self, endpoint: Endpoint) -> bool:
        """Wait until a request may be sent; return False if the stream is to end instead."""
        self._check_open()
        waited = 0.0
        while (forecast := await self._limiters.forecast(1, endpoint)).seconds > 0:
            if self.ending:
                return False
            # The longest forecast: it is the whole wait, and decides whether that is a minute or a day.
            waited = max(waited, forecast.seconds)
            await self.sleep_without_quota(forecast.seconds, forecast.at.timestamp(), expected=waited)
            self._check_open()
        if waited:
            await self.pause(self.delay_after_quota())
        # Without a wait, it is a poll that is under way.
        if self.stopped or (waited and self.ending):
            return False
        self.monitor.quota_wait_ended()
        return True

    def _check_open(self) -> None:
        if self._limiters.closed:
            raise RuntimeError("the client of this stream is closed")

    async def sleep_without_quota(self, seconds: float, until: float | None = None, expected: float = 0.0) -> None:
        """Sleep while there is no quota, a minute at most; report the wait in `health` and record it as downtime.

        `until` is when quota is expected (UTC seconds; None: in `seconds`), `expected` how long the whole wait takes.
        """
        if seconds < _BUSY:
            await self.pause(seconds)
            return
        with self.downtime.waiting_for_quota(max(seconds, expected)):
            self.monitor.quota_wait_started(seconds, self._time.utc() + seconds if until is None else until)
            await self.pause(min(seconds, _CHECK_INTERVAL))

    def delay_after_quota(self) -> float:
        """Return the seconds by which a request should still be delayed once there is quota for it."""
        return 0.0

    def reservation(self, endpoint: Endpoint) -> _Reservation:
        """Return a context that reserves requests of this endpoint for the stream."""
        return _Reservation(self._limiters.reserve(endpoint))

    async def update_reservation(self, reserve: Reserve, rest: int, daily: int, weight: float = 1.0) -> Budget:
        """Reserve requests (see `Reserve.keep`), and return what the stream can count on.

        If the ledger fails, returns what it granted last.
        """
        try:
            self._last_budgets[reserve] = await reserve.keep(rest, daily, weight)
        except LedgerError as error:
            self.record_poll([error], self.read_clock(), answered=False, certain=True)
        # Before any grant, what was asked for: requests need the ledger too, so nothing can be overspent meanwhile.
        return self._last_budgets.get(reserve) or Budget(rest, DAY - self._time.utc() % DAY)

    # The service's clock.

    async def calibrate_clock(self) -> None:
        """Learn the service's time from requests that are due anyway.

        Takes a few answers, because some have no date. Nothing else happens before the first, because spans computed
        from the host's clock alone may be off by any amount.
        """
        await self._limiters.snapshot()  # a ledger may know the time already
        start = self.start_poll()
        self.downtime.start(start)
        answers = failures = 0
        while answers < _MAX_PROBES and not (self._time.confirmed or self.ending):
            sent = self.start_poll()
            error = await self.unless_stopped(self.probe(failures))
            now = self.read_clock()
            certain = now.confirms(sent)
            if error is not None:
                self.record_poll([error], now, answered=False, certain=certain)
            # A refusal is an answer as well: it has a date.
            failures = failures + 1 if error is not None and rule_for(error).state == "outage" else 0
            answers += not failures
            if not certain:
                self.discard_probe()
                await self.pause(backoff(_NEXT_SECOND, failures, _MAX_PROBE_INTERVAL))
        now = self.read_clock()
        self.downtime.check_clock(now)
        self.downtime.answer_received(now)
        if now.confirmed and abs(now.shift_since(start)) > CLOCK_TOLERANCE:
            log.warning("%s: this host's clock is off by %.0f s", self.monitor.name, -now.shift_since(start))

    def oldest_at_start(self) -> int:
        """Return the oldest second that was queryable when the stream started, by all that is known now."""
        return self._bounds.oldest_by_plan(self.downtime.started_at(self.read_clock()))

    def check_checkpoint_time(self) -> None:
        """Raise `CheckpointError` for a checkpoint in the future, if the service's time is known."""
        if self._time.confirmed:
            self.position.check_not_in_future(self._time.utc())

    # Polls.

    def start_poll(self) -> Now:
        """Record that a poll starts, and return when."""
        now = self.read_clock()
        self.downtime.poll_started(now)
        return now

    def finish_poll(self, started: Now, errors: list[AgoraError], *, answered: bool, recovered: bool = True) -> Now:
        """Record a poll that started at `started`, and return when it ended; see `record_poll`."""
        now = self.read_clock()
        self.record_poll(errors, now, answered=answered, certain=now.confirms(started), recovered=recovered)
        return now

    def record_poll(
        self, errors: list[AgoraError], now: Now, *, answered: bool, certain: bool, recovered: bool = True
    ) -> None:
        """Record the outcome of a poll; raise the error that ends the stream, if there is one.

        `answered` says whether any request was answered, `certain` whether the service's clock was known when the poll
        started, `recovered` whether everything that failed in earlier polls works again.
        """
        # One other error is enough for an outage: then the quota is not what windows are lost to.
        rate_limited = all(isinstance(error, RateLimited | QuotaExhausted) for error in errors)
        failure: Loss | None = ("quota" if rate_limited else "outage") if errors else None
        self.downtime.poll_finished(failure, now, answered=self._was_answered)
        for error in errors:
            # By a wrong clock the span was wrong, which says nothing about the bounds.
            if isinstance(error, PlanRefused) and certain:
                self._bounds.refused(error, now.utc)
        if self._was_answered:
            self.monitor.request_accepted()
        if errors:
            self.monitor.poll_failed(errors, answered=answered, certain=certain)
        elif self._was_answered and recovered:  # a poll without a request proves nothing
            self.monitor.poll_succeeded()
        # Each poll has to prove again that the service accepts requests.
        self._was_answered = False


class _Reservation:
    """Reserves requests while inside.

    Not a generator, because a loop that shuts down would close that before its user.
    """

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve

    async def __aenter__(self) -> Reserve:
        return await self._reserve.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(LedgerError):  # the stream may end although the ledger cannot be written
            await self._reserve.__aexit__(kind, error, trace)


async def _next(source: AsyncGenerator[R]) -> R:
    return await anext(source)
