"""What the service says of one App ID holds for that one alone."""

from __future__ import annotations

import asyncio

import pytest

from agora_analytics import AnalyticsClient, PlanRefused
from agora_analytics.protocols import Request, Response

REFUSED = b'{"code":300,"message":"you have no auth to access this service","data":null}'
EMPTY = b'{"code":200,"call_lists":[]}'


class OneWithout:
    """A service whose plan does not include the App ID `poor`; remembers whose requests came."""

    hosts = 1

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def send(self, request: Request, host: int = 0) -> Response:
        app = request.query.split("&")[0].removeprefix("appid=")
        self.asked.append(app)
        return Response(200, {}, REFUSED if app == "poor" else EMPTY)

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        pass


async def ask(client: AnalyticsClient) -> None:
    await client.calls.page(*client.calls.recent(3_600))


@pytest.mark.parametrize("quotas", [True, False])
async def test_no_auth_for_one_app_id_blocks_that_one_alone_and_for_an_hour(clock, quotas):
    service = OneWithout()
    poor = AnalyticsClient(
        "customer", "the-secret", app_id="poor", plan="premium", transport=service, clock=clock, quotas=quotas
    )
    rich = poor.with_app("rich")
    for _ in range(2):
        with pytest.raises(PlanRefused):
            await ask(poor)
        await ask(rich)
    assert service.asked == ["poor", "rich", "rich"]
    await asyncio.sleep(3_601)
    with pytest.raises(PlanRefused):
        await ask(poor)
    assert service.asked[3:] == ["poor"]
