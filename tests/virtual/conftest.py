"""Every test here runs on virtual time, from a fixed moment on: noon, 24 November 2026, UTC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agora_analytics.protocols import WallClock
from agora_analytics.simulator import Service, Simulation, VirtualLoop, World

NOON = 1_795_521_600


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualLoop}


@pytest.fixture
async def clock() -> WallClock:
    """The wall clock that goes with the loop's time."""
    loop = asyncio.get_running_loop()
    return lambda: NOON + loop.time()


@pytest.fixture
async def simulation(clock: WallClock) -> Simulation:
    return Simulation(Service(World(seed=7), "premium", clock=clock))
