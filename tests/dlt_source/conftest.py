"""A warehouse for each test of the dlt source."""

from __future__ import annotations

import pytest
from helpers.dlt_warehouse import Warehouse, open_warehouse


@pytest.fixture
def warehouse(tmp_path, monkeypatch) -> Warehouse:
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    return open_warehouse(tmp_path)
