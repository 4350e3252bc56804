"""Beside the instrumentation of aiohttp: an attempt has one span, and the App ID stays out of it."""

from __future__ import annotations

import aiohttp
import pytest
from helpers.telemetry import Telemetry
from opentelemetry.instrumentation import aiohttp_client

from agora_analytics import AnalyticsClient
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Service, World
from agora_analytics.simulator.server import serve

pytestmark = pytest.mark.real_time


async def send_requests(telemetry, url_filter=None, **options):
    """Send a request of a client, and another one in the same session, which is instrumented."""
    config = aiohttp_client.create_trace_config(tracer_provider=telemetry.tracer_provider, url_filter=url_filter)
    async with (
        serve(Service(World(seed=7), "premium")) as url,
        aiohttp.ClientSession(trace_configs=[config]) as session,
        AnalyticsClient(
            CUSTOMER_ID, CUSTOMER_SECRET, app_id=APP_ID, plan="premium", base_url=url, session=session, **options
        ) as client,
    ):
        await client.calls.page(*client.calls.recent(600))
        async with session.get(f"{url}/other") as other:
            assert other.status == 404


async def test_the_instrumentation_of_aiohttp_alone_records_the_app_id():
    telemetry = Telemetry()
    await send_requests(telemetry)
    assert APP_ID in telemetry.everything()


async def test_a_filter_of_urls_keeps_the_app_id_out_of_the_instrumentation_of_aiohttp():
    telemetry = Telemetry()
    await send_requests(telemetry, lambda url: str(url.with_query(None)))
    assert telemetry.attempts()[0].attributes["http.url"].endswith("/beta/analytics/call/lists")
    assert APP_ID not in telemetry.everything()


@pytest.mark.skipif(
    not hasattr(aiohttp_client, "is_http_instrumentation_enabled"), reason="this version cannot be silenced"
)
async def test_an_attempt_has_one_span_and_other_requests_of_the_session_keep_theirs():
    telemetry = Telemetry()
    await send_requests(telemetry, observers=[telemetry.observer()])
    own, other = telemetry.attempts()
    assert (own.name, own.attributes["server.address"]) == ("GET /beta/analytics/call/lists", "127.0.0.1")
    assert other.attributes["http.url"].endswith("/other")
    assert APP_ID not in telemetry.everything()
