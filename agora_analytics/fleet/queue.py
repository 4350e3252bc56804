"""The work list in Redis: docket hands each job to one worker, and again to another when that one has died.

docket (PyPI: pydocket) does the leases, the redelivery and the schedule. Its tasks carry a job's key and nothing else:
every worker has the description.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

from agora_analytics._core.extras import MissingExtraError, install_command
from agora_analytics._core.futures import cancel_and_wait
from agora_analytics._core.redaction import Hidden
from agora_analytics._core.redis import RedisConnections, checked_url, is_of_redis
from agora_analytics._core.retry import backoff
from agora_analytics._core.shared_store import StoreFailedError
from agora_analytics.errors import FleetError
from agora_analytics.quota.store_clock import StoreClock, elapsed

if TYPE_CHECKING:
    from docket import Docket, Worker

REDELIVERY: Final = 5.0
"""Seconds after the last sign of life in which a worker keeps its jobs; it renews them four times as often.

With the search for lost jobs, which runs every quarter of it, another worker has them within ten seconds.
"""

_TIMEOUT: Final = 3.0
"""Seconds for a first answer of the store."""

_RECONNECT: Final = 1.0
_CONNECTIONS: Final = 1_000
"""A full pool ends docket's worker; each task holds a connection while it begins and ends."""

_OF_DOCKET: Final = ("memory:", "redis+", "rediss+")
"""How the URL of a store begins that only docket can open: in memory, a cluster, or behind Sentinel."""

_BATCH: Final = 50
"""Jobs that a worker takes at once: a thousand that begin in one moment are as many connections, and hold the loop."""

_PAGE: Final = 500
"""Entries of a table that are read or written with one command: more of them would hold the event loop."""

_MAX_RESTART: Final = 30.0
_PATIENT: Final = 60.0
"""Seconds, at most, before a worker of docket that failed is started again; and when it counts as one that worked."""

_MAX_WAIT: Final = 5.0
"""Seconds, at most, between two attempts of a worker that starts to reach the store."""


_TIME: Final = "return redis.call('TIME')"

_AT_ONCE: Final = 100
"""Jobs that are added between two breaks: the event loop is the user's."""

_HEARTBEAT: Final = 1.0
_MISSED: Final = 4
"""A worker that died counts until then when the others compute their share: before they are offered its jobs."""

log = logging.getLogger("agora_analytics.fleet")

T = TypeVar("T")

Run = Callable[[str], Awaitable[float | None]]
"""Does a job's turn, given its key; returns the seconds until the next, or None if there is none.

Raises `JobTakenError` if another worker has the job.
"""


class JobTakenError(Exception):
    """Another worker has the job, so the queue does nothing more with it here."""


class WorkQueue:
    """Jobs by key, each with one worker at a time for as long as the store and the clocks behave.

    A worker that is frozen for longer than its lease may wake up beside its successor. So whatever a job writes must be
    fenced. `clock` is that of the store, which the queues of a fleet share.
    """

    def __init__(self, url: str, name: str, clock: StoreClock | None = None) -> None:
        if find_spec("docket") is None:
            raise MissingExtraError(f"a fleet needs docket: {install_command('fleet')}")
        self._url = Hidden(url)
        self._name = name
        self._clock = clock or StoreClock()
        self._store: RedisConnections | None = None
        self._docket: Docket | None = None
        self._held: set[bytes] = set()
        """The ids of the messages whose turns are under way here."""

    def check_url(self) -> None:
        """Raise `ValueError`, which does not quote it, for a URL of another kind; connects to nothing."""
        _checked(self._url)

    @asynccontextmanager
    async def opened(self, *, patient: bool = False) -> AsyncIterator[WorkQueue]:
        """Connect to the store.

        Raises `ValueError`, which does not quote it, for a URL of another kind; and `FleetError` if the store cannot be
        used, also later. A `patient` one waits until the store can be reached.
        """
        self.check_url()
        # No frame of an error has the URL in a variable: tracebacks may show them.
        if not self._url.value.startswith(_OF_DOCKET):
            self._store = RedisConnections(self._url, "a fleet", _TIMEOUT)
            await self._reach(self._store, patient=patient)
        try:
            async with self._connected():
                yield self
        except Exception as error:
            if not is_of_redis(error):
                raise
            reason = self.reason(error)
        else:
            return
        # Not inside `except`: the frames of redis-py hold the password.
        raise _unusable(self._store, reason)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        # An extra that takes half a second to load: in a thread, as the event loop is the user's.
        await asyncio.to_thread(_load_docket)
        from docket import Docket  # noqa: PLC0415

        docket = Docket(
            name=self._name,
            url=_checked(self._url),
            heartbeat_interval=timedelta(seconds=_HEARTBEAT),
            missed_heartbeats=_MISSED,
            execution_ttl=timedelta(0),
        )
        async with docket:
            self._docket = docket
            try:
                yield
            finally:
                self._docket = None

    @staticmethod
    async def _reach(store: RedisConnections, *, patient: bool) -> None:
        """Look whether the store answers, before docket does: its errors may show the password."""
        failures = 0
        try:
            while (failed := await _failure(store)) is not None:
                if failed.refused or not patient:
                    raise _unusable(store, str(failed))
                if not failures:
                    log.warning("the store of the fleet in %s is not there yet, waiting: %s", store.name, failed)
                failures += 1
                await asyncio.sleep(backoff(0.5, failures, _MAX_WAIT))
        finally:
            await store.close()

    async def add(self, keys: Iterable[str], run: Run) -> None:
        """Add jobs; one that is there already stays as it is."""
        docket, task = self._opened(), _task(run, self._clock, self._held)
        for some in _pages(keys, _AT_ONCE):
            calls = [docket.call(task, key=key)(key) for key in some]
            for added in await docket.add_many(calls):
                if added.schedule_exception is not None:
                    raise added.schedule_exception

    async def remove(self, keys: Iterable[str]) -> None:
        """Remove jobs, and cancel their turns wherever they run."""
        for key in keys:
            await self._opened().cancel(key)

    async def work(self, run: Run, *, worker: str, concurrency: int) -> None:
        """Do the turns of jobs until cancelled; then wait for those under way, and return."""
        from docket import Worker  # noqa: PLC0415 - as above

        docket = self._opened()
        docket.register(_task(run, self._clock, self._held))
        made = Worker(
            docket,
            name=worker,
            concurrency=concurrency,
            redelivery_timeout=timedelta(seconds=REDELIVERY),
            reconnection_delay=timedelta(seconds=_RECONNECT),
            message_batch=_BATCH,
            schedule_automatic_tasks=False,
        )
        async with made:
            renewing = asyncio.ensure_future(self._renew_leases_forever(worker))
            try:
                # Cancelled, it takes no further job and returns when those under way are done.
                with suppress(asyncio.CancelledError):
                    await _supervised(made)
            finally:
                await cancel_and_wait(renewing)

    async def _renew_leases_forever(self, worker: str) -> None:
        """Renew the leases of the turns under way.

        docket does so, too, but not while it waits for their end: after it was cancelled, or an error of the store.
        Others would take its jobs, in the middle of a request.
        """
        while True:
            await asyncio.sleep(REDELIVERY / 4)
            try:
                async with asyncio.timeout(REDELIVERY / 4):
                    await self._renew_leases(worker)
            except Exception as error:  # noqa: BLE001 - of a store that is away, which the reporter says
                log.debug("worker %s: leases were not renewed: %s", worker, self.reason(error))

    async def _renew_leases(self, worker: str) -> None:
        docket, held = self._opened(), list(filter(None, self._held))
        if held:
            # As docket's own function does, which is no part of its interface. A task that is from no stream has no id.
            async with docket.redis() as redis:
                await redis.xclaim(docket.stream_key, docket.worker_group_name, worker, 0, held, idle=0, justid=True)

    async def alive(self, workers: Iterable[str]) -> set[str]:
        """Return which of some workers take jobs and renew their leases."""
        docket = self._opened()
        names = list(workers)
        async with docket.redis() as redis, redis.pipeline() as pipeline:
            commands: Any = pipeline  # docket's type of it lacks this one
            # By the entries that the store itself lets expire: docket's list of workers is by the clocks of their
            # hosts, and each removes from it what its own clock takes for dead.
            for name in names:
                commands.exists(docket.worker_tasks_set(name))
            found = await pipeline.execute()
        return {name for name, exists in zip(names, found, strict=True) if exists}

    def reason(self, error: Exception) -> str:
        """Return what went wrong with the store, without credentials."""
        return self._store.reason(error) if self._store else type(error).__name__

    def now(self) -> float:
        """Return the store's UTC seconds, as far as they were read: clocks of hosts may differ, and be set."""
        return self._clock.now()

    async def read_clock(self) -> None:
        """Learn the store's time."""
        docket = self._opened()
        # The store in memory has no time but that of its process.
        if self._url.value.startswith("memory:"):
            return
        async with docket.redis() as redis:
            client: Any = redis  # docket's type of it lacks scripts
            sent = elapsed()
            seconds, micros = await client.eval(_TIME, 1, docket.key("agora:clock"))
        self._clock.observe(sent, elapsed(), int(seconds) + int(micros) / 1e6)

    async def read(self, table: str) -> dict[str, str]:
        """Return the entries of a table beside the jobs."""
        docket = self._opened()
        async with docket.redis() as redis:
            scan: Any = getattr(redis, "hscan_iter", None)
            if scan is not None:
                return {_text(key): _text(value) async for key, value in scan(docket.key(table), count=_PAGE)}
            # The store in memory has no pages.
            found: dict[Any, Any] = await redis.hgetall(docket.key(table))
        return {_text(key): _text(value) for key, value in found.items()}

    async def read_one(self, table: str, key: str) -> str | None:
        """Return an entry of a table, None if it is not there."""
        docket = self._opened()
        async with docket.redis() as redis:
            found: Any = await redis.hget(docket.key(table), key)
        return None if found is None else _text(found)

    async def write(self, table: str, entries: dict[str, str], *, remove: Iterable[str] = ()) -> None:
        """Set entries of a table, and remove others."""
        docket = self._opened()
        async with docket.redis() as redis:
            for pairs in _pages(entries.items()):
                mapping: dict[Any, Any] = dict(pairs)
                await redis.hset(docket.key(table), mapping=mapping)
            for gone in _pages(remove):
                await redis.hdel(docket.key(table), *gone)

    def _opened(self) -> Docket:
        if self._docket is None:
            raise RuntimeError("the queue is closed")
        return self._docket


def _unusable(store: RedisConnections | None, reason: str) -> FleetError:
    where = f" in {store.name}" if store else ""
    return FleetError(
        f"the store of the fleet{where} cannot be used: {reason}",
        hint="Check that Redis is up, its URL, and its user and password.",
    )


async def _failure(store: RedisConnections) -> StoreFailedError | None:
    try:
        await store.run("return 1", [], [])
    except StoreFailedError as error:
        return error
    return None


def _load_docket() -> None:
    import docket  # noqa: F401, PLC0415


async def _supervised(worker: Worker) -> None:
    """Run docket's worker, again whenever it fails: it waits for a store that is away, but not out its own faults."""
    clock, failures = asyncio.get_running_loop().time, 0
    while True:
        began = clock()
        try:
            await worker.run_forever()
        except Exception:
            failures = 0 if clock() - began > _PATIENT else failures + 1
            pause = backoff(1.0, failures, _MAX_RESTART)
            log.exception("worker %s: the queue failed, and goes on in %g seconds", worker.name, pause)
            await asyncio.sleep(pause)
        else:
            return


def _task(run: Run, clock: StoreClock, held: set[bytes]) -> Callable[..., Awaitable[None]]:
    """Return the function that docket calls with a key; its name is stored with each job, so it must not change."""
    from docket import CurrentExecution, Execution, Perpetual  # noqa: PLC0415 - as above
    from docket.dependencies import AdmissionBlocked  # noqa: PLC0415 - as above

    async def turn(
        key: str,
        perpetual: Perpetual = Perpetual(),  # noqa: B008 - how docket injects
        execution: Execution = CurrentExecution(),  # noqa: B008 - as above
    ) -> None:
        held.add(message := execution.message_id or b"")
        try:
            pause = await run(key)
        except JobTakenError:
            # The one end of a task that neither acknowledges nor reschedules it. To reschedule would offer the job
            # beside the successor; to wait here would renew the lease of a successor that has died.
            raise AdmissionBlocked(execution, "a takeover", handled=True) from None
        finally:
            held.discard(message)
        if pause is None:
            perpetual.cancel()
        else:
            # The worker that offers it again goes by its own clock. If that of this host is fast, and is then set
            # right, the job would wait for all the difference.
            perpetual.at(datetime.fromtimestamp(min(time.time(), clock.now()) + pause, UTC))

    return turn


def _checked(url: Hidden) -> str:
    """Return the URL with room for a connection of each task, unless it says itself how many."""
    # docket's own error quotes what it cannot read, which may be half a password.
    if not url.value.startswith(_OF_DOCKET):
        checked_url(url)
    text: str = url.value
    if text.startswith("memory:") or "max_connections" in parse_qs(urlsplit(text).query):
        return text
    return f"{text}{'&' if '?' in text else '?'}max_connections={_CONNECTIONS}"


def _pages(entries: Iterable[T], size: int = _PAGE) -> Iterator[list[T]]:
    listed = list(entries)
    return (listed[start : start + size] for start in range(0, len(listed), size))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


# docket logs each task's arguments and result; a job's turn is nothing to log. Its loggers are below this one, so that
# a filter here would not see what they log.
if logging.getLogger("docket").level == logging.NOTSET:
    logging.getLogger("docket").setLevel(logging.WARNING)
