"""What the state stores for recovery: adopted parts, lost rows, the remote copy, and the database file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import attrs
import pytest

from agora_analytics import ExportError
from agora_analytics.export.state import sqlite_store
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.recovery_tables import OriginalPart
from agora_analytics.export.state.slices import SpanStatus
from agora_analytics.export.state.staging import Part, PartInfo, Partition, SerializedRows
from agora_analytics.spans import Span


def test_a_cleared_state_equals_a_new_one(state, reopen):
    with state.transaction():
        state.save_settings({"a": 1})
        state.stage("app", 1, SerializedRows("calls", 1, b"[1]"))
        state.mark_span("app", "calls", Span(0, 9), SpanStatus.READ)
        state.add_misfits("app", "calls", 1, "odd")
    with state.transaction():
        state.stage("app", 2, SerializedRows("calls", 1, b"[2]"))
        state.clear()
        state.stage("app", 2, SerializedRows("calls", 1, b"[33]"))  # of a partition that had an id before
    assert state.staged_bytes == dict(state.unsealed_bytes()) == {Partition("calls", "app", 2): 4}
    reopened = reopen()
    assert (reopened.settings(), reopened.all_spans(), reopened.misfits()) == ({}, [], [])
    assert reopened.counts() == (0, 0, {"calls": 1})


def test_adopted_parts_are_known_and_later_rows_wait(state, reopen):
    info = PartInfo(rows=2, bytes=5, sha256="a", mark="")
    one, provisional = Part(7, "calls", "app", 1, 3), Part(9, "calls", "app", 1, 0)
    with state.transaction():
        state.adopt_part(one, info)
        state.adopt_part(provisional, None)
    reopened = reopen()
    assert reopened.known_parts() == [(provisional, None), (one, info)]  # the file of the provisional part may exist
    with reopened.transaction():
        assert reopened.sealed_parts() == []
        assert [part for part, _ in reopened.known_parts()] == [provisional, one]
        reopened.stage("app", 1, SerializedRows("calls", 1, b"[1]"))
        later = reopened.begin_part(Partition("calls", "app", 1))
    assert (later.number, later.id > 9) == (4, True)
    assert dict(reopened.unsealed_bytes()) == {Partition("calls", "app", 1): 3}


def test_lost_rows_are_reported_together_and_their_part_is_removed(state):
    info = PartInfo(rows=5, bytes=5, sha256="a", mark="")
    parts = [Part(number, "calls", "app", 1, number) for number in (1, 2, 3)]
    with state.transaction():
        for part in parts:
            state.adopt_part(part, info)
        state.record_lost_rows(parts[0], 5, "gone", None)
        state.record_lost_rows(parts[1], 5, "gone", None)
        state.record_lost_rows(parts[2], 2, "altered", attrs.evolve(info, rows=3))
    assert sorted(state.lost()) == [("app", "calls", 1, 2, "altered"), ("app", "calls", 1, 10, "gone")]
    assert state.known_parts() == [(parts[2], attrs.evolve(info, rows=3))]


def test_the_number_of_a_lost_file_is_not_reused(state):
    info = PartInfo(rows=5, bytes=5, sha256="a", mark="")
    part = Part(1, "calls", "app", 1, 1)
    with state.transaction():
        state.adopt_part(part, info)
        state.record_lost_file(part, info, "gone", None)
        later = state.begin_part(part.partition)
        (original,) = state.originals()
        state.restore_part(original, "new")
    assert (later.number, state.known_parts()) == (2, [(part, attrs.evolve(info, mark="new"))])


def test_a_restored_file_replaces_no_part_started_since(state):
    """In a state that was rebuilt from a manifest, only the original tells which ids were used."""
    info = PartInfo(rows=1, bytes=3, sha256="a", mark="")
    gone = Part(1, "calls", "app", 1, 2)
    with state.transaction():
        state.add_original(OriginalPart(gone, info, "its file is gone"))
        state.stage("app", 2, SerializedRows("calls", 1, b"[1]"))
        started = state.begin_part(Partition("calls", "app", 2))
        state.seal_part(started, 1, 3)
        state.finish_part(started, info)
        state.restore_part(state.originals()[0], "mark")
    assert {part for part, _ in state.known_parts()} == {gone, started}


def test_only_the_last_copy_beside_the_files_is_known(state, reopen):
    assert state.remote_copy() is None
    for run in (3, 2):
        with state.transaction():
            state.set_remote_copy(run, f"mark {run}")
    assert reopen().remote_copy() == (2, "mark 2")


def test_the_last_content_of_a_database_is_known_until_it_is_opened(state, reopen):
    for size in (5, 6):
        with state.transaction():
            state.set_database(PartInfo(rows=0, bytes=size, sha256="a", mark="b"))
    assert reopen().database() == PartInfo(rows=0, bytes=6, sha256="a", mark="b")
    state = reopen()
    with state.transaction():
        state.set_database(None)
    assert reopen().database() is None


def test_a_state_is_replaced_while_its_lock_is_held(reopen, tmp_path):
    state = reopen()
    with state.transaction():
        state.save_settings({"format": "csv"})
        state.stage("app", 1, SerializedRows("calls", 1, b"rows"))
    state.copy_to(tmp_path / "copy")
    with state.transaction():
        state.clear()
    before = (tmp_path / "state.db").stat().st_ino
    state.replace_from(tmp_path / "copy")
    assert (state.settings(), state.staged_bytes) == ({"format": "csv"}, {Partition("calls", "app", 1): 4})
    assert (tmp_path / "state.db").stat().st_ino == before  # a process that waits for the lock has this file open
    assert not (tmp_path / "copy").exists()
    with pytest.raises(ExportError, match="running already"):
        ExportState(tmp_path / "state.db", "place")
    assert reopen().settings() == {"format": "csv"}


def test_a_damaged_state_is_renamed_once_by_concurrent_processes(tmp_path):
    path = tmp_path / "state.db"
    path.write_bytes(b"hello")
    state = ExportState.replace_damaged(path, "place")
    with pytest.raises(ExportError, match="running already"):
        ExportState.replace_damaged(path, "place")  # as after finding the damage before the file was renamed
    assert (tmp_path / "state.db.damaged").read_bytes() == b"hello"
    assert path.exists()
    state.close()


def test_a_process_gives_up_if_another_takes_too_long_to_rename_a_damaged_state(tmp_path, monkeypatch):
    path = tmp_path / "state.db"
    path.write_bytes(b"hello")
    monkeypatch.setattr(sqlite_store, "_REPLACE_TIMEOUT", 0.0)
    with ExportState._replacement_lock(path, "place"), pytest.raises(ExportError, match="running already"):
        ExportState.replace_damaged(path, "place")
    assert path.read_bytes() == b"hello"
    ExportState.replace_damaged(path, "place").close()


@pytest.mark.real_time
def test_a_process_that_waited_for_another_opens_the_state_that_replaced_the_damaged_one(tmp_path):
    path = tmp_path / "state.db"
    path.write_bytes(b"hello")
    with ThreadPoolExecutor(1) as threads:
        with ExportState._replacement_lock(path, "place"):
            waiting = threads.submit(ExportState.replace_damaged, path, "place")
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            path.rename(tmp_path / "state.db.damaged")
            with closing(ExportState(path, "place")) as replacement, replacement.transaction():
                replacement.save_settings({"format": "csv"})
        with closing(waiting.result()) as state:
            assert state.settings() == {"format": "csv"}
    assert (tmp_path / "state.db.damaged").read_bytes() == b"hello"
