"""A call whose start is unknown (null, or 0) is reported like any other, at no extra cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers.streaming import BUSY, HOUR, NOON, collect, simulated
from helpers.wrong_dates import Tampering

from agora_analytics import Call, CallFinished, CallStarted, PlanRefused, to_arrow
from agora_analytics.cli.commands.follow import _line
from agora_analytics.cli.sorting import CALL_ORDERS, TopN
from agora_analytics.cli.tables import calls as table
from agora_analytics.export.state.marks import score
from agora_analytics.plans import CALL_SESSIONS

UNKNOWN = pytest.mark.parametrize("unknown", [0, None])
START, STOP = NOON - HOUR, NOON - 600


def without_start(call_id: str, unknown: int | None) -> Callable[[dict], None]:
    def change(document: dict) -> None:
        for call in document.get("call_lists") or []:
            call["created_ts"] = unknown if call["call_id"] == call_id else call["created_ts"]

    return change


@UNKNOWN
@pytest.mark.parametrize("with_sessions", [False, True])
async def test_a_call_without_a_start_is_searched_exported_to_a_table_and_followed(unknown, with_sessions):
    simulation = simulated(world=BUSY)
    expected = [call.call_id for call in BUSY.calls(START, STOP)]
    unknown_call = expected[len(expected) // 2]
    transport = Tampering(simulation.transport(), without_start(unknown_call, unknown))
    async with simulation.client(transport=transport) as client:
        assert {call.call_id async for call in client.calls.search(START, STOP)} == set(expected)
        rows = (await to_arrow(client.calls.search(START, STOP))).to_pylist()
        assert [row["created_ts"] for row in rows if row["call_id"] == unknown_call] == [None]
        events = await collect(client.calls.follow(start=START, stop=STOP, with_sessions=with_sessions))
    for kind in (CallStarted, CallFinished):
        call_ids = [event.call.call_id for event in events if isinstance(event, kind)]
        assert (len(call_ids), set(call_ids)) == (len(expected), set(expected))


@UNKNOWN
def test_no_duration_since_1970_is_derived(unknown):
    call = Call(
        call_id="c", created_ts=unknown, destroyed_ts=NOON, finished=True, call_pcu=9, call_video_freeze_rate=0.1
    )
    assert score(call) == 0
    assert "after" not in _line(CallFinished(call=call))
    assert "1970" not in _line(CallStarted(call=call))
    assert "1970" not in str(table([call]))
    top = TopN(CALL_ORDERS["lasted"], 1)
    top.add(call)
    assert top.items() == [call]


@pytest.mark.parametrize("plan", ["standard", "enterprise"])
async def test_an_end_in_thousands_of_years_costs_no_more_requests_than_until_now(plan):
    simulation = simulated(world=BUSY, plan=plan)
    call = Call(call_id="c", created_ts=NOON - HOUR, destroyed_ts=99_999_999_998, finished=True)
    async with simulation.client() as client:
        await client.calls.page(START, STOP)
        results = client.calls.sessions(call)
        assert not [session async for session in results]
        assert results.missing[-1].end == 99_999_999_999
        assert results.requests <= 3


@pytest.mark.parametrize("requests_before", [0, 2])
@pytest.mark.parametrize("end", [NOON - 1_800, 99_999_999_998])
async def test_a_start_in_1970_costs_no_more_requests_than_the_retention(end, requests_before):
    simulation = simulated(world=BUSY)
    call = Call(call_id="c", created_ts=5, destroyed_ts=end, finished=True)
    async with simulation.client() as client:
        for _ in range(requests_before):
            await client.calls.page(START, STOP)
        limits = simulation.client().plan.of_endpoint(CALL_SESSIONS)
        results = client.calls.metrics(call, ["s"])
        if not requests_before:  # the client has no estimate of the service's time, so the service refuses
            with pytest.raises(PlanRefused):
                await collect(results)
            return
        assert await collect(results)
        assert results.missing[0].start == 5
        assert results.missing[0].end >= NOON - limits.retention
        assert results.requests <= limits.retention // limits.longest_query + 1
