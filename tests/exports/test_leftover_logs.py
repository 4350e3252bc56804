"""A log of changes that a killed process left beside a copy is not applied to the file that takes its name."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from runs import free

from agora_analytics.export.state import copies
from agora_analytics.export.state.progress import State


def killed_with(path: Path) -> None:
    """Leave what a process leaves that is killed while it has an empty state open under this name."""
    aside = path.with_name("aside")
    aside.mkdir()
    with closing(State(aside / path.name, "aside")):
        for file in aside.iterdir():
            shutil.copy(file, path.parent)
    shutil.rmtree(aside)


def test_a_copy_is_what_was_fetched(tmp_path, monkeypatch):
    whole = State(tmp_path / "state.db", "place")
    with whole.transaction():
        whole.keep_settings({"format": "jsonl"})
    packed = tmp_path / "packed"
    whole.copy_to(packed)
    whole.close()

    class Store:
        def get(self, _: str, file: Path) -> None:
            shutil.copy(packed, file)

    copy = tmp_path / "state.copy"
    killed_with(copy)
    assert copy.with_name("state.copy-wal").stat().st_size > 0
    copies.get(Store(), "name", copy)
    copies.check(copy)  # raises where it is no state, or an empty one
    with closing(State(copy, "place")) as state:
        assert state.settings() == {"format": "jsonl"}


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_a_machine_whose_run_was_killed_takes_the_copy_in_the_store(tmp_path, simulation, memory, truth, form):
    free(simulation)
    await memory.run(simulation, "one", format=form, max_requests=5)
    await memory.run(simulation, "two", format=form, max_requests=5)
    (state,) = (tmp_path / "one").rglob("state.db")
    killed_with(state.with_name("state.copy"))
    report = await memory.run(simulation, "one", format=form)
    assert (report.complete, memory.rows()) == (True, truth)
