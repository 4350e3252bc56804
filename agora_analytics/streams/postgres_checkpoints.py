"""Checkpoints in PostgreSQL: a row for each name, changed by one statement each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agora_analytics._core.postgres import PostgresDatabase, quoted_name
from agora_analytics._core.redaction import Hidden
from agora_analytics.streams.checkpoint_contract import MAX_BYTES
from agora_analytics.streams.shared_checkpoints import SharedCheckpoints, StoredCheckpoint

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool

__all__ = ["PostgresCheckpoints"]

TIMEOUT: Final = 5.0
"""Seconds after which the server ends a statement."""

# `if not exists` alone fails where two create the table at once.
CREATE: Final = """
select pg_advisory_xact_lock(hashtext('$table'));
create table if not exists $table (
  name text primary key,
  epoch bigint not null,
  number bigint not null default 0,
  checkpoint text,
  held_until timestamptz,
  saved_at timestamptz not null default clock_timestamp()
);
"""

# Of a text that is too long, the length alone is sent.
_FOUND: Final = """
epoch, case when octet_length(checkpoint) <= $most then checkpoint end, coalesce(octet_length(checkpoint), 0)
""".replace("$most", str(MAX_BYTES))

UNTIL: Final = "case when %(lease)s > 0 then clock_timestamp() + make_interval(secs => %(lease)s) end"

_LOAD: Final = "select $found, null from $table where name = %(name)s".replace("$found", _FOUND)

# An epoch is the time in milliseconds, so that it grows even if the row was removed. `on conflict` changes the newest
# row, also one that was stored after the statement began; what is read of another holder may be the row before that.
_ACQUIRE: Final = """
with acquired as (
  insert into $table as stored (name, epoch, held_until)
  values (%(name)s, (extract(epoch from clock_timestamp()) * 1000)::bigint, $until)
  on conflict (name) do update
    set epoch = greatest(stored.epoch + 1, excluded.epoch), number = 0, held_until = excluded.held_until
    where %(lease)s = 0 or stored.held_until is null or (%(watched)s and stored.held_until < clock_timestamp())
  returning $found, null::float8
)
select * from acquired union all
select epoch, null, 0, coalesce(extract(epoch from held_until - clock_timestamp())::float8, %(lease)s)
from $table where name = %(name)s and not exists (select from acquired)
""".replace("$found", _FOUND).replace("$until", UNTIL)

# It changes the row even if it stores nothing, so that what it returns is of the newest row too.
_SAVE: Final = """
insert into $table as stored (name, epoch, number, checkpoint, held_until)
values (%(name)s, %(epoch)s, %(number)s, %(checkpoint)s, $until)
on conflict (name) do update set
  epoch = greatest(stored.epoch, excluded.epoch),
  number = case when $newer then excluded.number else stored.number end,
  checkpoint = case when $newer then excluded.checkpoint else stored.checkpoint end,
  held_until = case when $newer then excluded.held_until else stored.held_until end,
  saved_at = case when $newer then clock_timestamp() else stored.saved_at end
returning epoch = %(epoch)s
""".replace("$newer", "(stored.epoch, stored.number) < (excluded.epoch, excluded.number)").replace("$until", UNTIL)

_RENEW: Final = """
update $table set held_until = $until where name = %(name)s and epoch = %(epoch)s returning true
""".replace("$until", UNTIL)


class PostgresCheckpoints(SharedCheckpoints):
    """Keeps checkpoints in a table of PostgreSQL, also behind PgBouncer, for processes on many hosts.

    ```python
    async with (
        PostgresCheckpoints("postgresql://state.internal/agora") as checkpoints,
        AnalyticsClient.from_env(checkpoints=checkpoints) as client,
        client.calls.follow(checkpoint="calls") as calls,  # resumes where the last process stopped, on any host
    ):
        async for event in calls:
            print(event)
            break
    ```

    A stream takes its name over at once, also from one that runs: that is refused with its next save, and ends. With
    `lease` a name is held for so many seconds, renewed while its process runs, and refused to others meanwhile: for a
    second process that stands by.

    `store` is a URL, a connection string of libpq, or an open `AsyncConnectionPool` of psycopg, which is not closed
    with the store. `table` is the name of its table, also with a schema (`state.agora`); it is created at the first
    call. Streams save under a name at most once in `every` seconds. While the store cannot be used, calls are repeated
    for 30 seconds and then raise `CheckpointError`. Needs `psycopg` (extra `postgres`). Belongs to the event loop that
    first uses it. To write the rows in the same transaction, use a `PostgresSink`.
    """

    def __init__(
        self,
        store: str | AsyncConnectionPool[Any],
        *,
        table: str = "agora_checkpoints",
        every: float = 0.0,
        lease: float = 0.0,
    ) -> None:
        given = Hidden(store)
        # Tracebacks of the errors below show the variables of this frame.
        del store
        quoted = quoted_name("table", table)
        create = CREATE.replace("$table", quoted)
        database = PostgresDatabase(given, "PostgresCheckpoints", create, statement_timeout=TIMEOUT)
        super().__init__(PostgresRows(database, quoted), every, lease)


class PostgresRows:
    """The statements, and the database that runs them."""

    def __init__(self, database: PostgresDatabase, table: str) -> None:
        self._database = database
        self._table = table
        self.name = database.name

    async def load(self, name: str) -> StoredCheckpoint:
        found = await self._run(_LOAD, name=name)
        return _stored(found[0]) if found else StoredCheckpoint(0)

    async def acquire(self, name: str, lease: float, *, watched: bool) -> StoredCheckpoint:
        found = await self._run(_ACQUIRE, name=name, lease=lease, watched=watched)
        # No row: another one acquired the name for the first time at this moment.
        return _stored(found[0]) if found else StoredCheckpoint(0, held=lease)

    async def save(self, name: str, text: str, epoch: int, number: int, lease: float) -> bool:
        found = await self._run(_SAVE, name=name, checkpoint=text, epoch=epoch, number=number, lease=lease)
        return bool(found[0][0])

    async def renew(self, name: str, epoch: int, lease: float) -> bool:
        return bool(await self._run(_RENEW, name=name, epoch=epoch, lease=lease))

    async def release(self, name: str, epoch: int) -> None:
        await self._run(_RENEW, name=name, epoch=epoch, lease=0)

    async def close(self) -> None:
        await self._database.close()

    def forget_connections(self) -> None:
        self._database.forget_connections()

    async def _run(self, statements: str, **values: object) -> list[tuple[Any, ...]]:
        return (await self._database.run(statements.replace("$table", self._table), values)).rows


def _stored(row: tuple[Any, ...]) -> StoredCheckpoint:
    epoch, text, size, held = row
    return StoredCheckpoint(epoch, (text or "").encode(), size, held)
