"""Every value of every parameter of every endpoint, on each plan, over the simulator: the request and the result."""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from helpers import answer_rows as rows
from helpers.recording import run
from helpers.vendor import OFFERED_PATHS, Case, Target, all_cases

from agora_analytics.plans import ENDPOINTS
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator import APP_ID, Service, SimulatedCall, Simulation, World
from agora_analytics.simulator.fault_schedule import PARAMETERS

pytestmark = pytest.mark.real_time

NOW = 1_795_867_200 + 43_211
WORLD = World(seed=5)


class RecordingTransport:
    """A transport to the simulator that records the documents of its responses."""

    def __init__(self, simulation: Simulation) -> None:
        self._inner = simulation.transport()
        self.documents: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def send(self, request: Request, host: int = 0) -> Response:
        response = await self._inner.send(request, host)
        self.documents.append(msgspec.json.decode(response.body))
        return response


@cache
def target() -> Target:
    """A call of today that has ended, and its sessions, of which some have freezes and some do not."""
    call = next(
        one
        for one in WORLD.calls(NOW - 36_000, NOW - 4_000)
        if one.destroyed < NOW - 600 and 3 <= len(WORLD.sessions(one)) <= 20 and _has_mixed_freeze_rates(one)
    )
    sessions = WORLD.sessions(call)
    return Target(
        now=NOW,
        app_id=APP_ID,
        call_id=call.call_id,
        cname=call.cname,
        start=call.created,
        sids=tuple(one.sid for one in sessions),
        uid=sessions[0].uid,
    )


def _has_mixed_freeze_rates(call: SimulatedCall) -> bool:
    rates = [one.video_freeze or 0.0 for one in WORLD.sessions(call) if not one.server]
    return any(rate < 0.03 for rate in rates) and any(rate > 0.05 for rate in rates)


def cases(path: str) -> list[Case]:
    return [case for case in all_cases(target()) if case.path == path]


async def run_case(case: Case, plan: str) -> tuple[Simulation, RecordingTransport, Any]:
    simulation = Simulation(service=Service(WORLD, plan, clock=lambda: float(NOW)))
    transport = RecordingTransport(simulation)
    async with simulation.client(transport=transport) as client:
        return simulation, transport, await run(case.invoke(client))


def is_offered(path: str, plan: str) -> bool:
    return path.startswith(OFFERED_PATHS[plan]) if OFFERED_PATHS[plan] else False


@pytest.mark.slow_except(*(f"{endpoint.path}-premium" for endpoint in ENDPOINTS))
@pytest.mark.parametrize("plan", OFFERED_PATHS)
@pytest.mark.parametrize("path", [endpoint.path for endpoint in ENDPOINTS])
async def test_requests_and_results_match_the_reference(path, plan):
    row_count = 0
    for case in cases(path) if is_offered(path, plan) else ():
        simulation, transport, result = await run_case(case, plan)
        (entry,) = simulation.service.log
        assert (entry.method, entry.path, dict(parse_qsl(entry.query))) == (case.method, path, case.query)
        assert (None if entry.body is None else json.loads(entry.body)) == case.body
        (document,) = transport.documents
        assert rows.rows_of_result(case, result) == rows.rows_of_json(case, document)
        row_count += len(rows.rows_of_json(case, document))
    assert bool(row_count) == is_offered(path, plan)


@pytest.mark.parametrize("plan", OFFERED_PATHS)
@pytest.mark.parametrize("path", [endpoint.path for endpoint in ENDPOINTS])
async def test_an_endpoint_outside_the_plan_raises_and_nothing_is_sent(path, plan):
    for case in () if is_offered(path, plan) else cases(path)[:3]:
        simulation = Simulation(service=Service(WORLD, plan, clock=lambda: float(NOW)))
        async with simulation.client() as client:
            with pytest.raises(ValueError, match=f"plan='{plan}' does not include"):
                await run(case.invoke(client))
        assert not simulation.service.log


def test_faults_can_be_bound_to_every_parameter():
    parameters = {name for case in all_cases(target()) for name in {*case.query, *(case.body or ())}}
    assert parameters == set(PARAMETERS)
