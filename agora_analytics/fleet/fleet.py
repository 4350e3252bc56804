"""A fleet: the accounts and jobs of a team, done by any number of workers on any hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import in_turns
from agora_analytics._core.futures import cancellations, raise_lost_cancellation
from agora_analytics.errors import FleetError
from agora_analytics.fleet import description_file
from agora_analytics.fleet.check import FleetCheck, check
from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.description import Account, ExportJob, FollowJob, Job, Secret, WatchJob, key_part
from agora_analytics.fleet.export_turns import ExportTurns, ShardTask, shard_tasks
from agora_analytics.fleet.queue import WorkQueue
from agora_analytics.fleet.reporter import DRAIN, JOBS, WORKERS, Reporter
from agora_analytics.fleet.sinks import DatabaseSink, FunctionSink, OnEvent
from agora_analytics.fleet.status import FleetStatus, fleet_status, named_workers
from agora_analytics.fleet.stream_turns import StreamTurns
from agora_analytics.fleet.worker import FleetWorker, worker_name
from agora_analytics.quota.ledger_state import MemoryLedger
from agora_analytics.quota.redis_ledger import RedisLedger
from agora_analytics.quota.store_clock import StoreClock
from agora_analytics.streams.checkpoint_stores import MemoryCheckpoints
from agora_analytics.streams.redis_checkpoints import RedisCheckpoints

if TYPE_CHECKING:
    from agora_analytics.protocols import CheckpointStore, Ledger, RequestObserver

__all__ = ["Fleet"]

_MEMORY: Final = "memory://"

_EXPORTS: Final = ".exports"
"""What the name of the second queue ends with; no fleet has a dot in its name."""
_PATIENCE: Final = 10.0
"""Seconds for a status or a drain: docket's connections wait without end for a store that is frozen."""


class Fleet:
    """Accounts and jobs, shared out among workers on any hosts; each job is done by one worker at a time.

    ```python
    from agora_analytics import Series
    from agora_analytics.fleet import Account, Fleet, Secret, WatchJob


    async def show(key, event):
        print(key, event)


    users = Series("userCount", product="Native")
    acme = Account(
        name="acme",
        plan="premium",
        customer_id=Secret(env="ACME_ID"),
        customer_secret=Secret(env="ACME_SECRET"),
        jobs=[WatchJob(app_id="0123456789abcdef", series=[users])],
    )
    fleet = Fleet(acme, store=Secret(env="FLEET_REDIS_URL"))


    async def main():
        await fleet.run_worker(show)
    ```

    Every worker has the same description. What is shared is in Redis or Valkey: the work list, the quota of each
    account (`RedisLedger`), and the positions of streams (`RedisCheckpoints`). Credentials are not.

    When a worker dies, others have its jobs within ten seconds. Events may then come again, on the other worker: each
    is delivered at least once, and a worker that was frozen delivers at most one more event of each watch, and the rest
    of a poll of each follow. With a `sink` each is written exactly once.

    Args:
        accounts: the accounts; each name once.
        store: URL of Redis or Valkey (`redis://`, `rediss://`, `unix://`), or a `Secret` that has it; `memory://` for
            tests, in which workers of one process share the work.
        sink: URL of PostgreSQL, or a `Secret` that has it: windows and calls are written there by a `PostgresSink`,
            each exactly once. Without it they go to the function of `run_worker`.
        name: of this fleet in the store. Fleets that share a store need different ones, and then share nothing in it,
            not even the count of an account's requests.
        turn: seconds, at most, in which a worker keeps a job before others may take it; more of them cost less, and
            spread more slowly over new workers.
        ledger: in place of that in the store.
        checkpoints: in place of those in the store.
        observers: are called for each request, for metrics and traces.

    Raises:
        ValueError, TypeError: for a description that cannot work.

    """

    def __init__(
        self,
        *accounts: Account,
        store: str | Secret,
        sink: str | Secret | None = None,
        name: str = "agora",
        turn: float = 60.0,
        ledger: Ledger | None = None,
        checkpoints: CheckpointStore | None = None,
        observers: Iterable[RequestObserver] = (),
    ) -> None:
        self.accounts = validation.instances("accounts", accounts, Account)
        if twice := validation.repeated(account.name for account in self.accounts):
            raise ValueError(f"accounts: {twice!r} is there twice")
        self._check_places()
        self.name = key_part("name", name)
        self._store = store if isinstance(store, Secret) else validation.non_empty_str("store", store)
        self._sink = sink if sink is None or isinstance(sink, Secret) else validation.non_empty_str("sink", sink)
        self._turn = validation.number_in_range("turn", turn, above=True)
        self._observers = tuple(observers)
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._memory = MemoryLedger(), MemoryCheckpoints()

    @classmethod
    def from_file(cls, path: str | Path, **settings: Any) -> Self:
        """Return the fleet that a TOML file describes; keyword arguments override its settings.

        See docs/guides/fleet.md for the keys. Raises `ValueError` that names the table and the key of what cannot work.
        """
        described = description_file.read(path)
        found = {
            "store": described.store,
            "sink": described.sink,
            "name": described.name,
            "turn": described.turn,
            **settings,
        }
        try:
            return cls(*described.accounts, **found)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{str(path)!r}: {error}") from None

    def __repr__(self) -> str:
        return f"Fleet({self.name!r}, accounts={len(self.accounts)}, jobs={len(self.jobs)})"

    @property
    def jobs(self) -> dict[str, Job]:
        """The jobs of all accounts by key: account, kind and name, such as `acme.watch.web`."""
        return {key: job for account in self.accounts for key, job in account.keyed()}

    @property
    def has_sink(self) -> bool:
        """Whether events are written to PostgreSQL."""
        return self._sink is not None

    def check(self) -> FleetCheck:
        """Return what the fleet would do on this host: what is missing, and what each plan can do for its watches.

        Reads files, and sends nothing. Raises `ValueError` for an account with watches whose plan has no real-time
        requests.
        """
        return check(self.accounts, (self._check_store, self._check_sink))

    def _check_store(self) -> None:
        self._queue().check_url()

    def _check_sink(self) -> None:
        if self._sink is not None:
            DatabaseSink(_read(self._sink))

    async def run_worker(
        self,
        on_event: OnEvent | None = None,
        *,
        worker: str | None = None,
        concurrency: int = 600,
        exports: int = 2,
    ) -> None:
        """Do jobs until drained or cancelled; then hand them over, and return.

        Adds the jobs of the description to the work list, and removes those that it no longer has: the worker that
        starts last decides. Waits for a store that cannot be reached yet, and begins without a sink that is away.

        Args:
            on_event: takes the key of a job and an event of it; the next event of that job comes when it has returned.
                If it raises, the turn of the job ends, and is tried again. Needed unless the fleet has a `sink`.
            worker: name of the worker, unique in the fleet; by default host and process.
            concurrency: watches and follows at once, at most.
            exports: shards of exports at once, at most; they share one process that writes files.

        Raises:
            FleetError: the store or the sink refuses the user or the password, or the workers of another fleet have
                this name.
            ValueError, TypeError: for a bad argument, a secret of the store or the sink that cannot be read, or
                without a place for events.

        """
        name, clock, before = worker_name(worker), StoreClock(), cancellations()
        limits = validation.int_in_range("concurrency", concurrency, 1), validation.int_in_range("exports", exports, 1)
        async with (
            aclosing(self._sink_for(on_event)) as sink,
            self._queue(clock=clock).opened(patient=True) as queue,
            self._queue(_EXPORTS, clock).opened(patient=True) as exporting,
            self._pool() as pool,
        ):
            reporter = Reporter(name, queue)
            made = FleetWorker(
                reporter,
                pool,
                streams=StreamTurns(self._streams(), pool=pool, sink=sink, reporter=reporter, seconds=self._turn),
                stream_queue=queue,
                exports=ExportTurns(self._shards(), pool=pool, reporter=reporter),
                export_queue=exporting,
                turn=self._turn,
            )
            await sink.check()
            await made.apply()
            raise_lost_cancellation(before)
            await made.run(concurrency=limits[0], exports=limits[1])

    def _streams(self) -> dict[str, tuple[Account, WatchJob | FollowJob]]:
        return {
            key: (account, job)
            for account in self.accounts
            for key, job in account.keyed()
            if isinstance(job, WatchJob | FollowJob)
        }

    def _shards(self) -> dict[str, ShardTask]:
        return {
            shard: task
            for account in self.accounts
            for key, job in account.keyed()
            if isinstance(job, ExportJob)
            for shard, task in shard_tasks(account, key, job).items()
        }

    def _check_places(self) -> None:
        """Raise `ValueError` for two exports into one place: each would write the manifest of all its shards."""
        places: dict[str, str] = {}
        for key, job in self.jobs.items():
            if not isinstance(job, ExportJob):
                continue
            first = places.setdefault(job.to.rstrip("/"), key)
            if first != key:
                raise ValueError(f"accounts: {first} and {key} have the same `to`: give each a place of its own")

    async def status(self) -> FleetStatus:
        """Return who holds which job, since when, and how far each is; costs no request of any account.

        Raises `FleetError` if the store cannot be used, as `status_reader` and `drain` do.
        """
        async with _patience(), self.status_reader() as read:
            return await read()

    def status_reader(self) -> AbstractAsyncContextManager[Callable[[], Awaitable[FleetStatus]]]:
        """Return a context that yields a function as `status`, for many readings over one connection.

        Raises `ValueError` if the URL of the store is a secret that cannot be read.
        """
        return self._reading(self._queue())

    @asynccontextmanager
    async def _reading(self, closed: WorkQueue) -> AsyncIterator[Callable[[], Awaitable[FleetStatus]]]:
        keys = (*self._streams(), *self._shards())  # once, as it takes a while for thousands

        async def read() -> FleetStatus:
            await queue.read_clock()
            jobs, workers = await queue.read(JOBS), await queue.read(WORKERS)
            return await in_turns(fleet_status(self.name, queue.now(), jobs, workers, keys))

        async with closed.opened() as queue:
            yield read

    async def drain(self, worker: str | None = None) -> tuple[str, ...]:
        """Ask a worker, or all that are listed now, to hand over what they have and end; returns their names at once.

        One that is lost is asked, too, as it may come back. Raises `ValueError` for a worker that is not listed, and
        `FleetError` if the store cannot be used.
        """
        async with _patience(), self._queue().opened() as queue:
            listed = await queue.read(WORKERS)
            if worker is not None and worker not in listed:
                await queue.read_clock()
                named = ", ".join(named_workers(listed, queue.now())) or "none"
                raise ValueError(f"worker={worker!r} is not listed; listed are: {named}")
            asked = (worker,) if worker is not None else tuple(sorted(listed))
            await queue.write(DRAIN, dict.fromkeys(asked, ""))
            return asked

    def _queue(self, suffix: str = "", clock: StoreClock | None = None) -> WorkQueue:
        return WorkQueue(self._url(), f"{self.name}{suffix}", clock)

    @asynccontextmanager
    async def _pool(self) -> AsyncIterator[ClientPool]:
        async with AsyncExitStack() as opened:
            ledger, checkpoints, url = self._ledger, self._checkpoints, self._url()
            if url.startswith(_MEMORY):
                # Of the fleet, not of the worker: others in this process share them.
                ledger, checkpoints = ledger or self._memory[0], checkpoints or self._memory[1]
            if ledger is None:
                ledger = await opened.enter_async_context(RedisLedger(url, prefix=self.name))
            if checkpoints is None:
                checkpoints = await opened.enter_async_context(RedisCheckpoints(url, prefix=self.name))
            pool = ClientPool(ledger, checkpoints, self._observers)
            opened.push_async_callback(pool.close)
            yield pool

    def _sink_for(self, on_event: OnEvent | None) -> FunctionSink | DatabaseSink:
        if self._sink is not None:
            return DatabaseSink(_read(self._sink), on_event)
        if on_event is None:
            raise ValueError("on_event is missing: events go to a function, or to the fleet's sink (sink=...)")
        return FunctionSink(validation.function("on_event", on_event, "an async function of a key and an event"))

    def _url(self) -> str:
        return _read(self._store)


@asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    """Raise `FleetError` if what is inside takes too long."""
    try:
        async with asyncio.timeout(_PATIENCE):
            yield
    except TimeoutError:
        raise FleetError(f"the store of the fleet does not answer in {_PATIENCE:g} s") from None


def _read(secret: str | Secret) -> str:
    return secret.read() if isinstance(secret, Secret) else secret
