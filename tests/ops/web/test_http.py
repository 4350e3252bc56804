"""The server over HTTP on a loopback socket: pages, probes, the API, and what each answer holds."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest
from aiohttp import web
from helpers.paths import ROOT
from helpers.streaming import FULL, NETWORKS, USERS
from helpers.times import NOON
from helpers.web_server import grouped, site, until, window

from agora_analytics import Series
from agora_analytics.errors import LedgerError
from agora_analytics.models import Call
from agora_analytics.ops import LiveState, alerts, routes
from agora_analytics.ops.web.assets import load_assets
from agora_analytics.ops.web.board import listed
from agora_analytics.ops.web.replies import MAX_BODY
from agora_analytics.simulator import Fault, Faults, Simulation

pytestmark = pytest.mark.real_time


@pytest.fixture
async def client():
    async with Simulation(world=FULL, plan="enterprise").client() as found:
        yield found


@pytest.fixture
async def state(client):
    """A state without streams: the tests put into it what they need."""
    return LiveState(client, USERS, NETWORKS)


def call(at: int, **more) -> Call:
    return Call(call_id=f"C{at}", cname=f"room {at % 3}", created_ts=NOON + at, destroyed_ts=0, **more)


async def test_a_client_is_enough_and_the_state_lives_as_long_as_the_application(client):
    application = web.Application()
    inner = routes(client)
    application.add_subapp("/agora/", inner)
    async with site(application) as here:
        (state,) = (value for value in inner.values() if isinstance(value, LiveState))
        await until(state.board.newest)
        status = await here.get("/agora/api/v1/status")
        assert status["probe"] == {"status": "ok", "ready": True, "reasons": [], "notes": []}
        assert status["plan"] == "enterprise"
        assert len(status["app"]) == 5
        found = await here.get("/agora/api/v1/series")
        assert len(found["series"]) == 6
        assert all(one["start"] % 20 == 0 for one in found["series"])
        assert (await here.http.get("/agora/")).status == 200
    assert state.feed.closed


async def test_reading_costs_no_request(client):
    async with LiveState(client, USERS) as state, site(routes(state)) as here:
        await until(lambda: state.board.newest() and len(state.calls))
        await asyncio.sleep(0.2)
        spent = sum(one.requests for one in state.usage.hours())
        paths = ["status", "series", "calls", "calls?order=worst", "quota", "alerts"]
        for _ in range(20):
            await asyncio.gather(*(here.get(f"/api/v1/{path}") for path in paths))
        assert sum(one.requests for one in state.usage.hours()) == spent


async def test_the_series_hold_each_window(state):
    state.board.add(window(NOON, Native=3))
    state.board.add(grouped(NOON, NETWORKS, [("WIFI", 2), ("4G", 1)]))
    async with site(routes(state)) as here:
        users, networks = (await here.get("/api/v1/series"))["series"]
        assert users == {
            "id": "userCount Native",
            "metric": "userCount",
            "product": "Native",
            "cname": None,
            "dimension": None,
            "unit": "",
            "meaning": "users across all channels in use, counted once per channel",
            "start": NOON,
            "final_before": None,
            "states": ["complete"],
            "values": [3],
            "groups": None,
            "reasons": {},
            "revisions": {},
            "limits": [],
        }
        assert networks["groups"] == {"WIFI": [2], "4G": [1]}


async def test_the_series_have_the_thresholds_of_the_rules_in_force(client):
    rules = ("userCount:Native > 10 for 2", "userCount:Native < 2", "userCount:Native by net of 4G > 3")
    state = LiveState(client, Series("userCount", product="Native", weight=2), rules=map(alerts.parse, rules))
    async with site(routes(state, simulated=True)) as here:
        users, mobile = (await here.get("/api/v1/series"))["series"]
        assert users["limits"] == [
            {"limit": 10, "bad": "above", "rule": rules[0]},
            {"limit": 2, "bad": "below", "rule": rules[1]},
        ]
        assert [one["rule"] for one in mobile["limits"]] == [rules[2]]
        assert (await here.get("/api/v1/status"))["simulated"] is True


async def test_calls_can_be_ordered_filtered_and_limited(state):
    for at in range(9):
        state.calls.add(listed(call(at, finished=at > 4, call_pcu=at, call_video_freeze_rate=0.1), NOON))
    async with site(routes(state)) as here:

        async def ids(query: str) -> list[str]:
            return [one["call"]["call_id"] for one in (await here.get(f"/api/v1/calls?{query}"))["calls"]]

        assert await ids("") == [f"C{at}" for at in range(8, -1, -1)]
        assert await ids("order=worst&limit=2") == ["C8", "C7"]
        assert await ids("state=open&cname=room%200") == ["C3", "C0"]
        assert await ids("min_users=8") == ["C8"]
        whole = await here.get("/api/v1/calls?limit=1")
        assert (whole["known"], whole["matching"]) == (9, 9)


@pytest.mark.parametrize(
    "query",
    ["order=best", "state=x", "limit=0", "limit=1001", "limit=-1", "limit=1e3", "limit=9999999999999", "cname=",
     "cname=" + "x" * 201, "limit=%D9%A3"],
)  # fmt: skip
async def test_invalid_queries_are_refused_with_the_name_of_the_parameter(state, query):
    async with site(routes(state)) as here, here.http.get(f"/api/v1/calls?{query}") as response:
        assert response.status == 400
        error = (await response.json())["error"]
        assert error["code"] == query.partition("=")[0]
        assert "allowed" in error["text"]


async def test_the_probes_say_what_is_wrong():
    simulation = Simulation(world=FULL, plan="enterprise", faults=Faults.always(Fault("status", status=401)))
    async with simulation.client() as client, LiveState(client, USERS) as state, site(routes(state)) as here:
        await until(lambda: any(view.error for view in state.streams))
        assert await here.status("/healthz") == 200
        async with here.http.get("/readyz") as response:
            assert response.status == 503
            found = await response.json()
        assert found["status"] == "degraded"
        assert {reason["code"] for reason in found["reasons"]} >= {"starting", "windows"}
        assert simulation.service.customer_secret not in str(found)


async def test_the_server_is_unhealthy_only_where_a_restart_would_help(client, monkeypatch, caplog):
    async with LiveState(client, USERS, calls=False) as state, site(routes(state)) as here:
        await until(state.board.newest)
        assert await here.status("/readyz") == await here.status("/healthz") == 200
        monkeypatch.setattr(state.monitor, "refresh", lambda: 1 / 0)
        with state.feed.viewer():
            await until(lambda: state.failed)
        assert await here.status("/healthz") == 503
        assert (await (await here.http.get("/readyz")).json())["status"] == "failed"
    assert "no longer up to date" in caplog.text


async def test_a_ledger_that_cannot_be_read_leaves_the_server_serving(client, monkeypatch):
    async def fail():
        raise LedgerError("quota.db: database or disk is full")

    monkeypatch.setattr(client.quota._limiters, "snapshot", fail)
    async with LiveState(client, USERS, calls=False) as state, site(routes(state)) as here:
        assert (await here.get("/api/v1/quota"))["quota"] == {
            "at": None,
            "enforced": True,
            "counters": [],
            "ledger": "quota.db: database or disk is full",
        }
        assert await here.status("/healthz") == 200


async def test_without_the_extra_metrics_say_what_to_install(state, monkeypatch):
    monkeypatch.setitem(sys.modules, "agora_analytics.ops.metrics.collector", None)
    async with site(routes(state)) as here, here.http.get("/metrics") as response:
        assert response.status == 501
        assert "agora-analytics[ops]" in await response.text()


class Metrics:
    """Renders what it was asked for."""

    async def render(self, accept: str) -> tuple[bytes, str]:
        return accept.encode(), "text/plain; version=0.0.4; charset=utf-8"


async def test_metrics_are_rendered_in_the_format_that_the_scrape_accepts(state):
    accept = {"Accept": "application/openmetrics-text"}
    async with site(routes(state, metrics=Metrics())) as here, here.http.get("/metrics", headers=accept) as response:
        assert await response.text() == "application/openmetrics-text"
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_files_have_a_tag_and_are_compressed(state):
    async with site(routes(state)) as here:
        for path, kind in [("/", "text/html"), ("/static/app.js", "text/javascript"), ("/static/app.css", "text/css")]:
            async with here.http.get(path) as response:
                assert response.content_type == kind
                assert response.headers["Cache-Control"] == "no-cache"
                tag = response.headers["ETag"]
            assert await here.status(path, headers={"If-None-Match": tag}) == 304
            assert await here.status(path, headers={"If-None-Match": '"other"'}) == 200
        async with here.http.get("/static/app.js", headers={"Accept-Encoding": "gzip"}) as response:
            assert response.headers["Content-Encoding"] == "gzip"
        async with here.http.get("/static/app.js", headers={"Accept-Encoding": "identity"}) as response:
            assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize(
    "path",
    ["/static/../guard.py", "/static/..%2fguard.py", "/static/%2e%2e/guard.py", "/static//etc/passwd",
     "/static/login.html", "/static/", "/static/app.js%00", "/static/..\\guard.py", "/api/v1/none", "/static/a/b"],
)  # fmt: skip
async def test_only_the_files_of_the_page_are_served(state, path):
    async with site(routes(state)) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))
        assert b"def " not in answer


async def test_a_body_that_is_too_large_is_not_read_to_its_end(state):
    async with site(routes(state)) as here:
        assert await here.status("/login", "POST", data=b"token=" + b"x" * (MAX_BODY + 1)) == 413


async def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_script(state):
    async with site(routes(state)) as here:
        for path in ("/", "/login", "/static/app.js", "/static/app.css"):
            text = await (await here.http.get(path)).text()
            assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
            assert "https://" not in text
            assert "<script>" not in text
            assert " style=" not in text
            assert " onclick=" not in text


def test_the_reference_lists_every_path(state):
    page = (ROOT / "docs/reference/http-api.md").read_text(encoding="utf-8")
    documented = {
        (method, path.replace("{id}", "{call_id}"))
        for methods, path in re.findall(r"`((?:GET|POST)(?:`, `POST)?) (/[^`?]*)`", page.partition("## Access")[0])
        for method in methods.split("`, `")
    }
    documented |= {("GET", "/readyz")}
    served = {
        (route.method, route.resource.canonical) for route in routes(state).router.routes() if route.method != "HEAD"
    }
    assert documented == served


def test_the_reference_lists_every_event():
    page = (ROOT / "docs/reference/http-api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", page.partition("## Events")[2], re.MULTILINE))
    code = "".join(path.read_text() for path in (ROOT / "agora_analytics/ops/web").glob("*.py"))
    assert documented == {*re.findall(r'publish\("(\w+)"', code), "reset"}


def test_the_files_of_the_page_are_below_300_kilobytes():
    assert sum(len(asset.body) for asset in load_assets().values()) < 300_000
