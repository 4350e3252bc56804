"""How rows that wait become parts: a process may die, or the power fail, at each of its steps.

Each step of a story is tried as the last one. A process that dies leaves every transaction; a power cut leaves the
state as it was kept last, beside files as they are.
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

ONE, TWO = Partition("calls", "app", 1), Partition("sessions", "app", 2)
PLACE = "place"


class Death(BaseException):
    """What ends the process."""


class World:
    """Files, the state on a disk, and what a power cut would leave of it; dies at a step."""

    def __init__(self, folder: Path, last: int) -> None:
        self.folder, self.last = folder, last
        self.files: dict[str, list[bytes]] = {}
        self.written = 0
        self.steps: list[str] = []
        self.final: list[bytes] = []
        self.provisional: list[bytes] = []

    @property
    def path(self) -> Path:
        return self.folder / "state.db"

    def step(self, what: str) -> None:
        self.steps.append(what)
        if len(self.steps) == self.last:
            raise Death


class Target:
    """A target and its writer in memory; a part is full at ten bytes."""

    part_size = 10

    def __init__(self, world: World) -> None:
        self._world, self.writer, self.rows, self.closed = world, self, [], 0

    def begin(self, dataset: str, part: int) -> None:
        self._world.step(f"begin {dataset} {part}")
        self.rows = []

    def add(self, stored: list[bytes]) -> None:
        self.rows = [*self.rows, *stored]

    def close(self) -> None:
        self.closed += 1

    def abort(self) -> None:
        raise AssertionError

    def name(self, part: Part) -> str:
        return f"{part.dataset} {part.app} {part.day} {part.number}"

    def publish(self, part: Part) -> PartInfo:
        name = self.name(part)
        self._world.step(f"finish {name}")
        self._world.files[name] = self.rows
        self._world.written += 1
        self._world.step(f"finished {name}")
        return facts(self.rows)

    def remove(self, part: Part) -> None:
        self._world.step(f"remove {self.name(part)}")
        self._world.files.pop(self.name(part), None)
        self._world.step(f"removed {self.name(part)}")

    def mark_incomplete(self) -> None:
        self._world.step("reopen")

    def publish_database(self) -> PartInfo | None:
        assert self.closed
        self._world.step("seal")
        return None


def facts(rows: list[bytes]) -> PartInfo:
    return PartInfo(rows=len(rows), bytes=sum(map(len, rows)), sha256=b"".join(rows).decode(), mark="")


class Keeper:
    def __init__(self, world: World, disk: StateThread) -> None:
        self._world, self._state_thread = world, disk

    async def check_not_superseded(self) -> None:
        self._world.step("checked")

    async def sync(self) -> None:
        self._state_thread.state.copy_to(self._world.folder / "kept.db")
        self._world.step("kept")

    async def sync_if_due(self, _still) -> None:
        self._world.step("kept some")

    async def sync_final(self, _still) -> None:
        await self.sync()


class Sink:
    """Says where it is."""

    def __str__(self) -> str:
        return PLACE

    def scrub(self, text: str) -> str:
        return text


@asynccontextmanager
async def process(world: World) -> AsyncIterator[tuple[PartWriter, StateThread]]:
    disk = StateThread()
    state = await disk.open(lambda: ExportState(world.path, PLACE))
    try:
        yield PartWriter(disk, Target(world), Sink(), Keeper(world, disk)), disk
    finally:
        state.close()


async def stage(world: World, disk: StateThread, group: Partition, *texts: str, provisional: bool = False) -> None:
    """Keep what an answer tells; provisional rows are those of a source, which take the place of all before."""
    rows = [text.encode() for text in texts]

    def keep(state: ExportState) -> None:
        if provisional:
            state._execute("DELETE FROM staged WHERE provisional")
        for row in rows:
            state.stage(
                group.app,
                group.day,
                SerializedRows(group.dataset, 1, row),
                source="source" if provisional else "",
                provisional=provisional,
            )

    await disk.change(keep)
    if provisional:
        world.provisional = rows
    else:
        world.final += rows


async def first(world: World, parts: PartWriter, disk: StateThread) -> None:
    """A run with rows that come little by little, for several files, and provisional ones."""
    await parts.resume()
    for number in range(3):
        await stage(world, disk, ONE, f"[a{number}]", f"[b{number}]")
        await parts.flush_ready()
    await stage(world, disk, TWO, *(f"[c{number}]" for number in range(4)))
    await parts.flush_ready()
    await stage(world, disk, ONE, "[d0]", "[d1]")
    await parts.flush_ready()
    await stage(world, disk, ONE, "[d2]")
    await stage(world, disk, TWO, "[now]", provisional=True)
    await parts.flush_all()
    await parts.publish_database()


async def second(world: World, parts: PartWriter, disk: StateThread) -> None:
    """A run for which nothing is provisional any more."""
    await parts.resume()
    await stage(world, disk, TWO, provisional=True)
    await stage(world, disk, TWO, "[now it is over]")
    await parts.flush_all()
    await parts.publish_database()


async def to_the_end(world: World) -> bool:
    """Run twice, and return whether it came to that."""
    try:
        for story in (first, second):
            async with process(world) as (parts, disk):
                await story(world, parts, disk)
    except Death:
        return False
    return True


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    monkeypatch.setattr(part_writer, "_FLUSH_SIZE", 6)
    monkeypatch.setattr(part_writer, "_MAX_BACKLOG", 12)


@pytest.fixture
async def lives(tmp_path) -> Callable[[int], World]:
    """Makes worlds that end at a step, one after the other."""

    def made(last: int) -> World:
        folder = tmp_path / str(last)
        folder.mkdir()
        return World(folder, last)

    return made


async def steps_of(lives: Callable[[int], World]) -> list[str]:
    world = lives(0)
    assert await to_the_end(world)
    return world.steps


def check(world: World) -> None:
    """Every row is in one file, once, and the provisional ones are in the part for them."""
    final = [row for name, rows in world.files.items() if not name.endswith(" 0") for row in rows]
    assert sorted(final) == sorted(world.final)
    assert [row for name, rows in world.files.items() if name.endswith(" 0") for row in rows] == world.provisional


async def test_every_row_is_in_exactly_one_part(lives):
    world = lives(0)
    assert await to_the_end(world)
    check(world)
    assert {name: len(rows) for name, rows in world.files.items()} == {
        "calls app 1 1": 4,  # full at ten bytes, of which six come at a time
        "calls app 1 2": 2,
        "calls app 1 3": 2,
        "calls app 1 4": 1,
        "sessions app 2 1": 4,
        "sessions app 2 2": 1,
    }


async def test_after_a_crash_at_any_step_every_row_exists_once(lives):
    for last, step in enumerate(await steps_of(lives), 1):
        world = lives(last)
        assert not await to_the_end(world), step
        world.last = 0
        async with process(world) as (parts, disk):
            await parts.resume()
            await parts.flush_all()
            await parts.publish_database()
            check(world)
            expected = {parts.target.name(part): told for part, told in disk.state.known_parts()}
            assert expected == {name: facts(rows) for name, rows in world.files.items()}, step


async def test_after_a_power_cut_at_any_step_the_state_knows_every_file(lives):
    for last, step in enumerate(await steps_of(lives), 1):
        world = lives(last)
        assert not await to_the_end(world), step
        kept = world.folder / "kept.db"
        if not kept.exists():
            assert not world.files, step
            continue
        shutil.copy(kept, world.path)
        async with process(world) as (parts, disk):
            expected = {parts.target.name(part): told for part, told in disk.state.known_parts()}
            found = {
                name: FileStat(size=told.bytes, mark="other")
                for name, told in ((name, facts(rows)) for name, rows in world.files.items())
            }
            assert not compare(expected, found, lambda name: facts(world.files[name]).sha256), step  # noqa: B023


async def test_provisional_rows_are_written_first_so_that_no_reader_sees_one_twice(lives):
    steps = await steps_of(lives)
    assert steps.index("removed sessions app 2 0") < steps.index("finish sessions app 2 2")
    assert steps.index("finished sessions app 2 0") < steps.index("finish calls app 1 4")


async def test_no_manifest_is_written_by_a_superseded_run(lives):
    steps = await steps_of(lives)
    assert {steps[number - 1] for number, step in enumerate(steps) if step == "reopen"} == {"checked"}


async def test_staged_rows_are_written_once_there_are_enough(lives):
    steps = await steps_of(lives)
    assert steps[:2] == ["kept some", "begin calls 1"]
    assert steps.count("kept some") == 5
    assert steps.index("finished calls app 1 1") < steps.index("begin calls 2")


async def test_no_second_part_starts_before_enough_new_rows_are_staged(lives):
    steps = await steps_of(lives)
    # What was open ended with what it had, once another had a full part; not before, and not as late as all else.
    assert steps.index("finish calls app 1 2") < steps.index("begin sessions 3")
    assert steps.index("finished sessions app 2 1") < steps.index("begin calls 4")
    world = lives(-1)
    async with process(world) as (parts, disk):
        for group, texts in ((ONE, ("[a]", "[b]")), (TWO, ("[cc]", "[dd]"))):
            await stage(world, disk, group, *texts)
            await parts.flush_ready()
        assert world.steps == ["kept some", "begin calls 1", "kept some"]


@pytest.mark.parametrize("wanting", [None, Part(1, "calls", "app", 1, 1), Part(1, "calls", "app", 1, 0)])
async def test_no_manifest_is_complete_if_a_part_is_known_to_be_gone(lives, wanting):
    world = lives(0)
    async with process(world) as (parts, disk):
        if wanting:
            await disk.change(lambda state: state.adopt_part(wanting, facts([b"[]"])))
            await disk.change(lambda state: state.record_lost_rows(wanting, 1, "gone", None))
        await parts.prepare()
    assert world.steps == (["checked", "reopen"] if wanting else [])


async def test_a_few_rows_stay_staged(lives):
    world = lives(0)
    async with process(world) as (parts, disk):
        await stage(world, disk, ONE, "[]")
        await parts.flush_ready()
        assert world.steps == ["kept some"]


async def test_the_content_of_a_database_is_stored_once_it_is_closed(lives, monkeypatch):
    told, world = facts([b"[1]"]), lives(0)
    monkeypatch.setattr(Target, "publish_database", lambda self: told)
    async with process(world) as (parts, _):
        await parts.publish_database()
    kept = ExportState(world.folder / "kept.db", PLACE)
    assert kept.database() == attrs.evolve(told, rows=0)
    kept.close()


async def test_written_rows_are_counted_and_the_target_is_closed_once(lives):
    world = lives(0)
    async with process(world) as (parts, disk):
        await first(world, parts, disk)
        await parts.abort()
        assert parts.rows_written == len(world.final) + 1
        assert parts.target.closed == 1


async def test_an_error_of_closing_is_reported_and_hides_no_earlier_error(lives, monkeypatch):
    def fails(_: Target) -> None:
        raise OSError("no room")

    monkeypatch.setattr(Target, "close", fails)
    async with process(lives(0)) as (parts, _):
        with pytest.raises(ExportError, match="'place' cannot be written: no room"):
            await parts.publish_database()
    async with process(lives(-1)) as (parts, _):
        await parts.abort()
