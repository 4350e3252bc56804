"""The writer process: what it inherits, which locks it respects, and what it closes when it fails."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.export_runs import export, last_hours, remove_rate_limits

from agora_analytics import ExportError
from agora_analytics._core import futures
from agora_analytics._core.futures import wait_until_done
from agora_analytics.export.formats import FILE_FORMATS
from agora_analytics.export.formats.base import FormatWriter
from agora_analytics.export.formats.sqlite import _LOCK_TIMEOUT, SqliteWriter
from agora_analytics.export.write import writer, writer_process
from agora_analytics.export.write.lock_wait import LockWait
from agora_analytics.export.write.subprocess_writer import SubprocessWriter, open_writer
from agora_analytics.export.write.writer import WriterError, error_kind, open_in_process, writer_lock
from agora_analytics.export.write.writer_process import _ERRORS

pytestmark = pytest.mark.process

PRINT_FLAGS = """
import sys
from pathlib import Path
from agora_analytics.export.write.subprocess_writer import SubprocessWriter
writer = SubprocessWriter("jsonl", Path(sys.argv[1]), Path(sys.argv[1]) / "s")
writer.ready()
print(*writer._channel._process._process.args[:2])
writer.close()
"""


@pytest.fixture
def start_writer(tmp_path: Path, monkeypatch):
    """Return a function that starts and ends a writer process, and returns its command line and environment."""
    started: list[tuple[list[str], dict[str, str]]] = []
    real = subprocess.Popen

    def record(command, **options):
        started.append((command, options["env"]))
        return real(command, **options)

    monkeypatch.setattr("agora_analytics.export.write.writer_process.subprocess.Popen", record)

    def start() -> tuple[list[str], dict[str, str]]:
        writer = SubprocessWriter("jsonl", tmp_path, tmp_path / ".state" / "scratch")
        try:
            writer.ready()
        finally:
            writer.close()
        return started[-1]

    return start


def test_the_process_inherits_variables_by_name_and_no_secret(start_writer, monkeypatch):
    for name in ("AGORA_CUSTOMER_SECRET", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "HTTPS_PROXY", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("TZ", "UTC")
    _, environment = start_writer()
    assert "s3cret" not in environment.values()
    assert (environment["PATH"], environment["TZ"]) == (os.environ["PATH"], "UTC")


def test_sys_path_may_hold_entries_that_are_no_text(start_writer, monkeypatch):
    monkeypatch.setattr(sys, "path", [Path("/nowhere"), None, "a\nline", "\udcff", *sys.path])
    start_writer()


def test_the_process_is_isolated_if_its_parent_is(tmp_path: Path):
    code = f"import sys; sys.path[:] = {sys.path!r}\n{PRINT_FLAGS}"
    for flags, first in ((["-I"], "-I"), ([], "-c")):
        done = subprocess.run(
            [sys.executable, *flags, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.stdout.split()[-1:] == [first], done.stderr


def test_the_process_works_where_pipes_cannot_be_enlarged(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def fail(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(fcntl, "fcntl", fail)
    writer = open_writer("jsonl", tmp_path, tmp_path / ".state" / "scratch")
    assert isinstance(writer, SubprocessWriter)
    writer.close()


def test_a_process_that_dies_is_reported_and_one_that_cannot_start_is_replaced(tmp_path, monkeypatch):
    def fail_to_start(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    scratch = tmp_path / ".state" / "scratch"
    with monkeypatch.context() as patched:
        patched.setattr("agora_analytics.export.write.writer_process.subprocess.Popen", fail_to_start)
        with closing(open_writer("jsonl", tmp_path, scratch)) as writer:
            assert isinstance(writer, FormatWriter)
    monkeypatch.setattr(writer_process, "_CODE", "raise SystemExit(5)")
    with closing(open_writer("jsonl", tmp_path, scratch)) as writer, pytest.raises(WriterError, match="exit code 5"):
        writer.ready()


def test_a_process_that_dies_while_it_replies_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_process, "_CODE", "import os; os.write(1, b'[0, \"rea'); os._exit(5)")
    scratch = tmp_path / ".state" / "scratch"
    # What the thread that reads the replies raises fails the test.
    with closing(open_writer("jsonl", tmp_path, scratch)) as writer, pytest.raises(WriterError, match="exit code 5"):
        writer.ready()


# Locks of others


@pytest.fixture
def in_process_writer(monkeypatch):
    """Make exports write in the process of the test: a frozen program has no Python to start."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)


async def test_a_writer_that_is_still_running_is_reported(tmp_path, simulation, in_process_writer, monkeypatch):
    remove_rate_limits(simulation)
    await export(simulation, last_hours(1), tmp_path, max_requests=2)
    monkeypatch.setattr(writer, "_LOCK_TIMEOUT", 0.0)
    with closing(writer_lock(tmp_path / ".agora-export")):
        with pytest.raises(ExportError, match="another process still writes there") as error:
            await export(simulation, last_hours(1), tmp_path)
        assert error.value.kind == "running"
    assert (await export(simulation, last_hours(1), tmp_path)).complete


def test_a_reader_of_the_database_is_waited_for_and_reported(tmp_path):
    assert _LOCK_TIMEOUT >= 600
    path = tmp_path / "export.sqlite"
    with closing(SqliteWriter(path)) as tables:
        tables.ready()
        tables.begin("calls", 1)
        tables.end()
    with closing(sqlite3.connect(path)) as reader:
        unfinished_query = reader.execute("SELECT * FROM sqlite_master")
        with closing(SqliteWriter(path)) as tables:
            tables.begin("calls", 2)
            lock_wait, tables._lock_wait = tables._lock_wait, LockWait(0, "file")
            with pytest.raises(sqlite3.OperationalError) as error:
                tables.end()
            tables._lock_wait = lock_wait
            assert error_kind(error.value) == "running"
            unfinished_query.fetchall()
            tables.end()


def test_a_duckdb_opened_by_another_process_is_reported(tmp_path):
    path = str(tmp_path / "export.duckdb")
    code = f"import duckdb; one = duckdb.connect({path!r}); print('open', flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as other:
        assert other.stdout
        assert other.stdout.readline()
        with pytest.raises(Exception, match="lock") as error:
            open_in_process("duckdb", tmp_path, tmp_path / ".state" / "scratch")
        other.communicate(b"\n")
    assert error_kind(error.value) == "running"


@pytest.mark.parametrize(("kind", "error"), _ERRORS.items())
def test_an_error_of_the_process_keeps_its_kind(kind, error):
    assert error_kind(error("it failed")) == kind


# What is closed after a failure


@pytest.fixture
def is_closed(monkeypatch):
    """Return a function: whether all files that were opened by a path, and all SQLite databases, are closed."""
    files, databases = [], []
    open_, connect = Path.open, sqlite3.connect
    monkeypatch.setattr(Path, "open", lambda *args, **kwargs: files.append(open_(*args, **kwargs)) or files[-1])
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **kwargs: databases.append(connect(*args, **kwargs)) or databases[-1]
    )

    def is_open(database: sqlite3.Connection) -> bool:
        try:
            database.execute("PRAGMA user_version")
        except sqlite3.ProgrammingError:
            return False
        except sqlite3.Error:
            return True
        return True

    def is_closed() -> bool:
        assert files or databases
        return all(file.closed for file in files) and not any(map(is_open, databases))

    return is_closed


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl.gz"])
def test_a_file_that_cannot_be_started_is_closed(tmp_path, is_closed, form):
    invalid = SimpleNamespace(columns=[], names=["\udcff", 5], name=None, row=5)  # a schema that every format rejects
    with pytest.raises((TypeError, UnicodeError, AttributeError)):
        FILE_FORMATS[form].open(tmp_path)._open_file(tmp_path / "1", invalid)
    assert is_closed()


def test_a_writer_of_an_invalid_database_releases_its_lock(tmp_path, is_closed):
    (tmp_path / "export.sqlite").write_bytes(b"no database" * 100)
    with (
        pytest.raises(sqlite3.DatabaseError),
        closing(open_in_process("sqlite", tmp_path, tmp_path / "s" / "scratch")) as writer,
    ):
        writer.ready()
    assert is_closed()


@pytest.fixture
def subprocess_writer() -> None:
    """Exports write in a process of their own unless configured otherwise."""


@pytest.mark.parametrize("where", ["subprocess_writer", "in_process_writer"])
def test_cancellation_does_not_wait_for_readers_of_the_database(tmp_path, monkeypatch, request, where):
    request.getfixturevalue(where)
    monkeypatch.setattr(futures, "_GRACE", 0.05)
    scratch = tmp_path / "scratch"
    with closing(sqlite3.connect(tmp_path / "export.sqlite")) as other:
        other.execute("CREATE TABLE mine (a)")
        writer = open_writer("sqlite", tmp_path, scratch)
        writer.ready()
        other.execute("BEGIN EXCLUSIVE")  # so that the writer can end no part

        def write() -> None:
            writer.begin("calls", 1)
            writer.end()

        async def cancel() -> None:
            loop = asyncio.get_running_loop()
            ending = asyncio.create_task(wait_until_done(loop.run_in_executor(None, write), writer.abort))
            await asyncio.sleep(0)
            ending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ending

        asyncio.run(cancel())  # without the cancellation, the writer waits for 15 minutes
    with pytest.raises(WriterError, match="was stopped") if where == "subprocess_writer" else nullcontext():
        writer.close()
