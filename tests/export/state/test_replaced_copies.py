"""Remote copies of a state that another run replaces while they are read, and claims that are released."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.export_machines import RemotePlace
from helpers.export_runs import export, last_hours, remove_rate_limits, request_count, revoked_after

from agora_analytics import ExportError, Selection
from agora_analytics.export.sinks.remote import RemoteSink
from agora_analytics.simulator import Faults, Simulation

Contents = dict[str, bytes]


def replace_files(remote_place: RemotePlace, contents: Contents) -> None:
    """Replace all files of a URL by these."""
    top = remote_place.to.partition("://")[2]
    for path in remote_place.files().values():
        remote_place.store.rm_file(path)
    for name, content in contents.items():
        remote_place.store.makedirs(f"/{top}/{name}".rpartition("/")[0], exist_ok=True)
        remote_place.store.pipe_file(f"/{top}/{name}", content)


@pytest.fixture
def replace_copies(monkeypatch, memory_place: RemotePlace):
    """Return a function that replaces all files, as other runs do, before or after each download of a state copy."""

    def replace_copies(all_contents: list[Contents], *, after: bool = False) -> None:
        get, remaining = RemoteSink.get, iter(all_contents)

        def get_and_replace(self: RemoteSink, name: str, file: Path) -> None:
            contents = next(remaining, None) if "/state-" in name else None
            if after or contents is None:
                get(self, name, file)
            if contents is not None:
                replace_files(memory_place, contents)
            if not after and contents is not None:
                get(self, name, file)

        monkeypatch.setattr(RemoteSink, "get", get_and_replace)

    return replace_copies


@pytest.fixture
def history(simulation: Simulation, memory_place: RemotePlace, killed):
    """Return a function that kills runs on other machines, and returns all files after each of them."""

    async def history(count: int, form: str) -> list[Contents]:
        remove_rate_limits(simulation)
        all_contents = []
        for number in range(count):
            simulation.faults = revoked_after(request_count(simulation) + 8)
            with killed():
                await memory_place.run(simulation, f"other {number}", format=form, concurrency=1)
            all_contents.append(memory_place.contents())
        simulation.faults = Faults()
        return all_contents

    return history


@pytest.mark.parametrize("times", [1, 2])
async def test_a_copy_replaced_before_it_is_read_does_not_end_the_run(
    simulation, memory_place, truth, history, replace_copies, times
):
    first, *later = await history(times + 1, "jsonl")
    replace_files(memory_place, first)
    replace_copies(later)
    before = request_count(simulation)
    assert (await memory_place.run(simulation, "one")).complete
    assert memory_place.rows() == truth
    replace_files(memory_place, later[-1])
    cost, before = request_count(simulation) - before, request_count(simulation)
    await memory_place.run(simulation, "two")
    assert cost == request_count(simulation) - before  # both resumed where the last of the other runs stopped


async def test_a_copy_that_is_replaced_repeatedly_is_reported(simulation, memory_place, truth, history, replace_copies):
    first, *later = await history(4, "jsonl")
    replace_files(memory_place, first)
    replace_copies(later)
    with pytest.raises(ExportError, match="cannot be read") as error:
        await memory_place.run(simulation, "one")
    assert error.value.kind == "disk"
    assert (await memory_place.run(simulation, "one")).complete
    assert memory_place.rows() == truth


async def test_a_copy_replaced_while_it_is_read_is_not_reported_as_damaged(
    simulation, memory_place, truth, database_history, replace_copies
):
    first, *later = await database_history(2)
    replace_files(memory_place, first)
    replace_copies(later, after=True)
    assert (await memory_place.run(simulation, "one", format="sqlite")).complete
    assert memory_place.rows() == truth


@pytest.fixture
def database_history(simulation: Simulation, memory_place: RemotePlace, killed, monkeypatch):
    """Return a function like `history`, for runs into a database that copy it and the state after every answer."""

    async def database_history(count: int) -> list[Contents]:
        monkeypatch.setattr("agora_analytics.export.state.remote_copy._MIN_INTERVAL", 0.0)
        monkeypatch.setattr("agora_analytics.export.state.remote_copy._DATABASE_INTERVAL_FACTOR", 0)
        all_contents = []
        for number in range(count):
            simulation.faults = revoked_after(request_count(simulation) + 8)
            with killed():
                await memory_place.run(simulation, f"other {number}", format="sqlite", concurrency=1)
            assert any("/database-" in name for name in memory_place.files())
            all_contents.append(memory_place.contents())
        simulation.faults = Faults()
        return all_contents

    return database_history


# Claims


def after_claim(monkeypatch, react: Callable[[], None]) -> list[str]:
    """Call a function after each claim was written; return a list to which the claims are appended."""
    create, claims = RemoteSink.create, []

    def create_and_react(self: RemoteSink, name: str, content: bytes) -> None:
        create(self, name, content)
        claims.append(name)
        react()

    monkeypatch.setattr(RemoteSink, "create", create_and_react)
    return claims


def test_a_claim_is_released_if_its_caller_is_cancelled(tmp_path, memory_place, monkeypatch):
    async def cancel() -> list[str]:
        loop, simulation = asyncio.get_running_loop(), Simulation()
        async with simulation.client() as client:
            selection = Selection(*client.calls.recent(3_600), datasets=("calls",))
            task = asyncio.create_task(
                client.export.run(selection, memory_place.to, format="jsonl", state=tmp_path / "one")
            )
            claims = after_claim(monkeypatch, lambda: loop.call_soon_threadsafe(task.cancel))
            with pytest.raises(asyncio.CancelledError):
                await task
        return claims

    assert len(asyncio.run(cancel())) == 1  # not the virtual loop, which runs no other threads
    assert memory_place.files() == {}


async def test_a_claim_that_was_written_but_not_confirmed_is_released(simulation, memory_place, tmp_path, monkeypatch):
    def fail() -> None:
        raise ConnectionError("no answer")

    claims = after_claim(monkeypatch, fail)
    with pytest.raises(ExportError, match="no answer"):
        await export(simulation, last_hours(1, "calls"), memory_place.to, state=tmp_path / "one")
    assert (len(claims), memory_place.files()) == (1, {})
