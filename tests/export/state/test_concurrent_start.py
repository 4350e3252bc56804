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


def test_of_several_that_begin_one_new_export_at_once_one_runs(tmp_path):
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


def test_one_that_is_met_while_it_opens_the_file_too_is_no_export_that_runs(tmp_path, naps):
    ExportState(tmp_path / "state.db", "place").close()
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM settings").fetchall()
    naps.wake = other.close  # it gives way
    ExportState(tmp_path / "state.db", "place").close()
    assert naps.slept > 0


def test_an_export_that_runs_is_told_after_a_moment(tmp_path, naps):
    running = ExportState(tmp_path / "state.db", "place")
    with pytest.raises(ExportError, match="is running already"):
        ExportState(tmp_path / "state.db", "place")
    assert 0.5 < naps.slept < 0.6
    running.close()
    ExportState(tmp_path / "state.db", "place").close()
