"""Every value of every parameter of every endpoint, on each plan, over the simulator: what is sent, what comes back."""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from helpers import answer_rows as rows
from helpers.recording import run
from helpers.vendor import OFFERED, Case, Place, every

from agora_analytics.plans import ENDPOINTS
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator import APP_ID, Service, SimulatedCall, Simulation, World
from agora_analytics.simulator.fault_schedule import PARAMETERS

pytestmark = pytest.mark.real_time

NOW = 1_795_867_200 + 43_211
WORLD = World(seed=5)


class Overheard:
    """The way to the service, where one can see what comes back."""

    def __init__(self, simulation: Simulation) -> None:
        self._inner = simulation.transport()
        self.answers: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def send(self, request: Request, host: int = 0) -> Response:
        response = await self._inner.send(request, host)
        self.answers.append(msgspec.json.decode(response.body))
        return response


@cache
def place() -> Place:
    """A call of today that is over, and some who were there, of whom not all froze."""
    call = next(
        one
        for one in WORLD.calls(NOW - 36_000, NOW - 4_000)
        if one.destroyed < NOW - 600 and 3 <= len(WORLD.sessions(one)) <= 20 and _bumpy(one)
    )
    there = WORLD.sessions(call)
    return Place(
        now=NOW,
        app_id=APP_ID,
        call_id=call.call_id,
        cname=call.cname,
        start=call.created,
        sids=tuple(one.sid for one in there),
        uid=there[0].uid,
    )


def _bumpy(call: SimulatedCall) -> bool:
    rates = [one.video_freeze or 0.0 for one in WORLD.sessions(call) if not one.server]
    return any(rate < 0.03 for rate in rates) and any(rate > 0.05 for rate in rates)


def cases(path: str) -> list[Case]:
    return [case for case in every(place()) if case.path == path]


async def asked(case: Case, plan: str) -> tuple[Simulation, Overheard, Any]:
    simulation = Simulation(service=Service(WORLD, plan, clock=lambda: float(NOW)))
    overheard = Overheard(simulation)
    async with simulation.client(transport=overheard) as client:
        return simulation, overheard, await run(case.ask(client))


def is_offered(path: str, plan: str) -> bool:
    return path.startswith(OFFERED[plan]) if OFFERED[plan] else False


@pytest.mark.parametrize("plan", OFFERED)
@pytest.mark.parametrize("path", [endpoint.path for endpoint in ENDPOINTS])
async def test_what_is_sent_and_what_comes_back_are_what_the_reference_says(path, plan):
    told = 0
    for case in cases(path) if is_offered(path, plan) else ():
        simulation, overheard, found = await asked(case, plan)
        (entry,) = simulation.service.log
        assert (entry.method, entry.path, dict(parse_qsl(entry.query))) == (case.method, path, case.query)
        assert (None if entry.body is None else json.loads(entry.body)) == case.body
        (answer,) = overheard.answers
        assert rows.of_client(case, found) == rows.of_wire(case, answer)
        told += len(rows.of_wire(case, answer))
    assert bool(told) == is_offered(path, plan)


@pytest.mark.parametrize("plan", OFFERED)
@pytest.mark.parametrize("path", [endpoint.path for endpoint in ENDPOINTS])
async def test_what_a_plan_lacks_is_refused_and_nothing_is_sent(path, plan):
    for case in () if is_offered(path, plan) else cases(path)[:3]:
        simulation = Simulation(service=Service(WORLD, plan, clock=lambda: float(NOW)))
        async with simulation.client() as client:
            with pytest.raises(ValueError, match=f"plan='{plan}' does not include"):
                await run(case.ask(client))
        assert not simulation.service.log


def test_faults_can_be_bound_to_every_parameter_that_there_is():
    sent = {name for case in every(place()) for name in {*case.query, *(case.body or ())}}
    assert sent == set(PARAMETERS)
