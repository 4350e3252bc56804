"""A simulated Agora Analytics for tests without the network: a seeded world, the API over it, faults at will.

```python
async def test_my_dashboard():
    simulation = Simulation(world=World(seed=7), plan="premium", variants=Variants(shuffled_rows=True))
    async with simulation.client() as client:
        page = await client.calls.page(start, end)
    assert simulation.service.counts["call_lists"] == 1
```

`simulator.server.serve` offers the same over real sockets (it imports aiohttp), `simulator.fixtures` a pytest fixture;
on a `VirtualLoop` a day of either side takes seconds.
"""

from __future__ import annotations

from agora_analytics.simulator.clocks import Clock, HostClock
from agora_analytics.simulator.fault_schedule import Faults
from agora_analytics.simulator.faults import Fault
from agora_analytics.simulator.service.other_programs import OtherProgram
from agora_analytics.simulator.service.request_log import LogEntry
from agora_analytics.simulator.service.service import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Service
from agora_analytics.simulator.service.variants import Variants
from agora_analytics.simulator.simulation import Simulation
from agora_analytics.simulator.transport import SimulatorTransport
from agora_analytics.simulator.virtual_loop import VirtualLoop
from agora_analytics.simulator.world.entities import CallChange, Incident, SimulatedCall, SimulatedSession
from agora_analytics.simulator.world.world import World

__all__ = [
    "APP_ID",
    "CUSTOMER_ID",
    "CUSTOMER_SECRET",
    "CallChange",
    "Clock",
    "Fault",
    "Faults",
    "HostClock",
    "Incident",
    "LogEntry",
    "OtherProgram",
    "Service",
    "SimulatedCall",
    "SimulatedSession",
    "Simulation",
    "SimulatorTransport",
    "Variants",
    "VirtualLoop",
    "World",
]
