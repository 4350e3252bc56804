"""Staged rows become parts, whatever step a crash or a power cut interrupts.

Each step of two runs is tried as the last one. A crash keeps every transaction of the state; a power cut keeps the
files, and the last copy of the state that was synced to disk.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from agora_analytics import ExportError
from agora_analytics.export.sinks import FileStat
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.inventory import compare
from agora_analytics.export.state.staging import Part, PartInfo, Partition, SerializedRows
from agora_analytics.export.state.state_thread import StateThread
from agora_analytics.export.write import part_writer
from agora_analytics.export.write.part_writer import PartWriter

CALLS, SESSIONS = Partition("calls", "app", 1), Partition("sessions", "app", 2)
PLACE = "place"


class Crash(BaseException):
    """The process crashes."""


class Scenario:
    """The files and the state of runs that crash at a step, counted from 1; 0 for none.

    `final` and `provisional` are the staged rows of each kind, which must end up in the files.
    """

    def __init__(self, folder: Path, crash_at: int) -> None:
        self.folder, self.crash_at = folder, crash_at
        self.files: dict[str, list[bytes]] = {}
        self.steps: list[str] = []
        self.final: list[bytes] = []
        self.provisional: list[bytes] = []

    @property
    def path(self) -> Path:
        return self.folder / "state.db"

    def step(self, what: str) -> None:
        self.steps.append(what)
        if len(self.steps) == self.crash_at:
            raise Crash


class MemoryTarget:
    """A target, which is also its writer, in memory; a part is full at ten bytes."""

    part_size = 10

    def __init__(self, scenario: Scenario) -> None:
        self._scenario, self.writer, self.rows, self.closed = scenario, self, [], 0
        self._expected: dict[str, int] = {}

    def begin(self, dataset: str, part: int) -> None:
        self._scenario.step(f"begin {dataset} {part}")
        self.rows = []

    def add(self, payloads: list[bytes]) -> None:
        self.rows = [*self.rows, *payloads]

    def close(self) -> None:
        self.closed += 1

    def abort(self) -> None:
        raise AssertionError

    def name(self, part: Part) -> str:
        return f"{part.dataset} {part.app} {part.day} {part.number}"

    def expect(self, part: Part) -> None:
        self._expected[self.name(part)] = len(self._scenario.steps)

    def publish(self, part: Part) -> PartInfo:
        name = self.name(part)
        # Another run is looked for after the file, or a process stopped in between would not notice it.
        assert {"checked", "synced"} & {*self._scenario.steps[self._expected.pop(name) :]}
        self._scenario.step(f"finish {name}")
        self._scenario.files[name] = self.rows
        self._scenario.step(f"finished {name}")
        return info_of(self.rows)

    def remove(self, part: Part) -> None:
        self._scenario.step(f"remove {self.name(part)}")
        self._scenario.files.pop(self.name(part), None)
        self._scenario.step(f"removed {self.name(part)}")

    def mark_incomplete(self) -> None:
        self._scenario.step("mark incomplete")

    def publish_database(self) -> PartInfo | None:
        assert self.closed
        self._scenario.step("publish database")
        return None


def info_of(rows: list[bytes]) -> PartInfo:
    return PartInfo(rows=len(rows), bytes=sum(map(len, rows)), sha256=b"".join(rows).decode(), mark="")


class FakeRemoteSync:
    """Copies the state to `copy.db` in place of a store."""

    def __init__(self, scenario: Scenario, state_thread: StateThread) -> None:
        self._scenario, self._state_thread = scenario, state_thread

    async def check_not_superseded(self) -> None:
        self._scenario.step("checked")

    async def sync(self) -> None:
        self._state_thread.state.copy_to(self._scenario.folder / "copy.db")
        self._scenario.step("synced")

    async def sync_if_due(self, _still) -> None:
        self._scenario.step("sync if due")

    async def sync_final(self, _still) -> None:
        await self.sync()


class FakeSink:
    def expect(self, name: str) -> None:
        assert name == "manifest.json"

    def __str__(self) -> str:
        return PLACE

    def scrub(self, text: str) -> str:
        return text


@asynccontextmanager
async def running(scenario: Scenario) -> AsyncIterator[tuple[PartWriter, StateThread]]:
    state_thread = StateThread()
    state = await state_thread.open(lambda: ExportState(scenario.path, PLACE))
    try:
        yield (
            PartWriter(state_thread, MemoryTarget(scenario), FakeSink(), FakeRemoteSync(scenario, state_thread)),
            state_thread,
        )
    finally:
        state.close()


async def stage(
    scenario: Scenario, state_thread: StateThread, partition: Partition, *texts: str, provisional: bool = False
) -> None:
    """Stage rows as one answer; provisional ones replace all earlier provisional ones."""
    rows = [text.encode() for text in texts]

    def change(state: ExportState) -> None:
        if provisional:
            state._execute("DELETE FROM staged WHERE provisional")
        for row in rows:
            state.stage(
                partition.app,
                partition.day,
                SerializedRows(partition.dataset, 1, row),
                source="source" if provisional else "",
                provisional=provisional,
            )

    await state_thread.change(change)
    if provisional:
        scenario.provisional = rows
    else:
        scenario.final += rows


async def first_run(scenario: Scenario, parts: PartWriter, state_thread: StateThread) -> None:
    """Stage a few rows at a time for several parts, and a provisional one."""
    await parts.resume()
    for number in range(3):
        await stage(scenario, state_thread, CALLS, f"[a{number}]", f"[b{number}]")
        await parts.flush_ready()
    await stage(scenario, state_thread, SESSIONS, *(f"[c{number}]" for number in range(4)))
    await parts.flush_ready()
    await stage(scenario, state_thread, CALLS, "[d0]", "[d1]")
    await parts.flush_ready()
    await stage(scenario, state_thread, CALLS, "[d2]")
    await stage(scenario, state_thread, SESSIONS, "[now]", provisional=True)
    await parts.flush_all()
    await parts.publish_database()


async def second_run(scenario: Scenario, parts: PartWriter, state_thread: StateThread) -> None:
    """Stage the final row that replaces the provisional one."""
    await parts.resume()
    await stage(scenario, state_thread, SESSIONS, provisional=True)
    await stage(scenario, state_thread, SESSIONS, "[now it is over]")
    await parts.flush_all()
    await parts.publish_database()


async def run_twice(scenario: Scenario) -> bool:
    """Run twice; return False if a run crashed."""
    try:
        for run in (first_run, second_run):
            async with running(scenario) as (parts, state_thread):
                await run(scenario, parts, state_thread)
    except Crash:
        return False
    return True


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch) -> None:
    monkeypatch.setattr(part_writer, "_FLUSH_SIZE", 6)
    monkeypatch.setattr(part_writer, "_MAX_BACKLOG", 12)


@pytest.fixture
async def new_scenario(tmp_path) -> Callable[[int], Scenario]:
    """Return a function that creates a scenario which crashes at a step."""

    def create(crash_at: int) -> Scenario:
        folder = tmp_path / str(crash_at)
        folder.mkdir()
        return Scenario(folder, crash_at)

    return create


async def all_steps(new_scenario: Callable[[int], Scenario]) -> list[str]:
    scenario = new_scenario(0)
    assert await run_twice(scenario)
    return scenario.steps


def check(scenario: Scenario) -> None:
    """Assert that each final row is in one file, once, and that each provisional one is in a part of number 0."""
    final = [row for name, rows in scenario.files.items() if not name.endswith(" 0") for row in rows]
    assert sorted(final) == sorted(scenario.final)
    assert [row for name, rows in scenario.files.items() if name.endswith(" 0") for row in rows] == scenario.provisional


async def test_every_row_is_in_exactly_one_part(new_scenario):
    scenario = new_scenario(0)
    assert await run_twice(scenario)
    check(scenario)
    assert {name: len(rows) for name, rows in scenario.files.items()} == {
        "calls app 1 1": 4,  # full at ten bytes, which are added in batches of six
        "calls app 1 2": 2,
        "calls app 1 3": 2,
        "calls app 1 4": 1,
        "sessions app 2 1": 4,
        "sessions app 2 2": 1,
    }


async def test_after_a_crash_at_any_step_every_row_exists_once(new_scenario):
    for number, step in enumerate(await all_steps(new_scenario), 1):
        scenario = new_scenario(number)
        assert not await run_twice(scenario), step
        scenario.crash_at = 0
        async with running(scenario) as (parts, state_thread):
            await parts.resume()
            await parts.flush_all()
            await parts.publish_database()
            check(scenario)
            expected = {parts.target.name(part): info for part, info in state_thread.state.known_parts()}
            assert expected == {name: info_of(rows) for name, rows in scenario.files.items()}, step


async def test_after_a_power_cut_at_any_step_the_state_knows_every_file(new_scenario):
    for number, step in enumerate(await all_steps(new_scenario), 1):
        scenario = new_scenario(number)
        assert not await run_twice(scenario), step
        copy = scenario.folder / "copy.db"
        if not copy.exists():
            assert not scenario.files, step
            continue
        shutil.copy(copy, scenario.path)
        async with running(scenario) as (parts, state_thread):
            expected = {parts.target.name(part): info for part, info in state_thread.state.known_parts()}
            found = {
                name: FileStat(size=info.bytes, mark="other")
                for name, info in ((name, info_of(rows)) for name, rows in scenario.files.items())
            }
            assert not compare(expected, found, lambda name: info_of(scenario.files[name]).sha256), step  # noqa: B023


async def test_provisional_rows_are_written_first_so_that_no_reader_sees_one_twice(new_scenario):
    steps = await all_steps(new_scenario)
    assert steps.index("removed sessions app 2 0") < steps.index("finish sessions app 2 2")
    assert steps.index("finished sessions app 2 0") < steps.index("finish calls app 1 4")


async def test_no_manifest_is_written_by_a_superseded_run(new_scenario):
    steps = await all_steps(new_scenario)
    assert {steps[number - 1] for number, step in enumerate(steps) if step == "mark incomplete"} == {"checked"}


async def test_staged_rows_are_written_once_there_are_enough(new_scenario):
    steps = await all_steps(new_scenario)
    assert steps[:2] == ["sync if due", "begin calls 1"]
    assert steps.count("sync if due") == 5
    assert steps.index("finished calls app 1 1") < steps.index("begin calls 2")


async def test_no_second_part_starts_before_enough_new_rows_are_staged(new_scenario):
    steps = await all_steps(new_scenario)
    # An open part is sealed with the rows that it has once another partition needs the writer.
    assert steps.index("finish calls app 1 2") < steps.index("begin sessions 3")
    assert steps.index("finished sessions app 2 1") < steps.index("begin calls 4")
    scenario = new_scenario(-1)
    async with running(scenario) as (parts, state_thread):
        for partition, texts in ((CALLS, ("[a]", "[b]")), (SESSIONS, ("[cc]", "[dd]"))):
            await stage(scenario, state_thread, partition, *texts)
            await parts.flush_ready()
        assert scenario.steps == ["sync if due", "begin calls 1", "sync if due"]


@pytest.mark.parametrize("lost", [None, Part(1, "calls", "app", 1, 1), Part(1, "calls", "app", 1, 0)])
async def test_no_manifest_is_complete_if_a_part_is_known_to_be_gone(new_scenario, lost):
    scenario = new_scenario(0)
    async with running(scenario) as (parts, state_thread):
        if lost:
            await state_thread.change(lambda state: state.adopt_part(lost, info_of([b"[]"])))
            await state_thread.change(lambda state: state.record_lost_rows(lost, 1, "gone", None))
        await parts.prepare()
    assert scenario.steps == (["checked", "mark incomplete"] if lost else [])


async def test_a_few_rows_stay_staged(new_scenario):
    scenario = new_scenario(0)
    async with running(scenario) as (parts, state_thread):
        await stage(scenario, state_thread, CALLS, "[]")
        await parts.flush_ready()
        assert scenario.steps == ["sync if due"]


async def test_the_content_of_a_database_is_stored_once_it_is_closed(new_scenario, monkeypatch):
    info, scenario = info_of([b"[1]"]), new_scenario(0)
    monkeypatch.setattr(MemoryTarget, "publish_database", lambda self: info)
    async with running(scenario) as (parts, _):
        await parts.publish_database()
    copy = ExportState(scenario.folder / "copy.db", PLACE)
    assert copy.database() == attrs.evolve(info, rows=0)
    copy.close()


async def test_written_rows_are_counted_and_the_target_is_closed_once(new_scenario):
    scenario = new_scenario(0)
    async with running(scenario) as (parts, state_thread):
        await first_run(scenario, parts, state_thread)
        await parts.abort()
        assert parts.rows_written == len(scenario.final) + 1
        assert parts.target.closed == 1


async def test_an_error_of_closing_is_reported_and_hides_no_earlier_error(new_scenario, monkeypatch):
    def fail(_: MemoryTarget) -> None:
        raise OSError("no room")

    monkeypatch.setattr(MemoryTarget, "close", fail)
    async with running(new_scenario(0)) as (parts, _):
        with pytest.raises(ExportError, match="'place' cannot be written: no room"):
            await parts.publish_database()
    async with running(new_scenario(-1)) as (parts, _):
        await parts.abort()
