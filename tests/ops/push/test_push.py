"""History by push: each final window once accepted, with its own time, to real receivers and to those that fail."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiohttp import web
from helpers.echo_server import error_report
from helpers.prometheus import MISSING, PROMETHEUS, prometheus
from helpers.streaming import BUSY, FREEZES, NETWORKS, NOON, USERS, values_by_group

from agora_analytics import Gap, MemoryCheckpoints, Revision, Series, Span, Window, broadcast
from agora_analytics.models import Point
from agora_analytics.ops import Push, PushError
from agora_analytics.ops.push.remote_write import snappy
from agora_analytics.simulator import Simulation

pytestmark = pytest.mark.real_time


class Receiver:
    """A receiver of OTLP that answers with each of `answers`, and then accepts everything."""

    def __init__(self, *answers: web.Response) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.accepted: list[dict] = []

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        if self.answers:
            return self.answers.pop(0)
        self.accepted.append(json.loads(body))
        return web.json_response({})

    def points(self) -> dict[tuple[str, int, tuple], float]:
        """Return the value of each data point by metric, seconds and attributes."""
        found = {}
        for body in self.accepted:
            (resource,) = body["resourceMetrics"]
            for metric in resource["scopeMetrics"][0]["metrics"]:
                for point in metric["gauge"]["dataPoints"]:
                    labels = tuple(one["value"]["stringValue"] for one in point["attributes"])
                    found[metric["name"], int(point["timeUnixNano"]) // 10**9, labels] = point["asDouble"]
        return found


@asynccontextmanager
async def receiving(receiver: Receiver):
    """Serve a receiver, and return its URL."""
    application = web.Application()
    application.router.add_post("/v1/metrics", receiver.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/metrics"
    finally:
        await runner.cleanup()


def window(value: float = 3, **more) -> Window:
    points = (Point.of(NOON, value, metric="userCount"),)
    return Window(ts=NOON, **{"values": {USERS: points}, "final": True} | more)


def watched(client, *series: Series, **options):
    return client.realtime.watch(*series, start=timedelta(minutes=15), only_final=True, **options)


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


@pytest.mark.process
@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
async def test_prometheus_has_each_window_at_its_own_time(tmp_path):
    simulation = Simulation(world=BUSY, plan="enterprise")
    receiver = ("--web.enable-remote-write-receiver",)
    async with simulation.client() as client, prometheus("127.0.0.1:1", tmp_path, options=receiver) as server:
        watch = watched(client, USERS, NETWORKS, FREEZES)
        async with watch, Push(f"{server.address}/api/v1/write", app="shop") as push:
            windows = await pushed(push, watch, 20)
        for metric, series in (("users", USERS), ("users", NETWORKS), ("video_freeze_ratio", FREEZES)):
            dimension = f',dimension="{series.dimension}"' if series.dimension else ',dimension=""'
            selector = f'agora_realtime_{metric}{{app="shop",product="Native"{dimension}}}[1d]'
            seen: dict = {}
            for labels, samples in await server.samples(selector):
                for ts, value in samples:
                    seen.setdefault(ts, {})[labels.get("value")] = value
            assert seen == {one.ts: values_by_group(one.values[series]) for one in windows if series in one.values}
            assert len(seen) > 10


async def test_otlp_has_each_window_at_its_own_time():
    simulation, receiver = Simulation(world=BUSY, plan="enterprise"), Receiver()
    async with simulation.client() as client, receiving(receiver) as url:
        watch = watched(client, USERS, NETWORKS)
        async with watch, Push(url, app="shop", protocol="otlp") as push:
            windows = await pushed(push, watch, 10)
    points = receiver.points()
    for one in windows:
        assert points["agora_realtime_users", one.ts, ("shop", "Native")] == one.value(USERS)
        for network, value in one.by_group(NETWORKS).items():
            assert points["agora_realtime_users", one.ts, ("shop", "Native", "net", network)] == value
    assert len(points) == sum(len(values) for one in windows for values in one.values.values())


async def test_a_window_is_sent_again_until_it_is_accepted():
    busy = web.Response(status=429, headers={"Retry-After": "1"})
    receiver = Receiver(web.Response(status=503), busy)
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp") as push:
        begun = asyncio.get_running_loop().time()
        assert await push.send(window()) == 1
        assert asyncio.get_running_loop().time() - begun >= 1
    assert len(receiver.requests) == 3
    assert list(receiver.points().values()) == [3]


@pytest.mark.parametrize(
    ("answer", "status", "problem"),
    [
        (web.Response(status=400, text="out of order sample"), 400, "out of order sample"),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), 302, "HTTP 302"),
        (web.Response(status=401), 401, "HTTP 401"),
        (
            web.json_response({"partialSuccess": {"rejectedDataPoints": "1", "errorMessage": "too old"}}),
            200,
            "1 points were rejected: too old",
        ),
    ],
    ids=["refused", "redirected", "unauthorized", "partly refused"],
)
async def test_what_a_receiver_refuses_is_an_error_and_no_secret_is_in_it(answer, status, problem):
    receiver = Receiver(answer)
    secret = {"Authorization": "Bearer secret-token"}
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp", headers=secret) as push:
        with pytest.raises(PushError, match=problem) as raised:
            await push.send(window())
        assert raised.value.status == status
        assert "secret" not in f"{raised.value!r} {push!r} {vars(raised.value)}"
        assert raised.value.__context__ is None
    ((headers, _),) = receiver.requests
    assert headers["Authorization"] == "Bearer secret-token"


async def test_an_answer_that_comes_in_pieces_is_read_to_its_end():
    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse()
        await response.prepare(request)
        for part in (b'{"partialSuccess": {"rejected', b'DataPoints": "1"}}'):
            await response.write(part)
            await asyncio.sleep(0.05)
        return response

    receiver = Receiver()
    receiver.handle = handle
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp") as push:
        with pytest.raises(PushError, match="1 points were rejected"):
            await push.send(window())


async def test_a_retry_after_that_is_no_number_is_passed_over():
    answers = (web.Response(status=503, headers={"Retry-After": text}) for text in ("\xb2", "soon"))
    receiver = Receiver(*answers)
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp") as push:
        await push.send(window())
    assert len(receiver.requests) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://user:s3cretword@localhost/"},
        {"app": ""},
        {"app": 5},
        {"protocol": "smtp"},
        {"max_wait": -1},
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


async def test_a_receiver_that_is_not_there_is_tried_for_max_wait_seconds():
    async with Push("http://127.0.0.1:1/", app="shop", max_wait=1) as push:
        begun = asyncio.get_running_loop().time()
        with pytest.raises(PushError, match="ClientConnectorError") as raised:
            await push.send(window())
        assert asyncio.get_running_loop().time() - begun < 3
        assert raised.value.status is None


async def test_only_a_receiver_that_replaces_values_gets_revisions():
    before = window(final=False).values[USERS]
    revision = Revision(ts=NOON, series=USERS, before=before, after=window(5).values[USERS])
    receiver = Receiver()
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


async def test_a_restart_sends_what_was_not_accepted_and_loses_nothing():
    simulation, stores = Simulation(world=BUSY, plan="enterprise"), MemoryCheckpoints()
    receiver = Receiver()
    sent: list[Window] = []
    async with receiving(receiver) as url, simulation.client(checkpoints=stores) as client:
        for _ in range(3):
            watch = watched(client, USERS, checkpoint="history")
            async with watch, Push(url, app="shop", protocol="otlp", max_wait=0.1) as push:
                sent += await pushed(push, watch, 4)
                receiver.answers = [web.Response(status=400)]
                with pytest.raises(PushError):
                    await push.send(await anext(watch))
    stamps = sorted({ts for _, ts, _ in receiver.points()})
    assert stamps == list(range(stamps[0], stamps[-1] + 20, 20))
    assert {one.ts for one in sent} == set(stamps)


async def test_a_hub_buffers_events_while_the_receiver_is_slow():
    simulation, receiver = Simulation(world=BUSY, plan="enterprise"), Receiver(web.Response(status=503))
    async with simulation.client() as client, receiving(receiver) as url:
        watch = watched(client, USERS)
        async with watch, broadcast(watch, size=100) as hub, Push(url, app="shop", protocol="otlp") as push:
            windows = await pushed(push, hub.subscribe(), 10)
    assert {ts for _, ts, _ in receiver.points()} == {one.ts for one in windows}


def unsnapped(block: bytes) -> bytes:
    """Read a block of literals, as the format's description has it."""
    size, at, shift, data = 0, 0, 0, b""
    while True:
        size |= (block[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if block[at - 1] < 128:
            break
    while at < len(block):
        assert block[at] & 3 == 0, "not a literal"
        wide = max(0, (block[at] >> 2) - 59)
        length = int.from_bytes(block[at + 1 : at + 1 + wide], "little") if wide else block[at] >> 2
        data += block[at + 1 + wide : at + 2 + wide + length]
        at += 2 + wide + length
    assert len(data) == size
    return data


@pytest.mark.parametrize("size", [0, 1, 59, 60, 61, 127, 128, 65_535, 65_536, 65_537, 200_000])
def test_a_block_of_snappy_is_read_back(size):
    data = bytes(number % 251 for number in range(size))
    assert unsnapped(snappy(data)) == data


@pytest.mark.parametrize("url", ["", "localhost:9090", "ftp://host", "http://", None])
def test_a_url_must_be_of_http(url):
    with pytest.raises(ValueError, match=r"url: allowed .* \(value not shown\)"):
        Push(url, app="shop")
