"""A pytest fixture. Import it into a `conftest.py` or a test module.

```python
import asyncio

from agora_analytics.simulator.fixtures import agora_simulator


def test_my_report(agora_simulator):
    async def calls_of_the_last_hour():
        async with agora_simulator.client() as client:
            return [call async for call in client.calls.search(*client.calls.recent(3_600))]

    assert asyncio.run(calls_of_the_last_hour())
```
"""

from __future__ import annotations

import pytest

from agora_analytics.simulator.simulation import Simulation


@pytest.fixture
def agora_simulator() -> Simulation:
    """Return a new `Simulation` for each test, on real time or on the time of the `VirtualLoop` that runs the test."""
    return Simulation()
