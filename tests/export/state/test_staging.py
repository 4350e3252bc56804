"""Staged rows and parts in the state of an export, also after a crash between two transactions.

`reopen` simulates the crash: it opens the file again.
"""

from __future__ import annotations

import pytest

from agora_analytics import ExportError
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.slices import SpanStatus
from agora_analytics.export.state.staging import Part, PartInfo, Partition, SerializedRows, serialized
from agora_analytics.export.write.column_batch import calls as rows_of
from agora_analytics.export.write.column_batch import deserialize
from agora_analytics.models import Call
from agora_analytics.spans import Span

FIRST_DAY = Partition("calls", "app", 1)
SECOND_DAY = Partition("calls", "app", 2)
NO_LIMIT = 10**9


class Crash(BaseException):
    """The process crashes within a transaction."""


def crash(state: ExportState, *texts: str) -> None:
    """Stage rows and mark a span in a transaction that fails after the rows were written to the database."""

    def change() -> None:
        with state.transaction():
            for text in texts:
                state.stage("app", 1, SerializedRows("calls", 1, text.encode()))
            state.mark_span("app", "calls", Span(0, 100), SpanStatus.READ)  # writes the rows that were staged before
            state.stage("app", 1, SerializedRows("calls", 1, b"[not written]"))
            raise Crash

    with pytest.raises(Crash):
        change()


def stage(state: ExportState, *texts: str, partition: Partition = FIRST_DAY, **options) -> None:
    """Stage rows, each in a transaction of its own."""
    for text in texts:
        with state.transaction():
            state.stage(partition.app, partition.day, SerializedRows(partition.dataset, 1, text.encode()), **options)


def read_rows(state: ExportState, part: Part, after: int = 0, max_bytes: int = NO_LIMIT) -> list[str]:
    found = state.read_rows(part, after, max_bytes)
    return [] if found is None else [payload.decode() for payload in found.payloads]


def seal(state: ExportState, partition: Partition = FIRST_DAY) -> Part:
    """Begin a part of a partition, and seal it with all rows that are staged."""
    with state.transaction():
        part = state.begin_part(partition)
    found = state.read_rows(part, 0, NO_LIMIT)
    with state.transaction():
        state.seal_part(part, found.last, found.size)
    return part


def unsealed_bytes(state: ExportState) -> dict[Partition, int]:
    """Return the staged bytes by partition, which the database and the counter in memory must agree on."""
    stored = dict(state.unsealed_bytes())
    assert {partition: size for partition, size in state.staged_bytes.items() if size} == stored
    return stored


# Transactions


def test_rows_after_a_failed_transaction_are_kept_and_its_own_are_discarded(state, reopen):
    crash(state, "[1]")
    stage(state, "[2]")
    assert dict(state.unsealed_bytes()) == {FIRST_DAY: 3}
    reopened = reopen()
    assert unsealed_bytes(reopened) == {FIRST_DAY: 3}
    assert read_rows(reopened, seal(reopened)) == ["[2]"]


def test_a_transaction_is_applied_whole_or_not_at_all(state, reopen):
    crash(state, "[1]")
    reopened = reopen()
    assert (reopened.spans("app", "calls", SpanStatus.READ), reopened.unsealed_bytes()) == ((), [])


def test_one_process_at_a_time_holds_the_state(state, tmp_path):
    with pytest.raises(ExportError, match="running already"):
        ExportState(tmp_path / "state.db", "place")


# Rows and parts


def test_rows_are_staged_in_order_for_their_part(state, reopen):
    with state.transaction():
        for text in ("[1]", "[2]"):
            state.stage("app", 1, SerializedRows("calls", 1, text.encode()))
        state.stage("app", 2, SerializedRows("calls", 1, b"[300]"))
        state.stage("app", 1, SerializedRows("calls", 0, b"[]"))
    stage(state, "[4]")
    assert unsealed_bytes(state) == {FIRST_DAY: 9, SECOND_DAY: 5}
    reopened = reopen()
    assert unsealed_bytes(reopened) == {FIRST_DAY: 9, SECOND_DAY: 5}
    assert read_rows(reopened, seal(reopened)) == ["[1]", "[2]", "[4]"]
    assert read_rows(reopened, seal(reopened, SECOND_DAY)) == ["[300]"]


def test_a_part_is_read_in_batches_of_limited_bytes(state):
    stage(state, *"abcdefg")
    with state.transaction():
        part = state.begin_part(FIRST_DAY)
    found, after = [], 0
    while (some := state.read_rows(part, after, 3)) is not None:
        found.append((b"".join(some.payloads), some.size))
        after = some.last
    assert found == [(b"abc", 3), (b"def", 3), (b"g", 1)]


def test_a_part_written_again_has_the_same_rows(state, reopen):
    stage(state, "[1]", "[2]")
    part = seal(state)
    stage(state, "[3]")
    reopened = reopen()
    assert reopened.sealed_parts() == [part]
    assert read_rows(reopened, part) == ["[1]", "[2]"]
    assert unsealed_bytes(reopened) == {FIRST_DAY: 3}


def test_rows_staged_between_seal_and_end_of_a_part_wait_for_the_next(state, reopen):
    stage(state, "[1]")
    part = seal(state)
    stage(state, "[2]")
    with state.transaction():
        state.finish_part(part, PartInfo(rows=1))
    assert unsealed_bytes(state) == {FIRST_DAY: 3}
    reopened = reopen()
    assert reopened.sealed_parts() == []
    assert unsealed_bytes(reopened) == {FIRST_DAY: 3}
    assert read_rows(reopened, seal(reopened)) == ["[2]"]


def test_ending_a_part_removes_no_row_of_another_and_no_provisional_row(state):
    stage(state, "[1]")
    stage(state, "[2]", partition=SECOND_DAY)
    stage(state, "[3]", source="calls", provisional=True)
    stage(state, "[4]")
    part = seal(state)
    with state.transaction():
        state.finish_part(part, PartInfo(rows=2))
    assert unsealed_bytes(state) == {SECOND_DAY: 3}
    assert state.provisional_rows() == 1


def test_rows_of_the_part_in_progress_do_not_count_as_waiting(state, reopen):
    stage(state, "[1]")
    first = seal(state)
    with state.transaction():
        state.finish_part(first, PartInfo(rows=1))
    stage(state, "[2]")
    second = seal(state)
    stage(state, "[33]")
    assert unsealed_bytes(state) == {FIRST_DAY: 4}
    reopened = reopen()
    assert unsealed_bytes(reopened) == {FIRST_DAY: 4}
    assert reopened.sealed_parts() == [second]
    assert read_rows(reopened, second) == ["[2]"]


def test_a_part_that_was_not_sealed_does_not_exist(state, reopen):
    stage(state, "[1]")
    with state.transaction():
        part = state.begin_part(FIRST_DAY)
    reopened = reopen()
    with reopened.transaction():
        assert reopened.sealed_parts() == []
    assert unsealed_bytes(reopened) == {FIRST_DAY: 3}
    with reopened.transaction():
        other = reopened.begin_part(FIRST_DAY)
    assert other.id > part.id
    assert read_rows(reopened, other) == ["[1]"]


def test_parts_of_a_group_are_numbered_from_one_with_unique_ids(state):
    with state.transaction():
        parts = [state.begin_part(partition) for partition in (FIRST_DAY, SECOND_DAY, FIRST_DAY, FIRST_DAY)]
    assert [(part.partition, part.number) for part in parts] == [
        (FIRST_DAY, 1),
        (SECOND_DAY, 1),
        (FIRST_DAY, 2),
        (FIRST_DAY, 3),
    ]
    assert len({part.id for part in parts}) == 4


def test_written_parts_are_listed_in_order_with_their_content(state):
    info = PartInfo(rows=2, bytes=99, sha256="ab")
    for partition in (SECOND_DAY, FIRST_DAY):
        stage(state, "[1]", "[2]", partition=partition)
        part = seal(state, partition)
        with state.transaction():
            state.finish_part(part, info)
    stage(state, "[3]")
    seal(state)  # but do not write it
    assert [(part.partition, part.number, written) for part, written in state.parts()] == [
        (FIRST_DAY, 1, info),
        (SECOND_DAY, 1, info),
    ]


def test_provisional_rows_are_withdrawn_only_by_their_source(state):
    first, second = ([Call(call_id=name, created_ts=86_400)] for name in ("a", "b"))
    with state.transaction():
        for source, found in (("one", first), ("two", second), ("one", second)):
            state.stage("app", 1, serialized(rows_of("app", found)), source=source, provisional=True)
        state.stage("app", 1, SerializedRows("calls", 1, b"[1]"), source="one")
    assert (state.provisional_rows(), unsealed_bytes(state)) == (3, {FIRST_DAY: 3})
    with state.transaction():
        taken = state.take_provisional("one")
    assert [(app, day, list(batch.column("call_id"))) for app, day, batch in taken] == [
        ("app", 1, ["a"]),
        ("app", 1, ["b"]),
    ]
    assert state.provisional_rows() == 1
    with state.transaction():
        assert state.take_provisional("one") == []
    assert unsealed_bytes(state) == {FIRST_DAY: 3}


def test_provisional_rows_are_part_0_of_their_day_until_none_are_left(state):
    stage(state, "[1]", "[2]", source="calls", provisional=True)
    stage(state, "[3]")
    with state.transaction():
        full, empty = state.provisional_parts()
    assert [(part.partition, part.number) for part in full] == [(FIRST_DAY, 0)]
    assert empty == []
    assert read_rows(state, full[0]) == ["[1]", "[2]"]
    with state.transaction():
        state.finish_part(full[0], PartInfo(rows=2))
    assert state.provisional_rows() == 2  # they stay staged until their source replaces them
    with state.transaction():
        assert state.provisional_parts() == (full, [])
    with state.transaction():
        state._execute("DELETE FROM staged WHERE provisional")
    with state.transaction():
        assert state.provisional_parts() == ([], full)
        state.remove_part(full[0])
    with state.transaction():
        assert state.provisional_parts() == ([], [])
    assert list(state.parts()) == []


def test_the_file_of_a_provisional_part_is_unknown_until_it_is_written_again(state, reopen):
    stage(state, "[1]", source="calls", provisional=True)
    for _ in range(2):
        with state.transaction():
            ((part,), _) = state.provisional_parts()
        assert reopen().known_parts() == [(part, None)]
        state = reopen()
        with state.transaction():
            state.finish_part(part, PartInfo(rows=1, bytes=2, sha256="a", mark="b"))
        assert state.known_parts() == [(part, PartInfo(rows=1, bytes=2, sha256="a", mark="b"))]


def test_a_sealed_part_may_exist_and_a_started_one_does_not(state):
    stage(state, "[1]")
    with state.transaction():
        state.begin_part(FIRST_DAY)
    assert state.known_parts() == []
    part = seal(state)
    assert state.known_parts() == [(part, None)]


def test_a_replaced_provisional_part_is_removed_by_the_next_process_too(state, reopen):
    stage(state, "[1]", source="calls", provisional=True)
    with state.transaction():
        full, _ = state.provisional_parts()
        state.finish_part(full[0], PartInfo(rows=1))
    reopened = reopen()
    with reopened.transaction():
        assert reopened.sealed_parts() == []
        reopened._execute("DELETE FROM staged WHERE provisional")
    with reopened.transaction():
        assert reopened.provisional_parts() == ([], full)


def test_provisional_rows_of_one_transaction_are_a_part(state):
    with state.transaction():
        state.stage("app", 1, SerializedRows("calls", 1, b"[1]"), source="calls", provisional=True)
        full, _ = state.provisional_parts()
    assert [part.partition for part in full] == [FIRST_DAY]


def test_removing_a_provisional_part_removes_no_other(state):
    for partition, source in ((FIRST_DAY, "one"), (SECOND_DAY, "two")):
        stage(state, "[1]", partition=partition, source=source, provisional=True)
    with state.transaction():
        (first, second), _ = state.provisional_parts()
        state.finish_part(second, PartInfo(rows=1))
        state.remove_part(first)
    assert [part for part, _ in state.known_parts()] == [second]


def test_rows_staged_after_everything_was_written_wait(state, reopen):
    stage(state, "[1]", "[2]")
    part = seal(state)
    with state.transaction():
        state.finish_part(part, PartInfo(rows=2))
    stage(state, "[3]")  # with the id of a deleted row, it would count as written
    reopened = reopen()
    assert unsealed_bytes(reopened) == {FIRST_DAY: 3}
    assert read_rows(reopened, seal(reopened)) == ["[3]"]


def test_rows_are_counted_and_not_batches(state, reopen):
    with state.transaction():
        state.stage("app", 1, SerializedRows("calls", 3, b"[[1],[2],[3]]"))
        state.stage("app", 1, SerializedRows("calls", 2, b"[[4],[5]]"))
        state.stage("app", 1, SerializedRows("calls", 4, b"[]"), source="calls", provisional=True)
    reopened = reopen()
    assert (reopened.counts()[2], reopened.provisional_rows()) == ({"calls": 9}, 4)


def test_each_row_is_counted_once_staged_or_written(state):
    stage(state, "[1]", "[2]")
    part = seal(state)
    assert state.counts()[2] == {"calls": 2}
    with state.transaction():
        state.finish_part(part, PartInfo(rows=2))
    stage(state, "[3]")
    stage(state, "[4]", source="calls", provisional=True)
    with state.transaction():
        full, _ = state.provisional_parts()
        state.finish_part(full[0], PartInfo(rows=1))
    assert state.counts() == (0, 0, {"calls": 4})


def test_rows_are_read_back_unchanged():
    batch = rows_of("app", [Call(call_id="a", created_ts=5, call_pcu=2), Call(call_id="b")])
    stored = serialized(batch)
    assert (stored.dataset, stored.count) == ("calls", 2)
    read = deserialize("calls", stored.payload)
    assert [list(column) for column in read.columns] == [list(column) for column in batch.columns]
