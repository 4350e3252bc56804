"""What all ledgers do that hosts share: members, leases, and a store that is down, frozen or emptied."""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import Callable, Iterator
from inspect import cleandoc

import pytest
from helpers.ledger_changes import increment, read_count
from helpers.postgres_server import PgBouncer, PostgresServer
from helpers.redis_server import RedisServer
from helpers.tcp_proxy import TcpProxy

from agora_analytics import AnalyticsClient, LedgerError
from agora_analytics.quota import PostgresLedger, RedisLedger, shared_account
from agora_analytics.quota.ledger_store import Exchange
from agora_analytics.quota.shared_ledger import SharedLedger
from agora_analytics.simulator import Simulation

pytestmark = [pytest.mark.real_time, pytest.mark.process]

Open = Callable[[], SharedLedger]


@pytest.fixture(params=["redis", "postgres", "pgbouncer"])
def open_ledger(request: pytest.FixtureRequest, table: str) -> Open:
    """Return a function that opens ledgers, which share what they count."""
    url = request.getfixturevalue(request.param).url
    if request.param == "redis":
        return lambda: RedisLedger(url, prefix=table)
    return lambda: PostgresLedger(url, table=table)


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["redis", "postgres"])
def own_store(request: pytest.FixtureRequest, tmp_path) -> Iterator[RedisServer | PostgresServer]:
    """A store that a test may kill."""
    if request.param == "postgres":
        server = request.getfixturevalue("own_postgres")
        server.run("drop table if exists agora_quota")
        yield server
        return
    with RedisServer(tmp_path) as store:
        yield store


def ledger_in(store: RedisServer | PostgresServer, port: int = 0) -> SharedLedger:
    url = store.url.replace(f":{store.port}", f":{port or store.port}")
    return RedisLedger(url) if isinstance(store, RedisServer) else PostgresLedger(url)


@pytest.mark.usefixtures("patient")
async def test_processes_that_change_at_the_same_time_lose_no_count(open_ledger):
    ledgers = [open_ledger() for _ in range(6)]
    results = await asyncio.gather(*(ledger.change("a", increment) for ledger in ledgers for _ in range(50)))
    assert sorted(results) == list(range(1, 301))
    for ledger in ledgers:
        await ledger.close()


async def test_each_process_has_a_slot_of_its_own_and_knows_how_many_there_are(open_ledger):
    def numbers(state):
        return state.next_permit_id() % 4096, state.processes

    async with open_ledger() as first, open_ledger() as second:
        assert await first.change("a", numbers) == (0, 1)
        assert await second.change("a", numbers) == (1, 2)
        assert await first.change("a", numbers) == (0, 2)


async def test_a_process_that_no_longer_uses_an_account_is_none_of_those_that_share_it(open_ledger, monkeypatch):
    monkeypatch.setattr(shared_account, "_IDLE", 0.5)
    monkeypatch.setattr(shared_account, "_RENEW_EVERY", 0.1)
    async with open_ledger() as first, open_ledger() as second:
        await first.change("a", increment)
        assert await second.change("a", lambda state: state.processes) == 2
        async with asyncio.timeout(10):
            while await second.change("a", lambda state: state.processes) > 1:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.1)
        assert await first.change("a", increment) == 2
        assert await second.change("a", lambda state: state.processes) == 2


@pytest.mark.usefixtures("patient")
async def test_processes_that_join_at_the_same_time_have_slots_of_their_own(open_ledger):
    ledgers = [open_ledger() for _ in range(8)]
    slots = await asyncio.gather(*(ledger.change("a", lambda state: state.process_slot) for ledger in ledgers))
    assert sorted(slots) == list(range(8))
    for ledger in ledgers:
        await ledger.close()


@pytest.mark.usefixtures("patient")
async def test_a_lost_process_is_reclaimed_after_its_lease(open_ledger, monkeypatch):
    for module in ("membership", "redis_ledger", "postgres_ledger"):
        monkeypatch.setattr(f"agora_analytics.quota.{module}.LEASE", 0.3)
    monkeypatch.setattr(shared_account, "_RENEW_EVERY", 0.1)
    async with open_ledger() as ledger:
        lost = open_ledger()

        def take(state):
            state.counter("lists").in_flight[state.next_permit_id()] = lost.time() + 300

        await lost.change("a", take)
        lost._accounts["a"]._member = ""  # as if it had crashed: its lease is not ended
        await lost.close()
        async with asyncio.timeout(10):
            while await ledger.change("a", lambda state: len(state.counter("lists").in_flight)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await ledger.change("a", lambda state: len(state.counter("lists").completed)) == 1


@pytest.mark.slow
async def test_a_store_that_is_down_fails_after_a_second_and_works_again_when_it_is_back(own_store, monkeypatch):
    async with ledger_in(own_store) as ledger:
        assert await ledger.change("a", increment) == 1
        await asyncio.sleep(1.1)  # by then the file has it
        own_store.kill()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(LedgerError, match=r"127\.0\.0\.1:\d+/\w+ cannot be used.*No request is sent without it"):
            await ledger.change("a", increment)
        assert 0.9 < loop.time() - begun < 5
        own_store.start()
        monkeypatch.setattr(shared_account, "_PATIENCE", 10.0)
        assert await ledger.change("a", increment) == 2


@pytest.mark.slow
async def test_a_server_that_was_killed_behind_pgbouncer_is_used_again(own_postgres, monkeypatch):
    own_postgres.run("drop table if exists agora_quota")
    with PgBouncer(own_postgres) as bouncer:
        async with PostgresLedger(bouncer.url) as ledger:
            assert await ledger.change("a", increment) == 1
            own_postgres.kill()
            with pytest.raises(LedgerError):
                await ledger.change("a", increment)
            own_postgres.start()
            # PgBouncer tries to log in once in a second; what the server lost in the crash is restored.
            monkeypatch.setattr(shared_account, "_PATIENCE", 10.0)
            assert await ledger.change("a", increment) == 2


@pytest.mark.slow
async def test_a_store_that_does_not_answer_fails_and_its_late_answer_is_not_taken_for_another(own_store, monkeypatch):
    async with ledger_in(own_store) as ledger:
        assert await ledger.change("a", increment) == 1
        loop = asyncio.get_running_loop()
        own_store.freeze()
        begun = loop.time()
        with pytest.raises(LedgerError, match="cannot be used"):
            await ledger.change("a", increment)
        assert 0.9 < loop.time() - begun < 5
        own_store.thaw()
        monkeypatch.setattr(shared_account, "_PATIENCE", 10.0)
        # The frozen change may have been made: it was reported as failed, so nobody relies on it.
        assert await ledger.change("a", increment) in {2, 3}
        assert await ledger.change("b", read_count) == 0


@pytest.mark.slow_except("redis")
@pytest.mark.usefixtures("patient")
async def test_changes_that_a_store_lost_are_restored_by_who_knows_them(own_store, caplog):
    async with ledger_in(own_store) as ledger:
        for _ in range(3):
            await ledger.change("a", increment)
        own_store.empty()
        assert await ledger.change("a", increment) == 4
        assert "lost its last" in caplog.text


@pytest.mark.slow_except("postgres")
@pytest.mark.usefixtures("patient")
async def test_a_change_whose_answer_was_lost_is_made_once(own_store):
    async with TcpProxy(own_store.port) as proxy, ledger_in(own_store, proxy.port) as ledger:
        assert await ledger.change("a", increment) == 1
        proxy.loses_next_answer = True
        assert await ledger.change("a", increment) == 2
        assert not proxy.loses_next_answer
        assert await ledger.change("a", increment) == 3


async def test_what_changes_nothing_is_not_stored_and_lets_no_other_change_run_again(open_ledger):
    runs = 0

    def count_runs(state):
        nonlocal runs
        runs += 1
        return increment(state)

    async with open_ledger() as one, open_ledger() as other:
        await one.change("a", increment)
        await other.change("a", increment)
        for _ in range(5):
            assert await one.change("a", read_count) == 2
        assert await other.change("a", count_runs) == 3
    assert runs == 1


async def test_a_member_that_has_renewed_its_lease_is_not_buried(open_ledger):
    store = open_ledger()._store
    living, other = await store.join("a", "x"), await store.join("a", "y")
    answer = await store.exchange("a", other, Exchange("", "1-a", b"{}", (living,)))
    assert (answer.member, answer.replaced, answer.tag, answer.members) == (True, False, "", 2)
    assert (await store.exchange("a", other, Exchange("", "1-a", b"{}"))).replaced
    await store.close()


async def test_a_member_that_was_buried_replaces_nothing_and_its_slot_is_free(open_ledger, monkeypatch):
    store = open_ledger()._store
    monkeypatch.setattr(f"{type(store).__module__}.LEASE", -1)  # it has ended as it begins
    buried = await store.join("a", "x")
    monkeypatch.undo()
    other = await store.join("a", "y")
    assert (await store.exchange("a", other, Exchange("", "", None))).lost == (buried,)
    answer = await store.exchange("a", other, Exchange("", "1-a", b"{}", (buried,)))
    assert (answer.replaced, answer.members, answer.lost) == (True, 1, ())
    answer = await store.exchange("a", buried, Exchange("1-a", "2-b", b"{}"))
    assert (answer.member, answer.replaced) == (False, False)
    assert await store.join("a", "z") == "0:z"
    await store.close()


async def test_what_another_stored_is_answered_and_not_replaced(open_ledger):
    store = open_ledger()._store
    one, other = await store.join("a", "x"), await store.join("a", "y")
    await store.exchange("a", one, Exchange("", "1-a", b"first"))
    answer = await store.exchange("a", other, Exchange("", "1-b", b"second"))
    assert (answer.replaced, answer.tag, answer.body) == (False, "1-a", b"first")
    answer = await store.exchange("a", other, Exchange("1-a", "2-b", None))
    assert (answer.replaced, answer.tag, answer.body) == (False, "1-a", None)
    await store.leave("a", one)
    assert (await store.exchange("a", other, Exchange("1-a", "2-b", b"third"))).members == 1
    await store.close()


@pytest.mark.parametrize(("kind", "store"), [(RedisLedger, "redis"), (PostgresLedger, "postgres")])
async def test_the_example_runs(kind, store, request, monkeypatch):
    url = request.getfixturevalue(store).url
    code = re.search(r"```python\n(.*?)```", cleandoc(kind.__doc__ or ""), re.DOTALL)
    simulation = Simulation()
    monkeypatch.setattr(AnalyticsClient, "from_env", simulation.client)
    assert code is not None
    lines = re.sub(r'"\w+://[^"]+"', repr(url), code[1])
    names = {kind.__name__: kind, "AnalyticsClient": AnalyticsClient}
    exec(f"async def main():\n{textwrap.indent(lines, '    ')}", names)  # noqa: S102 - our own docstring
    await names["main"]()
