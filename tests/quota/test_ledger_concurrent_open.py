"""A new file that is opened by several at the same moment: each of them gets its ledger."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.ledger_changes import count

from agora_analytics import LedgerError
from agora_analytics.quota.sqlite_store import LedgerFile

pytestmark = pytest.mark.real_time

ROUNDS, TOGETHER = 60, 3


class Slow:
    """A `time` that goes 100 times slower while others wait: a busy machine makes no lock seem to stay."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return self._begun + (time.monotonic() - self._begun) / 100

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.fixture
def patient(monkeypatch) -> None:
    monkeypatch.setattr("agora_analytics.quota.sqlite_store.time", Slow())


def use(path: Path, together: threading.Barrier) -> int:
    together.wait()
    file = LedgerFile(path)
    try:
        return file.change("a", count)
    finally:
        file.close()


@pytest.mark.usefixtures("patient")
def test_a_new_file_that_several_open_at_once_counts_for_all_of_them(tmp_path):
    with ThreadPoolExecutor(TOGETHER) as threads:
        for number in range(ROUNDS):
            path, together = tmp_path / f"{number}.db", threading.Barrier(TOGETHER)
            found = list(threads.map(use, [path] * TOGETHER, [together] * TOGETHER))
            assert sorted(found) == list(range(1, TOGETHER + 1))


@pytest.fixture(params=["reading", "writing", "alone"])
def another(request: pytest.FixtureRequest, path: Path):
    """Another program that holds a file with no log of changes yet, by each kind of lock."""
    path.parent.mkdir()
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("CREATE TABLE other (value)")
    database.execute({"reading": "BEGIN", "writing": "BEGIN IMMEDIATE", "alone": "BEGIN EXCLUSIVE"}[request.param])
    database.execute("SELECT * FROM other").fetchall()
    yield database
    database.close()


async def test_opening_waits_for_whatever_lock_another_holds(another, file, naps):
    naps.call_after(0.9, lambda: another.execute("COMMIT"))
    assert await file.change("a", count) == 1
    assert naps.slept == pytest.approx(0.9, abs=0.01)


async def test_a_lock_that_stays_is_reported_as_a_lock(another, file, naps):
    with pytest.raises(LedgerError, match="another program has kept it locked for more than 1 s") as caught:
        await file.change("a", count)
    assert naps.slept == pytest.approx(1, abs=0.01)
    assert caught.value.fault == "host"
    assert "End the program that holds the lock" in caught.value.hint
    another.execute("COMMIT")
    assert await file.change("a", count) == 1
