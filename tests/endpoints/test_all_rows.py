"""What "all" means: each session once, minutes and days whole, Linux users by a parameter."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from urllib.parse import parse_qs

import pytest
from helpers.streaming import DAY, HOUR, NOON, all_of, simulated

from agora_analytics import AnalyticsClient, Call
from agora_analytics._core.decoding.json import encode
from agora_analytics.plans import ENTERPRISE, PREMIUM
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator import Simulation, World

FREE = ENTERPRISE.with_limits("call_lists", per_second=10**6, per_minute=10**6, per_day=10**6).with_limits(
    "call_details", per_second=10**6, per_minute=10**6, per_day=10**6
)


class Answering:
    """A service that answers by a function of the parameters; `asked` are those that came."""

    hosts = 1

    def __init__(self, answer) -> None:
        self.asked: list[dict[str, str]] = []
        self._answer = answer

    async def send(self, request: Request, host: int = 0) -> Response:
        asked = {name: values[0] for name, values in parse_qs(request.query).items()}
        self.asked.append(asked)
        return Response(200, {}, encode({"code": 200, **self._answer(asked)}))

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
async def test_spans_side_by_side_have_every_call_once_by_the_moment_it_began(overlap):
    world = World(seed=7, calls_per_hour=60, long_share=0.2)
    client = simulated(FREE, world=world, calls_overlap=overlap).client(quotas=False)
    marks = range(NOON - 30 * HOUR, NOON - 5 * HOUR + 1, 5 * HOUR)
    spans = list(pairwise(marks))
    found = [[call.call_id for call in await all_of(client.calls.search(*span))] for span in spans]
    assert [sorted(ids) for ids in found] == [sorted(call.call_id for call in world.calls(*span)) for span in spans]


def listing(*began: int | None):
    """Answer with calls that began at these moments, whatever is asked for."""
    rows = [{"call_id": f"{ts}", "created_ts": ts} for ts in began]
    return lambda _: {"call_lists": rows, "has_more": False}


async def test_a_search_has_its_first_second_and_not_its_end_and_what_has_no_time(clock):
    start, end = NOON - 2 * HOUR, NOON - HOUR
    service = Answering(listing(end, end - 1, start, start - 1, None, 0, start * 1000))
    found = await all_of(service.client(clock, "premium").calls.search(start, end))
    assert [call.created_ts for call in found] == [end - 1, start, None, 0, start * 1000]


# Sessions, and their metrics.


async def test_a_session_comes_once_though_several_batches_of_users_have_it(clock):
    service = Answering(lambda _: {"call_info": [{"sid": "one", "uid": 1}], "has_more": False})
    client = service.client(clock, "premium")
    found = await all_of(client.calls.sessions("call", *client.calls.recent(600), uids=range(25)))
    assert [session.sid for session in found] == ["one"]
    assert len(service.asked) == 3


async def test_users_that_are_named_twice_are_asked_for_once(clock):
    service = Answering(lambda _: {"call_info": [], "has_more": False})
    client = service.client(clock, "premium")
    await all_of(client.calls.sessions("call", *client.calls.recent(600), uids=[*range(10), *range(10), "3"]))
    assert [len(asked["uids"].split(",")) for asked in service.asked] == [10]


async def recorded(client: AnalyticsClient) -> Call:
    """A call that has a session of a server."""
    async for call in client.calls.search(NOON - 4 * HOUR, NOON - HOUR):
        if call.span and call.ended_at and call.destroyed_ts < NOON - HOUR:
            sessions = await all_of(client.calls.sessions(call, exclude_server_user=False))
            if any(session.platform == "Linux" for session in sessions):
                return call
    raise AssertionError("this world has no such call")


async def test_metrics_of_all_sessions_are_those_of_people_unless_servers_are_wanted():
    client = simulated(FREE).client(quotas=False)
    call = await recorded(client)
    everyone = await all_of(client.calls.sessions(call, exclude_server_user=False))
    people = await all_of(client.calls.sessions(call))
    assert len(people) < len(everyone)
    assert [one.sid for one in await all_of(client.calls.metrics(call))] == [one.sid for one in people]
    found = await all_of(client.calls.metrics(call, exclude_server_user=False))
    assert [one.sid for one in found] == [one.sid for one in everyone]


async def test_sessions_that_are_given_are_all_asked_for_be_they_of_servers():
    client = simulated(FREE).client(quotas=False)
    call = await recorded(client)
    everyone = await all_of(client.calls.sessions(call, exclude_server_user=False))
    assert len(await all_of(client.calls.metrics(call, everyone))) == len(everyone)


async def test_the_flag_of_metrics_is_checked():
    client = simulated().client()
    with pytest.raises(TypeError, match="exclude_server_user='yes'"):
        client.calls.metrics("call", None, *client.calls.recent(600), exclude_server_user="yes")


# Timelines.

STAYS = [(NOON - 20_000 + 7 * place, NOON - 11_000 + 7 * place) for place in range(900)]


def inside(asked: dict[str, str]) -> dict:
    """Count users minute by minute, of each minute no more than what lies in the span that was asked for."""
    start, end = int(asked["start_ts"]), int(asked["end_ts"])
    cut = [(minute, max(minute, start), min(minute + 60, end)) for minute in range(start - start % 60, end, 60)]
    return {
        "data": [
            {"ts": minute, "value": sum(joined < upto and left >= since for joined, left in STAYS)}
            for minute, since, upto in cut
        ]
    }


@pytest.mark.parametrize("start", [NOON - 20_011, NOON - 20_040])
async def test_a_timeline_has_whole_minutes_where_the_plan_cuts(clock, start):
    whole, cut = Answering(inside), Answering(inside)
    right = await whole.client(clock, "enterprise").calls.timeline("call", "user_count", start, NOON - 400)
    found = await cut.client(clock, "premium").calls.timeline("call", "user_count", start, NOON - 400)
    assert (len(whole.asked), len(cut.asked)) == (1, 2)
    assert found == right


# Data Insights.


@pytest.mark.parametrize("day_starts_at", [0, 57_600])
async def test_thirteen_days_cost_seven_requests_on_premium_at_whatever_hour_days_begin(day_starts_at):
    simulation: Simulation = simulated(PREMIUM, world=World(seed=7, calls_per_hour=2), day_starts_at=day_starts_at)
    client = simulation.client()
    end = NOON // DAY * DAY
    points = await client.insights.usage("userCount", end - 13 * DAY, end)
    assert simulation.service.counts["insight_usage"] == 7
    days = Counter(point.ts for point in points)
    assert set(days.values()) == {1}
    assert {end - DAY * back + day_starts_at for back in range(2, 14)} <= set(days)
