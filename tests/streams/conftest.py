"""Checkpoint stores of each kind; the contract is tested with all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.checkpoints import OwnCheckpoints

from agora_analytics import FileCheckpoints, MemoryCheckpoints
from agora_analytics.protocols import CheckpointStore

NewStore = Callable[[], CheckpointStore]


@pytest.fixture(params=["memory", "file", "own"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    """Return a function that returns a store with the same checkpoints each time, as another process has it.

    A store of your own can be added here: the tests of this fixture are what streams rely on.
    """
    if request.param == "memory":
        store = MemoryCheckpoints()
        return lambda: store
    if request.param == "own":
        rows: dict[str, tuple[int, str]] = {}
        return lambda: OwnCheckpoints(rows)
    return lambda: FileCheckpoints(tmp_path / "checkpoints")


@pytest.fixture
def store(new_store: NewStore) -> CheckpointStore:
    return new_store()
