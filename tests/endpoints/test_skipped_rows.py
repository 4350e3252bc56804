"""Bad rows of a list are skipped alone, even if no other row is near them."""

from __future__ import annotations

import json
from itertools import pairwise
from urllib.parse import parse_qsl

import attrs
import pytest
from helpers.streaming import DAY, HOUR, NOON, consume_for, of_type, simulated

from agora_analytics import CallFinished, CallStarted, Gap
from agora_analytics.protocols import Request, Response, Transport
from agora_analytics.simulator import Fault, Faults, World

SPARSE = World(seed=7, calls_per_hour=1)


@attrs.frozen
class BadRowsTransport:
    """A transport that appends bad rows to every list whose span contains a moment."""

    inner: Transport
    moment: int
    rows: list[object]

    @property
    def hosts(self) -> int:
        return self.inner.hosts

    async def send(self, request: Request, host: int = 0) -> Response:
        response = await self.inner.send(request, host)
        params = dict(parse_qsl(request.query))
        if not int(params.get("start_ts", 0)) <= self.moment < int(params.get("end_ts", 0)):
            return response
        document = json.loads(response.body)
        if "call_lists" in document:
            document["call_lists"] += self.rows
        return attrs.evolve(response, body=json.dumps(document).encode())

    def scrub(self, body: bytes) -> bytes:
        return self.inner.scrub(body)

    async def close(self) -> None:
        await self.inner.close()


def quiet_hours() -> int:
    """The start of three hours in which no call begins."""
    starts = [int(call.created) for call in SPARSE.calls(NOON, NOON + 18 * HOUR)]
    return next(last for last, following in pairwise(starts) if following - last > 3 * HOUR)


@pytest.mark.slow_except("rows0")
@pytest.mark.parametrize("rows", [[None, None], [{"cname": "a"}] * 4])
async def test_bad_rows_in_a_quiet_hour_do_not_stop_a_follow(rows):
    simulation = simulated(world=SPARSE)
    quiet = quiet_hours() + 60
    async with simulation.client(transport=BadRowsTransport(simulation.transport(), quiet, rows)) as client:
        events = await consume_for(client.calls.follow(), 24 * HOUR)
    started = [event.call.call_id for event in of_type(CallStarted, events)]
    calls = {call.call_id for call in SPARSE.calls(NOON, NOON + 23 * HOUR)}
    assert calls <= set(started)
    assert len(started) == len(set(started))
    assert of_type(CallFinished, events)
    assert of_type(Gap, events) == []


@pytest.mark.slow
async def test_a_follow_catches_up_on_a_day_although_some_responses_are_garbage():
    """A query for the whole day would fail each time, as one of its many responses is garbage, and start again."""
    simulation = simulated(world=World(seed=7, calls_per_hour=1_000), faults=Faults.chance(0.05, [Fault("garbage")]))
    async with simulation.client() as client:
        events = await consume_for(client.calls.follow(start=NOON - DAY), 2 * HOUR)
    assert len(of_type(CallStarted, events)) > 5_000
