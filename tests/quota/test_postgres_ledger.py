"""A ledger in a real PostgreSQL: its table, its connections, and what a server can do to them."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from urllib.parse import quote

import psycopg
import pytest
from helpers.error_reports import report_of
from helpers.ledger_changes import increment, read_count
from helpers.paths import HELPERS, ROOT
from helpers.postgres_server import PASSWORD
from helpers.redis_server import free_port
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from agora_analytics import LedgerError
from agora_analytics.quota import PostgresLedger, shared_account
from agora_analytics.quota.ledger_store import Exchange

pytestmark = [pytest.mark.real_time, pytest.mark.process]

WAITING = "select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%%' || %s || '%%'"


async def until(condition) -> None:
    """Wait until a condition holds of the server, which tells nobody."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def change_in_another_loop(ledger: PostgresLedger) -> int:
    async with ledger:
        return await ledger.change("a", increment)


async def test_a_ledger_can_be_used_in_another_event_loop(postgres, table):
    ledger = PostgresLedger(postgres.url, table=table)
    assert await ledger.change("a", increment) == 1
    assert await asyncio.to_thread(asyncio.run, change_in_another_loop(ledger)) == 2


@pytest.mark.parametrize("options", [{}, {"autocommit": True, "row_factory": dict_row}], ids=["plain", "of a user"])
async def test_a_pool_that_was_passed_is_used_and_stays_open(postgres, table, options):
    async with AsyncConnectionPool(postgres.url, open=False, min_size=1, kwargs=options) as pool:
        async with PostgresLedger(pool, table=table) as ledger:
            assert [await ledger.change("a", increment) for _ in range(3)] == [1, 2, 3]
            assert repr(ledger) == "PostgresLedger('AsyncConnectionPool')"
        async with pool.connection() as connection:
            assert (await connection.execute("show statement_timeout")).pgresult.get_value(0, 0) == b"0"
    assert postgres.run(f"select count(*) from {table}") == [(1,)]


@pytest.mark.usefixtures("patient")
async def test_many_accounts_share_a_few_connections(postgres, table):
    url = f"{postgres.url}?application_name={table}"
    async with PostgresLedger(url, table=table) as ledger:
        await ledger.change("first", increment)
        count = "select count(*) from pg_stat_activity where application_name = %s"
        assert postgres.run(count, table) == [(1,)]
        await asyncio.gather(*(ledger.change(str(number), increment) for number in range(40)))
        assert 1 <= postgres.run(count, table)[0][0] <= 4
    await until(lambda: postgres.run(count, table) == [(0,)])


async def test_a_table_that_many_create_at_the_same_time_is_created_once(postgres, table):
    for attempt in range(5):
        stores = [PostgresLedger(postgres.url, table=f"{table}_{attempt}")._store for _ in range(8)]
        for store in stores:
            await store._database.run("select 1", {})  # all are connected
        members = await asyncio.gather(*(store.join("a", str(number)) for number, store in enumerate(stores)))
        assert sorted(member.partition(":")[0] for member in members) == list("01234567")
        for store in stores:
            await store.close()


def documented_ddl(table: str) -> str:
    """Return the statement of the guide, for a table."""
    [code] = re.findall(r"^```sql\n(.*?)^```", (ROOT / "docs/guides/quota.md").read_text(), re.DOTALL | re.MULTILINE)
    return code.replace("agora_quota", table)


@pytest.mark.slow
async def test_a_user_who_may_not_create_the_table_is_told_and_can_use_one_of_the_guide(postgres, table):
    user = f"user_{table}"
    postgres.run(f"create role {user} login password '{PASSWORD}'")
    async with PostgresLedger(postgres.url_of(user), table=table) as ledger:
        with pytest.raises(LedgerError, match=f'"{table}" does not exist, and could not be created: permission denied'):
            await ledger.change("a", increment)
        postgres.run(documented_ddl(table).replace("my_user", user))
        assert await ledger.change("a", increment) == 1


async def test_the_guides_table_is_the_one_that_is_created(postgres, table):
    async with PostgresLedger(postgres.url, table=table) as ledger:
        await ledger.change("a", increment)
    postgres.run(documented_ddl(f"{table}_guide").replace("my_user", "postgres"))
    columns = (
        "select column_name, data_type, column_default, is_nullable, reloptions from information_schema.columns "
        "join pg_class on relname = table_name where table_name = %s order by ordinal_position"
    )
    assert postgres.run(columns, table) == postgres.run(columns, f"{table}_guide") != []


@pytest.mark.parametrize("name", ["order", "{table}.user"])
async def test_a_table_may_have_a_reserved_word_as_its_name_and_be_in_a_schema(postgres, table, name):
    name = name.format(table=table)
    if "." in name:
        postgres.run(f"create schema {table}")
    async with PostgresLedger(postgres.url, table=name) as ledger:
        assert await ledger.change("a", increment) == 1


@pytest.mark.parametrize("name", ["", "a b", "Quota", 'a"b', "a.b.c", "a;drop", "a" * 64, "$table", "a."])
def test_another_name_of_a_table_is_refused(name):
    with pytest.raises(ValueError, match=r"^table="):
        PostgresLedger("postgresql://host/db", table=name)


async def test_accounts_that_nobody_used_for_45_days_are_dropped(postgres, table):
    async with PostgresLedger(postgres.url, table=table) as ledger:
        for account in ("old", "old and locked", "young", "joined"):
            await ledger.change(account, increment)
    postgres.run(f"update {table} set used_at = used_at - interval '44 days' where account = 'young'")
    postgres.run(f"update {table} set used_at = used_at - interval '46 days' where account like %s", "old%")
    postgres.run(f"update {table} set used_at = used_at - interval '46 days' where account = 'joined'")
    with psycopg.connect(postgres.url) as other:
        other.execute(f"select from {table} where account = 'old and locked' for update")
        async with PostgresLedger(postgres.url, table=table) as ledger:
            assert await ledger.change("joined", read_count) == 1
    assert {account for [account] in postgres.run(f"select account from {table}")} == {
        "joined",
        "young",
        "old and locked",
    }


@pytest.mark.slow
async def test_an_account_that_was_dropped_is_restored_by_who_knows_it(postgres, table):
    async with PostgresLedger(postgres.url, table=table) as ledger:
        assert await ledger.change("a", increment) == 1
        postgres.run(f"delete from {table}")
        assert await ledger.change("a", increment) == 2


@pytest.mark.usefixtures("patient")
async def test_a_change_whose_server_process_is_ended_is_made_once(postgres, table):
    async with PostgresLedger(postgres.url, table=table) as ledger:
        assert await ledger.change("a", increment) == 1
        with psycopg.connect(postgres.url) as other:
            other.execute(f"select from {table} for update")
            change = asyncio.create_task(ledger.change("a", increment))
            await until(lambda: postgres.run(WAITING, table))
            [[process]] = postgres.run(WAITING, table)
            postgres.run("select pg_terminate_backend(%s)", process)
        assert await change == 2
        assert await ledger.change("a", read_count) == 2


async def test_what_an_exchange_waited_for_decides_it(postgres, table, monkeypatch):
    """A row is read as it is when it is locked, not as it was when the statement began."""
    store = PostgresLedger(postgres.url, table=table)._store
    monkeypatch.setattr("agora_analytics.quota.postgres_ledger.LEASE", -1)  # it has ended as it begins
    lost = await store.join("a", "lost")
    monkeypatch.undo()
    member = await store.join("a", "member")
    for change, expected in {
        f"members || jsonb_build_object('{lost}', extract(epoch from clock_timestamp()) + 9)": (True, False),
        f"members - '{member}'": (False, False),
    }.items():
        with psycopg.connect(postgres.url) as other:
            other.execute(f"update {table} set members = {change}")
            exchange = asyncio.create_task(store.exchange("a", member, Exchange("", "1-a", b"{}", (lost,))))
            await until(lambda: postgres.run(WAITING, table))
        answer = await exchange
        assert (answer.member, answer.replaced) == expected
    assert postgres.run(f"select tag from {table}") == [("",)]
    await store.close()


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["select from {table} for update", "lock table {table}"])
async def test_a_statement_that_its_client_gave_up_does_not_stay_in_the_server(postgres, table, lock):
    async with PostgresLedger(postgres.url, table=table) as ledger:
        assert await ledger.change("a", increment) == 1
        with psycopg.connect(postgres.url) as other:
            other.execute(lock.format(table=table))
            begun = time.monotonic()
            with pytest.raises(LedgerError, match="cannot be used"):
                await ledger.change("a", increment)
            assert 0.9 < time.monotonic() - begun < 5
            await until(lambda: not postgres.run(WAITING, table))
        assert await ledger.change("a", increment) == 2


@pytest.mark.slow
async def test_a_host_that_does_not_answer_keeps_nobody_from_the_next(postgres, table):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts nothing
        port = silent.getsockname()[1]
        url = postgres.url.replace(f"127.0.0.1:{postgres.port}", f"127.0.0.1:{port},127.0.0.1:{postgres.port}")
        async with PostgresLedger(url, table=table) as ledger:
            with pytest.raises(LedgerError, match="no answer in 1 s"):
                await ledger.change("a", increment)
            # On a busy machine the table is not made in what is left of a second, and a new connection waits again.
            async with asyncio.timeout(100):
                while True:  # each call waits for a second of the attempt
                    try:
                        await ledger.change("a", increment)
                    except LedgerError:
                        continue
                    break
            assert postgres.run(f"select count(*) from {table}") == [(1,)]


@pytest.mark.usefixtures("patient")
async def test_a_clock_of_the_server_that_was_set_is_followed(postgres, table, caplog):
    schema = f"clock_{table}"
    postgres.run(f"create schema {schema}")
    postgres.run(f"create table {schema}.ahead as select interval '0' as ahead")
    postgres.run(
        f"create function {schema}.clock_timestamp() returns timestamptz language sql volatile as "
        f"'select pg_catalog.clock_timestamp() + ahead from {schema}.ahead'"
    )
    # Our functions are found before those of the server.
    search = quote(f"-csearch_path={schema},pg_catalog,public")
    async with PostgresLedger(f"{postgres.url}?options={search}", table=table) as ledger:
        assert await ledger.change("a", increment) == 1
        assert ledger.time() == pytest.approx(time.time(), abs=2)
        for step, hours in enumerate((2, -1), start=1):
            postgres.run(f"update {schema}.ahead set ahead = make_interval(hours => %s)", hours)
            assert await ledger.change("a", increment) == 2 * step
            assert await ledger.change("a", increment) == 2 * step + 1
            assert ledger.time() == pytest.approx(time.time() + hours * 3_600, abs=2)
            assert caplog.text.count("was set, or another host has taken over") == step


@pytest.mark.parametrize("commit", [False, True])
async def test_a_change_waits_for_the_disk_if_it_shall(postgres, table, commit):
    async with PostgresLedger(postgres.url, table=table, synchronous_commit=commit) as ledger:
        result = await ledger._store._database.run("select current_setting('synchronous_commit')", {})
        assert result.rows == [("on" if commit else "off",)]
        result = await ledger._store._database.run("select current_setting('statement_timeout')", {})
        assert result.rows == [("1s",)]


REFUSALS = {
    "wrong password": ("{user}:wrong-{password}@127.0.0.1:{port}/postgres", "password authentication failed"),
    "closed port": ("{user}:{password}@127.0.0.1:{closed}/postgres", "Connection refused"),
    "unknown host": ("{user}:{password}@host.invalid/postgres", "host.invalid"),
    "no such database": ("{user}:{password}@127.0.0.1:{port}/nothing", 'database "nothing" does not exist'),
    "read only": (
        "{user}:{password}@127.0.0.1:{port}/postgres?options=-cdefault_transaction_read_only%3Don",
        "read-only",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_store_that_refuses_says_why_and_shows_no_password(postgres, table, case, caplog, monkeypatch):
    caplog.set_level("DEBUG")
    monkeypatch.setattr(shared_account, "_PATIENCE", 0.5)
    url, reason = REFUSALS[case]
    url = "postgresql://" + url.format(user="postgres", password=PASSWORD, port=postgres.port, closed=free_port())
    async with PostgresLedger(postgres.url, table=table) as ledger:
        await ledger.change("a", increment)
    async with PostgresLedger(url, table=table) as ledger:
        with pytest.raises(LedgerError, match=reason) as caught:
            await ledger.change("a", increment)
    assert "No request is sent without it" in str(caught.value)
    assert PASSWORD not in repr(ledger) + report_of(caught.value) + caplog.text


@pytest.mark.slow
async def test_a_full_disk_of_the_server_fails_and_stores_nothing(postgres, table):
    async with PostgresLedger(postgres.url, table=table) as ledger:
        assert await ledger.change("a", increment) == 1
        postgres.run(
            f"create function full_{table}() returns trigger language plpgsql as $$ begin "
            "raise exception using errcode = '53100', message = 'No space left on device'; end $$"
        )
        postgres.run(f"create trigger full_disk before update on {table} execute function full_{table}()")
        with pytest.raises(LedgerError, match="No space left on device"):
            await ledger.change("a", increment)
        postgres.run(f"drop trigger full_disk on {table}")
        assert await ledger.change("a", increment) == 2


@pytest.mark.parametrize(
    "store",
    [
        "redis://user:secret-word@host/0",
        "host=host password=secret-word oops",
        "postgresql://user:secret-word@more@host/db",
        "postgresql://user:pass/secret-word@host/db",
        "postgresql://user:secret-word@host/db?unknown=1",
    ],
)
def test_a_store_of_another_kind_is_refused_without_showing_it(store):
    with pytest.raises(ValueError, match="allowed is a connection string or URL of PostgreSQL") as caught:
        PostgresLedger(store)
    assert "secret-word" not in report_of(caught.value)


@pytest.mark.parametrize("store", [5, b"postgresql://user:secret-word@host/db", AsyncConnectionPool])
def test_an_object_that_is_no_pool_is_refused_without_showing_it(store):
    with pytest.raises(TypeError, match=r"^store: allowed is .*AsyncConnectionPool") as caught:
        PostgresLedger(store)
    assert "secret-word" not in report_of(caught.value)


async def test_a_forked_process_refuses_the_pool_of_its_parent(postgres, table):
    async with AsyncConnectionPool(postgres.url, open=False, min_size=1) as pool:
        ledger = PostgresLedger(pool, table=table)
        ledger._process = ledger._store._database._process = -1  # as if the parent had made it
        with pytest.raises(RuntimeError, match="make one for each"):
            await ledger.change("a", increment)


INCREMENT = """
import asyncio, os, sys
from helpers.ledger_changes import increment
from agora_analytics.quota import PostgresLedger

ledger = PostgresLedger(sys.argv[1], table=sys.argv[2])

async def change_and_close(times):
    async with ledger:
        for _ in range(times):
            print(await ledger.change("a", increment), flush=True)
"""

RACE = INCREMENT + "asyncio.run(change_and_close(100))"

FORK = (
    INCREMENT
    + """
loop = asyncio.new_event_loop()
print(loop.run_until_complete(ledger.change("a", increment)), flush=True)
[used] = ledger._store._database._idle
if not (child := os.fork()):
    asyncio.run(change_and_close(1))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(loop.run_until_complete(ledger.change("a", increment)), flush=True)
assert ledger._store._database._idle == [used], "the child has ended the connection of its parent"
loop.run_until_complete(ledger.close())
loop.close()
"""
)


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(HELPERS.parent)])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def numbers(process: subprocess.Popen[str]) -> list[int]:
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return list(map(int, out.split()))


def test_two_processes_that_race_lose_no_count(pgbouncer, table):
    processes = [started(RACE, pgbouncer.url, table) for _ in range(2)]
    assert sorted(number for process in processes for number in numbers(process)) == list(range(1, 201))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_connects_anew_and_leaves_its_parents_connection_alone(postgres, table):
    assert numbers(started(FORK, postgres.url, table)) == [1, 2, 3]
