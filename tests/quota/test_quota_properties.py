"""Whatever happens to requests, clocks and callers: no window of the service is overrun, and no permit is lost.

Arrivals, cancellations, steps of the host's clock, others who spend from the same account, connections that break or
never come about, answers after up to half a second: the simulator counts what arrives in its own seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agora_analytics import ENTERPRISE, AgoraError, Priority, Retry, TransportError
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator import Service, Simulation, Variants, VirtualLoop, World

NOON = 1_795_521_600.4
WORLD = World(seed=7)
LIMIT = 4

ways = st.tuples(st.floats(0, 0.5), st.floats(0, 1)).map(lambda way: (way[0] * way[1], way[0] * (1 - way[1])))
"""There and back: half a second in all, at most."""

actions = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 12), st.sampled_from(Priority)),
    st.tuples(st.just("cancel"), st.integers(0, 40), st.none()),
    st.tuples(st.just("rest"), st.floats(0, 3), st.none()),
    st.tuples(st.just("step"), st.floats(-400, 400), st.none()),
    st.tuples(st.just("foreign"), st.integers(1, 4), st.none()),
    st.tuples(st.just("break"), st.sampled_from(["before", "after"]), st.none()),
)


class Way:
    """A transport over the simulator's, with a delay each way from a list, that breaks when told to."""

    def __init__(self, simulation: Simulation, ways: list[tuple[float, float]]) -> None:
        self._inner = simulation.transport(latency=self._latency, hosts=1)
        self._ways = ways
        self._number = 0
        self.breaks: list[str] = []

    @property
    def hosts(self) -> int:
        return 1

    def _latency(self) -> tuple[float, float]:
        self._number += 1
        return self._ways[self._number % len(self._ways)]

    async def send(self, request: Request, host: int = 0) -> Response:
        kind = self.breaks.pop() if self.breaks else ""
        if kind == "before":
            error = TransportError("nobody there")
            error.sent = False
            raise error
        response = await self._inner.send(request, host)
        if kind == "after":
            raise TransportError("broken off")
        return response

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        await self._inner.close()


@given(
    actions=st.lists(actions, min_size=5, max_size=25),
    ways=st.lists(ways, min_size=1, max_size=30),
    date=st.sampled_from(["exact", "timer", "lazy"]),
    drift=st.sampled_from([0.0, 2e-4, -2e-4]),
    apart=st.sampled_from([0.0, 0.04]),
)
@example(
    # Two that go as a second begins, when the clock has just become known, are still out when it is looked at again.
    actions=[("rest", 1.5625, None), ("ask", 16, Priority.EXPORT)],
    ways=[(0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.5), (0.0, 0.5)],
    date="exact",
    drift=0.0,
    apart=0.0,
)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_no_window_is_overrun_and_no_permit_lost(actions, ways, date, drift, apart):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_play(actions, ways, date, drift, apart))


async def _play(actions, ways, date, drift, apart) -> None:
    time = asyncio.get_running_loop().time
    stepped = 0.0
    flip = [apart]

    def service_clock() -> float:
        flip.append(-flip.pop())
        return NOON + time() * (1 + drift) + flip[0]

    plan = ENTERPRISE.with_limits("call_lists", per_second=LIMIT, per_day=10_000)
    service = Service(WORLD, plan, clock=service_clock, variants=Variants(date=date))
    simulation = Simulation(service)
    transport = Way(simulation, ways)
    client = simulation.client(transport=transport, clock=lambda: NOON + time() + stepped, max_wait=None, plan=plan)
    other = simulation.client(transport=simulation.transport(hosts=1), quotas=False, retry=Retry(attempts=1))
    span = (int(NOON) - 3_000, int(NOON) - 2_400)
    asked: list[asyncio.Task[object]] = []

    async def ask(priority: Priority) -> None:
        with suppress(AgoraError):
            await client.with_priority(priority).calls.page(*span, page_size=1)

    for kind, value, priority in actions:
        if kind == "ask":
            asked += [asyncio.create_task(ask(priority)) for _ in range(value)]
        elif kind == "cancel":
            for task in asked[value::7]:
                task.cancel()
        elif kind == "rest":
            await asyncio.sleep(value)
        elif kind == "step":
            stepped += value
        elif kind == "foreign":
            await asyncio.gather(
                *(other.calls.page(*span, cname="foreign") for _ in range(value)), return_exceptions=True
            )
        else:
            transport.breaks.append(value)
        await asyncio.sleep(0)
    await asyncio.gather(*asked, return_exceptions=True)

    transport.breaks.clear()

    mine = [entry for entry in service.log if "foreign" not in entry.query]
    assert max(Counter(int(entry.at) for entry in mine).values(), default=0) <= LIMIT
    # Each request of others can take the place of one of ours, and no more than that is refused.
    assert sum(map(bool, (entry.refused for entry in mine))) <= len(service.log) - len(mine)

    await asyncio.sleep(5)
    states = {state.unit: state for state in await client.quota.snapshot() if state.counter == "call_lists"}
    assert (states["second"].used, states["second"].waiting) == (0, 0)
    # A permit whose request was given up may have been counted or not; every other was.
    counted = len(mine)
    given_up = sum(task.cancelled() for task in asked) + sum(kind == "break" for kind, *_ in actions)
    assert counted <= states["day"].used <= counted + given_up
    begun = time()
    await asyncio.gather(*(client.calls.page(*span, page_size=1) for _ in range(LIMIT)))
    assert time() - begun < 1 + 1.3 + 1.0
    await client.close()
    await other.close()
