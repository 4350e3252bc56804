"""A process that sends all requests that the quota allows: `python -m benchmarks.sharing.spender`, with a `Job`.

It prints a line once its ledger is open, counts again at each line of standard input, and prints what it counted at the
end of that.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs

from agora_analytics import AnalyticsClient, FileLedger, LedgerError, Plan
from agora_analytics.protocols import Ledger
from agora_analytics.quota import LedgerState, PostgresLedger, RedisLedger
from agora_analytics.quota.ledger_store import Exchange, Store, StoreAnswer
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET

T = TypeVar("T")

_TASKS: Final = 10
PERSON: Final = "person"


@attrs.define
class Counts:
    """What a process did: requests that were answered, round trips to the store, and lost races.

    `failures` are requests that were not sent because the store did not answer in time, `seconds` is how long the round
    trips took, `cpu` the CPU time of the process, `waits` how long each request of a person took.
    """

    requests: int = 0
    failures: int = 0
    trips: int = 0
    conflicts: int = 0
    seconds: float = 0.0
    cpu: float = attrs.field(factory=time.process_time)
    waits: list[float] = attrs.field(factory=list)

    def as_json(self) -> str:
        """Return the counts as one line."""
        return json.dumps(attrs.asdict(attrs.evolve(self, cpu=time.process_time() - self.cpu)))


class CountingFileLedger(FileLedger):
    """A file ledger whose changes are counted as round trips."""

    def __init__(self, path: str, counts: Counts) -> None:
        super().__init__(path)
        self._counts = counts

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        """See `protocols.Ledger`."""
        begun = time.perf_counter()
        try:
            return await super().change(account, change)
        finally:
            self._counts.trips += 1
            self._counts.seconds += time.perf_counter() - begun


@attrs.frozen
class CountingStore:
    """A store whose exchanges are counted."""

    store: Store
    counts: Counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def exchange(self, account: str, member: str, exchange: Exchange) -> StoreAnswer:
        """See `shared_account.Store`."""
        begun = time.perf_counter()
        answer = await self.store.exchange(account, member, exchange)
        self.counts.trips += 1
        self.counts.conflicts += answer.tag not in {exchange.expected, exchange.tag}
        self.counts.seconds += time.perf_counter() - begun
        return answer


_AT_A_DISTANCE: Final[dict[str, Callable[[str], Ledger]]] = {"redis": RedisLedger, "postgres": PostgresLedger}


def ledger_in(store: str, place: str, counts: Counts | None = None) -> Ledger:
    """Return the ledger of a store that runs at a place."""
    counts = counts or Counts()
    if store == "file":
        return CountingFileLedger(place, counts)
    ledger = _AT_A_DISTANCE[store](place)
    vars(ledger)["_store"] = CountingStore(vars(ledger)["_store"], counts)
    return ledger


def plan_of(per_day: int) -> Plan:
    """Return the plan of all, with another limit of the day unless it is 0."""
    plan = Plan.of("enterprise")
    return plan.with_limits("call_lists", per_day=per_day) if per_day else plan


async def _open(client: AnalyticsClient) -> None:
    """Open the ledger, which may take more than its second while many interpreters start."""
    async with asyncio.timeout(60):
        while True:
            try:
                await client.quota.snapshot()
            except LedgerError:
                await asyncio.sleep(0.5)
            else:
                return


@attrs.frozen
class Job:
    """What a process does: in which store, and where that and the service are.

    `per_day` is another limit of the day (0: the plan's), `shift` the seconds by which the service's clock is ahead. A
    priority `person` stands for one interactive request after the other, with pauses of a second and more.
    """

    priority: str
    store: str
    place: str
    url: str
    per_day: int = attrs.field(converter=int)
    shift: float = attrs.field(converter=float)


async def _spend(job: Job) -> None:
    counts = Counts()
    ledger = ledger_in(job.store, job.place, counts)
    client = AnalyticsClient(
        CUSTOMER_ID,
        CUSTOMER_SECRET,
        app_id=APP_ID,
        plan=plan_of(job.per_day),
        base_url=job.url,
        ledger=ledger,
        max_wait=None,
        clock=lambda: time.time() + job.shift,
    )
    async with client:
        span = client.calls.recent(60)

        is_person = job.priority == PERSON
        asking = client.with_priority("interactive" if is_person else job.priority)

        async def ask() -> None:
            while True:
                if is_person:
                    await asyncio.sleep(random.uniform(1, 2))  # noqa: S311 - no secret
                begun = time.perf_counter()
                try:
                    await asking.calls.page(*span, page_size=1)
                except LedgerError:
                    counts.failures += 1
                else:
                    counts.requests += 1
                    counts.waits += [time.perf_counter() - begun] if is_person else []

        await _open(client)
        print("ready", flush=True)
        tasks = [asyncio.create_task(ask()) for _ in range(1 if is_person else _TASKS)]
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while await reader.readline():
            for name, value in attrs.asdict(Counts()).items():
                setattr(counts, name, value)
        counted = counts.as_json()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await ledger.close()
    print(counted)


if __name__ == "__main__":
    asyncio.run(_spend(Job(*sys.argv[1:])))
