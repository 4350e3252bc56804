"""One request through the dispatcher: attempts, hosts, error responses, deadlines, ownership."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import pickle
import traceback

import pytest

from agora_analytics import (
    AgoraError,
    AnalyticsClient,
    BadRequest,
    DecodeError,
    NotFound,
    PlanRefused,
    QuotaExhausted,
    RateLimited,
    ResponseError,
    Retry,
    ServerError,
    TransportError,
    TransportTimeout,
    Unauthorized,
)
from agora_analytics.plans import ENTERPRISE, STANDARD
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator import Fault, Faults, Simulation, SimulatorTransport, Variants, VirtualLoop


class CannedTransport:
    """Returns or raises one reply after the other, repeats the last one, and records time, host and request."""

    def __init__(self, *replies: Response | Exception, hosts: int = 2) -> None:
        self.replies = list(replies)
        self.hosts = hosts
        self.sent: list[tuple[float, int, Request]] = []
        self.closed = 0

    async def send(self, request: Request, host: int = 0) -> Response:
        self.sent.append((asyncio.get_running_loop().time(), host, request))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def scrub(self, body: bytes) -> bytes:
        return body.replace(b"the-secret", b"***")

    async def close(self) -> None:
        self.closed += 1


def reply(body: str, status: int = 200, **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body.encode())


EMPTY = reply('{"code":0,"call_lists":[]}')


def make_client(transport, clock, **options) -> AnalyticsClient:
    settings = {"app_id": "app", "plan": "premium", "transport": transport, "clock": clock} | options
    return AnalyticsClient("customer", "the-secret", **settings)


async def list_calls(client: AnalyticsClient):
    return await client.calls.page(*client.calls.recent(600))


async def test_a_failed_request_is_retried_and_then_fails_over_to_another_host(clock):
    transport = CannedTransport(TransportError("one"), TransportError("two"), EMPTY)
    page = await list_calls(make_client(transport, clock))
    assert page.items == ()
    assert [host for _, host, _ in transport.sent] == [0, 0, 1]


async def test_the_first_host_is_used_again_after_a_while(clock):
    transport = CannedTransport(TransportError("one"), TransportError("two"), EMPTY)
    client = make_client(transport, clock)
    await list_calls(client)
    await list_calls(client)
    await asyncio.sleep(400)
    await list_calls(client)
    assert [host for _, host, _ in transport.sent] == [0, 0, 1, 1, 0]


async def test_attempts_are_limited_in_number_and_the_error_names_the_request(clock):
    transport = CannedTransport(TransportTimeout("slow"))
    with pytest.raises(TransportTimeout, match="GET /beta/analytics/call/lists start_ts=") as caught:
        await list_calls(make_client(transport, clock))
    assert len(transport.sent) == 4
    assert "appid" not in str(caught.value)


async def test_attempts_are_limited_in_time(clock):
    transport = CannedTransport(reply("{}", 503, Retry_After="50"))
    with pytest.raises(ServerError):
        await list_calls(make_client(transport, clock, retry=Retry(attempts=100, total=120)))
    assert len(transport.sent) == 3
    assert asyncio.get_running_loop().time() <= 120


async def test_a_retry_waits_at_least_as_long_as_retry_after(clock):
    transport = CannedTransport(reply("{}", 503, retry_after="7"), EMPTY)
    await list_calls(make_client(transport, clock))
    first, second = (at for at, _, _ in transport.sent)
    assert 7 <= second - first <= 9


async def test_every_attempt_takes_its_own_permit(clock):
    transport = CannedTransport(TransportError("one"), TransportError("two"), EMPTY)
    client = make_client(transport, clock)
    await list_calls(client)
    day = [state for state in await client.quota.snapshot() if state.counter == "call_lists"][-1]
    assert day.used == 3


async def test_one_deadline_covers_waiting_and_all_attempts(clock):
    transport = CannedTransport(TransportError("again"))
    client = make_client(transport, clock, plan=STANDARD.with_limits("call_lists", per_second=1), max_wait=1)
    with pytest.raises((TransportError, QuotaExhausted)):
        await list_calls(client)
    assert asyncio.get_running_loop().time() < 12


async def test_a_body_with_code_500_is_retried_once(clock):
    transport = CannedTransport(reply('{"code":500,"message":"Unknown Error","data":null}'))
    with pytest.raises(ServerError, match="Unknown Error"):
        await list_calls(make_client(transport, clock))
    assert len(transport.sent) == 2


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (reply('{"code":400,"message":"bad","data":null}'), BadRequest),
        (reply('{"message":"Invalid authentication credentials"}', 401), Unauthorized),
        (reply('{"code":403,"message":"no"}'), Unauthorized),
        (reply('{"message":"no Route matched"}', 404), NotFound),
        (reply('{"code":300,"message":"query time length limit error","data":null}'), PlanRefused),
        (reply('{"code":0,"call_lists":7}'), DecodeError),
        (reply("<html>moved</html>", 302, Location="https://elsewhere"), ResponseError),
        (reply('{"code":0,"message":"success"}'), DecodeError),
    ],
)
async def test_an_error_that_a_retry_cannot_fix_is_raised_at_once(clock, response, error):
    transport = CannedTransport(response)
    with pytest.raises(error):
        await list_calls(make_client(transport, clock))
    assert len(transport.sent) == 1


QPS_ERROR = reply('{"code":300,"message":"qps limit error, qps limit = 1","data":null}')


@pytest.mark.parametrize("error_response", [QPS_ERROR, reply('{"message":"API rate limit exceeded"}', 429)])
async def test_a_rate_limit_error_is_retried_without_the_caller_noticing(clock, error_response):
    transport = CannedTransport(error_response, error_response, EMPTY)
    await list_calls(make_client(transport, clock))
    first, second, third = (at for at, _, _ in transport.sent)
    # After two rate limit errors in a row, the wait is longer than the window.
    assert (second - first, third - second) == pytest.approx((1.1, 2.0), abs=0.01)


async def test_a_rate_limit_error_is_raised_after_six_attempts(clock):
    transport = CannedTransport(QPS_ERROR)
    with pytest.raises(RateLimited, match="qps limit"):
        await list_calls(make_client(transport, clock))
    assert len(transport.sent) == 6


async def test_without_quotas_a_rate_limit_error_is_raised_at_once(clock):
    transport = CannedTransport(QPS_ERROR)
    with pytest.raises(RateLimited):
        await list_calls(make_client(transport, clock, quotas=False))
    assert len(transport.sent) == 1


async def test_an_exhausted_daily_limit_raises_with_the_error_response_as_its_cause(clock):
    transport = CannedTransport(reply('{"code":300,"message":"qpd limit error, qpd limit = 7"}'))
    with pytest.raises(QuotaExhausted) as caught:
        await list_calls(make_client(transport, clock))
    assert (caught.value.unit, caught.value.limit) == ("day", 7)
    assert isinstance(caught.value.__cause__, RateLimited)
    assert len(transport.sent) == 1


async def test_an_endpoint_outside_the_plan_is_requested_again_only_after_twenty_minutes(clock):
    transport = CannedTransport(reply('{"code":300,"message":"no auth","data":null}'))
    client = make_client(transport, clock)
    for _ in range(3):
        with pytest.raises(PlanRefused):
            await list_calls(client)
        await asyncio.sleep(390)
    assert len(transport.sent) == 1
    await asyncio.sleep(31)
    with pytest.raises(PlanRefused):
        await list_calls(client)
    assert len(transport.sent) == 2


@pytest.mark.parametrize(
    "echo",
    [
        "<html>the-secret</html>",
        '{"code":"the-secret"}',
        '{"code":400,"message":"the-secret"}',
    ],
)
async def test_a_response_that_echoes_the_secret_is_quoted_without_it(clock, echo):
    with pytest.raises(AgoraError) as caught:
        await list_calls(make_client(CannedTransport(reply(echo)), clock))
    assert "***" in str(caught.value)
    report = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert "the-secret" not in report + repr(caught.value.__context__)


async def test_a_truncated_body_is_retried_as_a_transport_error(clock):
    transport = CannedTransport(reply('{"code":0,"call_lists":[{"call_'), EMPTY)
    await list_calls(make_client(transport, clock))
    assert len(transport.sent) == 2


async def test_the_last_error_has_the_previous_one_as_its_cause_and_can_be_pickled(clock):
    transport = CannedTransport(TransportError("first"), reply('{"code":400,"message":"bad"}'))
    with pytest.raises(BadRequest) as caught:
        await list_calls(make_client(transport, clock))
    assert isinstance(caught.value.__cause__, TransportError)
    restored = pickle.loads(pickle.dumps(caught.value))
    assert (str(restored), restored.status, restored.code) == (str(caught.value), 200, 400)
    assert str(copy.copy(caught.value)) == str(caught.value)


async def test_a_cancellation_during_backoff_leaves_no_task_behind(clock):
    transport = CannedTransport(TransportError("down"))
    task = asyncio.create_task(
        list_calls(make_client(transport, clock, retry=Retry(base=1000, cap=1000, total=10_000)))
    )
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1


async def test_a_closed_client_raises_on_a_request_and_may_be_closed_twice(clock):
    transport = CannedTransport(EMPTY)
    async with make_client(transport, clock) as client:
        await list_calls(client)
    await client.close()
    assert transport.closed == 2
    with pytest.raises(RuntimeError, match="closed"):
        await list_calls(client)


def test_a_client_raises_in_a_forked_process():
    loop = VirtualLoop()
    client = make_client(CannedTransport(EMPTY), lambda: 1_795_521_600 + loop.time())
    loop.run_until_complete(list_calls(client))
    child = os.fork()
    if not child:
        try:
            loop.run_until_complete(list_calls(client))
        except RuntimeError as error:
            os._exit(17 if "forked" in str(error) else 2)
        finally:
            os._exit(1)
    loop.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17


async def test_clients_of_other_app_ids_share_quota_and_transport(clock):
    transport = CannedTransport(EMPTY)
    client = make_client(transport, clock)
    other = client.with_app("other")
    await list_calls(client)
    await list_calls(other)
    assert [dict(part.split("=") for part in r.query.split("&"))["appid"] for _, _, r in transport.sent] == [
        "app",
        "other",
    ]
    day = [state for state in await other.quota.snapshot() if state.counter == "call_lists"][-1]
    assert day.used == 2
    assert "other" in repr(other)


async def test_attempts_are_logged_without_secrets(clock, caplog):
    caplog.set_level(logging.DEBUG, "agora_analytics")
    await list_calls(make_client(CannedTransport(TransportError("down"), EMPTY), clock))
    assert "attempt 1 failed" in caplog.text
    assert "HTTP 200" in caplog.text
    assert "the-secret" not in caplog.text


async def test_a_search_loses_no_call_under_injected_faults(clock):
    simulation = Simulation()
    simulation.service.clock = clock
    simulation.service.plan = ENTERPRISE
    client = simulation.client(clock=clock, max_wait=None)
    start, end = client.calls.recent(3600 * 30)
    expected = [call.call_id async for call in client.calls.search(start, end)]
    await asyncio.sleep(2)  # the next client does not count the requests of the first
    faulty = [
        Fault("reset"),
        Fault("reset_after"),
        Fault("cut"),
        Fault("status", status=502),
        Fault("slow", seconds=70),
    ]
    simulation.faults = Faults.chance(0.3, faulty, seed=5) + Faults.outage(clock() + 1, clock() + 4)
    client = simulation.client(clock=clock, max_wait=None, retry=Retry(attempts=8, total=600))
    found = [call.call_id async for call in client.calls.search(start, end)]
    assert found == expected
    assert len(found) > 500
    assert len(set(found)) == len(found)
    assert not simulation.service.refusals


async def test_the_simulator_rejects_wrong_credentials_app_ids_and_plans(simulation):
    service = simulation.service
    wrong = SimulatorTransport(service, customer_id="simulated-customer", customer_secret="nope")
    with pytest.raises(Unauthorized):
        await list_calls(simulation.client(transport=wrong))
    with pytest.raises(Unauthorized):
        await list_calls(simulation.client(app_id="another"))
    service.plan = STANDARD
    client = simulation.client(plan="premium")
    with pytest.raises(PlanRefused) as caught:
        await client.insights.usage("userCount", *client.insights.recent(86_400))
    assert caught.value.kind == "access"


@pytest.mark.slow
async def test_long_calls_are_requested_in_slices_and_batches_and_merged(simulation):
    client = simulation.client(max_wait=None)
    calls = [call async for call in client.calls.search(*client.calls.recent(86_400 * 2))]
    longest = max((call for call in calls if call.span), key=lambda call: call.span.duration)
    assert longest.span.duration > 6 * 3600
    sessions = [session async for session in client.calls.sessions(longest)]
    assert len({session.sid for session in sessions}) == len(sessions) > 0
    metrics = [session_metrics async for session_metrics in client.calls.metrics(longest, sessions)]
    assert [session_metrics.sid for session_metrics in metrics] == [session.sid for session in sessions]
    times = [ts for session_metrics in metrics for track in session_metrics.data[:1] for ts, _ in track.kvs]
    assert times
    timeline = await client.calls.timeline(longest, "user_count")
    assert [point.ts for point in timeline] == sorted({point.ts for point in timeline})
    wanted = [session.uid for session in sessions][:25]
    chosen = [session async for session in client.calls.sessions(longest, uids=wanted)]
    assert {session.sid for session in chosen} == {s.sid for s in sessions if s.uid in set(wanted)}


@pytest.mark.parametrize("variants", [Variants(), Variants(uid_as_text=True, roles_as_text=True)])
async def test_every_endpoint_returns_data_from_the_simulator(simulation, variants):
    simulation.service.variants = variants
    client = simulation.client(max_wait=None)
    page = await client.calls.page(*client.calls.recent(3600 * 5), page_size=100)
    call = max(
        (call for call in page.items if call.span and call.span.duration < 9000 and call.ended_at),
        key=lambda call: call.call_pcu or 0,
    )
    if call.span.end > client.calls._dispatcher.time.utc_second() - 160:
        await asyncio.sleep(200)
    sessions = await client.calls.sessions_page(call)
    assert all(isinstance(session.uid, int) for session in sessions.items)
    assert [session_metrics async for session_metrics in client.calls.metrics(call, sessions.items[:3])]
    assert await client.calls.statistics(call, "audio_freeze_rate", "country")
    buckets = await client.calls.freeze_buckets(call, "audio_freeze_rate")
    assert [bucket.lowest for bucket in buckets] == sorted(bucket.lowest for bucket in buckets)
    assert await client.calls.timeline(call, "user_count")
    days = client.insights.recent(86_400 * 10)
    points = await client.insights.usage("peakCurrentUsers", *days)
    assert [point.ts for point in points] == sorted({point.ts for point in points})
    assert len(points) >= 9
    assert await client.insights.quality(
        "networkDelay", *client.insights.recent(7200), product="Native", granularity="1h"
    )
    totals = await client.insights.usage_total("userCount", *days, dimension="country")
    assert 0 < len(totals) <= 20
    assert (await client.insights.quality_total("audioFreezeRate", *days, dimension="sdk"))[0].ref_usage
    now = client.realtime.recent(2000)
    windows = await client.realtime.usage("userCount", *now, product="Native")
    assert len(windows) >= 98
    by_sdk = await client.realtime.quality("networkDelay", *now, product="WebRTC", dimension="sdk")
    assert {point.dimension_value for point in by_sdk} - {None}
    assert await client.realtime.usage_top("country", now.start, product="Native")
    top = await client.realtime.quality_top(
        "audioFreezeRate", "device", now.start, product="Native", extra_metrics="userCount"
    )
    assert 20 < len(top) <= 50
    assert top[0].user_count is not None
