"""A ledger in PostgreSQL, shared by the processes of many hosts.

An account is one row: its state, and the leases of its members. So a change is one `update`, which waits for those
before it and then sees what they stored: what is read, compared and stored are one version of one row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agora_analytics._core import validation
from agora_analytics._core.postgres import PostgresDatabase, PostgresResult, quoted_name
from agora_analytics._core.redaction import Hidden
from agora_analytics._core.shared_store import StoreFailedError
from agora_analytics.quota.ledger_state import MAX_PROCESSES
from agora_analytics.quota.ledger_store import KEPT, LEASE, Exchange, StoreAnswer
from agora_analytics.quota.shared_ledger import SharedLedger

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool

__all__ = ["PostgresLedger"]

# `if not exists` alone fails where two create the table at once. Room is left in each page, so that a new version of a
# row lies beside the old one and no index changes.
_CREATE: Final = """
select pg_advisory_xact_lock(hashtext('$table'));
create table if not exists $table (
  account text primary key,
  tag text not null default '',
  body bytea not null default '',
  members jsonb not null default '{}',
  used_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50)
"""

# Rows that somebody changes at this moment are skipped, so that no two wait for each other.
_DROP_UNUSED: Final = """
delete from $table where account in (
  select account from $table
  where used_at < clock_timestamp() - make_interval(secs => %(kept)s) and account <> %(account)s
  for update skip locked
);
"""

# `on conflict` changes the newest row, also one that was stored after the statement began.
_JOIN: Final = """
insert into $table as stored (account, members)
values (%(account)s, jsonb_build_object('0:' || %(name)s, extract(epoch from clock_timestamp()) + %(lease)s))
on conflict (account) do update set used_at = clock_timestamp(), members = stored.members || coalesce((
  select jsonb_build_object(slot || ':' || %(name)s, extract(epoch from clock_timestamp()) + %(lease)s)
  from generate_series(0, %(slots)s - 1) as slot
  where slot::text not in (select split_part(member, ':', 1) from jsonb_object_keys(stored.members) as member)
  order by slot limit 1
), '{}')
returning members
"""

_EXCHANGE: Final = """
update $table set used_at = clock_timestamp(), $changes
  || jsonb_build_object(%(member)s, extract(epoch from clock_timestamp()) + %(lease)s)
where account = %(account)s and members ? %(member)s
returning tag, case when tag not in (%(expected)s, %(tag)s) then body end, members
"""

_LOOK: Final = _EXCHANGE.replace("$changes", "members = members")

_REPLACE: Final = _EXCHANGE.replace(
    "$changes",
    """
  tag = case when $unchanged then %(tag)s else tag end,
  body = case when $unchanged then %(body)s else body end,
  members = case when $unchanged then members - %(buried)s::text[] else members end""",
)

_UNCHANGED: Final = "tag = %(expected)s"

_AND_NONE_RENEWED: Final = """ and not exists (
    select from unnest(%(buried)s::text[]) as member
    where (members ->> member)::numeric >= extract(epoch from clock_timestamp())
  )"""

_LEAVE: Final = "update $table set members = members - %(member)s where account = %(account)s"


class PostgresLedger(SharedLedger):
    """A ledger that processes on many hosts share: in PostgreSQL, also behind PgBouncer in transaction mode.

    ```python
    url = "postgresql://quota.internal/agora"
    async with PostgresLedger(url) as ledger, AnalyticsClient.from_env(ledger=ledger) as client:
        print(await client.quota.snapshot())
    ```

    `store` is a URL, a connection string of libpq, or an open `AsyncConnectionPool` of psycopg, which is not closed
    with the ledger. The ledger opens one connection of its own, and at most four where many accounts share it. `table`
    is the name of its table, also with a schema (`quota.agora`); it is created at the first change. An account is
    stored under a fingerprint, without credentials.

    Its time is that of the store, so the clocks of the hosts do not matter. A process that does not come by for three
    seconds loses its lease, and its requests count as sent. Methods raise `LedgerError` where the store does not answer
    within a second; then nothing is sent, while streams and exports wait. For two seconds after an outage no permit is
    issued, so that each process can first make those changes again that the store has forgotten.

    In a crash or a power cut the store may forget its last second. If no process lives on that knows of it, as many
    requests of the day may be refused as it forgot; `synchronous_commit=True` prevents that, and waits for the store's
    disk at each change. Needs `psycopg` (extra `postgres`). Belongs to the event loop that first
    uses it; a forked child opens its own connections, unless a pool was passed: then it needs a ledger of its own.
    """

    def __init__(
        self, store: str | AsyncConnectionPool[Any], *, table: str = "agora_quota", synchronous_commit: bool = False
    ) -> None:
        given = Hidden(store)
        # Tracebacks of the errors below show the variables of this frame.
        del store
        quoted = quoted_name("table", table)
        durable = validation.boolean("synchronous_commit", synchronous_commit)
        create = _CREATE.replace("$table", quoted)
        database = PostgresDatabase(given, "PostgresLedger", create, synchronous_commit=durable)
        super().__init__(_PostgresStore(database, quoted))


class _PostgresStore:
    """The statements, and the database that runs them."""

    def __init__(self, database: PostgresDatabase, table: str) -> None:
        self._database = database
        self._table = table
        self._dropped_unused = False
        self.name = database.name

    async def join(self, account: str, name: str) -> str:
        values = {"account": account, "name": name, "lease": LEASE, "slots": MAX_PROCESSES, "kept": KEPT}
        # Once in the life of a ledger, as it reads the whole table.
        result = await self._run(_JOIN if self._dropped_unused else _DROP_UNUSED + _JOIN, values)
        self._dropped_unused = True
        members: dict[str, float] = result.rows[0][0]
        for member in members:
            if member.endswith(f":{name}"):
                return member
        raise StoreFailedError("too many processes share the ledger")

    async def exchange(self, account: str, member: str, exchange: Exchange) -> StoreAnswer:
        values = {"account": account, "member": member, "lease": LEASE, "expected": exchange.expected}
        values |= {"tag": exchange.tag, "body": exchange.body, "buried": list(exchange.buried)}
        unchanged = _UNCHANGED + _AND_NONE_RENEWED * bool(exchange.buried)
        statement = _LOOK if exchange.body is None else _REPLACE.replace("$unchanged", unchanged)
        result = await self._run(statement, values)
        # No row: the member was buried, or the account was dropped.
        tag, body, members = result.rows[0] if result.rows else ("", None, {})
        return StoreAnswer(
            member=bool(result.rows),
            # The tag is new, so it is there only if this exchange stored it, now or before its answer was lost.
            replaced=exchange.body is not None and tag == exchange.tag,
            tag=tag,
            body=body or None,
            now=result.now,
            members=len(members),
            lost=tuple(one for one, end in members.items() if end < result.now),
        )

    async def leave(self, account: str, member: str) -> None:
        await self._run(_LEAVE, {"account": account, "member": member})

    async def close(self) -> None:
        await self._database.close()

    def forget_connections(self) -> None:
        self._database.forget_connections()

    async def _run(self, statements: str, values: dict[str, Any]) -> PostgresResult:
        return await self._database.run(statements.replace("$table", self._table), values)
