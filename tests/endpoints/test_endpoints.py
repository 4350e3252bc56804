"""Endpoints over aiohttp: what is sent, header by header, and what the responses become."""

from __future__ import annotations

import re

import aiohttp
import pytest
from aioresponses import aioresponses
from helpers.mocked import MockedResponse
from yarl import URL

from agora_analytics import AnalyticsClient, Filter, Retry, TransportError, Unauthorized

pytestmark = pytest.mark.real_time

NOW = 1_631_837_600
HOST = "https://api.agora.io"


@pytest.fixture
def mocked():
    with aioresponses() as mock:
        yield mock


@pytest.fixture
async def client():
    async with AnalyticsClient(
        "customer", "the-secret", app_id="app", plan="enterprise", clock=lambda: NOW, retry=Retry(base=0)
    ) as client:
        yield client


def reply(mocked, path: str, body: str, method: str = "get", status: int = 200, **options) -> None:
    pattern = re.compile(re.escape(HOST + path) + r"\?.*")
    getattr(mocked, method)(pattern, body=body, status=status, response_class=MockedResponse, **options)


def sent(mocked, method: str = "GET") -> tuple[URL, dict]:
    ((_, url), calls), *_ = mocked.requests.items()
    return url, calls[0].kwargs


async def test_a_get_has_its_query_and_no_credentials_before_aiohttp_builds_it(mocked, client):
    reply(mocked, "/beta/analytics/call/lists", '{"code":0,"call_lists":[],"has_more":false}')
    await client.calls.page(NOW - 3600, NOW - 60, cname="a b&c", page_size=20)
    url, options = sent(mocked)
    assert dict(url.query) == {
        "appid": "app",
        "start_ts": str(NOW - 3600),
        "end_ts": str(NOW - 60),
        "cname": "a b&c",
        "page_no": "1",
        "page_size": "20",
    }
    assert "Authorization" not in options["headers"]
    assert options["headers"]["Accept"] == "application/json"
    assert "Content-Type" not in options["headers"]
    assert options["allow_redirects"] is False
    # The transport measures the total itself.
    assert (options["timeout"].total, options["timeout"].sock_connect) == (None, 10)


async def test_a_post_has_a_json_body_and_the_app_id_in_its_query(mocked, client):
    body = '{"code":200,"data":[{"region":"Shanghai","userCount":42}]}'
    reply(mocked, "/beta/insight/usage/aggregation", body, "post")
    start, end = client.insights.recent(86_400)
    (total,) = await client.insights.usage_total(
        "userCount", start, end, dimension="region", dimension_values=["Shanghai"], filters=[Filter("country", "China")]
    )
    assert (total.value, total.dimension_value) == (42, "Shanghai")
    url, options = sent(mocked, "POST")
    assert dict(url.query) == {"appid": "app"}
    assert options["headers"]["Content-Type"] == "application/json"
    assert options["data"] == (
        b'{"startTs":%d,"endTs":%d,"metric":"userCount","dimension":"region","dimensionValues":["Shanghai"],'
        b'"filters":[{"name":"country","value":"China"}]}' % (start, end)
    )


async def test_dimension_values_are_quoted_in_a_query(mocked, client):
    reply(mocked, "/beta/realtime/usage/by_time_20sec", '{"code":200,"message":null,"data":[]}')
    start, end = client.realtime.recent(600)
    values = ["3.6.1.1", "4.1.1"]
    await client.realtime.usage("userCount", start, end, product="Native", dimension="sdk", dimension_values=values)
    url, _ = sent(mocked)
    assert url.query["dimensionValues"] == '"3.6.1.1","4.1.1"'


async def test_an_http_status_of_a_gateway_raises_its_error(mocked, client):
    reply(mocked, "/beta/analytics/call/lists", '{"message":"Invalid authentication credentials"}', status=401)
    with pytest.raises(Unauthorized, match="Check Customer ID"):
        await client.calls.page(NOW - 3600, NOW - 60)


@pytest.mark.parametrize("body", ["<!doctype html><title>Log in</title>", "<?xml version='1.0'?><Error/>", "", "null"])
async def test_a_body_that_is_not_json_is_retried(mocked, client, body):
    reply(mocked, "/beta/analytics/call/lists", body, content_type="text/html")
    reply(mocked, "/beta/analytics/call/lists", '{"code":0,"call_lists":[{"call_id":"c"}]}')
    page = await client.calls.page(NOW - 3600, NOW - 60)
    assert [call.call_id for call in page.items] == ["c"]


async def test_an_aiohttp_error_becomes_a_transport_error_without_its_request(mocked):
    reply(mocked, "/beta/analytics/call/lists", "", exception=aiohttp.ServerDisconnectedError())
    settings = {"app_id": "app", "plan": "enterprise", "clock": lambda: NOW, "retry": Retry(attempts=1)}
    async with AnalyticsClient("customer", "the-secret", **settings) as client:
        with pytest.raises(TransportError) as caught:
            await client.calls.page(NOW - 3600, NOW - 60)
    assert "ServerDisconnectedError" in str(caught.value)
    chain = caught.value
    while chain is not None:
        assert not isinstance(chain, aiohttp.ClientError)
        chain = chain.__cause__ or chain.__context__
