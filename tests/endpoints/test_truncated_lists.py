"""Lists that the service cuts off, and pages that do not turn: all rows come, or what is missing is told."""

from __future__ import annotations

import pytest
from helpers.streaming import HOUR, NOON, all_of, consume, lost, of, simulated
from helpers.wrong_dates import Tampering

from agora_analytics import CallStarted, Gap, IncompleteList, Span
from agora_analytics.plans import ENTERPRISE
from agora_analytics.simulator import Simulation, World

BUSY = World(seed=7, calls_per_hour=600, typical_minutes=2, long_share=0.0, large_share=0.0)
START, END = NOON - 2 * HOUR, NOON - 600
CROWDED = World(seed=7, calls_per_hour=9_000, typical_minutes=1, long_share=0.0, large_share=0.0)
FREE = ENTERPRISE.with_limits("call_lists", per_second=10**6, per_minute=10**6, per_day=10**6).with_limits(
    "call_details", per_second=10**6, per_minute=10**6, per_day=10**6
)
CAPS = ["empty", "refused", "repeated", "ended"]


def served(world: World = BUSY, **variants) -> Simulation:
    return simulated(FREE, world=world, **variants)


def ids(world: World = BUSY, start: int = START, end: int = END) -> list[str]:
    return sorted(call.call_id for call in world.calls(start, end))


def asked(simulation) -> int:
    return simulation.service.counts.get("call_lists", 0)


async def searched(simulation, start: int = START, end: int = END, **options) -> list[str]:
    async with simulation.client(quotas=False, read_ahead=options.pop("read_ahead", True)) as client:
        return sorted([call.call_id async for call in client.calls.search(start, end, **options)])


def crowded(*, told: bool) -> Span:
    """A second of many calls of which a list of all but one has a call of every channel, or does not."""
    for second in range(START, END):
        oldest, *newer = [call.cname for call in CROWDED.calls(second, second + 1)] or [""]
        if len(newer) > 2 and (oldest in newer) is told:
            return Span(second, second + 1)
    raise AssertionError("this world has no such second")


# Searches.


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    ("beyond", "variants"),
    [
        *((beyond, variants) for beyond in CAPS for variants in ({}, {"calls_overlap": True})),
        *((beyond, {"has_more": False}) for beyond in CAPS if beyond != "ended"),
        *((beyond, {"totals": False}) for beyond in CAPS if beyond != "ended"),
    ],
    ids=str,
)
async def test_a_search_has_all_calls_of_a_list_that_is_cut_off(beyond, variants, ahead):
    simulation = served(most_rows=200, beyond=beyond, **variants)
    found = await searched(simulation, read_ahead=ahead)
    assert len(set(found)) == len(found) > 800
    assert set(ids()) <= set(found)
    assert asked(simulation) < 1.6 * len(found) / 100 + 5


@pytest.mark.parametrize("size", [1, 7, 60, 100])
async def test_a_search_has_all_calls_of_a_list_that_is_cut_off_whatever_its_pages(size):
    simulation = served(most_rows=200)
    assert await searched(simulation, page_size=size) == ids()


async def test_a_search_logs_what_lists_that_are_cut_off_cost(caplog):
    simulation = served(most_rows=200)
    found = await searched(simulation)
    (record,) = [one for one in caplog.records if hasattr(one, "agora_lists")]
    assert (record.agora_rows, record.agora_requests) == (len(found), asked(simulation))
    assert record.agora_lists > 1


@pytest.mark.parametrize("unknown", [0, None, -1])
async def test_a_search_has_all_calls_of_a_list_that_is_cut_off_though_the_start_of_one_is_unknown(unknown):
    simulation = served(most_rows=200)
    odd = BUSY.calls(START, END)[-200].call_id  # the last that comes before the list is cut off

    def spoil(document: dict) -> None:
        for call in document.get("call_lists") or []:
            call["created_ts"] = unknown if call["call_id"] == odd else call["created_ts"]

    async with simulation.client(quotas=False, transport=Tampering(simulation.transport(), spoil)) as client:
        found = [call async for call in client.calls.search(START, END)]
    assert sorted(call.call_id for call in found) == ids()
    [one] = [call for call in found if call.call_id == odd]
    assert one.started_at is None


@pytest.mark.parametrize("ahead", [False, True])
async def test_what_is_found_tells_what_it_took(ahead):
    simulation = served(most_rows=200)
    async with simulation.client(quotas=False, read_ahead=ahead) as client:
        results = client.calls.search(START, END)
        assert (results.requests, results.narrowed) == (0, 0)
        calls = [call async for call in results]
        assert results.requests == asked(simulation)
        assert results.narrowed == asked(simulation) - 3  # what told that the first list is cut off
    assert len(calls) == len(ids())


async def test_what_is_found_where_nothing_was_cut_off_took_no_more_than_its_pages():
    simulation = served()
    async with simulation.client(quotas=False) as client:
        results = client.calls.search(START, END)
        pages = -(-len([call async for call in results]) // 100)
    assert (results.requests, results.narrowed) == (asked(simulation), 0)
    assert pages <= results.requests <= pages + 1


async def test_sessions_tell_what_they_took():
    whole = World(seed=7, calls_per_hour=60, large_share=1.0)
    simulation = simulated(FREE, world=whole, most_rows=200)
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
async def test_as_many_new_calls_as_a_page_holds_come_between_two_pages(size, pages, requests):
    calm = World(seed=7, calls_per_hour=120, typical_minutes=2, long_share=0.0, large_share=0.0)
    simulation = served(calm, arriving=size, arriving_pages=pages)
    found = await searched(simulation, page_size=size)
    assert found == ids(calm)
    if requests:
        assert asked(simulation) == -(-len(found) // size) + requests


@pytest.mark.parametrize("variants", [{}, {"always_more": True}, {"totals": False}, {"has_more": False}], ids=str)
@pytest.mark.parametrize("turning", ["never", "alternating"])
async def test_pages_that_do_not_turn_end_and_the_rest_is_asked_for_by_time(turning, variants):
    simulation = served(turning=turning, **variants)
    found = await searched(simulation)
    assert found == ids()
    assert asked(simulation) < 60


async def test_pages_that_never_end_and_say_no_total_end_with_an_error_after_all_calls_have_come():
    simulation = served(always_more=True, totals=False)
    found: list = []
    async with simulation.client(quotas=False) as client:
        with pytest.raises(IncompleteList, match="of more rows came"):
            await consume(client.calls.search(START, END), found)
    assert sorted(call.call_id for call in found) == ids()
    assert asked(simulation) < len(found) / 100 + 10


@pytest.mark.parametrize("off", [1, 10**12, -5, -(10**12)])
async def test_a_total_that_is_wrong_changes_nothing_where_the_service_says_which_page_is_the_last(off):
    simulation = served(total_off=off)
    found = await searched(simulation)
    assert found == ids()
    assert asked(simulation) <= -(-len(found) // 100) + 4


# What cannot be had.


@pytest.mark.parametrize("beyond", CAPS)
async def test_a_second_with_more_calls_than_a_list_may_have_is_asked_for_by_channel(beyond):
    second = crowded(told=True)
    simulation = served(CROWDED, most_rows=len(ids(CROWDED, *second)) - 1, beyond=beyond)
    assert await searched(simulation, *second) == ids(CROWDED, *second)
    assert asked(simulation) <= 5, "not each of its four channels, once all are there"


async def test_a_call_of_a_channel_that_no_list_names_is_an_error_after_all_others():
    second = crowded(told=False)
    count = len(ids(CROWDED, *second))
    simulation = served(CROWDED, most_rows=count - 1)
    found: list = []
    async with simulation.client(quotas=False) as client:
        with pytest.raises(IncompleteList, match=f"{count - 1} of {count} rows came") as told:
            await consume(client.calls.search(*second), found)
    assert told.value.span == second
    assert (told.value.rows, told.value.told) == (count - 1, count)
    missing, *others = [call.call_id for call in CROWDED.calls(*second)]
    assert {call.call_id for call in found} == {*others}
    assert missing not in others


# Streams.


@pytest.mark.parametrize("beyond", CAPS)
async def test_a_stream_of_calls_has_all_starts_of_lists_that_are_cut_off(beyond):
    simulation = served(most_rows=200, beyond=beyond)
    async with simulation.client() as client:
        events = await all_of(client.calls.follow(start=START, stop=END))
    assert sorted(event.call.call_id for event in of(CallStarted, events)) == ids()
    assert lost(events) == []


async def test_a_stream_tells_what_cannot_be_had_as_a_gap_once_and_goes_on():
    second = crowded(told=False)
    simulation = served(CROWDED, most_rows=len(ids(CROWDED, *second)) - 1)
    start, stop = second.start - 60, second.end + 60
    async with simulation.client() as client:
        events = await all_of(client.calls.follow(start=start, stop=stop))
    gaps = [(event.span, event.reason) for event in of(Gap, events)]
    assert (second, "service") in gaps
    assert len(set(gaps)) == len(gaps)
    started = {event.call.call_id for event in of(CallStarted, events)}
    missing = set(ids(CROWDED, start, stop)) - started
    assert {call.created for call in CROWDED.calls(start, stop) if call.call_id in missing} == {
        span.start for span, _ in gaps
    }


async def test_a_stream_that_reads_a_little_again_tells_no_gap_twice():
    simulation = served(CROWDED, most_rows=5)
    async with simulation.client(quotas=False) as client:
        events = await all_of(client.calls.follow(start=NOON - 60, stop=NOON + 30))
    gaps = [(event.span.start, event.span.end) for event in of(Gap, events)]
    assert len(gaps) > 3
    assert sorted(gaps) == sorted(set(gaps))


# Sessions.


async def test_sessions_of_a_list_that_is_cut_off_are_asked_for_in_halves():
    large = World(seed=7, calls_per_hour=20, large_share=1.0, long_share=0.0, typical_minutes=30)
    call = large.calls(NOON - 6 * HOUR, NOON - 2 * HOUR)[0]
    simulation = served(large, most_rows=100, sessions_overlap=False)
    async with simulation.client(quotas=False) as client:
        sessions = [one.sid async for one in client.calls.sessions(call.call_id, call.created, call.destroyed + 1)]
    expected = [one.sid for one in large.sessions(call) if not one.server]
    assert len(expected) > 100
    assert sorted(sessions) == sorted(expected)
    assert simulation.service.counts["call_sessions"] < 40


async def test_sessions_of_a_total_that_is_wrong_all_come():
    large = World(seed=7, calls_per_hour=20, large_share=1.0, long_share=0.0, typical_minutes=30)
    call = large.calls(NOON - 6 * HOUR, NOON - 2 * HOUR)[0]
    simulation = served(large, total_off=7)
    async with simulation.client(quotas=False) as client:
        sessions = [one.sid async for one in client.calls.sessions(call.call_id, call.created, call.destroyed + 1)]
    assert sorted(sessions) == sorted(one.sid for one in large.sessions(call) if not one.server)
    assert simulation.service.counts["call_sessions"] < 12
