"""A pytest fixture to import into a `conftest.py` or a test module."""

from __future__ import annotations

import pytest

from agora_analytics.simulator.simulation import Simulation


@pytest.fixture
def agora_simulator() -> Simulation:
    """Return a simulation of its own for each test; it keeps real time, or the time of the `VirtualLoop` it runs on."""
    return Simulation()
