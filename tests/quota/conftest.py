"""Ledgers of each kind, a store on virtual time, and a fake clock for the time that a file ledger waits for locks."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from helpers import memory_store
from helpers.memory_store import MemoryStore

from agora_analytics import FileLedger, MemoryLedger
from agora_analytics.protocols import Ledger
from agora_analytics.quota import PostgresLedger, RedisLedger, membership, shared_account, store_clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "quota.db"


@pytest.fixture
async def file(path: Path) -> AsyncIterator[FileLedger]:
    ledger = FileLedger(path)
    yield ledger
    await ledger.close()


@pytest.fixture
def virtual_store(monkeypatch) -> MemoryStore:
    """Return a store in memory whose time, and that of the processes that share it, is virtual."""
    for module in (shared_account, membership, store_clock, memory_store):
        monkeypatch.setattr(module, "elapsed", lambda: asyncio.get_running_loop().time())
    return MemoryStore()


@pytest.fixture
def patient(monkeypatch) -> None:
    """Let changes take ten seconds, so that a busy machine makes none fail."""
    monkeypatch.setattr("agora_analytics.quota.shared_account._PATIENCE", 10.0)


@pytest.fixture
def table() -> str:
    """Return a name that no other test uses."""
    return f"quota_{secrets.token_hex(4)}"


def ledger_in(kind: str, request: pytest.FixtureRequest) -> Ledger:
    """Return a ledger of this kind that is not open yet; all of a test are on one store."""
    if kind == "memory":
        return MemoryLedger()
    if kind == "file":
        return FileLedger(request.getfixturevalue("path"))
    url, name = request.getfixturevalue(kind).url, request.getfixturevalue("table")
    return RedisLedger(url, prefix=name) if kind == "redis" else PostgresLedger(url, table=name)


@pytest.fixture(params=["memory", "file", "redis", "postgres", "pgbouncer"])
def new_ledger(request: pytest.FixtureRequest) -> Ledger:
    """Return a ledger that is not open yet."""
    return ledger_in(request.param, request)


@pytest.fixture(params=["file", "redis", "postgres", "pgbouncer"])
async def two_ledgers(request: pytest.FixtureRequest) -> AsyncIterator[list[Ledger]]:
    """Return ledgers on one store, as two processes have them."""
    ledgers = [ledger_in(request.param, request) for _ in range(2)]
    yield ledgers
    for ledger in ledgers:
        await ledger.close()


@pytest.fixture
async def ledger(new_ledger: Ledger) -> AsyncIterator[Ledger]:
    yield new_ledger
    await new_ledger.close()


class FakeTime:
    """A `time` module whose clock advances only in `sleep`, and that calls a function after so many seconds."""

    def __init__(self) -> None:
        self.slept = 0.0
        self._started = time.monotonic()
        self._due, self._callback = float("inf"), lambda: None

    def call_after(self, seconds: float, callback: Callable[[], object]) -> None:
        self._due, self._callback = seconds, callback

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return self._started + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        if self.slept >= self._due:
            self._due = float("inf")
            self._callback()


@pytest.fixture
def fake_time(monkeypatch) -> FakeTime:
    """Replace the clock of waits for a file's lock, so that a busy machine causes no timeout."""
    fake_time = FakeTime()
    monkeypatch.setattr("agora_analytics.quota.sqlite_store.time", fake_time)
    return fake_time
