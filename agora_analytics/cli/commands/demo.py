"""`agora-analytics demo`: the main job against a simulated service in this process, over real HTTP on loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

import agora_analytics as agora
from agora_analytics.cli.commands.simulate import Plan, Seed
from agora_analytics.cli.options import Shown, command

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient
    from agora_analytics.simulator import Service

_NO_PROXY = ("no_proxy", "NO_PROXY")


@command
async def demo(
    shown: Shown,
    seed: Seed = 1,
    plan: Plan = "enterprise",
    windows: Annotated[int, typer.Option(help="New 20-second windows to wait for.", min=0)] = 1,
) -> None:
    """Search calls, drill into one, watch real-time windows: on a simulated service, without an account.

    Example: agora-analytics demo --windows 3
    """
    from agora_analytics.cli.commands.demo_steps import Tour  # noqa: PLC0415 - what it needs takes longer than any help
    from agora_analytics.simulator import Service, World  # noqa: PLC0415
    from agora_analytics.simulator.server import serve  # noqa: PLC0415

    service = Service(World(seed=seed), plan)
    async with serve(service) as url, _client(service, url) as client:
        tour = Tour(client, shown.screen)
        tour.begin(f"A simulated service at {url}: world {seed}, plan {service.plan.name}")
        with _unproxied(url):
            await tour.calls()
            await tour.realtime(windows)
        await tour.spent(sum(service.counts.values()), sum(service.refusals.values()))


def _client(service: Service, url: str) -> AnalyticsClient:
    """Return a client with the simulator's credentials, whatever the environment holds: those must not go there."""
    from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET  # noqa: PLC0415

    return agora.AnalyticsClient(CUSTOMER_ID, CUSTOMER_SECRET, app_id=APP_ID, plan=service.plan, base_url=url)


@contextmanager
def _unproxied(url: str) -> Iterator[None]:
    """Keep loopback from the proxies of the environment, which the client honours."""
    before = {name: os.environ.get(name) for name in _NO_PROXY}
    host = urlsplit(url).hostname or ""
    os.environ.update({name: ",".join(filter(None, (before[name], host))) for name in _NO_PROXY})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
