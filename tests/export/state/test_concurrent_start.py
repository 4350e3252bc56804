"""Several processes that start a new export at the same time: one runs, and the others report that."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agora_analytics import ExportError
from agora_analytics.export.state import sqlite_store
from agora_analytics.export.state.export_state import ExportState

ROUNDS, PROCESSES = 60, 3


def open_at_once(path: Path, barrier: threading.Barrier) -> ExportState | str:
    barrier.wait()
    try:
        return ExportState(path, "place")
    except ExportError as error:
        return str(error)


def test_one_of_several_concurrent_starts_of_a_new_export_runs(tmp_path):
    with ThreadPoolExecutor(PROCESSES) as threads:
        for number in range(ROUNDS):
            path, barrier = tmp_path / f"{number}.db", threading.Barrier(PROCESSES)
            found = list(threads.map(open_at_once, [path] * PROCESSES, [barrier] * PROCESSES))
            running = [one for one in found if isinstance(one, ExportState)]
            for one in running:
                one.close()
            assert len(running) == 1
            assert all("is running already" in one for one in found if isinstance(one, str))


class SleepClock:
    """A `time` module whose time passes only by sleeping, so that a busy machine causes no timeout."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.on_sleep: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        time.sleep(seconds / 20)
        self.on_sleep()


@pytest.fixture(autouse=True)
def sleep_clock(monkeypatch) -> SleepClock:
    sleep_clock = SleepClock()
    monkeypatch.setattr(sqlite_store, "time", sleep_clock)
    return sleep_clock


def test_a_process_that_only_opens_the_state_is_not_reported_as_running(tmp_path, sleep_clock):
    ExportState(tmp_path / "state.db", "place").close()
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM settings").fetchall()
    sleep_clock.on_sleep = other.close
    ExportState(tmp_path / "state.db", "place").close()
    assert sleep_clock.slept > 0


def test_a_running_export_is_reported_after_a_short_wait(tmp_path, sleep_clock):
    running = ExportState(tmp_path / "state.db", "place")
    with pytest.raises(ExportError, match="is running already"):
        ExportState(tmp_path / "state.db", "place")
    assert 0.5 < sleep_clock.slept < 0.6
    running.close()
    ExportState(tmp_path / "state.db", "place").close()
