"""A world, a service over it, and clients of it: what a test needs, in one object."""

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
    """A simulated service, and transports and clients that reach it with the right credentials.

    Give a service, or the parts of one: its `world`, `plan` (enterprise by default), `clock` (a moment in UTC seconds
    at which it starts, or a clock; by default the host's time, see `Clock`), `faults` and `variants`. Raises
    `TypeError` for both.

    Attributes:
        service: the service.
        host_clock: the wall clock of the machine that clients of `client()` run on; assign its `wrong` to set it wrong.

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
        if service is not None and given:
            raise TypeError(f"{', '.join(given)}: already the service's; give a service or its parts, not both")
        if service is None:
            variants = validation.none_or(validation.instance, "variants", variants, Variants)
            plan = "enterprise" if plan is None else plan
            service = Service(world, plan, clock=Clock.of(clock), faults=faults, variants=variants)
        self.service = validation.instance("service", service, Service)
        self.host_clock = HostClock(self._now)

    @property
    def world(self) -> World:
        """What the service tells about."""
        return self.service.world

    @property
    def app_id(self) -> str:
        """The App ID that the service knows."""
        return self.service.app_id

    @property
    def clock(self) -> Clock:
        """The service's clock."""
        return self.service.clock

    @property
    def faults(self) -> Faults:
        """The schedule of faults; assign another at any time."""
        return self.service.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.service.faults = faults

    @property
    def variants(self) -> Variants:
        """How the service reads what the reference leaves open, and what it does besides; assign others at any time."""
        return self.service.variants

    @variants.setter
    def variants(self, variants: Variants) -> None:
        self.service.variants = validation.instance("variants", variants, Variants)

    def transport(self, *, latency: Latency = (0.0, 0.0), hosts: int = 2, timeout: float = 30.0) -> SimulatorTransport:
        """Return a transport to the service."""
        return SimulatorTransport(self.service, latency=latency, hosts=hosts, timeout=timeout)

    def client(self, **options: Any) -> AnalyticsClient:
        """Return a client of the service on its plan and the host's clock.

        `options` go to `AnalyticsClient` and come first. Its transport carries the right credentials whatever they say:
        let the service refuse them with `Faults.always(Fault("status", status=401))`.
        """
        # Imported late: the simulator stands beside the client and works without it.
        from agora_analytics import AnalyticsClient  # noqa: PLC0415

        settings: dict[str, Any] = {
            "customer_id": self.service.customer_id,
            "customer_secret": self.service.customer_secret,
            "app_id": self.app_id,
            "plan": self.service.plan,
            "transport": self.transport(),
            "clock": self.host_clock,
        }
        return AnalyticsClient(**{**settings, **options})

    def _now(self) -> float:
        # Read each time: a test may give the service another clock later on.
        return self.service.clock()
