"""Ledgers of both kinds, and a fake clock for the time that a file ledger waits for locks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agora_analytics import FileLedger, MemoryLedger
from agora_analytics.protocols import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "quota.db"


@pytest.fixture
async def file(path: Path) -> AsyncIterator[FileLedger]:
    ledger = FileLedger(path)
    yield ledger
    await ledger.close()


@pytest.fixture(params=["memory", "file"])
async def ledger(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Ledger]:
    ledger = MemoryLedger() if request.param == "memory" else FileLedger(path)
    yield ledger
    await ledger.close()


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
