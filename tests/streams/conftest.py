"""Checkpoint stores of each kind; the contract is tested with all."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from helpers.checkpoints import OwnCheckpoints
from helpers.object_server import ObjectServer

from agora_analytics import FileCheckpoints, MemoryCheckpoints
from agora_analytics.protocols import CheckpointStore
from agora_analytics.streams import ObjectCheckpoints, PostgresCheckpoints, RedisCheckpoints

NewStore = Callable[[], CheckpointStore]


@pytest.fixture(scope="session")
def objects() -> Iterator[ObjectServer]:
    """An S3 server for all tests of a worker; each uses a folder of its own."""
    server = ObjectServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["memory", "file", "own", "redis", "postgres", "pgbouncer", "objects"])
async def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NewStore]:
    """Return a function that returns a store with the same checkpoints each time, as another process has it.

    A store of your own can be added here: the tests of this fixture are what streams rely on.
    """
    memory, rows, prefix = MemoryCheckpoints(), {}, secrets.token_hex(4)
    kinds: dict[str, NewStore] = {
        "memory": lambda: memory,
        "own": lambda: OwnCheckpoints(rows),
        "file": lambda: FileCheckpoints(tmp_path / "checkpoints"),
    }
    if request.param not in kinds:
        server = request.getfixturevalue(request.param)
        kinds |= {
            "objects": lambda: ObjectCheckpoints(server.store(prefix)),
            "redis": lambda: RedisCheckpoints(server.url, prefix=prefix),
            "postgres": lambda: PostgresCheckpoints(server.url, table=f"checkpoints_{prefix}"),
            "pgbouncer": lambda: PostgresCheckpoints(server.url, table=f"checkpoints_{prefix}"),
        }
    made = []

    def new() -> CheckpointStore:
        made.append(kinds[request.param]())
        return made[-1]

    yield new
    for store in made:
        if hasattr(store, "close"):
            await store.close()
        if isinstance(store, FileCheckpoints):
            for name, epoch in tuple(store._claims):
                await store.release(name, epoch)


@pytest.fixture
def store(new_store: NewStore) -> CheckpointStore:
    return new_store()
