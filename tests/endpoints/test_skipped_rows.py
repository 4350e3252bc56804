"""Rows of a list that cannot be read cost themselves, also where no other row is near them."""

from __future__ import annotations

import json
from itertools import pairwise
from urllib.parse import parse_qsl

import attrs
import pytest
from helpers.streaming import DAY, HOUR, NOON, of, simulated, taken_for

from agora_analytics import CallFinished, CallStarted, Gap
from agora_analytics.protocols import Request, Response, Transport
from agora_analytics.simulator import Fault, Faults, World

SPARSE = World(seed=7, calls_per_hour=1)


@attrs.frozen
class Spoiled:
    """A transport whose lists end with rows that nobody can read, wherever they reach over a moment."""

    inner: Transport
    moment: int
    rows: list[object]

    @property
    def hosts(self) -> int:
        return self.inner.hosts

    async def send(self, request: Request, host: int = 0) -> Response:
        response = await self.inner.send(request, host)
        asked = dict(parse_qsl(request.query))
        if not int(asked.get("start_ts", 0)) <= self.moment < int(asked.get("end_ts", 0)):
            return response
        answer = json.loads(response.body)
        if "call_lists" in answer:
            answer["call_lists"] += self.rows
        return attrs.evolve(response, body=json.dumps(answer).encode())

    def scrub(self, body: bytes) -> bytes:
        return self.inner.scrub(body)

    async def close(self) -> None:
        await self.inner.close()


def quiet_hours() -> int:
    """The beginning of three hours in which no call begins."""
    begun = [int(call.created) for call in SPARSE.calls(NOON, NOON + 18 * HOUR)]
    return next(last for last, following in pairwise(begun) if following - last > 3 * HOUR)


@pytest.mark.parametrize("rows", [[None, None], [{"cname": "a"}] * 4])
async def test_rows_that_cannot_be_read_in_a_quiet_hour_end_no_follow(rows):
    simulation = simulated(world=SPARSE)
    quiet = quiet_hours() + 60
    async with simulation.client(transport=Spoiled(simulation.transport(), quiet, rows)) as client:
        events = await taken_for(client.calls.follow(), 24 * HOUR)
    started = [event.call.call_id for event in of(CallStarted, events)]
    calls = {call.call_id for call in SPARSE.calls(NOON, NOON + 23 * HOUR)}
    assert calls <= set(started)
    assert len(started) == len(set(started))
    assert of(CallFinished, events)
    assert of(Gap, events) == []


async def test_answers_that_are_no_answers_make_a_follow_ask_for_no_more_at_a_time():
    """Of a day's span one answer of many is damaged each time, and all that was read with it would be read again."""
    simulation = simulated(world=World(seed=7, calls_per_hour=1_000), faults=Faults.chance(0.05, [Fault("garbage")]))
    async with simulation.client() as client:
        events = await taken_for(client.calls.follow(start=NOON - DAY), 2 * HOUR)
    assert len(of(CallStarted, events)) > 5_000
