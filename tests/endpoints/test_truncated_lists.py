"""Lists that the service truncates, and pages that repeat: all rows are returned, or missing ones are reported."""

from __future__ import annotations

import pytest
from helpers.streaming import HOUR, NOON, collect, consume, gaps_since_noon, of_type, simulated
from helpers.wrong_dates import Tampering

from agora_analytics import CallStarted, Gap, IncompleteList, Span
from agora_analytics.plans import ENTERPRISE
from agora_analytics.simulator import Simulation, World

BUSY = World(seed=7, calls_per_hour=600, typical_minutes=2, long_share=0.0, large_share=0.0)
START, END = NOON - 2 * HOUR, NOON - 600
CROWDED = World(seed=7, calls_per_hour=9_000, typical_minutes=1, long_share=0.0, large_share=0.0)
UNLIMITED = ENTERPRISE.with_limits("call_lists", per_second=10**6, per_minute=10**6, per_day=10**6).with_limits(
    "call_details", per_second=10**6, per_minute=10**6, per_day=10**6
)
TRUNCATIONS = ["empty", "refused", "repeated", "ended"]


def simulated_lists(world: World = BUSY, **variants) -> Simulation:
    return simulated(UNLIMITED, world=world, **variants)


def expected_ids(world: World = BUSY, start: int = START, end: int = END) -> list[str]:
    return sorted(call.call_id for call in world.calls(start, end))


def list_requests(simulation) -> int:
    return simulation.service.counts.get("call_lists", 0)


async def search(simulation, start: int = START, end: int = END, **options) -> list[str]:
    async with simulation.client(quotas=False, read_ahead=options.pop("read_ahead", True)) as client:
        return sorted([call.call_id async for call in client.calls.search(start, end, **options)])


def crowded_second(*, channel_is_listed: bool) -> Span:
    """Return a second with many calls, whose oldest call is, or is not, in the channel of a newer one."""
    for second in range(START, END):
        oldest, *newer = [call.cname for call in CROWDED.calls(second, second + 1)] or [""]
        if len(newer) > 2 and (oldest in newer) is channel_is_listed:
            return Span(second, second + 1)
    raise AssertionError("this world has no such second")


# Searches.


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    ("beyond", "variants"),
    [
        *((beyond, variants) for beyond in TRUNCATIONS for variants in ({}, {"calls_overlap": True})),
        *((beyond, {"has_more": False}) for beyond in TRUNCATIONS if beyond != "ended"),
        *((beyond, {"totals": False}) for beyond in TRUNCATIONS if beyond != "ended"),
    ],
    ids=str,
)
async def test_a_search_returns_all_calls_of_a_truncated_list(beyond, variants, ahead):
    simulation = simulated_lists(max_rows=200, beyond=beyond, **variants)
    call_ids = await search(simulation, read_ahead=ahead)
    assert len(set(call_ids)) == len(call_ids) > 800
    assert set(expected_ids()) <= set(call_ids)
    assert list_requests(simulation) < 1.6 * len(call_ids) / 100 + 5


@pytest.mark.slow_except("7", "100", "60")
@pytest.mark.parametrize("size", [1, 7, 60, 100])
async def test_a_search_returns_all_calls_of_a_truncated_list_for_any_page_size(size):
    simulation = simulated_lists(max_rows=200)
    assert await search(simulation, page_size=size) == expected_ids()


async def test_a_search_logs_the_cost_of_truncated_lists(caplog):
    simulation = simulated_lists(max_rows=200)
    call_ids = await search(simulation)
    (record,) = [one for one in caplog.records if hasattr(one, "agora_lists")]
    assert (record.agora_rows, record.agora_requests) == (len(call_ids), list_requests(simulation))
    assert record.agora_lists > 1


@pytest.mark.parametrize("created_ts", [0, None, -1])
async def test_a_search_returns_all_calls_of_a_truncated_list_although_one_has_no_start(created_ts):
    simulation = simulated_lists(max_rows=200)
    odd_id = BUSY.calls(START, END)[-200].call_id  # the last one before the list is truncated

    def change_start(document: dict) -> None:
        for call in document.get("call_lists") or []:
            call["created_ts"] = created_ts if call["call_id"] == odd_id else call["created_ts"]

    async with simulation.client(quotas=False, transport=Tampering(simulation.transport(), change_start)) as client:
        calls = [call async for call in client.calls.search(START, END)]
    assert sorted(call.call_id for call in calls) == expected_ids()
    [one] = [call for call in calls if call.call_id == odd_id]
    assert one.started_at is None


@pytest.mark.parametrize("ahead", [False, True])
async def test_search_results_count_their_requests_and_narrowed_lists(ahead):
    simulation = simulated_lists(max_rows=200)
    async with simulation.client(quotas=False, read_ahead=ahead) as client:
        results = client.calls.search(START, END)
        assert (results.requests, results.narrowed) == (0, 0)
        calls = [call async for call in results]
        assert results.requests == list_requests(simulation)
        assert results.narrowed == list_requests(simulation) - 3  # three found the first list truncated
    assert len(calls) == len(expected_ids())


async def test_a_search_without_truncation_costs_no_more_than_its_pages():
    simulation = simulated_lists()
    async with simulation.client(quotas=False) as client:
        results = client.calls.search(START, END)
        pages = -(-len([call async for call in results]) // 100)
    assert (results.requests, results.narrowed) == (list_requests(simulation), 0)
    assert pages <= results.requests <= pages + 1


async def test_session_results_count_their_requests_and_narrowed_lists():
    world = World(seed=7, calls_per_hour=60, large_share=1.0)
    simulation = simulated(UNLIMITED, world=world, max_rows=200)
    async with simulation.client(quotas=False) as client:
        calls = [call async for call in client.calls.search(START, START + 600) if call.span]
        large = max(calls, key=lambda one: one.call_pcu or 0)
        before = sum(simulation.service.counts.values())
        results = client.calls.sessions(large, exclude_server_user=False)
        assert len([one async for one in results]) > 200
    assert results.requests == sum(simulation.service.counts.values()) - before
    assert results.requests > results.narrowed > 0


@pytest.mark.parametrize(("pages", "requests"), [(1, 1), (2, 2), (None, None)])
@pytest.mark.parametrize("size", [1, 2, 10, 100])
async def test_a_search_returns_all_calls_although_a_page_of_new_ones_appears_between_pages(size, pages, requests):
    calm = World(seed=7, calls_per_hour=120, typical_minutes=2, long_share=0.0, large_share=0.0)
    simulation = simulated_lists(calm, arriving=size, arriving_pages=pages)
    call_ids = await search(simulation, page_size=size)
    assert call_ids == expected_ids(calm)
    if requests:
        assert list_requests(simulation) == -(-len(call_ids) // size) + requests


@pytest.mark.parametrize("variants", [{}, {"always_more": True}, {"totals": False}, {"has_more": False}], ids=str)
@pytest.mark.parametrize("turning", ["never", "alternating"])
async def test_repeated_pages_end_a_list_and_the_rest_is_requested_by_time(turning, variants):
    simulation = simulated_lists(turning=turning, **variants)
    call_ids = await search(simulation)
    assert call_ids == expected_ids()
    assert list_requests(simulation) < 60


async def test_an_endless_list_without_a_total_raises_after_all_calls_were_returned():
    simulation = simulated_lists(always_more=True, totals=False)
    calls: list = []
    async with simulation.client(quotas=False) as client:
        with pytest.raises(IncompleteList, match="of more rows came"):
            await consume(client.calls.search(START, END), calls)
    assert sorted(call.call_id for call in calls) == expected_ids()
    assert list_requests(simulation) < len(calls) / 100 + 10


@pytest.mark.parametrize("error", [1, 10**12, -5, -(10**12)])
async def test_a_wrong_total_is_ignored_where_has_more_marks_the_last_page(error):
    simulation = simulated_lists(total_off=error)
    call_ids = await search(simulation)
    assert call_ids == expected_ids()
    assert list_requests(simulation) <= -(-len(call_ids) // 100) + 4


# Calls that cannot be fetched.


@pytest.mark.parametrize("beyond", TRUNCATIONS)
async def test_a_second_with_more_calls_than_a_list_may_have_is_requested_by_channel(beyond):
    second = crowded_second(channel_is_listed=True)
    simulation = simulated_lists(CROWDED, max_rows=len(expected_ids(CROWDED, *second)) - 1, beyond=beyond)
    assert await search(simulation, *second) == expected_ids(CROWDED, *second)
    assert list_requests(simulation) <= 5, "not each of its four channels once all calls are there"


async def test_a_call_of_a_channel_in_no_list_raises_after_all_other_calls_were_returned():
    second = crowded_second(channel_is_listed=False)
    count = len(expected_ids(CROWDED, *second))
    simulation = simulated_lists(CROWDED, max_rows=count - 1)
    calls: list = []
    async with simulation.client(quotas=False) as client:
        with pytest.raises(IncompleteList, match=f"{count - 1} of {count} rows came") as caught:
            await consume(client.calls.search(*second), calls)
    assert caught.value.span == second
    assert (caught.value.rows, caught.value.reported) == (count - 1, count)
    missing, *others = [call.call_id for call in CROWDED.calls(*second)]
    assert {call.call_id for call in calls} == {*others}
    assert missing not in others


# Streams.


@pytest.mark.parametrize("beyond", TRUNCATIONS)
async def test_a_follow_delivers_all_starts_of_truncated_lists(beyond):
    simulation = simulated_lists(max_rows=200, beyond=beyond)
    async with simulation.client() as client:
        events = await collect(client.calls.follow(start=START, stop=END))
    assert sorted(event.call.call_id for event in of_type(CallStarted, events)) == expected_ids()
    assert gaps_since_noon(events) == []


async def test_a_follow_reports_calls_that_cannot_be_fetched_as_one_gap_and_continues():
    second = crowded_second(channel_is_listed=False)
    simulation = simulated_lists(CROWDED, max_rows=len(expected_ids(CROWDED, *second)) - 1)
    start, stop = second.start - 60, second.end + 60
    async with simulation.client() as client:
        events = await collect(client.calls.follow(start=start, stop=stop))
    gaps = [(event.span, event.reason) for event in of_type(Gap, events)]
    assert (second, "service") in gaps
    assert len(set(gaps)) == len(gaps)
    started = {event.call.call_id for event in of_type(CallStarted, events)}
    missing = set(expected_ids(CROWDED, start, stop)) - started
    assert {call.created for call in CROWDED.calls(start, stop) if call.call_id in missing} == {
        span.start for span, _ in gaps
    }


@pytest.mark.slow
async def test_a_follow_that_reads_overlapping_spans_reports_no_gap_twice():
    simulation = simulated_lists(CROWDED, max_rows=5)
    async with simulation.client(quotas=False) as client:
        events = await collect(client.calls.follow(start=NOON - 60, stop=NOON + 30))
    gaps = [(event.span.start, event.span.end) for event in of_type(Gap, events)]
    assert len(gaps) > 3
    assert sorted(gaps) == sorted(set(gaps))


# Sessions.


async def test_sessions_of_a_truncated_list_are_requested_in_halves():
    large = World(seed=7, calls_per_hour=20, large_share=1.0, long_share=0.0, typical_minutes=30)
    call = large.calls(NOON - 6 * HOUR, NOON - 2 * HOUR)[0]
    simulation = simulated_lists(large, max_rows=100, sessions_overlap=False)
    async with simulation.client(quotas=False) as client:
        sessions = [one.sid async for one in client.calls.sessions(call.call_id, call.created, call.destroyed + 1)]
    expected = [one.sid for one in large.sessions(call) if not one.server]
    assert len(expected) > 100
    assert sorted(sessions) == sorted(expected)
    assert simulation.service.counts["call_sessions"] < 40


async def test_all_sessions_are_returned_although_the_total_is_wrong():
    large = World(seed=7, calls_per_hour=20, large_share=1.0, long_share=0.0, typical_minutes=30)
    call = large.calls(NOON - 6 * HOUR, NOON - 2 * HOUR)[0]
    simulation = simulated_lists(large, total_off=7)
    async with simulation.client(quotas=False) as client:
        sessions = [one.sid async for one in client.calls.sessions(call.call_id, call.created, call.destroyed + 1)]
    assert sorted(sessions) == sorted(one.sid for one in large.sessions(call) if not one.server)
    assert simulation.service.counts["call_sessions"] < 12
