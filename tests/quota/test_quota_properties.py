"""Whatever happens to requests, clocks and callers: no window exceeds the limit, and no permit is lost.

Requests arrive and are cancelled, the wall clock is stepped, another program uses the account, connections fail or
break, answers take up to half a second. The simulator counts what arrives in its own seconds.
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

latencies = st.tuples(st.floats(0, 0.5), st.floats(0, 1)).map(
    lambda drawn: (drawn[0] * drawn[1], drawn[0] * (1 - drawn[1]))
)
"""Latencies of the request and the response: half a second in total, at most."""

actions = st.one_of(
    st.tuples(st.just("request"), st.integers(1, 12), st.sampled_from(Priority)),
    st.tuples(st.just("cancel"), st.integers(0, 40), st.none()),
    st.tuples(st.just("sleep"), st.floats(0, 3), st.none()),
    st.tuples(st.just("step"), st.floats(-400, 400), st.none()),
    st.tuples(st.just("other program"), st.integers(1, 4), st.none()),
    st.tuples(st.just("break"), st.sampled_from(["before", "after"]), st.none()),
)


class FlakyTransport:
    """A transport over the simulator's, with latencies from a list; its connections fail as `failures` says."""

    def __init__(self, simulation: Simulation, latencies: list[tuple[float, float]]) -> None:
        self._inner = simulation.transport(latency=self._latency, hosts=1)
        self._latencies = latencies
        self._number = 0
        self.failures: list[str] = []

    @property
    def hosts(self) -> int:
        return 1

    def _latency(self) -> tuple[float, float]:
        self._number += 1
        return self._latencies[self._number % len(self._latencies)]

    async def send(self, request: Request, host: int = 0) -> Response:
        kind = self.failures.pop() if self.failures else ""
        if kind == "before":
            error = TransportError("no connection")
            error.sent = False
            raise error
        response = await self._inner.send(request, host)
        if kind == "after":
            raise TransportError("connection lost")
        return response

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        await self._inner.close()


@given(
    actions=st.lists(actions, min_size=5, max_size=25),
    latencies=st.lists(latencies, min_size=1, max_size=30),
    date=st.sampled_from(["exact", "timer", "lazy"]),
    drift=st.sampled_from([0.0, 2e-4, -2e-4]),
    host_skew=st.sampled_from([0.0, 0.04]),
)
@example(
    # Two requests are sent as a second begins, when the clock has just become known, and still in flight at the next
    # reading of the clock.
    actions=[("sleep", 1.5625, None), ("request", 16, Priority.EXPORT)],
    latencies=[(0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.5), (0.0, 0.5)],
    date="exact",
    drift=0.0,
    host_skew=0.0,
)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_window_exceeds_the_limit_and_no_permit_is_lost(actions, latencies, date, drift, host_skew):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_run_actions(actions, latencies, date, drift, host_skew))


async def _run_actions(actions, latencies, date, drift, host_skew) -> None:
    time = asyncio.get_running_loop().time
    stepped = 0.0
    skew = [host_skew]

    def service_clock() -> float:
        skew.append(-skew.pop())
        return NOON + time() * (1 + drift) + skew[0]

    plan = ENTERPRISE.with_limits("call_lists", per_second=LIMIT, per_day=10_000)
    service = Service(WORLD, plan, clock=service_clock, variants=Variants(date=date))
    simulation = Simulation(service)
    transport = FlakyTransport(simulation, latencies)
    client = simulation.client(transport=transport, clock=lambda: NOON + time() + stepped, max_wait=None, plan=plan)
    other = simulation.client(transport=simulation.transport(hosts=1), quotas=False, retry=Retry(attempts=1))
    span = (int(NOON) - 3_000, int(NOON) - 2_400)
    tasks: list[asyncio.Task[object]] = []

    async def send_request(priority: Priority) -> None:
        with suppress(AgoraError):
            await client.with_priority(priority).calls.page(*span, page_size=1)

    for kind, value, priority in actions:
        if kind == "request":
            tasks += [asyncio.create_task(send_request(priority)) for _ in range(value)]
        elif kind == "cancel":
            for task in tasks[value::7]:
                task.cancel()
        elif kind == "sleep":
            await asyncio.sleep(value)
        elif kind == "step":
            stepped += value
        elif kind == "other program":
            await asyncio.gather(
                *(other.calls.page(*span, cname="other") for _ in range(value)), return_exceptions=True
            )
        else:
            transport.failures.append(value)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)

    transport.failures.clear()

    own = [entry for entry in service.log if "cname=other" not in entry.query]
    assert max(Counter(int(entry.at) for entry in own).values(), default=0) <= LIMIT
    # Each request of the other program can take the place of one of ours; no more than that are refused.
    assert sum(map(bool, (entry.refused for entry in own))) <= len(service.log) - len(own)

    await asyncio.sleep(5)
    states = {state.unit: state for state in await client.quota.snapshot() if state.counter == "call_lists"}
    assert (states["second"].used, states["second"].waiting) == (0, 0)
    # An abandoned request may have been counted or not; every other request was.
    counted = len(own)
    abandoned = sum(task.cancelled() for task in tasks) + sum(kind == "break" for kind, *_ in actions)
    assert counted <= states["day"].used <= counted + abandoned
    started = time()
    await asyncio.gather(*(client.calls.page(*span, page_size=1) for _ in range(LIMIT)))
    assert time() - started < 1 + 1.3 + 1.0
    await client.close()
    await other.close()
