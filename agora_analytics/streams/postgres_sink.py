"""A sink in PostgreSQL: rows, checkpoint and epoch in one transaction, so each event has effect exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from agora_analytics._core import validation
from agora_analytics._core.decoding.json import encode
from agora_analytics._core.postgres import PostgresDatabase, quoted_name
from agora_analytics._core.redaction import Hidden
from agora_analytics.streams.checkpoint_contract import check_size, checked_checkpoint, checked_name, taken_over
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.events import (
    CallChanged,
    CallEvent,
    CallFinished,
    CallLost,
    CallSessions,
    CallStarted,
    Event,
    Gap,
    Revision,
    Window,
)
from agora_analytics.streams.postgres_checkpoints import CREATE, TIMEOUT, UNTIL, PostgresRows
from agora_analytics.streams.postgres_tables import TABLES, rows_of
from agora_analytics.streams.shared_checkpoints import SharedCheckpoints

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool

    from agora_analytics.protocols import Lease

__all__ = ["PostgresSink"]

_EVENTS: Final = (Window, Revision, Gap, CallStarted, CallChanged, CallFinished, CallSessions, CallLost)

# A setting that ends with the transaction tells the statements after it whether they may write: not if the name was
# taken over, and not if this call is repeated because its answer was lost.
_SAVE: Final = """
with place as (
  insert into $checkpoints as stored (name, epoch, number, checkpoint, held_until)
  values (%(name)s, %(epoch)s, %(number)s, %(checkpoint)s, $until)
  on conflict (name) do update set epoch = excluded.epoch, number = excluded.number, checkpoint = excluded.checkpoint,
    held_until = excluded.held_until, saved_at = clock_timestamp()
    where (stored.epoch, stored.number) < (excluded.epoch, excluded.number)
  returning 'yes'::text as written
)
select set_config('agora.written', coalesce((select written from place), 'no'), true);
""".replace("$until", UNTIL)

_WRITTEN: Final = "current_setting('agora.written') = 'yes'"

# A series that was missing in a window has a row that says so, until it comes with late data.
_FOUND_LATE: Final = """
delete from $windows as stored using json_to_recordset(%(windows)s::json) as given(
  ts timestamptz, metric text, product text, cname text, dimension text, missing text)
where $written and stored.missing is not null and given.missing is null and stored.stream = %(name)s
  and (stored.ts, stored.metric, stored.product, stored.cname, stored.dimension)
    = (given.ts, given.metric, given.product, given.cname, given.dimension);
"""

_EPOCH: Final = "select epoch from $checkpoints where name = %(name)s"


class PostgresSink:
    """Writes the events of a stream to tables of PostgreSQL, each exactly once, whatever crashes or takes over.

    ```python
    users = Series("userCount", product="Native")
    async with (
        PostgresSink("postgresql://data.internal/agora", "prod") as sink,
        AnalyticsClient.from_env() as client,
        client.realtime.watch(users, checkpoint=sink) as watch,
    ):
        async for event in watch:
            await sink.write(event, watch.checkpoint)
            break
    ```

    Each `write` is one transaction of the rows, the checkpoint and the epoch. A sink takes its name over when it is
    entered, also from one that runs: that is refused with its next `write`, which then writes nothing. With
    `checkpoint=sink` a stream also saves here where it begins, and how far it has read without events. With `lease` the
    name is held for so many seconds, renewed while the process runs, and refused to others meanwhile.

    The tables begin with `prefix`, also after a schema (`reports.agora`): `_windows`, `_gaps`, `_calls`, `_sessions`
    and `_checkpoints`; they are created when they are first used. A revision replaces the values of its window, and a
    call has one row with its last state. `store` is a URL, a connection string of libpq, or an open
    `AsyncConnectionPool` of psycopg, which is not closed with the sink. While the database cannot be used, a call is
    repeated for 30 seconds, and then raises `CheckpointError`. Needs `psycopg` (extra `postgres`).
    """

    def __init__(
        self, store: str | AsyncConnectionPool[Any], name: str, *, prefix: str = "agora", lease: float = 0.0
    ) -> None:
        given = Hidden(store)
        # Tracebacks of the errors below show the variables of this frame.
        del store
        self.name = checked_name(name)
        quoted_name("prefix", f"{validation.non_empty_str('prefix', prefix)}_checkpoints")
        tables = {table: quoted_name("prefix", f"{prefix}_{table}") for table in (*TABLES, "checkpoints")}
        create = CREATE.replace("$table", tables["checkpoints"])
        create += "".join(table.create(tables[name]) for name, table in TABLES.items())
        database = PostgresDatabase(given, "PostgresSink", create, statement_timeout=TIMEOUT)
        self._rows = _SinkRows(database, tables)
        self._store = _SinkStore(self._rows, 0.0, lease)
        self._lease: Lease | None = None

    def __repr__(self) -> str:
        # A traceback may show one whose constructor has failed.
        place = self._rows.name if hasattr(self, "_rows") else ""
        return f"PostgresSink({place!r})"

    def beside(self, name: str) -> PostgresSink:
        """Return a sink for another stream, in the same tables and on the same connections, which this one closes."""
        other = copy(self)
        other.name = checked_name(name)
        other._store = _SinkStore(self._rows.borrowed(), 0.0, self._store.lease)  # noqa: SLF001 - of the same class
        other._lease = None  # noqa: SLF001 - as above
        return other

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint to resume from: the last one written before the name was taken over, or None."""
        return self._held().checkpoint

    async def open(self) -> None:
        """Take the name over; raises `CheckpointError` while another lease of it lasts."""
        self._lease = await self._store.acquire(self.name)

    async def write(self, event: Event | CallEvent, checkpoint: Checkpoint) -> None:
        """Write the rows of an event and the checkpoint after it, whole or not at all.

        Raises `CheckpointError` of the kind `taken_over`, and writes nothing, if another process took the name over.
        """
        if not isinstance(event, _EVENTS):
            raise validation.type_error("event", event, "an event of a watch or a follow")
        await self._store.write(self.name, event, checked_checkpoint(checkpoint), self._held().epoch)

    async def save(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint without an event; raises `CheckpointError` as `write`."""
        await self._store.save(self.name, checkpoint, self._held().epoch)

    def when_lost(self, on_lost: Callable[[], object]) -> None:
        """Call a function, once, if a renewal of the lease shows that the name was taken over."""
        self._store.when_lost(self.name, self._held().epoch, on_lost)

    async def close(self) -> None:
        """End the lease and close the connections; may be called twice, and the sink may be opened again after it."""
        lease, self._lease = self._lease, None
        try:
            if lease is not None:
                await self._store.release(self.name, lease.epoch)
        finally:
            await self._store.close()

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            # Who could not enter it never leaves it: a process that stands by would leave a connection each time.
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _held(self) -> Lease:
        if self._lease is None:
            raise RuntimeError("the sink is not open: use it with `async with`, or call open()")
        return self._lease


class _SinkStore(SharedCheckpoints):
    """A checkpoint store that writes rows with the checkpoint."""

    def __init__(self, rows: _SinkRows, every: float, lease: float) -> None:
        super().__init__(rows, every, lease)
        self.lease = lease
        self._sink_rows = rows

    async def write(self, name: str, event: Event | CallEvent, checkpoint: Checkpoint, epoch: int) -> None:
        number = self._next_number()
        # In a thread: the sessions of a large call, and the windows of a checkpoint, are megabytes.
        text, rows = await asyncio.to_thread(lambda: (checkpoint.encode(), _encoded(event)))
        check_size(len(text), self._source(name))
        values = {"name": name, "checkpoint": text, "epoch": epoch, "number": number, "lease": self._lease}
        if not await self._call(name, lambda: self._sink_rows.write(rows, values)):
            raise taken_over(name)


class _SinkRows(PostgresRows):
    """The statements that write rows with a checkpoint."""

    def __init__(self, database: PostgresDatabase, tables: dict[str, str]) -> None:
        super().__init__(database, tables["checkpoints"])
        self._is_borrowed = False
        self._tables = tables

    def borrowed(self) -> _SinkRows:
        """Return these statements on the same connections, which stay open."""
        other = copy(self)
        other._is_borrowed = True  # noqa: SLF001 - of the same class
        return other

    async def close(self) -> None:
        """Close the connections, unless they are borrowed."""
        if not self._is_borrowed:
            await super().close()

    def forget_connections(self) -> None:
        """Drop the connections of another event loop, unless they are borrowed: others use them now."""
        if not self._is_borrowed:
            super().forget_connections()

    async def write(self, rows: dict[str, str], values: dict[str, Any]) -> bool:
        """Write the encoded rows of each table; False if the stored epoch is a later one."""
        inserts = [TABLES[table].insert(self._tables[table], table) for table in rows]
        statements = "".join([_SAVE, _FOUND_LATE * ("windows" in rows), *inserts, _EPOCH]).replace("$written", _WRITTEN)
        for table, quoted in self._tables.items():
            statements = statements.replace(f"${table}", quoted)
        found = await self._run(statements, **values, **rows)
        return bool(found) and found[0][0] == values["epoch"]


def _encoded(event: Event | CallEvent) -> dict[str, str]:
    # Row by row: to encode all at once would hold every other thread, and the event loop, for as long.
    return {table: f"[{','.join(encode(row).decode() for row in rows)}]" for table, rows in rows_of(event).items()}
