"""The ledgers there are, and the file of the one that has one."""

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


class Naps:
    """A `time` that passes only while someone sleeps, and calls something once that was for long enough."""

    def __init__(self) -> None:
        self.slept = 0.0
        self._begun = time.monotonic()
        self._after, self._wake = float("inf"), lambda: None

    def call_after(self, seconds: float, wake: Callable[[], object]) -> None:
        self._after, self._wake = seconds, wake

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return self._begun + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        if self.slept >= self._after:
            self._after = float("inf")
            self._wake()


@pytest.fixture
def naps(monkeypatch) -> Naps:
    """What a ledger waits for a lock, on a clock of its own: a busy machine makes no lock seem to stay."""
    naps = Naps()
    monkeypatch.setattr("agora_analytics.quota.sqlite_store.time", naps)
    return naps
