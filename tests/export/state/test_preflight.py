"""`Preflight` compares a state with the settings, the files and the database before a run; here without an export."""

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
    """A sink in memory, which counts how many checksums were computed."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.marks: dict[str, str] = {}
        self.digests = 0

    def stat(self, name: str) -> FileStat | None:
        content = self.contents.get(name)
        return None if content is None else FileStat(len(content), self.marks.get(name, "1"))

    def files(self, folder: str) -> dict[str, FileStat]:
        return {name: self.stat(name) for name in self.contents if name.startswith(f"{folder}/")}

    def read(self, name: str) -> bytes | None:
        return self.contents.get(name)

    def digest(self, name: str) -> str:
        self.digests += 1
        return hashlib.sha256(self.contents[name]).hexdigest()

    def scrub(self, text: str) -> str:
        return text

    def __str__(self) -> str:
        return "folder"


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
async def state_thread(tmp_path: Path):
    async with StateThread() as state_thread:
        await state_thread.open(lambda: ExportState(tmp_path / "state.db", "folder"))
        yield state_thread


@pytest.fixture
def preflight(state_thread: StateThread, sink: Sink) -> Callable[..., Preflight]:
    return lambda form="jsonl", *, rebuild=False: Preflight(state_thread, sink, form, rebuild)


def info_of(content: bytes, rows: int = 2, mark: str = "1") -> PartInfo:
    return PartInfo(rows=rows, bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), mark=mark)


async def adopt_parts(state_thread: StateThread, sink: Sink, *parts: Part) -> None:
    """Store the settings, and parts with their files."""

    def adopt(state: ExportState) -> None:
        state.save_settings(SETTINGS)
        for part in parts:
            content = f"rows of {part.id}".encode()
            sink.contents[part_path(part, ".jsonl")] = content
            state.adopt_part(part, info_of(content))

    await state_thread.change(adopt)


async def refusal(preflight: Preflight, settings: dict[str, Any] = SETTINGS) -> ExportError:
    with pytest.raises(ExportError) as error:
        await preflight.check_files(settings)
    return error.value


# Settings


async def test_a_new_export_stores_its_settings(state_thread, preflight):
    await preflight().check_files(SETTINGS)
    assert state_thread.state.settings() == SETTINGS
    error = await refusal(preflight(), SETTINGS | {"datasets": ["sessions"]})
    assert (error.kind, state_thread.state.settings()) == ("settings", SETTINGS)
    assert "datasets ['calls'], now ['sessions']" in str(error)


# Files


@pytest.mark.parametrize("name", [part_path(ONE, ".jsonl"), MANIFEST, "export.sqlite"])
async def test_files_of_an_export_without_a_state_are_reported(state_thread, sink, preflight, name):
    sink.contents[name] = b"x"
    error = await refusal(preflight())
    assert (error.kind, state_thread.state.settings()) == ("state", {})
    assert name in str(error)


async def test_files_with_the_same_size_and_mark_are_not_read(state_thread, sink, preflight):
    await adopt_parts(state_thread, sink, ONE, TWO)
    await preflight().check_files(SETTINGS)
    assert sink.digests == 0


async def test_copied_files_are_read_once(state_thread, sink, preflight):
    await adopt_parts(state_thread, sink, ONE, TWO)
    sink.marks = {part_path(ONE, ".jsonl"): "2", part_path(TWO, ".jsonl"): "3"}
    for _ in range(2):
        await preflight().check_files(SETTINGS)
    assert sink.digests == 2
    assert [info.mark for _, info in state_thread.state.known_parts()] == ["2", "3"]
    assert state_thread.state.lost() == []


async def test_a_file_of_another_size_is_reported_without_reading_it(state_thread, sink, preflight):
    await adopt_parts(state_thread, sink, ONE)
    sink.contents[part_path(ONE, ".jsonl")] += b"!"
    assert "altered: calls/" in str(await refusal(preflight()))
    assert sink.digests == 0


async def test_missing_or_altered_files_are_reported_or_accepted_by_a_rebuild(state_thread, sink, preflight):
    await adopt_parts(state_thread, sink, ONE, TWO)
    del sink.contents[part_path(ONE, ".jsonl")]
    sink.contents[part_path(TWO, ".jsonl")], sink.marks[part_path(TWO, ".jsonl")] = b"other rows", "9"
    error = await refusal(preflight())
    assert (error.kind, state_thread.state.lost()) == ("state", [])
    await preflight(rebuild=True).check_files(SETTINGS)
    assert set(state_thread.state.lost()) == {("app", "calls", 1, 2, GONE), ("app", "calls", 1, 2, ALTERED)}
    assert state_thread.state.known_parts() == [(TWO, attrs.evolve(info_of(b"other rows", mark="9"), rows=0))]
    await preflight().check_files(SETTINGS)  # the next run needs no rebuild


async def test_missing_or_altered_files_of_provisional_rows_are_written_again(state_thread, sink, preflight):
    for change in ({}, {part_path(NOW, ".jsonl"): b"other rows"}):
        await state_thread.change(ExportState.clear)
        await adopt_parts(state_thread, sink, ONE, NOW)
        del sink.contents[part_path(NOW, ".jsonl")]
        sink.contents |= change
        await preflight(rebuild=True).check_files(SETTINGS)
        assert state_thread.state.lost() == []
        assert state_thread.state.known_parts() == [(NOW, None), (ONE, info_of(b"rows of 1"))]
    await state_thread.change(ExportState.clear)
    await adopt_parts(state_thread, sink, ONE, NOW)
    await preflight("sqlite", rebuild=True).check_parts(FakeWriter(("calls", 1, 2)))
    assert (state_thread.state.lost(), state_thread.state.known_parts()[0]) == ([], (NOW, None))


# A state from a manifest


def manifest(*parts: tuple[Part, bytes], **others: object) -> bytes:
    return json.dumps(
        {
            "settings": SETTINGS,
            "rows": {"calls": 2 * len(parts)},
            "database": None,
            "spans": [
                {"app_id": "app", "source": "calls", "start": start, "end": start + 10, "state": state}
                for start, state in ((0, "read"), (10, "unsettled"), (20, "expired"), (30, "truncated"))
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
                    "bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
                for part, content in parts
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


async def test_a_state_is_rebuilt_from_a_manifest(state_thread, sink, preflight):
    sink.contents = {part_path(part, ".jsonl"): b"rows" for part in (ONE, NOW)} | {
        MANIFEST: manifest((ONE, b"rows"), (NOW, b"rows"))
    }
    await state_thread.change(lambda state: state.add_misfits("app", "old", 1, "of the state before"))
    await preflight(rebuild=True).check_files(SETTINGS)
    state = state_thread.state
    assert state.settings() == SETTINGS
    assert state.known_parts() == [(NOW, None), (ONE, info_of(b"rows"))]
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


async def test_a_manifest_of_another_place_is_accepted_but_not_of_other_settings(state_thread, sink, preflight):
    sink.contents = {MANIFEST: manifest(settings=SETTINGS | {"datasets": ["sessions"]})}
    assert (await refusal(preflight(rebuild=True))).kind == "settings"
    assert state_thread.state.settings() == {}
    sink.contents = {MANIFEST: manifest(settings=SETTINGS | {"place": "elsewhere"})}
    await preflight(rebuild=True).check_files(SETTINGS)
    assert state_thread.state.settings() == SETTINGS


async def test_a_file_that_the_manifest_does_not_list_is_reported(state_thread, sink, preflight):
    sink.contents = {part_path(part, ".jsonl"): b"rows" for part in (ONE, TWO)} | {MANIFEST: manifest((ONE, b"rows"))}
    assert f"does not list {part_path(TWO, '.jsonl')}" in str(await refusal(preflight(rebuild=True)))
    assert state_thread.state.settings() == {}


async def test_a_missing_file_of_the_manifest_is_reported_as_gone(state_thread, sink, preflight):
    sink.contents = {part_path(ONE, ".jsonl"): b"rows", MANIFEST: manifest((ONE, b"rows"), (TWO, b"rows"))}
    await preflight(rebuild=True).check_files(SETTINGS)
    assert state_thread.state.lost() == [("app", "calls", 1, 7, GONE)]
    assert state_thread.state.known_parts() == [(ONE, info_of(b"rows"))]


async def test_the_file_of_a_database_is_known_from_the_manifest(state_thread, sink, preflight):
    settings = SETTINGS | {"format": "sqlite"}
    info = {"bytes": 4, "sha256": hashlib.sha256(b"rows").hexdigest()}
    sink.contents = {"export.sqlite": b"rows", MANIFEST: manifest(settings=settings, database=info)}
    await preflight("sqlite", rebuild=True).check_files(settings)
    assert attrs.evolve(state_thread.state.database(), mark="") == PartInfo(rows=0, **info, mark="")


# Parts in a database


class FakeWriter:
    """A writer into a database with these row counts: dataset, part id, rows. Counts how often they are read."""

    def __init__(self, *counts: tuple[str, int, int]) -> None:
        self._counts, self.calls = counts, 0

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        self.calls += 1
        return list(self._counts)


COMPLETE = (("calls", 1, 2), ("calls", 2, 2))


async def test_a_closed_database_is_not_inspected_and_is_open_afterwards(state_thread, sink, preflight, tmp_path):
    await adopt_parts(state_thread, sink, ONE, TWO)
    await state_thread.change(lambda state: state.set_database(info_of(b"x")))
    await state_thread.run(state_thread.state.sync)
    writer = FakeWriter()
    await preflight("sqlite").check_parts(writer)
    assert (writer.calls, state_thread.state.database()) == (0, None)
    shutil.copy(tmp_path / "state.db", tmp_path / "cut.db")  # as a power cut leaves it
    after_power_cut = ExportState(tmp_path / "cut.db", "folder")
    assert after_power_cut.database() is None
    after_power_cut.close()


async def test_an_unclosed_database_is_compared_part_by_part(state_thread, sink, preflight):
    await adopt_parts(state_thread, sink, ONE, TWO)
    writer = FakeWriter(*COMPLETE)
    await preflight("sqlite").check_parts(writer)
    assert (writer.calls, state_thread.state.lost()) == (1, [])
    await preflight("jsonl").check_parts(writer)
    assert writer.calls == 1


@pytest.mark.parametrize(
    ("counts", "message", "rows", "reason"),
    [
        ((("calls", 1, 2),), "gone: part 2 of calls", 2, GONE),
        ((("calls", 1, 2), ("calls", 2, 1)), "altered: part 2 of calls", 1, ALTERED),
        ((("calls", 1, 2), ("calls", 2, 9)), "altered: part 2 of calls", 0, ALTERED),
    ],
)
async def test_rows_missing_in_a_database_are_reported_or_accepted_as_gone(
    state_thread, sink, preflight, counts, message, rows, reason
):
    await adopt_parts(state_thread, sink, ONE, TWO)
    with pytest.raises(ExportError, match=message) as error:
        await preflight("sqlite").check_parts(FakeWriter(*counts))
    assert (error.value.kind, state_thread.state.lost()) == ("state", [])
    await preflight("sqlite", rebuild=True).check_parts(FakeWriter(*counts))
    assert state_thread.state.lost() == [("app", "calls", 1, rows, reason)]
    known = {part.id: info.rows for part, info in state_thread.state.known_parts()}
    assert known == {1: 2, 2: {part: count for _, part, count in counts}.get(2, 0)}


async def test_a_part_unknown_to_the_state_is_never_accepted(state_thread, sink, preflight):
    await adopt_parts(state_thread, sink, ONE, TWO)
    for rebuild, message in ((False, "unknown: part 7 of sessions"), (True, "does not list part 7 of sessions")):
        with pytest.raises(ExportError, match=message):
            await preflight("sqlite", rebuild=rebuild).check_parts(FakeWriter(*COMPLETE, ("sessions", 7, 1)))
    assert state_thread.state.lost() == []
