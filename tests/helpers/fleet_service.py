"""Many simulated accounts on one port, as the service has them, and workers of a fleet that use them, as processes."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from agora_analytics import Plan, Series
from agora_analytics.fleet import Account, Secret, WatchJob
from agora_analytics.simulator import Service, World
from agora_analytics.simulator.server import _Host, _listening

SINK = Secret(env="FLEET_SINK_URL") if os.environ.get("FLEET_SINK_URL") else None
USERS = Series("userCount", product="Native")
FRESH = (
    Plan.of("enterprise")
    .with_limits("realtime", per_minute=600, per_day=864_000)
    .with_limits("call_lists", per_second=200, per_day=864_000)
    .with_limits("call_details", per_second=200, per_day=864_000)
)
"""So many requests that each window is polled once it is there, and an export of days takes seconds."""

WORLD = World(seed=7, calls_per_hour=20)


class Accounts:
    """Services by customer ID; all have the same world, and each its own quota.

    Attributes:
        delay: seconds after which each answer is sent.

    """

    def __init__(self, count: int, plan=FRESH) -> None:
        self.services = {f"customer{number}": self._service(number, plan) for number in range(count)}
        self._handlers = {name: _Host(service, 0) for name, service in self.services.items()}
        self.closing = asyncio.Event()
        self.delay = 0.0

    def _service(self, number: int, plan) -> Service:
        return Service(
            WORLD, plan, customer_id=f"customer{number}", customer_secret=f"secret{number}", app_id=app(number)
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Basic ")
        customer = base64.b64decode(token).decode().partition(":")[0]
        handler = self._handlers.get(customer)
        answer = web.Response(status=401) if handler is None else await handler.handle(request)
        await asyncio.sleep(self.delay)
        return answer

    @property
    def refused(self) -> int:
        """How many requests were refused for their number."""
        return sum(entry.status == 429 for service in self.services.values() for entry in service.log)


def app(number: int) -> str:
    return f"{number:016x}"


@asynccontextmanager
async def listening(accounts: Accounts) -> AsyncIterator[str]:
    """Serve the accounts; yields the base URL."""
    async with _listening(accounts, "127.0.0.1", 0) as url:  # type: ignore[arg-type] - it handles requests
        yield url


def described(count: int, url: str, **options) -> list[Account]:
    """Return the description of so many accounts, with one watch each."""
    return [
        Account(
            name=f"a{number}",
            plan=FRESH,
            customer_id=Secret(env=f"FLEET_ID_{number}"),
            customer_secret=Secret(env=f"FLEET_SECRET_{number}"),
            base_url=url,
            jobs=[WatchJob(app_id=app(number), series=[USERS], **options)],
        )
        for number in range(count)
    ]


def secrets(count: int) -> dict[str, str]:
    """Return the environment of workers."""
    return {
        **{f"FLEET_ID_{number}": f"customer{number}" for number in range(count)},
        **{f"FLEET_SECRET_{number}": f"secret{number}" for number in range(count)},
    }
