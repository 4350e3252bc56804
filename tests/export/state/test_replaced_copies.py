"""Copies of a state that another run replaces while they are read, and claims that are given up."""

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


def become(remote_place: RemotePlace, contents: Contents) -> None:
    """Have a place hold these files and no others."""
    top = remote_place.to.partition("://")[2]
    for path in remote_place.files().values():
        remote_place.store.rm_file(path)
    for name, held in contents.items():
        remote_place.store.makedirs(f"/{top}/{name}".rpartition("/")[0], exist_ok=True)
        remote_place.store.pipe_file(f"/{top}/{name}", held)


@pytest.fixture
def replaced(monkeypatch, memory_place: RemotePlace):
    """Has a place become what other runs make of it, one after the other, each time a copy of the state is read."""

    def replaced(then: list[Contents], *, after: bool = False) -> None:
        get, left = RemoteSink.get, iter(then)

        def meanwhile(self: RemoteSink, name: str, file: Path) -> None:
            new = next(left, None) if "/state-" in name else None
            if after or new is None:
                get(self, name, file)
            if new is not None:
                become(memory_place, new)
            if not after and new is not None:
                get(self, name, file)

        monkeypatch.setattr(RemoteSink, "get", meanwhile)

    return replaced


@pytest.fixture
def history(simulation: Simulation, memory_place: RemotePlace, killed):
    """What runs of other machines left in a place, one after the other; those before the last were killed."""

    async def history(count: int, form: str) -> list[Contents]:
        remove_rate_limits(simulation)
        found = []
        for number in range(count):
            simulation.faults = revoked_after(request_count(simulation) + 8)
            with killed():
                await memory_place.run(simulation, f"other {number}", format=form, concurrency=1)
            found.append(memory_place.contents())
        simulation.faults = Faults()
        return found

    return history


@pytest.mark.parametrize("times", [1, 2])
async def test_a_copy_replaced_before_it_is_read_does_not_end_the_run(
    simulation, memory_place, truth, history, replaced, times
):
    first, *then = await history(times + 1, "jsonl")
    become(memory_place, first)
    replaced(then)
    before = request_count(simulation)
    assert (await memory_place.run(simulation, "one")).complete
    assert memory_place.rows() == truth
    become(memory_place, then[-1])
    cost, before = request_count(simulation) - before, request_count(simulation)
    await memory_place.run(simulation, "two")
    assert cost == request_count(simulation) - before  # it went on where the last of the others was


async def test_a_copy_that_is_replaced_repeatedly_is_reported(simulation, memory_place, truth, history, replaced):
    first, *then = await history(4, "jsonl")
    become(memory_place, first)
    replaced(then)
    with pytest.raises(ExportError, match="cannot be read") as told:
        await memory_place.run(simulation, "one")
    assert told.value.kind == "disk"
    assert (await memory_place.run(simulation, "one")).complete
    assert memory_place.rows() == truth


async def test_a_copy_replaced_while_it_is_read_is_not_reported_as_damaged(
    simulation, memory_place, truth, pairs, replaced
):
    first, *then = await pairs(2)
    become(memory_place, first)
    replaced(then, after=True)
    assert (await memory_place.run(simulation, "one", format="sqlite")).complete
    assert memory_place.rows() == truth


@pytest.fixture
def pairs(simulation: Simulation, memory_place: RemotePlace, killed, monkeypatch):
    """What killed runs left whose state goes with a database: each made a copy after every answer."""

    async def pairs(count: int) -> list[Contents]:
        monkeypatch.setattr("agora_analytics.export.state.remote_copy._MIN_INTERVAL", 0.0)
        monkeypatch.setattr("agora_analytics.export.state.remote_copy._DATABASE_INTERVAL_FACTOR", 0)
        found = []
        for number in range(count):
            simulation.faults = revoked_after(request_count(simulation) + 8)
            with killed():
                await memory_place.run(simulation, f"other {number}", format="sqlite", concurrency=1)
            assert any("/database-" in name for name in memory_place.files())
            found.append(memory_place.contents())
        simulation.faults = Faults()
        return found

    return pairs


# Claims


def claimed(monkeypatch, then: Callable[[], None]) -> list[str]:
    """Do something just when the store has a claim; return the claims that were made."""
    create, made = RemoteSink.create, []

    def noted(self: RemoteSink, name: str, held: bytes) -> None:
        create(self, name, held)
        made.append(name)
        then()

    monkeypatch.setattr(RemoteSink, "create", noted)
    return made


def test_a_claim_is_released_if_its_caller_is_cancelled(tmp_path, memory_place, monkeypatch):
    async def cancelled() -> list[str]:
        loop, simulation = asyncio.get_running_loop(), Simulation()
        async with simulation.client() as client:
            selection = Selection(*client.calls.recent(3_600), datasets=("calls",))
            task = asyncio.create_task(
                client.export.run(selection, memory_place.to, format="jsonl", state=tmp_path / "one")
            )
            made = claimed(monkeypatch, lambda: loop.call_soon_threadsafe(task.cancel))
            with pytest.raises(asyncio.CancelledError):
                await task
        return made

    assert len(asyncio.run(cancelled())) == 1  # a loop with threads
    assert memory_place.files() == {}


async def test_a_claim_that_the_store_has_but_denies_is_released(simulation, memory_place, tmp_path, monkeypatch):
    def fails() -> None:
        raise ConnectionError("no answer")

    made = claimed(monkeypatch, fails)
    with pytest.raises(ExportError, match="no answer"):
        await export(simulation, last_hours(1, "calls"), memory_place.to, state=tmp_path / "one")
    assert (len(made), memory_place.files()) == (1, {})
