"""Spans and metrics of requests: what they are called, what they hold, and whose child a span is."""

from __future__ import annotations

import asyncio
import contextvars
from importlib.metadata import version

import opentelemetry.trace
import pytest
from helpers.telemetry import Telemetry
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from agora_analytics import (
    AgoraError,
    BadRequest,
    QuotaExhausted,
    RateLimited,
    Series,
    Unauthorized,
    broadcast,
)
from agora_analytics.ops import OpenTelemetry
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Fault, Faults

HTTP = {
    "http.request.method": "GET",
    "url.template": "/beta/analytics/call/lists",
    "server.address": "host0.agora.test",
    "server.port": 443,
}
USERS = Series("userCount", product="Native")


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


async def page(client, **more):
    return await client.calls.page(*client.calls.recent(600), **more)


def client_of(simulation, telemetry, **options):
    return simulation.client(observers=[telemetry.observer()], **options)


async def test_a_request_is_an_internal_span_and_its_attempt_a_client_span_below_it(simulation, telemetry):
    async with client_of(simulation, telemetry) as client:
        await page(client)
    attempt, request = telemetry.spans()
    assert (request.name, request.kind, request.parent) == ("agora.call_lists", SpanKind.INTERNAL, None)
    assert dict(request.attributes) == {
        "agora.endpoint": "call_lists",
        "agora.priority": "interactive",
        "agora.outcome": "ok",
    }
    assert (attempt.name, attempt.kind) == ("GET /beta/analytics/call/lists", SpanKind.CLIENT)
    assert attempt.parent.span_id == request.context.span_id
    assert dict(attempt.attributes) == HTTP | {
        "agora.counter": "call_lists",
        "agora.waited": 0.0,
        "http.response.status_code": 200,
    }
    assert {span.status.status_code for span in (attempt, request)} == {StatusCode.UNSET}
    scope = request.instrumentation_scope
    assert (scope.name, scope.version) == ("agora_analytics", version("agora-analytics"))


async def test_each_retry_is_a_span_with_its_number_its_host_and_its_error(simulation, telemetry):
    simulation.faults = Faults.script([Fault("refused"), Fault("status", status=503), Fault("refused")])
    async with client_of(simulation, telemetry) as client:
        await page(client)
    found = [span.attributes for span in telemetry.attempts()]
    assert [each.get("http.request.resend_count") for each in found] == [None, 1, 2, 3]
    assert [each["server.address"][:5] for each in found] == ["host0", "host0", "host1", "host1"]
    broken = "agora_analytics.errors.TransportError"
    assert [each.get("error.type") for each in found] == [broken, "503", broken, None]
    assert [each.get("http.response.status_code") for each in found] == [None, 503, None, 200]
    assert [span.status.is_ok for span in telemetry.attempts()] == [False, False, False, True]
    assert telemetry.request().status.is_ok
    assert len({span.parent.span_id for span in telemetry.attempts()}) == 1


FAILURES = {
    "an error of HTTP": (Fault("status", status=401), Unauthorized, 401, "401", "error"),
    "an error in the body": (Fault("refusal", code=400), BadRequest, 200, None, "error"),
    "too many requests": (Fault("busy"), RateLimited, 429, "429", "refused"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_an_error_marks_both_spans_with_its_type(simulation, telemetry, failure):
    fault, error, status, kind, outcome = FAILURES[failure]
    simulation.faults = Faults.always(fault)
    async with client_of(simulation, telemetry) as client:
        with pytest.raises(error):
            await page(client)
    name = f"agora_analytics.errors.{error.__name__}"
    attempt, request = telemetry.attempts()[-1], telemetry.request()
    assert attempt.attributes["http.response.status_code"] == status
    assert attempt.attributes["error.type"] == (kind or name)
    assert (request.attributes["error.type"], request.attributes["agora.outcome"]) == (name, outcome)
    assert {span.status.status_code for span in (attempt, request)} == {StatusCode.ERROR}
    assert [span.events for span in telemetry.spans() if span.events] == []


async def test_the_id_of_a_refused_request_is_an_attribute_for_the_support(simulation, telemetry):
    simulation.faults = Faults.always(Fault("refusal"))
    async with client_of(simulation, telemetry) as client:
        with pytest.raises(BadRequest) as caught:
            await page(client)
    assert telemetry.attempts()[-1].attributes["agora.request_id"] == caught.value.request_id != ""


async def test_the_wait_for_quota_is_an_attribute_of_the_attempt_and_a_metric(simulation, telemetry):
    async with client_of(simulation, telemetry) as client:
        await asyncio.gather(*(page(client) for _ in range(30)))
    waits = [span.attributes["agora.waited"] for span in telemetry.attempts()]
    assert max(waits) > 0.5
    (point,) = telemetry.points("agora.quota.wait_time")
    assert dict(point.attributes) == {"agora.counter": "call_lists", "agora.priority": "interactive"}
    assert (point.count, point.sum) == (30, pytest.approx(sum(waits)))


async def test_a_request_without_quota_has_a_span_without_attempts(simulation, telemetry):
    simulation.service.spend("call_lists", 10**6)
    async with client_of(simulation, telemetry, max_wait=0) as client:
        for _ in range(2):
            with pytest.raises(QuotaExhausted):
                await page(client)
    refused, unsent = telemetry.requests()
    assert {span.parent.span_id for span in telemetry.attempts()} == {refused.context.span_id}
    assert unsent.attributes["agora.outcome"] == "quota"
    assert unsent.attributes["error.type"] == "agora_analytics.errors.QuotaExhausted"
    assert unsent.status.status_code is StatusCode.ERROR


async def test_a_cancelled_request_ends_both_spans_and_only_the_attempt_counts_as_failed(simulation, telemetry):
    transport = simulation.transport(latency=(5.0, 5.0))
    async with client_of(simulation, telemetry, transport=transport) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await page(client)
    attempt, request = telemetry.spans()
    assert attempt.attributes["error.type"] == "asyncio.exceptions.CancelledError"
    assert attempt.status.status_code is StatusCode.ERROR
    assert request.attributes["agora.outcome"] == "cancelled"
    assert request.status.status_code is StatusCode.UNSET


async def test_durations_are_histograms_in_seconds_with_the_advised_buckets(simulation, telemetry):
    transport = simulation.transport(latency=(0.25, 0.5))
    simulation.faults = Faults.script([Fault("status", status=503)])
    async with client_of(simulation, telemetry, transport=transport) as client:
        await page(client)
    metrics = telemetry.metrics()
    assert {name: metric.unit for name, metric in metrics.items()} == dict.fromkeys(
        ("http.client.request.duration", "agora.quota.wait_time", "agora.request.duration"), "s"
    )
    points = metrics["http.client.request.duration"].data.data_points
    assert {tuple(sorted(point.attributes.items())) for point in points} == {
        tuple(sorted((HTTP | {"http.response.status_code": 503, "error.type": "503"}).items())),
        tuple(sorted((HTTP | {"http.response.status_code": 200}).items())),
    }
    assert [(point.count, point.sum) for point in points] == [(1, pytest.approx(0.75))] * 2
    assert points[0].explicit_bounds == (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    (whole,) = telemetry.points("agora.request.duration")
    assert whole.sum > 1.5
    assert whole.attributes["agora.outcome"] == "ok"
    assert points[0].exemplars[0].span_id == telemetry.attempts()[0].context.span_id


async def test_no_span_or_metric_holds_a_secret_the_app_id_a_channel_or_a_user(simulation, telemetry):
    simulation.faults = Faults.script([Fault("refused"), Fault("status", status=503)])
    async with client_of(simulation, telemetry) as client:
        await page(client, cname="secret-channel")
        call = (await page(client)).items[0]
        async for _ in client.calls.sessions(call, uids=["987654321"], wait=True):
            pass
        simulation.faults = Faults.always(Fault("refusal", message=f"no {APP_ID} of secret-channel"))
        with pytest.raises(AgoraError):
            await page(client, cname="secret-channel")
    exported = telemetry.everything()
    assert len(telemetry.requests()) >= 4
    words = (APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, "secret-channel", call.call_id, "987654321", "url.full", "start_ts")
    assert [word for word in words if word in exported] == []


async def test_a_span_of_the_caller_is_the_parent_and_current_again_afterwards(simulation, telemetry):
    async with client_of(simulation, telemetry) as client:
        with telemetry.tracer.start_as_current_span("mine") as mine:
            await page(client)
            simulation.faults = Faults.always(Fault("status", status=401))
            with pytest.raises(Unauthorized):
                await page(client)
            assert opentelemetry.trace.get_current_span() is mine
    assert {span.parent.span_id for span in telemetry.requests()} == {mine.get_span_context().span_id}


async def test_a_page_that_is_prefetched_belongs_to_the_reader_and_a_broadcast_to_no_subscriber(simulation, telemetry):
    async with client_of(simulation, telemetry) as client:
        hub = broadcast(client.realtime.watch(USERS))
        with telemetry.tracer.start_as_current_span("mine") as mine:
            found = client.calls.search(*client.calls.recent(3_600), page_size=10)
            assert len([call async for call in found]) > 20
            async with hub:
                await anext(hub.subscribe())
    parents = {span.name: set() for span in telemetry.requests()}
    for span in telemetry.requests():
        parents[span.name].add(span.parent and span.parent.span_id)
    assert parents == {"agora.call_lists": {mine.get_span_context().span_id}, "agora.realtime_usage": {None}}


async def test_the_attempt_is_the_current_span_while_it_is_sent_and_only_then(simulation, telemetry):
    current = []
    transport = simulation.transport()
    send = transport.send

    async def look(*arguments):
        current.append(opentelemetry.trace.get_current_span().get_span_context().span_id)
        return await send(*arguments)

    transport.send = look
    async with client_of(simulation, telemetry, transport=transport) as client:
        await page(client)
        assert not opentelemetry.trace.get_current_span().get_span_context().is_valid
    assert current == [telemetry.attempts()[0].context.span_id]


async def test_a_sampler_that_drops_all_spans_drops_no_metric(simulation):
    telemetry = Telemetry(sampler=ALWAYS_OFF)
    async with client_of(simulation, telemetry) as client:
        await page(client)
    assert telemetry.spans() == []
    assert telemetry.points("http.client.request.duration")[0].count == 1


async def test_a_request_that_is_closed_in_another_context_ends_its_spans_without_a_log(simulation, telemetry, caplog):
    """As the garbage collector does it, after the loop is gone."""
    async with client_of(simulation, telemetry, transport=simulation.transport(latency=(5.0, 5.0))) as client:
        request = page(client)
        contextvars.Context().run(request.send, None)
        request.close()
    assert [span.attributes.get("agora.outcome") for span in telemetry.requests()] == ["cancelled"]
    assert caplog.messages == []


async def test_without_an_sdk_a_request_is_answered_as_ever(simulation):
    async with simulation.client(observers=[OpenTelemetry()]) as client:
        assert (await page(client)).total_size


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider"])
def test_what_is_no_provider_is_refused(name):
    with pytest.raises(TypeError, match=f"{name}=3: allowed is a provider"):
        OpenTelemetry(**{name: 3})
