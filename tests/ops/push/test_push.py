"""History by push: each window until it is accepted, what a receiver refuses, revisions, settings."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest
from aiohttp import web
from helpers.echo_server import error_report
from helpers.otlp_receiver import OtlpReceiver, answer, receiving, window
from helpers.streaming import FULL, NOON, USERS

from agora_analytics import Gap, MemoryCheckpoints, Revision, Series, Span, Window, broadcast
from agora_analytics.models import Point
from agora_analytics.ops import Push, PushError
from agora_analytics.simulator import HostClock, Simulation

pytestmark = pytest.mark.real_time


def watched(client, **options):
    return client.realtime.watch(USERS, start=timedelta(minutes=15), only_final=True, **options)


async def pushed(push: Push, watch, number: int) -> list[Window]:
    """Send so many windows of a watch, and return them."""
    windows: list[Window] = []
    async for event in watch:
        await push.send(event)
        if isinstance(event, Window):
            windows.append(event)
        if len(windows) == number:
            return windows
    return windows


async def test_a_window_is_sent_again_until_it_is_accepted():
    busy = web.Response(status=429, headers={"Retry-After": "1"})
    receiver = OtlpReceiver(web.Response(status=503), busy)
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp") as push:
        begun = asyncio.get_running_loop().time()
        assert await push.send(window()) == 1
        assert asyncio.get_running_loop().time() - begun >= 1
    assert len(receiver.requests) == 3
    assert list(receiver.points().values()) == [3]


@pytest.mark.parametrize(
    ("answer", "status", "problem", "refused"),
    [
        (web.Response(status=400, text="out of order sample"), 400, "HTTP 400: out of order sample", True),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), 302, "HTTP 302", False),
        (web.Response(status=401, text="no such Bearer secret-token"), 401, r"HTTP 401: no such \*\*\*$", False),
        (answer(rejected=1, message="too old"), 200, "1 points were rejected: too old", True),
        (web.Response(text="<form>", content_type="text/html"), 200, "HTTP 200 with a web page", False),
    ],
    ids=["refused", "redirected", "unauthorized", "partly refused", "a login page"],
)
async def test_what_a_receiver_refuses_is_an_error_and_no_secret_is_in_it(answer, status, problem, refused):
    receiver = OtlpReceiver(answer)
    secret = {"Authorization": "Bearer secret-token"}
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp", headers=secret) as push:
        with pytest.raises(PushError, match=problem) as raised:
            await push.send(window())
        assert (raised.value.status, raised.value.refused) == (status, refused)
        assert "secret" not in f"{raised.value!r} {push!r} {vars(raised.value)}"
        assert raised.value.__context__ is None
    ((headers, _),) = receiver.requests  # it was not sent again, and nowhere else
    assert headers["Authorization"] == "Bearer secret-token"


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://user:s3cretword@localhost/"},
        {"app": ""},
        {"app": 5},
        {"protocol": "smtp"},
        {"max_wait": -1},
        {"timeout": 0},
        {"replaces_values": 5},
        {"headers": {"Authorization": "s3cretword", "X": 5}},
        {"headers": ["s3cretword"]},
        {"url": "http://[s3cretword"},
        {"headers": {"X": "s3cretword\r\nY: 1"}},
    ],
)
def test_a_wrong_setting_is_refused_without_a_secret(wrong):
    settings = {"url": "http://localhost/s3cretword", "app": "shop", "headers": {"Authorization": "s3cretword"}}
    with pytest.raises((ValueError, TypeError)) as caught:
        Push(**(settings | wrong))
    assert "s3cretword" not in error_report(caught.value)


async def test_only_a_receiver_that_replaces_values_gets_revisions():
    before = window(final=False).values[USERS]
    revision = Revision(ts=NOON, series=USERS, before=before, after=window(5).values[USERS])
    receiver = OtlpReceiver()
    async with receiving(receiver) as url:
        async with Push(url, app="shop", protocol="otlp", replaces_values=True) as push:
            assert [await push.send(one) for one in (window(final=False), revision)] == [1, 1]
        assert list(receiver.points().values()) == [5]
        async with Push(url, app="shop", protocol="otlp") as push:
            with pytest.raises(ValueError, match="only_final=True"):
                await push.send(revision)
            assert await push.send(Gap(span=Span(NOON, NOON + 20))) == 0
            assert await push.send(window(values={}, missing={USERS: "no data"})) == 0
            with pytest.raises(TypeError, match="event="):
                await push.send("window")
    assert len(receiver.requests) == 2


async def test_a_revision_of_quality_is_weighted_by_the_users_of_its_window():
    users = Series("userCount", product="Native", dimension="country")
    freezes = Series("videoFreezeRate", product="Native", dimension="country")

    def points(metric: str, values: list[float], ts: int = NOON) -> tuple[Point, ...]:
        return tuple(
            Point.of(ts, value, metric=metric, dimension="country", dimension_value=f"c{number}")
            for number, value in enumerate(values)
        )

    # The last two of 22 countries have few users, and together they are `other`.
    many, first = points("userCount", [50.0] * 20 + [9, 1]), points("videoFreezeRate", [0.1] * 20 + [0, 1])
    second, receiver = points("videoFreezeRate", [0.1] * 20 + [1, 0]), OtlpReceiver()
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp", replaces_values=True) as push:
        await push.send(Window(ts=NOON, values={users: many, freezes: first}))
        assert others(receiver) == pytest.approx(0.1)
        for later in range(20, 1_000, 20):
            fewer = points("userCount", [1.0], NOON + later)
            await push.send(Window(ts=NOON + later, values={users: fewer}))
        await push.send(Revision(ts=NOON, series=freezes, before=first, after=second))
        assert others(receiver) == pytest.approx(0.9)


def others(receiver: OtlpReceiver) -> float:
    """Return the freezes of the values of a dimension that are not shown one by one."""
    (found,) = (
        value
        for (metric, _, attributes), value in receiver.points().items()
        if "freeze" in metric and ("value", "other") in attributes
    )
    return found


async def test_the_users_that_are_kept_for_revisions_are_bounded():
    users = Series("userCount", product="Native", dimension="country")
    settings = {"app": "shop", "protocol": "otlp", "replaces_values": True}
    async with receiving(OtlpReceiver()) as url, Push(url, **settings) as push:
        for number in range(70):
            ts = NOON + 20 * number
            point = Point.of(ts, 3, metric="userCount", dimension="country", dimension_value="CN")
            await push.send(Window(ts=ts, values={users: (point,)}))
        assert len(push._users) == 64


async def test_a_restart_sends_what_was_not_accepted_and_loses_nothing():
    host = HostClock(time.time)
    simulation, stores = Simulation(world=FULL, plan="enterprise", clock=host), MemoryCheckpoints()
    receiver = OtlpReceiver()
    sent: list[Window] = []
    async with receiving(receiver) as url:
        for host.wrong in (0, 60, 120):  # a restart takes a minute: by then a watch polls again
            async with simulation.client(checkpoints=stores) as client:
                watch = watched(client, checkpoint="history")
                async with watch, Push(url, app="shop", protocol="otlp", max_wait=0.1) as push:
                    sent += await pushed(push, watch, 4)
                    receiver.answers = [web.Response(status=400)]
                    with pytest.raises(PushError):
                        await push.send(await anext(watch))
    stamps = receiver.timestamps()
    assert stamps == list(range(stamps[0], stamps[-1] + 20, 20))
    assert {one.ts for one in sent} == set(stamps)


async def test_a_hub_buffers_events_while_the_receiver_is_slow():
    simulation, receiver = Simulation(world=FULL, plan="enterprise"), OtlpReceiver(web.Response(status=503))
    async with simulation.client() as client, receiving(receiver) as url:
        watch = watched(client)
        async with watch, broadcast(watch, size=100) as hub, Push(url, app="shop", protocol="otlp") as push:
            windows = await pushed(push, hub.subscribe(), 10)
    assert receiver.timestamps() == [one.ts for one in windows]


@pytest.mark.parametrize("url", ["", "localhost:9090", "ftp://host", "http://", None])
def test_a_url_must_be_of_http(url):
    with pytest.raises(ValueError, match=r"url: allowed .* \(value not shown\)"):
        Push(url, app="shop")
