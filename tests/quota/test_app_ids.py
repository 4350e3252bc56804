"""A refusal of one App ID has no effect on other App IDs."""

from __future__ import annotations

import asyncio

import pytest

from agora_analytics import AnalyticsClient, PlanRefused
from agora_analytics.protocols import Request, Response

REFUSED = b'{"code":300,"message":"you have no auth to access this service","data":null}'
EMPTY = b'{"code":200,"call_lists":[]}'


class OneExcludedApp:
    """A service that refuses the App ID `excluded`; records the App ID of each request."""

    hosts = 1

    def __init__(self) -> None:
        self.app_ids: list[str] = []

    async def send(self, request: Request, host: int = 0) -> Response:
        app = request.query.split("&")[0].removeprefix("appid=")
        self.app_ids.append(app)
        return Response(200, {}, REFUSED if app == "excluded" else EMPTY)

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        pass


async def request_page(client: AnalyticsClient) -> None:
    await client.calls.page(*client.calls.recent(3_600))


@pytest.mark.parametrize("quotas", [True, False])
async def test_a_plan_refusal_blocks_only_its_app_id_and_for_twenty_minutes(clock, quotas):
    service = OneExcludedApp()
    excluded = AnalyticsClient(
        "customer", "the-secret", app_id="excluded", plan="premium", transport=service, clock=clock, quotas=quotas
    )
    included = excluded.with_app("included")
    for _ in range(2):
        with pytest.raises(PlanRefused):
            await request_page(excluded)
        await request_page(included)
    assert service.app_ids == ["excluded", "included", "included"]
    await asyncio.sleep(1_201)
    with pytest.raises(PlanRefused):
        await request_page(excluded)
    assert service.app_ids[3:] == ["excluded"]
