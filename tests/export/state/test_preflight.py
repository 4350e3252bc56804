"""Whether an export may go on: its state against its settings, its files and its database, without an export."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from agora_analytics import ExportError
from agora_analytics.export.sinks import FileStat
from agora_analytics.export.state.calls import CallStatus
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.preflight import ALTERED, GONE, Preflight
from agora_analytics.export.state.slices import SpanStatus
from agora_analytics.export.state.staging import Part, PartInfo
from agora_analytics.export.state.state_thread import StateThread
from agora_analytics.export.write.target import MANIFEST, part_path
from agora_analytics.spans import Span

SETTINGS = {"format": "jsonl", "place": "here", "datasets": ["calls"]}
ONE, TWO, NOW = Part(1, "calls", "app", 1, 1), Part(2, "calls", "app", 1, 2), Part(3, "calls", "app", 1, 0)


class Sink:
    """Files in memory, and how often one was read through."""

    def __init__(self) -> None:
        self.part_row_counts: dict[str, bytes] = {}
        self.marks: dict[str, str] = {}
        self.digests = 0

    def stat(self, name: str) -> FileStat | None:
        held = self.part_row_counts.get(name)
        return None if held is None else FileStat(len(held), self.marks.get(name, "1"))

    def files(self, folder: str) -> dict[str, FileStat]:
        return {name: self.stat(name) for name in self.part_row_counts if name.startswith(f"{folder}/")}

    def read(self, name: str) -> bytes | None:
        return self.part_row_counts.get(name)

    def digest(self, name: str) -> str:
        self.digests += 1
        return hashlib.sha256(self.part_row_counts[name]).hexdigest()

    def scrub(self, text: str) -> str:
        return text

    def __str__(self) -> str:
        return "folder"


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
async def disk(tmp_path: Path):
    async with StateThread() as disk:
        await disk.open(lambda: ExportState(tmp_path / "state.db", "folder"))
        yield disk


@pytest.fixture
def standing(disk: StateThread, sink: Sink) -> Callable[..., Preflight]:
    return lambda form="jsonl", *, rebuild=False: Preflight(disk, sink, form, rebuild)


def facts_of(held: bytes, rows: int = 2, mark: str = "1") -> PartInfo:
    return PartInfo(rows=rows, bytes=len(held), sha256=hashlib.sha256(held).hexdigest(), mark=mark)


async def written(disk: StateThread, sink: Sink, *parts: Part) -> None:
    """An export with parts that are where they should be."""

    def keep(state: ExportState) -> None:
        state.save_settings(SETTINGS)
        for part in parts:
            held = f"rows of {part.id}".encode()
            sink.part_row_counts[part_path(part, ".jsonl")] = held
            state.adopt_part(part, facts_of(held))

    await disk.change(keep)


async def refused(standing: Preflight, wanted: dict[str, Any] = SETTINGS) -> ExportError:
    with pytest.raises(ExportError) as error:
        await standing.check_files(wanted)
    return error.value


# Settings


async def test_a_new_export_stores_its_settings(disk, standing):
    await standing().check_files(SETTINGS)
    assert disk.state.settings() == SETTINGS
    error = await refused(standing(), SETTINGS | {"datasets": ["sessions"]})
    assert (error.kind, disk.state.settings()) == ("settings", SETTINGS)
    assert "datasets ['calls'], now ['sessions']" in str(error)


# Files


@pytest.mark.parametrize("name", [part_path(ONE, ".jsonl"), MANIFEST, "export.sqlite"])
async def test_files_of_an_export_without_a_state_are_reported(disk, sink, standing, name):
    sink.part_row_counts[name] = b"x"
    error = await refused(standing())
    assert (error.kind, disk.state.settings()) == ("state", {})
    assert name in str(error)


async def test_files_with_the_same_size_and_mark_are_not_read(disk, sink, standing):
    await written(disk, sink, ONE, TWO)
    await standing().check_files(SETTINGS)
    assert sink.digests == 0


async def test_copied_files_are_read_once(disk, sink, standing):
    await written(disk, sink, ONE, TWO)
    sink.marks = {part_path(ONE, ".jsonl"): "2", part_path(TWO, ".jsonl"): "3"}
    for _ in range(2):
        await standing().check_files(SETTINGS)
    assert sink.digests == 2
    assert [facts.mark for _, facts in disk.state.known_parts()] == ["2", "3"]
    assert disk.state.lost() == []


async def test_a_file_of_another_size_is_reported_without_reading_it(disk, sink, standing):
    await written(disk, sink, ONE)
    sink.part_row_counts[part_path(ONE, ".jsonl")] += b"!"
    assert "altered: calls/" in str(await refused(standing()))
    assert sink.digests == 0


async def test_missing_or_altered_files_are_reported_or_accepted_by_a_rebuild(disk, sink, standing):
    await written(disk, sink, ONE, TWO)
    del sink.part_row_counts[part_path(ONE, ".jsonl")]
    sink.part_row_counts[part_path(TWO, ".jsonl")], sink.marks[part_path(TWO, ".jsonl")] = b"other rows", "9"
    error = await refused(standing())
    assert (error.kind, disk.state.lost()) == ("state", [])
    await standing(rebuild=True).check_files(SETTINGS)
    assert set(disk.state.lost()) == {("app", "calls", 1, 2, GONE), ("app", "calls", 1, 2, ALTERED)}
    assert disk.state.known_parts() == [(TWO, attrs.evolve(facts_of(b"other rows", mark="9"), rows=0))]
    await standing().check_files(SETTINGS)  # and the next run needs nothing special


async def test_missing_or_altered_files_of_provisional_rows_are_written_again(disk, sink, standing):
    for change in ({}, {part_path(NOW, ".jsonl"): b"other rows"}):
        await disk.change(ExportState.clear)
        await written(disk, sink, ONE, NOW)
        del sink.part_row_counts[part_path(NOW, ".jsonl")]
        sink.part_row_counts |= change
        await standing(rebuild=True).check_files(SETTINGS)
        assert disk.state.lost() == []
        assert disk.state.known_parts() == [(NOW, None), (ONE, facts_of(b"rows of 1"))]
    await disk.change(ExportState.clear)
    await written(disk, sink, ONE, NOW)
    await standing("sqlite", rebuild=True).check_parts(FakeWriter(("calls", 1, 2)))
    assert (disk.state.lost(), disk.state.known_parts()[0]) == ([], (NOW, None))


# A state from a manifest


def manifest(*parts: tuple[Part, bytes], **others: object) -> bytes:
    return json.dumps(
        {
            "settings": SETTINGS,
            "rows": {"calls": 2 * len(parts)},
            "database": None,
            "spans": [
                {"app_id": "app", "source": "calls", "start": start, "end": start + 10, "state": state}
                for start, state in ((0, "read"), (10, "unsettled"), (20, "expired"), (30, "cut off"))
            ],
            "parts": [
                {
                    "id": part.id,
                    "dataset": part.dataset,
                    "app_id": part.app,
                    "day": part.day,
                    "number": part.number,
                    "provisional": part.number == 0,
                    "rows": 2,
                    "bytes": len(held),
                    "sha256": hashlib.sha256(held).hexdigest(),
                }
                for part, held in parts
            ],
            "resume": {
                "calls": [
                    ["app", "waits", "room", 1, 2, 0.5, 3, CallStatus.PENDING, None, 0],
                    ["app", "half", "room", 1, 2, 0.5, 3, CallStatus.PENDING, None, 1],
                ],
                "skipped": [["app", "calls", 4, "odd"]],
                "lost": [["app", "calls", 1, 5, GONE]],
            },
        }
        | others
    ).encode()


async def test_a_state_is_rebuilt_from_a_manifest(disk, sink, standing):
    sink.part_row_counts = {part_path(part, ".jsonl"): b"rows" for part in (ONE, NOW)} | {
        MANIFEST: manifest((ONE, b"rows"), (NOW, b"rows"))
    }
    await disk.change(lambda state: state.add_misfits("app", "old", 1, "of the state before"))
    await standing(rebuild=True).check_files(SETTINGS)
    state = disk.state
    assert state.settings() == SETTINGS
    assert state.known_parts() == [(NOW, None), (ONE, facts_of(b"rows"))]
    kinds = {
        kind: state.spans("app", "calls", kind)
        for kind in (SpanStatus.READ, SpanStatus.UNSETTLED, SpanStatus.EXPIRED, SpanStatus.TRUNCATED)
    }
    assert kinds == {
        SpanStatus.READ: (Span(0, 10),),
        SpanStatus.UNSETTLED: (),
        SpanStatus.EXPIRED: (Span(20, 30),),
        SpanStatus.TRUNCATED: (Span(30, 40),),
    }
    assert (state.misfits(), state.lost()) == ([("app", "calls", 4, "odd")], [("app", "calls", 1, 5, GONE)])
    assert state.calls_by_status() == {CallStatus.PENDING: 1, CallStatus.SKIPPED: 1}
    assert state.skipped_calls() == [("app", "half fetched when the state was lost", 1, 1, 2)]


async def test_a_manifest_of_another_place_is_accepted_but_not_of_other_settings(disk, sink, standing):
    sink.part_row_counts = {MANIFEST: manifest(settings=SETTINGS | {"datasets": ["sessions"]})}
    assert (await refused(standing(rebuild=True))).kind == "settings"
    assert disk.state.settings() == {}
    sink.part_row_counts = {MANIFEST: manifest(settings=SETTINGS | {"place": "elsewhere"})}
    await standing(rebuild=True).check_files(SETTINGS)
    assert disk.state.settings() == SETTINGS


async def test_a_file_that_the_manifest_does_not_list_is_reported(disk, sink, standing):
    sink.part_row_counts = {part_path(part, ".jsonl"): b"rows" for part in (ONE, TWO)} | {
        MANIFEST: manifest((ONE, b"rows"))
    }
    assert f"does not list {part_path(TWO, '.jsonl')}" in str(await refused(standing(rebuild=True)))
    assert disk.state.settings() == {}


async def test_a_missing_file_of_the_manifest_is_reported_as_gone(disk, sink, standing):
    sink.part_row_counts = {part_path(ONE, ".jsonl"): b"rows", MANIFEST: manifest((ONE, b"rows"), (TWO, b"rows"))}
    await standing(rebuild=True).check_files(SETTINGS)
    assert disk.state.lost() == [("app", "calls", 1, 7, GONE)]
    assert disk.state.known_parts() == [(ONE, facts_of(b"rows"))]


async def test_the_file_of_a_database_is_known_from_the_manifest(disk, sink, standing):
    settings = SETTINGS | {"format": "sqlite"}
    told = {"bytes": 4, "sha256": hashlib.sha256(b"rows").hexdigest()}
    sink.part_row_counts = {"export.sqlite": b"rows", MANIFEST: manifest(settings=settings, database=told)}
    await standing("sqlite", rebuild=True).check_files(settings)
    assert attrs.evolve(disk.state.database(), mark="") == PartInfo(rows=0, **told, mark="")


# Parts in a database


class FakeWriter:
    """A writer that says what a database holds."""

    def __init__(self, *held: tuple[str, int, int]) -> None:
        self._held, self.asked = held, 0

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        self.asked += 1
        return list(self._held)


ALL_THERE = (("calls", 1, 2), ("calls", 2, 2))


async def test_a_closed_database_is_not_inspected_and_is_open_afterwards(disk, sink, standing, tmp_path):
    await written(disk, sink, ONE, TWO)
    await disk.change(lambda state: state.set_database(facts_of(b"x")))
    await disk.run(disk.state.sync)
    writer = FakeWriter()
    await standing("sqlite").check_parts(writer)
    assert (writer.asked, disk.state.database()) == (0, None)
    shutil.copy(tmp_path / "state.db", tmp_path / "cut.db")  # what a power cut leaves
    left = ExportState(tmp_path / "cut.db", "folder")
    assert left.database() is None
    left.close()


async def test_an_unclosed_database_is_compared_part_by_part(disk, sink, standing):
    await written(disk, sink, ONE, TWO)
    writer = FakeWriter(*ALL_THERE)
    await standing("sqlite").check_parts(writer)
    assert (writer.asked, disk.state.lost()) == (1, [])
    await standing("jsonl").check_parts(writer)
    assert writer.asked == 1


@pytest.mark.parametrize(
    ("held", "said", "rows", "reason"),
    [
        ((("calls", 1, 2),), "gone: part 2 of calls", 2, GONE),
        ((("calls", 1, 2), ("calls", 2, 1)), "altered: part 2 of calls", 1, ALTERED),
        ((("calls", 1, 2), ("calls", 2, 9)), "altered: part 2 of calls", 0, ALTERED),
    ],
)
async def test_rows_missing_in_a_database_are_reported_or_accepted_as_gone(
    disk, sink, standing, held, said, rows, reason
):
    await written(disk, sink, ONE, TWO)
    with pytest.raises(ExportError, match=said) as error:
        await standing("sqlite").check_parts(FakeWriter(*held))
    assert (error.value.kind, disk.state.lost()) == ("state", [])
    await standing("sqlite", rebuild=True).check_parts(FakeWriter(*held))
    assert disk.state.lost() == [("app", "calls", 1, rows, reason)]
    known = {part.id: facts.rows for part, facts in disk.state.known_parts()}
    assert known == {1: 2, 2: {part: many for _, part, many in held}.get(2, 0)}


async def test_a_part_unknown_to_the_state_is_never_accepted(disk, sink, standing):
    await written(disk, sink, ONE, TWO)
    for rebuild, said in ((False, "unknown: part 7 of sessions"), (True, "does not list part 7 of sessions")):
        with pytest.raises(ExportError, match=said):
            await standing("sqlite", rebuild=rebuild).check_parts(FakeWriter(*ALL_THERE, ("sessions", 7, 1)))
    assert disk.state.lost() == []
