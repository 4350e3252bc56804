from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from helpers.service_harness import NOON, ManualClock

import agora_analytics.simulator
from agora_analytics import simulator
from agora_analytics.errors import Unauthorized
from agora_analytics.simulator import Fault, Faults, Service, Simulation, Variants, World
from agora_analytics.simulator.fixtures import agora_simulator
from agora_analytics.spans import Span

pytestmark = pytest.mark.real_time

__all__ = ["agora_simulator"]

FILES = sorted(Path(agora_analytics.simulator.__file__).parent.glob("*.py"))
FLOOR = {"_core.validation", "spans", "plans", "catalogue", "protocols", "errors", "models", "simulator"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "agora_analytics":
            yield from (f"agora_analytics.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def importers(library: str) -> list[str]:
    return [path.name for path in FILES if any(name.split(".")[0] == library for name in imported(path))]


def test_each_library_has_one_door():
    assert importers("aiohttp") == ["server.py"]
    assert importers("pytest") == ["fixtures.py"]
    front = {name.rpartition(".")[2] for name in imported(FILES[0])}
    assert FILES[0].name == "__init__.py"
    assert not front & {"server", "fixtures"}


def test_only_values_are_shared_with_the_client():
    files = sorted(Path(agora_analytics.simulator.__file__).parent.rglob("*.py"))
    ours = [name for path in files for name in imported(path) if name.startswith("agora_analytics.")]
    names = {name.split(".")[1] for name in ours}
    assert names - FLOOR == {"AnalyticsClient", "_core"}  # only values of `_core`, as tests/project checks


def test_every_exported_name_exists():
    assert all(hasattr(simulator, name) for name in simulator.__all__)


def simulation(variants: Variants | None = None) -> Simulation:
    return Simulation(Service(World(seed=7), clock=ManualClock(), variants=variants))


@pytest.mark.parametrize("variants", [Variants(), Variants.hostile()], ids=["default", "hostile"])
async def test_a_client_reads_the_world(variants: Variants):
    simulated = simulation(attrs.evolve(variants, calls_overlap=False))
    start, end = NOON - 7_200, NOON - 3_600
    async with simulated.client() as client:
        calls = [call async for call in client.calls.search(start, end)]
    expected = simulated.world.calls(*Span(start, end))
    assert {call.call_id for call in calls} == {call.call_id for call in expected}
    assert simulated.service.counts == {"call_lists": -(-len(expected) // 100)}


async def test_a_service_may_have_credentials_of_its_own():
    service = Service(clock=ManualClock(), customer_id="me", customer_secret="mine", app_id="app")
    async with Simulation(service).client() as client:
        assert (await client.calls.page(NOON - 7_200, NOON - 3_600)).code == 200


async def test_options_of_the_client_override_the_defaults():
    async with simulation().client(app_id="other") as client:
        with pytest.raises(Unauthorized):
            await client.calls.page(NOON - 7_200, NOON - 3_600)


def test_a_simulation_can_be_built_from_its_parts():
    faults, variants = Faults.always(Fault("reset")), Variants(shuffled_rows=True)
    simulated = Simulation(world=World(seed=3), plan="premium", clock=NOON, faults=faults, variants=variants)
    assert (simulated.world, simulated.faults, simulated.variants) == (World(seed=3), faults, variants)
    assert (simulated.service.plan.name, simulated.clock()) == ("premium", NOON)
    simulated.variants = Variants()
    assert simulated.service.variants == Variants()


def test_a_simulation_takes_a_service_or_its_parts():
    with pytest.raises(TypeError, match=r"plan, faults: the service already has its own"):
        Simulation(Service(), plan="premium", faults=Faults())


async def test_the_fixture_is_a_new_simulation_for_each_test(agora_simulator: Simulation):
    assert agora_simulator.service.log.maxlen
    assert agora_simulator.app_id == simulator.APP_ID
    assert agora_simulator.world == World()
    assert agora_simulator.clock() > NOON - 10**9
    agora_simulator.faults = Faults.script([Fault("reset")])
    assert agora_simulator.service.receive() == Fault("reset")
    assert agora_simulator.faults.rules
    assert agora_simulator.transport(hosts=4).hosts == 4


async def test_replaced_credentials_are_the_ones_that_the_service_accepts():
    simulation = Simulation(clock=NOON)
    simulation.service.customer_secret = "rotated"
    async with simulation.client() as client:
        assert await client.calls.page(*client.calls.recent(3_600))
    transport = simulator.SimulatorTransport(simulation.service, customer_secret="simulated-secret")
    async with simulation.client(transport=transport) as client:
        with pytest.raises(Unauthorized):
            await client.calls.page(*client.calls.recent(3_600))
