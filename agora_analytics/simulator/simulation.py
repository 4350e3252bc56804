"""A world, a service over it and clients of that service in one object: what a test needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agora_analytics._core import validation
from agora_analytics.plans import Plan
from agora_analytics.protocols import WallClock
from agora_analytics.simulator.clocks import Clock, HostClock
from agora_analytics.simulator.fault_schedule import Faults
from agora_analytics.simulator.service.service import Service
from agora_analytics.simulator.service.variants import Variants
from agora_analytics.simulator.transport import Latency, SimulatorTransport

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient
    from agora_analytics.simulator.world.world import World


class Simulation:
    """A simulated service, and transports and clients that hold the right credentials for it.

    Pass either a service or its parts: `world`, `plan` (default: enterprise), `clock` (UTC seconds at which the
    service starts, or a clock; default: the host's time, see `Clock`), `faults` and `variants`. Raises `TypeError` if
    both are given.

    ```python
    import asyncio

    from agora_analytics.simulator import Simulation, World


    async def main():
        simulation = Simulation(world=World(seed=7), plan="premium", clock=1_795_521_600)
        async with simulation.client() as client:
            found = [call async for call in client.calls.search(*client.calls.recent(3_600))]
        call = simulation.world.call(found[0].call_id)
        assert call and call.cname == found[0].cname
        assert {entry.endpoint for entry in simulation.service.log} == {"call_lists"}


    asyncio.run(main())
    ```

    Attributes:
        service: the simulated service.
        host_clock: the wall clock of the machine on which the clients of `client()` run; assign `host_clock.wrong` to
            set it wrong.

    """

    def __init__(
        self,
        service: Service | None = None,
        *,
        world: World | None = None,
        plan: Plan | str | None = None,
        clock: WallClock | float | None = None,
        faults: Faults | None = None,
        variants: Variants | None = None,
    ) -> None:
        parts = {"world": world, "plan": plan, "clock": clock, "faults": faults, "variants": variants}
        given = [name for name, part in parts.items() if part is not None]
        # Ignored parts would leave a test that checks another service than it says.
        if service is not None and given:
            raise TypeError(f"{', '.join(given)}: the service already has its own; pass a service or its parts")
        if service is None:
            variants = validation.none_or(validation.instance, "variants", variants, Variants)
            # The plan with every endpoint and the widest limits: a test meets no refusal that it did not ask for.
            plan = "enterprise" if plan is None else plan
            service = Service(world, plan, clock=Clock.of(clock), faults=faults, variants=variants)
        self.service = validation.instance("service", service, Service)
        self.host_clock = HostClock(self._now)

    @property
    def world(self) -> World:
        """The world that the service reports on: the truth to compare results with."""
        return self.service.world

    @property
    def app_id(self) -> str:
        """The App ID that the service accepts."""
        return self.service.app_id

    @property
    def clock(self) -> Clock:
        """The service's clock."""
        return self.service.clock

    @property
    def faults(self) -> Faults:
        """The fault schedule; may be replaced at any time."""
        return self.service.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.service.faults = faults

    @property
    def variants(self) -> Variants:
        """How the service behaves where the API reference leaves a choice; may be replaced at any time."""
        return self.service.variants

    @variants.setter
    def variants(self, variants: Variants) -> None:
        self.service.variants = validation.instance("variants", variants, Variants)

    def transport(self, *, latency: Latency = (0.0, 0.0), hosts: int = 2, timeout: float = 30.0) -> SimulatorTransport:
        """Return a transport to the service; `latency` and `timeout` are in seconds, see `SimulatorTransport`."""
        return SimulatorTransport(self.service, latency=latency, hosts=hosts, timeout=timeout)

    def client(self, **options: Any) -> AnalyticsClient:
        """Return a client of the service, with the service's plan, on the host's clock.

        `options` are passed to `AnalyticsClient` and override these defaults. The transport always sends the right
        credentials; to have the service reject them, use `Faults.always(Fault("status", status=401))`.
        """
        # Imported late: the simulator also works without the client.
        from agora_analytics import AnalyticsClient  # noqa: PLC0415

        defaults: dict[str, Any] = {
            "customer_id": self.service.customer_id,
            "customer_secret": self.service.customer_secret,
            "app_id": self.app_id,
            "plan": self.service.plan,
            "transport": self.transport(),
            # Not the service's own clock: a client cannot read that, and must cope with a host that is wrong.
            "clock": self.host_clock,
        }
        return AnalyticsClient(**{**defaults, **options})

    def _now(self) -> float:
        # Looked up on each call, because a test may replace the service's clock.
        return self.service.clock()
