"""A writer waits while another program locks its database, logs a long wait, and stops when it is cancelled."""

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
from typing import Any

import pytest

from agora_analytics import Selection
from agora_analytics._core import futures
from agora_analytics.export.formats.sqlite import SqliteWriter
from agora_analytics.export.write import lock_wait, writer_process
from agora_analytics.export.write.lock_wait import LockWait
from agora_analytics.export.write.subprocess_writer import SubprocessWriter
from agora_analytics.export.write.target import DatabaseTarget
from agora_analytics.simulator import Simulation


@pytest.fixture
def other_program(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The connection of another program to the database of an export."""
    with closing(sqlite3.connect(tmp_path / "export.sqlite", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE mine (a)")
        yield connection


@pytest.fixture
def on_warning() -> Iterator[Callable[[Callable[[], object]], list[str]]]:
    """Return a function that makes each warning call another function, and returns the list of warnings."""
    handlers: list[logging.Handler] = []
    log = logging.getLogger("agora_analytics")

    def on_warning(react: Callable[[], object]) -> list[str]:
        warnings: list[str] = []

        class ReactingHandler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                warnings.append(record.getMessage())
                react()

        handlers.append(ReactingHandler())
        log.addHandler(handlers[-1])
        return warnings

    yield on_warning
    for handler in handlers:
        log.removeHandler(handler)


def test_a_long_wait_is_logged_once_and_a_short_one_never(monkeypatch, tmp_path, other_program, on_warning):
    monkeypatch.setattr(lock_wait, "_POLL_INTERVAL", 0)
    monkeypatch.setattr(lock_wait, "time", SimpleNamespace(monotonic=count().__next__))  # a second passes at each try
    warnings = on_warning(lambda: None)
    other_program.execute("BEGIN EXCLUSIVE")
    with closing(sqlite3.connect(tmp_path / "export.sqlite", timeout=0)) as mine:
        for seconds, lines in ((9, 0), (60, 1)):
            with pytest.raises(sqlite3.OperationalError):
                LockWait(seconds, "export.sqlite").run(lambda: mine.execute("BEGIN IMMEDIATE"))
            assert len(warnings) == lines
    assert warnings == ["export: export.sqlite is locked by another program; waiting for up to 60 s"]


def test_an_error_other_than_a_lock_is_raised_at_once():
    with closing(sqlite3.connect(":memory:")) as mine, pytest.raises(sqlite3.OperationalError, match="no such table"):
        LockWait(1e9, "file").run(lambda: mine.execute("SELECT * FROM gone"))


def test_a_wait_of_the_writer_process_is_logged_by_its_export(tmp_path, monkeypatch, other_program, on_warning):
    code = "from agora_analytics.export.write import lock_wait; lock_wait._WARN_AFTER = 0; serve()"
    monkeypatch.setattr(writer_process, "_CODE", writer_process._CODE.replace("serve()", code))
    warnings = on_warning(lambda: other_program.execute("ROLLBACK"))
    with closing(SubprocessWriter("sqlite", tmp_path, tmp_path / "state" / "writing")) as writer:
        writer.ready()
        other_program.execute("BEGIN EXCLUSIVE")
        writer.begin("calls", 1)
        assert warnings  # as soon as the part begins
        assert writer.end() == 0
    assert warnings == ["export: export.sqlite is locked by another program; waiting for up to 900 s"]


def test_a_part_larger_than_the_cache_waits_for_a_reader_only_at_its_end(tmp_path, other_program):
    other_program.execute("INSERT INTO mine VALUES (1), (2)")
    unfinished_query = other_program.execute("SELECT * FROM mine")
    unfinished_query.fetchone()
    with closing(SqliteWriter(tmp_path / "export.sqlite")) as tables:
        tables.ready()
        tables.begin("calls", 1)
        tables._database.execute("CREATE TABLE large (text)")
        tables._database.executemany("INSERT INTO large VALUES (?)", [("x" * 4_000,)] * 2_000)  # the cache has 4 MB
        tables._lock_wait = LockWait(0, "file")
        with pytest.raises(sqlite3.OperationalError):
            tables.end()
        unfinished_query.fetchall()
        tables.end()
    assert other_program.execute("SELECT count(*) FROM large").fetchone() == (2_000,)


@pytest.mark.parametrize("frozen", [False, True])
def test_cancellation_does_not_wait_for_the_lock_of_a_database_being_opened(tmp_path, monkeypatch, frozen):
    if frozen:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(futures, "_GRACE", 0.05)

    async def cancel() -> None:
        loop, simulation = asyncio.get_running_loop(), Simulation()
        async with simulation.client() as client:
            selection = Selection(*client.calls.recent(3_600), datasets=("calls",))
            await client.export.run(selection, tmp_path, format="sqlite", max_requests=1)
            opening, ready = asyncio.Event(), DatabaseTarget.ready

            def signal_and_open(self: DatabaseTarget, *parts: Any) -> None:
                loop.call_soon_threadsafe(opening.set)
                ready(self, *parts)

            monkeypatch.setattr(DatabaseTarget, "ready", signal_and_open)
            other_program = sqlite3.connect(tmp_path / "export.sqlite", isolation_level=None)
            other_program.execute("BEGIN EXCLUSIVE")
            task = asyncio.create_task(client.export.run(selection, tmp_path, format="sqlite"))
            async with asyncio.timeout(60):
                await opening.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            other_program.close()

    asyncio.run(cancel())  # without the cancellation, the run waits for 15 minutes
