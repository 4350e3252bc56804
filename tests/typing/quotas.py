"""The types of quotas and ledgers; see `api.py`."""

from __future__ import annotations

from typing import assert_type

from psycopg_pool import AsyncConnectionPool

from agora_analytics import AnalyticsClient, FileLedger
from agora_analytics.protocols import Ledger
from agora_analytics.quota import PostgresLedger, RedisLedger


async def trusting(client: AnalyticsClient) -> None:
    assert_type(client.quota.confirmed, bool)
    snapshot = await client.quota.snapshot()
    assert_type([(state.planned, state.learned) for state in snapshot], list[tuple[int, float | None]])
    assert_type([clock.confirmed for clock in (snapshot.clock,) if clock], list[bool])


async def sharing() -> None:
    async with FileLedger("quota.db") as ledger:
        assert_type(ledger, FileLedger)
    async with RedisLedger("redis://localhost", prefix="p") as shared:
        assert_type(shared, RedisLedger)
        assert_type(shared.time(), float)
        ledgers: list[Ledger] = [ledger, shared]
        assert ledgers
    async with PostgresLedger("postgresql://localhost", table="t", synchronous_commit=True) as in_postgres:
        assert_type(in_postgres, PostgresLedger)
        assert_type(in_postgres.time(), float)
        ledgers = [in_postgres]


async def pooling(pool: AsyncConnectionPool) -> None:
    assert_type(PostgresLedger(pool), PostgresLedger)
