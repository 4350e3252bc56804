"""What an export remembers between two transactions: rows that wait, and the parts they make.

A process may die between any two transactions, which is tried by opening the file again.
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

GROUP = Partition("calls", "app", 1)
OTHER = Partition("calls", "app", 2)
MANY = 10**9


class Death(BaseException):
    """What ends a process in the middle of a transaction."""


def dies(state: ExportState, *texts: str) -> None:
    """Stage rows and mark a span in a transaction that is not made; the rows' groups had their numbers by then."""

    def change() -> None:
        with state.transaction():
            for text in texts:
                state.stage("app", 1, SerializedRows("calls", 1, text.encode()))
            state.mark_span("app", "calls", Span(0, 100), SpanStatus.READ)  # settles what was staged before it
            state.stage("app", 1, SerializedRows("calls", 1, b"[never put down]"))
            raise Death

    with pytest.raises(Death):
        change()


def stage(state: ExportState, *texts: str, group: Partition = GROUP, **options) -> None:
    """Keep rows, each piece in a transaction of its own."""
    for text in texts:
        with state.transaction():
            state.stage(group.app, group.day, SerializedRows(group.dataset, 1, text.encode()), **options)


def read_rows(state: ExportState, part: Part, after: int = 0, most: int = MANY) -> list[str]:
    found = state.read_rows(part, after, most)
    return [] if found is None else [piece.decode() for piece in found.payloads]


def sealed(state: ExportState, group: Partition = GROUP) -> Part:
    """A part of all that waits for it."""
    with state.transaction():
        part = state.begin_part(group)
    found = state.read_rows(part, 0, MANY)
    with state.transaction():
        state.seal_part(part, found.last, found.size)
    return part


def unsealed_bytes(state: ExportState) -> dict[Partition, int]:
    """Bytes that wait, by both of its accounts, which agree."""
    counted = dict(state.unsealed_bytes())
    assert {group: size for group, size in state.staged_bytes.items() if size} == counted
    return counted


# Transactions.


def test_rows_after_a_failed_transaction_are_kept_and_its_own_are_discarded(state, reopen):
    dies(state, "[1]")
    stage(state, "[2]")
    assert dict(state.unsealed_bytes()) == {GROUP: 3}
    again = reopen()
    assert unsealed_bytes(again) == {GROUP: 3}
    assert read_rows(again, sealed(again)) == ["[2]"]


def test_a_transaction_is_applied_whole_or_not_at_all(state, reopen):
    dies(state, "[1]")
    again = reopen()
    assert (again.spans("app", "calls", SpanStatus.READ), again.unsealed_bytes()) == ((), [])


def test_one_process_at_a_time_holds_the_state(state, tmp_path):
    with pytest.raises(ExportError, match="running already"):
        ExportState(tmp_path / "state.db", "place")


# Rows and parts.


def test_rows_are_staged_in_order_for_their_part(state, reopen):
    with state.transaction():
        for text in ("[1]", "[2]"):
            state.stage("app", 1, SerializedRows("calls", 1, text.encode()))
        state.stage("app", 2, SerializedRows("calls", 1, b"[300]"))
        state.stage("app", 1, SerializedRows("calls", 0, b"[]"))
    stage(state, "[4]")
    assert unsealed_bytes(state) == {GROUP: 9, OTHER: 5}
    again = reopen()
    assert unsealed_bytes(again) == {GROUP: 9, OTHER: 5}
    assert read_rows(again, sealed(again)) == ["[1]", "[2]", "[4]"]
    assert read_rows(again, sealed(again, OTHER)) == ["[300]"]


def test_a_part_is_read_in_batches_of_limited_bytes(state):
    stage(state, *"abcdefg")
    with state.transaction():
        part = state.begin_part(GROUP)
    found, after = [], 0
    while (some := state.read_rows(part, after, 3)) is not None:
        found.append((b"".join(some.payloads), some.size))
        after = some.last
    assert found == [(b"abc", 3), (b"def", 3), (b"g", 1)]


def test_a_part_written_again_has_the_same_rows(state, reopen):
    stage(state, "[1]", "[2]")
    part = sealed(state)
    stage(state, "[3]")
    again = reopen()
    assert again.sealed_parts() == [part]
    assert read_rows(again, part) == ["[1]", "[2]"]
    assert unsealed_bytes(again) == {GROUP: 3}


def test_rows_staged_between_seal_and_end_of_a_part_wait_for_the_next(state, reopen):
    stage(state, "[1]")
    part = sealed(state)
    stage(state, "[2]")
    with state.transaction():
        state.finish_part(part, PartInfo(rows=1))
    assert unsealed_bytes(state) == {GROUP: 3}
    again = reopen()
    assert again.sealed_parts() == []
    assert unsealed_bytes(again) == {GROUP: 3}
    assert read_rows(again, sealed(again)) == ["[2]"]


def test_ending_a_part_removes_no_row_of_another_and_no_provisional_row(state):
    stage(state, "[1]")
    stage(state, "[2]", group=OTHER)
    stage(state, "[3]", source="calls", provisional=True)
    stage(state, "[4]")
    part = sealed(state)
    with state.transaction():
        state.finish_part(part, PartInfo(rows=2))
    assert unsealed_bytes(state) == {OTHER: 3}
    assert state.provisional_rows() == 1


def test_rows_of_the_part_in_progress_do_not_count_as_waiting(state, reopen):
    stage(state, "[1]")
    first = sealed(state)
    with state.transaction():
        state.finish_part(first, PartInfo(rows=1))
    stage(state, "[2]")
    second = sealed(state)
    stage(state, "[33]")
    assert unsealed_bytes(state) == {GROUP: 4}
    again = reopen()
    assert unsealed_bytes(again) == {GROUP: 4}
    assert again.sealed_parts() == [second]
    assert read_rows(again, second) == ["[2]"]


def test_a_part_that_was_not_sealed_does_not_exist(state, reopen):
    stage(state, "[1]")
    with state.transaction():
        part = state.begin_part(GROUP)
    again = reopen()
    with again.transaction():
        assert again.sealed_parts() == []
    assert unsealed_bytes(again) == {GROUP: 3}
    with again.transaction():
        other = again.begin_part(GROUP)
    assert other.id > part.id
    assert read_rows(again, other) == ["[1]"]


def test_parts_of_a_group_are_numbered_from_one_with_unique_ids(state):
    with state.transaction():
        parts = [state.begin_part(group) for group in (GROUP, OTHER, GROUP, GROUP)]
    assert [(part.partition, part.number) for part in parts] == [(GROUP, 1), (OTHER, 1), (GROUP, 2), (GROUP, 3)]
    assert len({part.id for part in parts}) == 4


def test_written_parts_are_listed_in_order_with_their_content(state):
    facts = PartInfo(rows=2, bytes=99, sha256="ab")
    for group in (OTHER, GROUP):
        stage(state, "[1]", "[2]", group=group)
        part = sealed(state, group)
        with state.transaction():
            state.finish_part(part, facts)
    stage(state, "[3]")
    sealed(state)  # and not written
    assert [(part.partition, part.number, told) for part, told in state.parts()] == [
        (GROUP, 1, facts),
        (OTHER, 1, facts),
    ]


def test_provisional_rows_are_withdrawn_only_by_their_source(state):
    first, second = ([Call(call_id=name, created_ts=86_400)] for name in ("a", "b"))
    with state.transaction():
        for source, found in (("one", first), ("two", second), ("one", second)):
            state.stage("app", 1, serialized(rows_of("app", found)), source=source, provisional=True)
        state.stage("app", 1, SerializedRows("calls", 1, b"[1]"), source="one")
    assert (state.provisional_rows(), unsealed_bytes(state)) == (3, {GROUP: 3})
    with state.transaction():
        taken = state.take_provisional("one")
    assert [(app, day, list(batch.column("call_id"))) for app, day, batch in taken] == [
        ("app", 1, ["a"]),
        ("app", 1, ["b"]),
    ]
    assert state.provisional_rows() == 1
    with state.transaction():
        assert state.take_provisional("one") == []
    assert unsealed_bytes(state) == {GROUP: 3}


def test_provisional_rows_are_part_0_of_their_day_until_none_are_left(state):
    stage(state, "[1]", "[2]", source="calls", provisional=True)
    stage(state, "[3]")
    with state.transaction():
        full, empty = state.provisional_parts()
    assert [(part.partition, part.number) for part in full] == [(GROUP, 0)]
    assert empty == []
    assert read_rows(state, full[0]) == ["[1]", "[2]"]
    with state.transaction():
        state.finish_part(full[0], PartInfo(rows=2))
    assert state.provisional_rows() == 2  # they stay until they are replaced
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
        state.begin_part(GROUP)
    assert state.known_parts() == []
    part = sealed(state)
    assert state.known_parts() == [(part, None)]


def test_a_replaced_provisional_part_is_removed_by_the_next_process_too(state, reopen):
    stage(state, "[1]", source="calls", provisional=True)
    with state.transaction():
        full, _ = state.provisional_parts()
        state.finish_part(full[0], PartInfo(rows=1))
    again = reopen()
    with again.transaction():
        assert again.sealed_parts() == []
        again._execute("DELETE FROM staged WHERE provisional")
    with again.transaction():
        assert again.provisional_parts() == ([], full)


def test_provisional_rows_of_one_transaction_are_a_part(state):
    with state.transaction():
        state.stage("app", 1, SerializedRows("calls", 1, b"[1]"), source="calls", provisional=True)
        full, _ = state.provisional_parts()
    assert [part.partition for part in full] == [GROUP]


def test_removing_a_provisional_part_removes_no_other(state):
    for group, source in ((GROUP, "one"), (OTHER, "two")):
        stage(state, "[1]", group=group, source=source, provisional=True)
    with state.transaction():
        (first, second), _ = state.provisional_parts()
        state.finish_part(second, PartInfo(rows=1))
        state.remove_part(first)
    assert [part for part, _ in state.known_parts()] == [second]


def test_rows_staged_after_everything_was_written_wait(state, reopen):
    stage(state, "[1]", "[2]")
    part = sealed(state)
    with state.transaction():
        state.finish_part(part, PartInfo(rows=2))
    stage(state, "[3]")  # were its number one of those that are gone, it would count as written
    again = reopen()
    assert unsealed_bytes(again) == {GROUP: 3}
    assert read_rows(again, sealed(again)) == ["[3]"]


def test_rows_are_counted_and_not_batches(state, reopen):
    with state.transaction():
        state.stage("app", 1, SerializedRows("calls", 3, b"[[1],[2],[3]]"))
        state.stage("app", 1, SerializedRows("calls", 2, b"[[4],[5]]"))
        state.stage("app", 1, SerializedRows("calls", 4, b"[]"), source="calls", provisional=True)
    again = reopen()
    assert (again.counts()[2], again.provisional_rows()) == ({"calls": 9}, 4)


def test_each_row_is_counted_once_staged_or_written(state):
    stage(state, "[1]", "[2]")
    part = sealed(state)
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
    again = deserialize("calls", stored.payload)
    assert [list(column) for column in again.columns] == [list(column) for column in batch.columns]
