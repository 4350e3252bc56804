"""A new file that several connections open at the same moment: each of them can use it."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.ledger_changes import increment

from agora_analytics import LedgerError
from agora_analytics.quota.sqlite_store import LedgerFile

pytestmark = pytest.mark.real_time

ROUNDS, CONNECTIONS = 60, 3


class SlowTime:
    """A `time` module that is 100 times slower, so that a busy machine causes no timeout of a lock."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return self._started + (time.monotonic() - self._started) / 100

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.fixture
def slow_time(monkeypatch) -> None:
    monkeypatch.setattr("agora_analytics.quota.sqlite_store.time", SlowTime())


def open_and_increment(path: Path, barrier: threading.Barrier) -> int:
    barrier.wait()
    file = LedgerFile(path)
    try:
        return file.change("a", increment)
    finally:
        file.close()


@pytest.mark.usefixtures("slow_time")
def test_connections_that_create_a_file_at_once_share_its_counts(tmp_path):
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for number in range(ROUNDS):
            path, barrier = tmp_path / f"{number}.db", threading.Barrier(CONNECTIONS)
            counts = list(threads.map(open_and_increment, [path] * CONNECTIONS, [barrier] * CONNECTIONS))
            assert sorted(counts) == list(range(1, CONNECTIONS + 1))


@pytest.fixture(params=["read lock", "write lock", "exclusive lock"])
def other_program(request: pytest.FixtureRequest, path: Path):
    """Another program that holds a lock of each kind on a file without a write-ahead log."""
    path.parent.mkdir()
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("CREATE TABLE other (value)")
    begin = {"read lock": "BEGIN", "write lock": "BEGIN IMMEDIATE", "exclusive lock": "BEGIN EXCLUSIVE"}
    database.execute(begin[request.param])
    database.execute("SELECT * FROM other").fetchall()
    yield database
    database.close()


async def test_opening_waits_for_any_lock_of_another_program(other_program, file, fake_time):
    fake_time.call_after(0.9, lambda: other_program.execute("COMMIT"))
    assert await file.change("a", increment) == 1
    assert fake_time.slept == pytest.approx(0.9, abs=0.01)


async def test_a_lock_that_is_not_released_raises_an_error_about_the_lock(other_program, file, fake_time):
    with pytest.raises(LedgerError, match="another program has kept it locked for more than 1 s") as caught:
        await file.change("a", increment)
    assert fake_time.slept == pytest.approx(1, abs=0.01)
    assert caught.value.fault == "host"
    assert "End the program that holds the lock" in caught.value.hint
    other_program.execute("COMMIT")
    assert await file.change("a", increment) == 1
