"""What a receiver of OTLP decodes with the official generated classes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from aiohttp import web
from helpers.otlp_receiver import PROTOBUF, OtlpReceiver, answer, receiving, window
from helpers.streaming import FULL, NETWORKS, NOON, USERS
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

import agora_analytics
from agora_analytics import Series, Window
from agora_analytics.models import Point
from agora_analytics.ops import Push, PushError
from agora_analytics.simulator import Simulation

pytestmark = pytest.mark.real_time


async def sent(*events) -> OtlpReceiver:
    """Return a receiver that has got these events."""
    receiver = OtlpReceiver()
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp") as push:
        for event in events:
            await push.send(event)
    return receiver


async def test_each_window_is_a_gauge_at_its_own_time():
    simulation, receiver, windows = Simulation(world=FULL, plan="enterprise"), OtlpReceiver(), []
    async with simulation.client() as client, receiving(receiver) as url:
        watch = client.realtime.watch(USERS, NETWORKS, start=timedelta(minutes=15), only_final=True)
        async with watch, Push(url, app="shop", protocol="otlp") as push:
            async for event in watch:
                await push.send(event)
                windows.append(event)
                if len(windows) == 10:
                    break
    expected = {}
    for one in windows:
        for series, points in one.values.items():
            for point in points:
                labels = {"app": "shop", "product": "Native"}
                labels |= {"dimension": "net", "value": point.dimension_value} if series.dimension else {}
                expected["agora_realtime_users", one.ts * 10**9, tuple(labels.items())] = point.value
    assert receiver.points() == expected
    assert len(receiver.timestamps()) == 10


async def test_metrics_have_name_unit_description_and_kind():
    metrics = ("userCount", "channelCount", "videoFreezeRate")
    values = {Series(metric, product="Native"): (Point.of(NOON, 0.5, metric=metric),) for metric in metrics}
    receiver = await sent(Window(ts=NOON, values=values, final=True))
    found = {metric.name: metric for metric in receiver.metrics()}
    assert {name: metric.unit for name, metric in found.items()} == {
        "agora_realtime_users": "{user}",
        "agora_realtime_channels": "{channel}",
        "agora_realtime_video_freeze_ratio": "1",
    }
    assert {metric.WhichOneof("data") for metric in found.values()} == {"gauge"}
    assert all(metric.description.endswith(".") for metric in found.values())


async def test_the_resource_names_the_service_and_the_scope_the_library():
    (request,) = (await sent(window())).accepted
    (resource,) = request.resource_metrics
    assert [(one.key, one.value.string_value) for one in resource.resource.attributes] == [
        ("service.name", "agora-analytics")
    ]
    (scope,) = resource.scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("agora_analytics", agora_analytics.__version__)


async def test_a_request_has_no_field_that_the_classes_do_not_know():
    receiver = await sent(window())
    ((headers, body),) = receiver.requests
    assert headers["Content-Type"] == PROTOBUF
    assert headers["User-Agent"] == "agora-analytics-python"
    assert ExportMetricsServiceRequest.FromString(body).SerializeToString(deterministic=True) == body
    (point,) = receiver.metrics()[0].gauge.data_points
    assert (point.time_unix_nano, point.WhichOneof("value"), point.as_double) == (NOON * 10**9, "as_double", 3.0)


async def test_points_that_were_rejected_are_an_error_that_is_not_sent_again():
    receiver = OtlpReceiver(answer(rejected=1, message="too old"))
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp") as push:
        with pytest.raises(PushError, match="1 points were rejected: too old") as raised:
            await push.send(window())
    assert (raised.value.status, raised.value.refused) == (200, True)
    assert len(receiver.requests) == 1


async def test_a_warning_of_a_receiver_that_took_all_points_is_logged(caplog):
    receiver = OtlpReceiver(answer(message="use a newer\nversion"))
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp") as push:
        assert await push.send(window()) == 1
    assert caplog.messages == ["the receiver accepted a window and says: use a newer version"]


@pytest.mark.parametrize(("status", "attempts"), [(500, 1), (501, 1), (502, 2), (503, 2), (504, 2), (429, 2)])
async def test_a_request_is_sent_again_after_the_statuses_that_the_specification_names(status, attempts):
    receiver = OtlpReceiver(answer(status))
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp") as push:
        if attempts == 1:
            with pytest.raises(PushError, match=f"HTTP {status}"):
                await push.send(window())
        else:
            await push.send(window())
    assert len(receiver.requests) == attempts


async def test_the_message_of_an_error_is_read_from_its_status():
    status = b"\x08\x03\x12\x0eno such tenant"  # google.rpc.Status: code 3, and the message
    receiver = OtlpReceiver(web.Response(status=400, body=status, content_type=PROTOBUF))
    async with receiving(receiver) as url, Push(url, app="shop", protocol="otlp") as push:
        with pytest.raises(PushError, match=r"HTTP 400: no such tenant$"):
            await push.send(window())
