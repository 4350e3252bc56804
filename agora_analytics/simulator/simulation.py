"""A world, a service over it, and clients of it: what a test needs, in one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agora_analytics.protocols import WallClock
from agora_analytics.simulator.faults import Faults
from agora_analytics.simulator.service import Service
from agora_analytics.simulator.transport import Latency, SimulatorTransport

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient
    from agora_analytics.simulator.world import World


class Simulation:
    """A simulated service, and transports and clients that reach it with the right credentials.

    Attributes:
        service: the service; by default an enterprise account over the world of seed 1, on the host's clock.

    """

    def __init__(self, service: Service | None = None) -> None:
        self.service = service or Service()

    @property
    def world(self) -> World:
        """What the service tells about."""
        return self.service.world

    @property
    def app_id(self) -> str:
        """The App ID that the service knows."""
        return self.service.app_id

    @property
    def clock(self) -> WallClock:
        """The service's clock."""
        return self.service.clock

    @property
    def faults(self) -> Faults:
        """The schedule of faults; assign another at any time."""
        return self.service.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.service.faults = faults

    def transport(self, *, latency: Latency = (0.0, 0.0), hosts: int = 2, timeout: float = 30.0) -> SimulatorTransport:
        """Return a transport to the service."""
        return SimulatorTransport(self.service, latency=latency, hosts=hosts, timeout=timeout)

    def client(self, **options: Any) -> AnalyticsClient:
        """Return a client of the service on its plan and clock; `options` go to `AnalyticsClient` and come first."""
        # Imported late: the simulator stands beside the client and works without it.
        from agora_analytics import AnalyticsClient  # noqa: PLC0415

        settings: dict[str, Any] = {
            "customer_id": self.service.customer_id,
            "customer_secret": self.service.customer_secret,
            "app_id": self.app_id,
            "plan": self.service.plan,
            "transport": self.transport(),
            "clock": self.clock,
        }
        return AnalyticsClient(**{**settings, **options})
