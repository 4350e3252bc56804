"""A simulated Agora Analytics service: test your code without a network, an account or waiting.

```python
import asyncio

from agora_analytics.simulator import Fault, Faults, Simulation, VirtualLoop, World


async def main():
    simulation = Simulation(world=World(seed=7), plan="premium", clock=1_795_521_600)
    simulation.faults = Faults.script([Fault("status", status=503)])  # the first request fails, and the client retries
    async with simulation.client() as client:
        start, end = client.calls.recent(3_600)
        found = {call.call_id async for call in client.calls.search(start, end)}
    assert found == {call.call_id for call in simulation.world.calls(start, end)}
    assert simulation.service.counts == {"call_lists": 2}  # two pages; the failure was of a gateway, and not counted


with asyncio.Runner(loop_factory=VirtualLoop) as runner:
    runner.run(main())
```

| Question | Where to look |
| --- | --- |
| How do I get a client of the simulator? | `Simulation.client()`, or `fixtures.agora_simulator` in pytest |
| Where is the world of `agora-analytics demo` and `simulate`? | `World(seed=…)`; its code is in `world/` |
| How does the service answer? | `Service`; its code is in `service/`, with a module for each group of endpoints |
| How do I script a fault? | `Fault` says what goes wrong, `Faults` says when |
| How do I try other readings of the API reference? | `Variants`; many at once: `Variants.hostile()` |
| How do I make a day take a second? | `VirtualLoop`, an event loop on virtual time |
| How do I suspend the machine, or set its clock wrong? | `Clock.suspend()`, `HostClock.wrong` |
| How do I use up the quota? | `Service.spend()`, or all day long `OtherProgram` |
| What did my code request? | `Service.log`, `Service.counts`, `Service.refusals` |
| How do I reach it from another process? | `server.serve()`, or `agora-analytics simulate` |
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
