"""The clocks of the service and of the host, on virtual and real event loops and without a loop."""

from __future__ import annotations

import asyncio
import time

import pytest
from helpers.service_harness import NOON

from agora_analytics import plans
from agora_analytics.simulator import Clock, HostClock, Service, Simulation, VirtualLoop, World

pytestmark = pytest.mark.real_time


async def _after(clock: Clock, seconds: float) -> float:
    clock()
    await asyncio.sleep(seconds)
    return clock()


def run_on_virtual_loop(clock: Clock, seconds: float) -> float:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_after(clock, seconds))


def test_a_clock_made_outside_of_a_loop_keeps_the_time_of_the_virtual_loop_it_is_read_in():
    clock = Clock(NOON)
    assert clock() == NOON
    assert run_on_virtual_loop(clock, 86_400) == pytest.approx(NOON + 86_400, abs=0.001)


def test_it_follows_the_last_loop_until_it_is_read_in_the_next():
    clock = Clock(NOON)
    reached = run_on_virtual_loop(clock, 500)
    assert clock() == reached
    assert run_on_virtual_loop(clock, 500) == pytest.approx(NOON + 1_000, abs=0.001)


def test_without_a_start_it_follows_the_hosts_time_on_a_real_loop():
    clock = Clock()
    before = time.time()
    assert before <= asyncio.run(_after(clock, 0)) <= time.time()
    assert run_on_virtual_loop(clock, 86_400) >= before + 86_400
    assert run_on_virtual_loop(clock, 0) < time.time() + 2 * 86_400


def test_a_start_on_a_real_loop_continues_with_real_time():
    clock = Clock(NOON)
    before = time.time()
    first = asyncio.run(_after(clock, 0))
    assert NOON <= first <= NOON + time.time() - before
    assert asyncio.run(_after(clock, 0.001)) > first


def test_a_clock_made_in_a_virtual_loop_starts_there():
    async def later() -> float:
        await asyncio.sleep(300)
        clock = Clock(NOON)
        return await _after(clock, 5)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(later()) == pytest.approx(NOON + 5, abs=0.001)


def test_a_machine_that_is_suspended_stops_the_loop_and_not_the_wall_clocks():
    clock = Clock(NOON)
    host = HostClock(clock, wrong=-10)

    async def measure() -> tuple[float, float, float]:
        clock()
        asyncio.get_running_loop().call_later(50, clock.suspend, 39 * 60)
        await asyncio.sleep(100)
        return asyncio.get_running_loop().time(), clock(), host()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        found = runner.run(measure())
    assert found == pytest.approx((100, NOON + 100 + 39 * 60, NOON + 90 + 39 * 60), abs=0.001)


def test_a_custom_clock_runs_by_itself_and_can_be_suspended():
    moments = iter(range(10))
    clock = Clock(lambda: NOON + next(moments))
    first = clock()
    assert clock() == first + 1
    clock.suspend(100)
    assert clock() == first + 102
    assert Clock.of(clock) is clock


def test_a_host_clock_is_wrong_by_what_it_is_set_to():
    simulation = Simulation(clock=NOON)
    assert simulation.host_clock() == simulation.clock() == NOON
    simulation.host_clock.wrong = 600
    assert (simulation.host_clock(), simulation.clock()) == (NOON + 600, NOON)
    simulation.service.clock = lambda: NOON + 5
    assert (simulation.host_clock(), simulation.clock()) == (NOON + 605, NOON + 5)


@pytest.mark.parametrize("wrong", [0, 5, -5])
def test_clients_read_the_hosts_clock_and_the_service_its_own(wrong: float):
    simulation = Simulation(world=World(seed=7), clock=NOON)
    simulation.host_clock.wrong = wrong

    async def ask() -> float:
        async with simulation.client() as client:
            span = client.calls.recent(3_600)
            await client.calls.page(span.start - 60, span.end - 60)
            return span.end

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(ask()) == NOON + wrong - 21
    assert simulation.service.log[0].at == pytest.approx(NOON, abs=1)


async def test_a_service_without_a_clock_counts_by_the_loop_it_answers_on():
    service = Service()
    assert abs(service.clock() - time.time()) < 60
    service.spend(plans.CALL_LISTS)
    assert service.spent("call_lists", "day") == 1


def test_a_timer_too_short_for_the_clock_takes_few_loop_iterations():
    """A limiter may repeatedly sleep for a rounding error."""
    times: list[float] = []

    async def measure() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(86_400)
        start, over = loop.time(), asyncio.Event()

        def check_clock() -> None:
            times.append(loop.time())
            if loop.time() > start:
                over.set()
            else:
                loop.call_later(1e-15, check_clock)

        check_clock()
        await over.wait()
        return loop.time() - start

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert 0 < runner.run(measure()) < 0.001
    assert len(times) < 50
