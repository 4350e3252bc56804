"""What an export takes as given: parts, rows that are gone, the copy beside the files, the file of a database."""

from __future__ import annotations

import attrs
import pytest

from agora_analytics import ExportError
from agora_analytics.export.state import sqlite_store
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.recovery_tables import OriginalPart
from agora_analytics.export.state.slices import SpanStatus
from agora_analytics.export.state.staging import Part, PartInfo, Partition, SerializedRows
from agora_analytics.spans import Span


def test_a_cleared_state_equals_a_new_one(state, opened):
    with state.transaction():
        state.save_settings({"a": 1})
        state.stage("app", 1, SerializedRows("calls", 1, b"[1]"))
        state.mark_span("app", "calls", Span(0, 9), SpanStatus.READ)
        state.add_misfits("app", "calls", 1, "odd")
    with state.transaction():
        state.stage("app", 2, SerializedRows("calls", 1, b"[2]"))
        state.clear()
        state.stage("app", 2, SerializedRows("calls", 1, b"[33]"))  # of a group that had a number
    assert state.staged_bytes == dict(state.unsealed_bytes()) == {Partition("calls", "app", 2): 4}
    again = opened()
    assert (again.settings(), again.all_spans(), again.misfits()) == ({}, [], [])
    assert again.counts() == (0, 0, {"calls": 1})


def test_adopted_parts_are_known_and_later_rows_wait(state, opened):
    facts = PartInfo(rows=2, bytes=5, sha256="a", mark="")
    one, provisional = Part(7, "calls", "app", 1, 3), Part(9, "calls", "app", 1, 0)
    with state.transaction():
        state.adopt_part(one, facts)
        state.adopt_part(provisional, None)
    again = opened()
    assert again.known_parts() == [(provisional, None), (one, facts)]  # what is provisional may be there or not
    with again.transaction():
        assert again.sealed_parts() == []
        assert [part for part, _ in again.known_parts()] == [provisional, one]
        again.stage("app", 1, SerializedRows("calls", 1, b"[1]"))
        later = again.begin_part(Partition("calls", "app", 1))
    assert (later.number, later.id > 9) == (4, True)
    assert dict(again.unsealed_bytes()) == {Partition("calls", "app", 1): 3}


def test_lost_rows_are_reported_together_and_their_part_is_removed(state):
    facts = PartInfo(rows=5, bytes=5, sha256="a", mark="")
    parts = [Part(number, "calls", "app", 1, number) for number in (1, 2, 3)]
    with state.transaction():
        for part in parts:
            state.adopt_part(part, facts)
        state.record_lost_rows(parts[0], 5, "gone", None)
        state.record_lost_rows(parts[1], 5, "gone", None)
        state.record_lost_rows(parts[2], 2, "altered", attrs.evolve(facts, rows=3))
    assert sorted(state.lost()) == [("app", "calls", 1, 2, "altered"), ("app", "calls", 1, 10, "gone")]
    assert state.known_parts() == [(parts[2], attrs.evolve(facts, rows=3))]


def test_the_number_of_a_lost_file_is_not_reused(state):
    facts = PartInfo(rows=5, bytes=5, sha256="a", mark="")
    part = Part(1, "calls", "app", 1, 1)
    with state.transaction():
        state.adopt_part(part, facts)
        state.record_lost_file(part, facts, "gone", None)
        later = state.begin_part(part.partition)
        (original,) = state.originals()
        state.restore_part(original, "new")
    assert (later.number, state.known_parts()) == (2, [(part, attrs.evolve(facts, mark="new"))])


def test_a_restored_file_replaces_no_part_started_since(state):
    """Also in a state that was made of a manifest, where nothing else tells which numbers were given."""
    facts = PartInfo(rows=1, bytes=3, sha256="a", mark="")
    gone = Part(1, "calls", "app", 1, 2)
    with state.transaction():
        state.add_original(OriginalPart(gone, facts, "its file is gone"))
        state.stage("app", 2, SerializedRows("calls", 1, b"[1]"))
        begun = state.begin_part(Partition("calls", "app", 2))
        state.seal_part(begun, 1, 3)
        state.finish_part(begun, facts)
        state.restore_part(state.originals()[0], "mark")
    assert {part for part, _ in state.known_parts()} == {gone, begun}


def test_only_the_last_copy_beside_the_files_is_known(state, opened):
    assert state.remote_copy() is None
    for run in (3, 2):
        with state.transaction():
            state.set_remote_copy(run, f"mark {run}")
    assert opened().remote_copy() == (2, "mark 2")


def test_the_last_content_of_a_database_is_known_until_it_is_opened(state, opened):
    for size in (5, 6):
        with state.transaction():
            state.set_database(PartInfo(rows=0, bytes=size, sha256="a", mark="b"))
    assert opened().database() == PartInfo(rows=0, bytes=6, sha256="a", mark="b")
    state = opened()
    with state.transaction():
        state.set_database(None)
    assert opened().database() is None


def test_a_state_is_replaced_while_its_lock_is_held(opened, tmp_path):
    state = opened()
    with state.transaction():
        state.save_settings({"format": "csv"})
        state.stage("app", 1, SerializedRows("calls", 1, b"rows"))
    state.copy_to(tmp_path / "copy")
    with state.transaction():
        state.clear()
    before = (tmp_path / "state.db").stat().st_ino
    state.replace_from(tmp_path / "copy")
    assert (state.settings(), state.staged_bytes) == ({"format": "csv"}, {Partition("calls", "app", 1): 4})
    assert (tmp_path / "state.db").stat().st_ino == before  # who opened it before would lock another
    assert not (tmp_path / "copy").exists()
    with pytest.raises(ExportError, match="running already"):
        ExportState(tmp_path / "state.db", "place")
    assert opened().settings() == {"format": "csv"}


def test_a_damaged_state_is_renamed_once_by_concurrent_processes(tmp_path):
    path = tmp_path / "state.db"
    path.write_bytes(b"hello")
    state = ExportState.replace_damaged(path, "place")
    with pytest.raises(ExportError, match="running already"):
        ExportState.replace_damaged(path, "place")  # it found the damage before the other had renamed it
    assert (tmp_path / "state.db.damaged").read_bytes() == b"hello"
    assert path.exists()
    state.close()


def test_a_process_waits_for_another_that_renames_a_damaged_state(tmp_path, monkeypatch):
    path = tmp_path / "state.db"
    path.write_bytes(b"hello")
    monkeypatch.setattr(sqlite_store, "_REPLACE_TIMEOUT", 0.0)
    with ExportState._replacement_lock(path, "place"), pytest.raises(ExportError, match="running already"):
        ExportState.replace_damaged(path, "place")
    assert path.read_bytes() == b"hello"
    ExportState.replace_damaged(path, "place").close()
