"""How many workers run the suite."""

from __future__ import annotations

import os

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: many tests wait for processes of their own."""
    return 2 * (os.cpu_count() or 1)
