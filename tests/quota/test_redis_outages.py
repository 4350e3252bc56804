"""A ledger over a real Redis in trouble: full, read-only, restarted, failed over, in a cluster, behind Sentinel."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from helpers.ledger_changes import increment, read_count
from helpers.redis_server import MISSING, REDIS, SENTINEL, RedisServer, free_port, start_sentinel
from helpers.tcp_proxy import TcpProxy

from agora_analytics import ENTERPRISE, AnalyticsClient, LedgerError
from agora_analytics.quota import RedisLedger
from agora_analytics.simulator import Service, Simulation

pytestmark = [pytest.mark.real_time, pytest.mark.process, pytest.mark.skipif(REDIS is None, reason=MISSING)]

ABOUT_A_SECOND = 3.0
"""A busy machine takes its time."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may change."""
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "other"
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server


@pytest.fixture
async def ledger(server: RedisServer) -> AsyncIterator[RedisLedger]:
    async with RedisLedger(server.url) as ledger:
        yield ledger


async def fails(ledger: RedisLedger, text: str) -> None:
    """Check that a change fails with a text after about a second."""
    begun = asyncio.get_running_loop().time()
    with pytest.raises(LedgerError, match=f"cannot be used: .*{text}.*No request is sent without it"):
        await ledger.change("a", increment)
    assert 0.9 < asyncio.get_running_loop().time() - begun < ABOUT_A_SECOND


@pytest.mark.slow
async def test_a_full_server_fails_and_works_again_once_it_has_room(server, ledger):
    assert await ledger.change("a", increment) == 1
    server.command("CONFIG", "SET", "maxmemory", "1")
    await fails(ledger, "maxmemory")
    server.command("CONFIG", "SET", "maxmemory", "0")
    assert await ledger.change("a", increment) == 2


@pytest.mark.slow
async def test_a_server_that_became_a_read_only_replica_fails_until_it_is_the_primary_again(server, ledger):
    assert await ledger.change("a", increment) == 1
    server.command("REPLICAOF", "127.0.0.1", "1")
    await fails(ledger, "read only replica")
    server.command("REPLICAOF", "NO", "ONE")
    assert await ledger.change("a", increment) == 2


async def test_a_server_that_lost_its_scripts_gets_them_again(server, ledger):
    assert await ledger.change("a", increment) == 1
    server.command("SCRIPT", "FLUSH")
    assert await ledger.change("a", increment) == 2


async def test_changes_wait_for_a_server_that_is_gone_for_a_moment(server):
    async with TcpProxy(server.port) as proxy, RedisLedger(f"redis://127.0.0.1:{proxy.port}/0") as ledger:
        assert await ledger.change("a", increment) == 1
        await proxy.switch(1)  # nobody listens there
        changes = asyncio.gather(*(ledger.change("a", increment) for _ in range(10)))
        await asyncio.sleep(0.2)
        assert not changes.done()
        await proxy.switch(server.port)
        assert await changes == list(range(2, 12))


@pytest.mark.slow
async def test_a_failover_to_a_server_that_lags_restores_what_it_lacks(server, other, caplog):
    async with TcpProxy(server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with RedisLedger(url) as first, RedisLedger(url) as second:
            assert [await ledger.change("a", increment) for ledger in (first, second) * 2] == [1, 2, 3, 4]
            await proxy.switch(other.port)
            assert await second.change("a", increment) == 5
            assert await first.change("a", increment) == 6
    assert "lost its last" in caplog.text


class ShiftedStore:
    """A store whose clock is ahead while the proxy passes on to a certain server."""

    def __init__(self, store, proxy: TcpProxy, target: int, ahead: float) -> None:
        self._store, self._proxy, self._target, self._ahead = store, proxy, target, ahead

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    async def exchange(self, *arguments):
        answer = await self._store.exchange(*arguments)
        return answer._replace(now=answer.now + self._ahead * (self._proxy.target == self._target))


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [-600.0, 90.0])
async def test_a_failover_to_a_server_whose_clock_differs_refuses_nothing(server, other, ahead, caplog):
    service = Service(plan="enterprise", clock=time.time)
    async with TcpProxy(server.port) as proxy, AsyncExitStack() as opened:
        transport = Simulation(service).transport(latency=(0.01, 0.03), hosts=1)
        clients = []
        for _ in range(3):
            ledger = RedisLedger(f"redis://127.0.0.1:{proxy.port}/0")
            ledger._store = ShiftedStore(ledger._store, proxy, other.port, ahead)
            await opened.enter_async_context(ledger)
            client = Simulation(service).client(ledger=ledger, transport=transport, max_wait=None)
            clients.append(await opened.enter_async_context(client))
        spending = [asyncio.create_task(spend(client)) for client in clients for _ in range(4)]
        await asyncio.sleep(3)
        before = service.counts["call_lists"]
        await proxy.switch(other.port)
        await asyncio.sleep(7)  # each process counts all requests as recent once more
        for task in spending:
            task.cancel()
        await asyncio.wait(spending)
    assert "was set, or another host has taken over" in caplog.text
    assert service.counts["call_lists"] > before + 2
    assert service.refusals == {}
    assert max(Counter(int(entry.at) for entry in service.log).values()) <= ENTERPRISE.rates("call_lists")["second"]


async def spend(client: AnalyticsClient) -> None:
    while True:
        try:
            await client.calls.page(*client.calls.recent(3_600))
        except LedgerError:
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_a_server_far_away_takes_changes_and_its_failure_is_noticed_as_fast(server):
    async with TcpProxy(server.port, delay=0.05) as proxy, RedisLedger(f"redis://127.0.0.1:{proxy.port}/0") as ledger:
        assert await asyncio.gather(*(ledger.change("a", increment) for _ in range(30))) == list(range(1, 31))
        assert ledger._clock.error() < 0.1
        proxy.delay = 30.0
        await fails(ledger, "")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """A cluster of two nodes with half of the slots each."""
    nodes = []
    for number, slots in enumerate([("0", "8191"), ("8192", "16383")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        node = RedisServer(folder)
        nodes.append(node)
        node.start("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "1000")
        node.command("CLUSTER", "ADDSLOTSRANGE", *slots)
        node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
    bus = nodes[1]._process.args
    nodes[0].command("CLUSTER", "MEET", "127.0.0.1", str(nodes[1].port), bus[bus.index("--cluster-port") + 1])
    for node in nodes:
        node.wait_for("cluster_state:ok", "CLUSTER", "INFO")
        node.wait_for("cluster_known_nodes:2", "CLUSTER", "INFO")
    yield nodes
    for node in nodes:
        node.kill()


@pytest.mark.slow
async def test_a_cluster_keeps_each_account_on_one_node_and_fails_without_it(cluster):
    from redis.asyncio import RedisCluster

    async with RedisCluster(host="127.0.0.1", port=cluster[0].port) as client:
        async with RedisLedger(client) as ledger, RedisLedger(client) as other:
            accounts = [secrets.token_hex(8) for _ in range(12)]
            for account in accounts:
                assert [await one.change(account, increment) for one in (ledger, other)] == [1, 2]
            assert await ledger.change("a", increment) == 1
            sizes = [int(node.command("DBSIZE").removeprefix(":")) for node in cluster]
            assert min(sizes) > 0
            cluster[0].kill()
            cluster[1].kill()
            await fails(ledger, "")
        assert client.get_primaries()


@pytest.mark.slow
async def test_a_client_that_is_not_for_clusters_fails_where_another_node_has_the_account(cluster):
    slot = int(cluster[0].command("CLUSTER", "KEYSLOT", "agora:{a}:state").removeprefix(":"))
    async with RedisLedger(cluster[slot < 8_192].url) as ledger:
        await fails(ledger, f"MovedError: {slot} 127.0.0.1")


@pytest.mark.slow
@pytest.mark.skipif(SENTINEL is None, reason="redis-sentinel is not installed (Debian's package redis-sentinel)")
async def test_sentinel_fails_over_to_a_replica_and_no_count_is_lost(server, other, tmp_path):
    from redis.asyncio import Sentinel

    other.command("REPLICAOF", "127.0.0.1", str(server.port))
    other.wait_for("master_link_status:up", "INFO", "replication")
    folder = tmp_path / "sentinel"
    folder.mkdir()
    sentinel = start_sentinel(folder, server)
    try:
        sentinel.wait_for("slaves=1", "INFO", "sentinel")
        found = Sentinel([("127.0.0.1", sentinel.port)], socket_timeout=1.0)
        async with found.master_for("quota", socket_timeout=1.0) as client, RedisLedger(client) as ledger:
            counted = 0
            for _ in range(10):
                counted = await ledger.change("a", increment)
            # As long as Sentinel does not notice, too: on a busy machine it may have failed over within that second.
            sentinel.freeze()
            server.kill()
            await fails(ledger, "")
            sentinel.thaw()
            async with asyncio.timeout(30):
                while True:
                    try:
                        assert await ledger.change("a", read_count) in {counted, counted + 1}
                        break
                    except LedgerError:
                        continue
        await found.sentinels[0].aclose()
    finally:
        sentinel.kill()
