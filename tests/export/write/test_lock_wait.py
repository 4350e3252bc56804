"""Who else has a database: a writer waits for that program, says so, and can be made to give up."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from agora_analytics import Selection
from agora_analytics._core import futures
from agora_analytics.export.formats.sqlite import SqliteWriter
from agora_analytics.export.write import lock_wait, subprocess_writer
from agora_analytics.export.write.lock_wait import LockWait
from agora_analytics.export.write.subprocess_writer import _CODE, SubprocessWriter
from agora_analytics.export.write.target import DatabaseTarget
from agora_analytics.simulator import Simulation


@pytest.fixture
def other(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that has the database of an export open."""
    with closing(sqlite3.connect(tmp_path / "export.sqlite", isolation_level=None)) as other:
        other.execute("CREATE TABLE mine (a)")
        yield other


@pytest.fixture
def told() -> Iterator[Callable[[Callable[[], object]], list[str]]]:
    """Does something at each warning, and returns the warnings."""
    handlers: list[logging.Handler] = []
    log = logging.getLogger("agora_analytics")

    def told(then: Callable[[], object]) -> list[str]:
        found: list[str] = []

        class Then(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                found.append(record.getMessage())
                then()

        handlers.append(Then())
        log.addHandler(handlers[-1])
        return found

    yield told
    for handler in handlers:
        log.removeHandler(handler)


def test_a_long_wait_is_logged_once_and_a_short_one_never(monkeypatch, tmp_path, other, told):
    monkeypatch.setattr(lock_wait, "_POLL_INTERVAL", 0)
    monkeypatch.setattr(lock_wait, "time", SimpleNamespace(monotonic=count().__next__))  # a second from try to try
    found = told(lambda: None)
    other.execute("BEGIN EXCLUSIVE")
    with closing(sqlite3.connect(tmp_path / "export.sqlite", timeout=0)) as mine:
        for seconds, lines in ((9, 0), (60, 1)):
            with pytest.raises(sqlite3.OperationalError):
                LockWait(seconds, "export.sqlite").run(lambda: mine.execute("BEGIN IMMEDIATE"))
            assert len(found) == lines
    assert found == ["export: export.sqlite is locked by another program; waiting for up to 60 s"]


def test_an_error_that_is_no_lock_is_raised_at_once():
    with closing(sqlite3.connect(":memory:")) as mine, pytest.raises(sqlite3.OperationalError, match="no such table"):
        LockWait(1e9, "file").run(lambda: mine.execute("SELECT * FROM gone"))


def test_a_wait_of_the_writer_process_is_logged_by_its_export(tmp_path, monkeypatch, other, told):
    soon = "from agora_analytics.export.write import lock_wait; lock_wait._WARN_AFTER = 0; serve()"
    monkeypatch.setattr(subprocess_writer, "_CODE", _CODE.replace("serve()", soon))
    found = told(lambda: other.execute("ROLLBACK"))
    with closing(SubprocessWriter("sqlite", tmp_path, tmp_path / "state" / "writing")) as writer:
        writer.ready()
        other.execute("BEGIN EXCLUSIVE")
        writer.begin("calls", 1)
        assert found  # before rows fill the pipe
        assert writer.end() == 0
    assert found == ["export: export.sqlite is locked by another program; waiting for up to 900 s"]


def test_a_part_larger_than_the_cache_waits_for_a_reader_only_at_its_end(tmp_path, other):
    other.execute("INSERT INTO mine VALUES (1), (2)")
    read = other.execute("SELECT * FROM mine")
    read.fetchone()
    with closing(SqliteWriter(tmp_path / "export.sqlite")) as tables:
        tables.ready()
        tables.begin("calls", 1)
        tables._database.execute("CREATE TABLE large (text)")
        tables._database.executemany("INSERT INTO large VALUES (?)", [("x" * 4_000,)] * 2_000)  # the cache has 4 MB
        tables._lock_wait = LockWait(0, "file")
        with pytest.raises(sqlite3.OperationalError):
            tables.end()
        read.fetchall()
        tables.end()
    assert other.execute("SELECT count(*) FROM large").fetchone() == (2_000,)


@pytest.mark.parametrize("frozen", [False, True])
def test_cancellation_does_not_wait_for_the_lock_of_a_database_being_opened(tmp_path, monkeypatch, frozen):
    if frozen:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(futures, "_GRACE", 0.05)

    async def cancelled() -> None:
        loop, simulation = asyncio.get_running_loop(), Simulation()
        async with simulation.client() as client:
            selection = Selection(*client.calls.recent(3_600), datasets=("calls",))
            await client.export.run(selection, tmp_path, format="sqlite", max_requests=1)
            begun, ready = asyncio.Event(), DatabaseTarget.ready

            def noted(self: DatabaseTarget) -> None:
                loop.call_soon_threadsafe(begun.set)
                ready(self)

            monkeypatch.setattr(DatabaseTarget, "ready", noted)
            other = sqlite3.connect(tmp_path / "export.sqlite", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            task = asyncio.create_task(client.export.run(selection, tmp_path, format="sqlite"))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            other.close()

    asyncio.run(cancelled())  # it would take a quarter of an hour
