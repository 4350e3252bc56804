"""A new export that several begin at the same moment: one of them runs, and only the others are told so."""

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

ROUNDS, TOGETHER = 60, 3


def begin(path: Path, together: threading.Barrier) -> ExportState | str:
    together.wait()
    try:
        return ExportState(path, "place")
    except ExportError as error:
        return str(error)


def test_one_of_several_concurrent_starts_of_a_new_export_runs(tmp_path):
    with ThreadPoolExecutor(TOGETHER) as threads:
        for number in range(ROUNDS):
            path, together = tmp_path / f"{number}.db", threading.Barrier(TOGETHER)
            found = list(threads.map(begin, [path] * TOGETHER, [together] * TOGETHER))
            running = [one for one in found if isinstance(one, ExportState)]
            for one in running:
                one.close()
            assert len(running) == 1
            assert all("is running already" in one for one in found if isinstance(one, str))


class Naps:
    """A `time` that passes only while someone sleeps: a busy machine makes nothing seem to run."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.wake: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        time.sleep(seconds / 20)
        self.wake()


@pytest.fixture(autouse=True)
def naps(monkeypatch) -> Naps:
    naps = Naps()
    monkeypatch.setattr(sqlite_store, "time", naps)
    return naps


def test_a_process_that_only_opens_the_state_is_not_reported_as_running(tmp_path, naps):
    ExportState(tmp_path / "state.db", "place").close()
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM settings").fetchall()
    naps.wake = other.close  # it gives way
    ExportState(tmp_path / "state.db", "place").close()
    assert naps.slept > 0


def test_a_running_export_is_reported_after_a_short_wait(tmp_path, naps):
    running = ExportState(tmp_path / "state.db", "place")
    with pytest.raises(ExportError, match="is running already"):
        ExportState(tmp_path / "state.db", "place")
    assert 0.5 < naps.slept < 0.6
    running.close()
    ExportState(tmp_path / "state.db", "place").close()
