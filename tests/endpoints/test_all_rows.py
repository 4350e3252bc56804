"""What "all" means: each session once, whole minutes and days, and server users by a parameter."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from urllib.parse import parse_qs

import pytest
from helpers.streaming import DAY, HOUR, NOON, collect, simulated

from agora_analytics import AnalyticsClient, Call
from agora_analytics._core.decoding.json import encode
from agora_analytics.plans import ENTERPRISE, PREMIUM
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator import Simulation, World

UNLIMITED = ENTERPRISE.with_limits("call_lists", per_second=10**6, per_minute=10**6, per_day=10**6).with_limits(
    "call_details", per_second=10**6, per_minute=10**6, per_day=10**6
)


class FunctionTransport:
    """A transport whose responses are a function of the parameters; `requests` records these."""

    hosts = 1

    def __init__(self, respond) -> None:
        self.requests: list[dict[str, str]] = []
        self._respond = respond

    async def send(self, request: Request, host: int = 0) -> Response:
        params = {name: values[0] for name, values in parse_qs(request.query).items()}
        self.requests.append(params)
        return Response(200, {}, encode({"code": 200, **self._respond(params)}))

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        pass

    def client(self, clock, plan: str) -> AnalyticsClient:
        return AnalyticsClient(
            "customer", "the-secret", app_id="app", plan=plan, transport=self, clock=clock, quotas=False
        )


# Searches.


@pytest.mark.parametrize("overlap", [False, True])
async def test_searches_of_adjacent_spans_return_every_call_once_by_its_start(overlap):
    world = World(seed=7, calls_per_hour=60, long_share=0.2)
    client = simulated(UNLIMITED, world=world, calls_overlap=overlap).client(quotas=False)
    marks = range(NOON - 30 * HOUR, NOON - 5 * HOUR + 1, 5 * HOUR)
    spans = list(pairwise(marks))
    result = [[call.call_id for call in await collect(client.calls.search(*span))] for span in spans]
    assert [sorted(ids) for ids in result] == [sorted(call.call_id for call in world.calls(*span)) for span in spans]


def list_of_calls(*began: int | None):
    """Respond with calls that began at these times, whatever the request."""
    rows = [{"call_id": f"{ts}", "created_ts": ts} for ts in began]
    return lambda _: {"call_lists": rows, "has_more": False}


async def test_a_search_includes_its_start_excludes_its_end_and_keeps_calls_without_a_time(clock):
    start, end = NOON - 2 * HOUR, NOON - HOUR
    transport = FunctionTransport(list_of_calls(end, end - 1, start, start - 1, None, 0, start * 1000))
    result = await collect(transport.client(clock, "premium").calls.search(start, end))
    assert [call.created_ts for call in result] == [end - 1, start, None, 0, start * 1000]


# Sessions, and their metrics.


async def test_a_session_in_several_batches_of_users_is_delivered_once(clock):
    transport = FunctionTransport(lambda _: {"call_info": [{"sid": "one", "uid": 1}], "has_more": False})
    client = transport.client(clock, "premium")
    result = await collect(client.calls.sessions("call", *client.calls.recent(600), uids=range(25)))
    assert [session.sid for session in result] == ["one"]
    assert len(transport.requests) == 3


async def test_duplicate_uids_are_requested_once(clock):
    transport = FunctionTransport(lambda _: {"call_info": [], "has_more": False})
    client = transport.client(clock, "premium")
    await collect(client.calls.sessions("call", *client.calls.recent(600), uids=[*range(10), *range(10), "3"]))
    assert [len(params["uids"].split(",")) for params in transport.requests] == [10]


async def call_with_server_user(client: AnalyticsClient) -> Call:
    """A call with a session of a server user."""
    async for call in client.calls.search(NOON - 4 * HOUR, NOON - HOUR):
        if call.span and call.ended_at and call.destroyed_ts < NOON - HOUR:
            sessions = await collect(client.calls.sessions(call, exclude_server_user=False))
            if any(session.platform == "Linux" for session in sessions):
                return call
    raise AssertionError("this world has no such call")


async def test_metrics_exclude_server_users_unless_requested():
    client = simulated(UNLIMITED).client(quotas=False)
    call = await call_with_server_user(client)
    all_sessions = await collect(client.calls.sessions(call, exclude_server_user=False))
    user_sessions = await collect(client.calls.sessions(call))
    assert len(user_sessions) < len(all_sessions)
    assert [session.sid for session in await collect(client.calls.metrics(call))] == [
        session.sid for session in user_sessions
    ]
    result = await collect(client.calls.metrics(call, exclude_server_user=False))
    assert [session.sid for session in result] == [session.sid for session in all_sessions]


async def test_metrics_of_given_sessions_include_server_users():
    client = simulated(UNLIMITED).client(quotas=False)
    call = await call_with_server_user(client)
    all_sessions = await collect(client.calls.sessions(call, exclude_server_user=False))
    assert len(await collect(client.calls.metrics(call, all_sessions))) == len(all_sessions)


async def test_exclude_server_user_of_metrics_must_be_a_bool():
    client = simulated().client()
    with pytest.raises(TypeError, match="exclude_server_user='yes'"):
        client.calls.metrics("call", None, *client.calls.recent(600), exclude_server_user="yes")


# Timelines.

STAYS = [(NOON - 20_000 + 7 * place, NOON - 11_000 + 7 * place) for place in range(900)]


def users_per_minute(params: dict[str, str]) -> dict:
    """Count users minute by minute, and of each minute only the part that lies in the requested span."""
    start, end = int(params["start_ts"]), int(params["end_ts"])
    minutes = [(minute, max(minute, start), min(minute + 60, end)) for minute in range(start - start % 60, end, 60)]
    return {
        "data": [
            {"ts": minute, "value": sum(joined < until and left >= since for joined, left in STAYS)}
            for minute, since, until in minutes
        ]
    }


@pytest.mark.parametrize("start", [NOON - 20_011, NOON - 20_040])
async def test_a_timeline_has_whole_minutes_where_two_slices_meet(clock, start):
    unsliced, sliced = FunctionTransport(users_per_minute), FunctionTransport(users_per_minute)
    expected = await unsliced.client(clock, "enterprise").calls.timeline("call", "user_count", start, NOON - 400)
    result = await sliced.client(clock, "premium").calls.timeline("call", "user_count", start, NOON - 400)
    assert (len(unsliced.requests), len(sliced.requests)) == (1, 2)
    assert result == expected


# Data Insights.


@pytest.mark.parametrize("day_starts_at", [0, 57_600])
async def test_thirteen_days_cost_seven_requests_on_premium_whatever_hour_days_begin_at(day_starts_at):
    simulation: Simulation = simulated(PREMIUM, world=World(seed=7, calls_per_hour=2), day_starts_at=day_starts_at)
    client = simulation.client()
    end = NOON // DAY * DAY
    points = await client.insights.usage("userCount", end - 13 * DAY, end)
    assert simulation.service.counts["insight_usage"] == 7
    days = Counter(point.ts for point in points)
    assert set(days.values()) == {1}
    assert {end - DAY * back + day_starts_at for back in range(2, 14)} <= set(days)


async def test_a_slice_that_returns_the_rest_of_an_earlier_bucket_does_not_replace_the_whole_bucket(clock):
    starts_at, end = 57_600, NOON // DAY * DAY

    def respond(params):
        first, last = int(params["startTs"]), int(params["endTs"])
        begun = (first - starts_at) // DAY * DAY + starts_at  # the bucket in which the slice starts
        inside = {ts: min(ts + DAY, last) - max(ts, first) for ts in range(begun, last, DAY)}
        return {"data": [{"userCount": seconds, "ts": ts} for ts, seconds in inside.items()]}

    client = FunctionTransport(respond).client(clock, "premium")
    points = await client.insights.usage("userCount", end - 13 * DAY, end)
    assert len(points) == 14
    assert {point.value for point in points[1:-1]} == {DAY}
