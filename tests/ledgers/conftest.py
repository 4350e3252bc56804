"""The ledgers there are, and the file of the one that has one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agora_analytics import FileLedger, MemoryLedger
from agora_analytics.protocols import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "quota.db"


@pytest.fixture
async def file(path: Path) -> AsyncIterator[FileLedger]:
    ledger = FileLedger(path)
    yield ledger
    await ledger.close()


@pytest.fixture(params=["memory", "file"])
async def ledger(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Ledger]:
    ledger = MemoryLedger() if request.param == "memory" else FileLedger(path)
    yield ledger
    await ledger.close()
