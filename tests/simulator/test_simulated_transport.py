from __future__ import annotations

import asyncio

import msgspec
import pytest
from helpers.service_harness import NOON, ManualClock

from agora_analytics import plans
from agora_analytics.errors import DecodeError, TransportError, TransportTimeout
from agora_analytics.protocols import Request, Response, Transport
from agora_analytics.simulator import APP_ID, Fault, Faults, Service, SimulatorTransport

pytestmark = [pytest.mark.real_time, pytest.mark.real_time]

REQUEST = Request(plans.CALL_LISTS, f"appid={APP_ID}&start_ts={NOON - 9_000}&end_ts={NOON - 60}")


def service(*steps: Fault | None) -> Service:
    return Service(clock=ManualClock(), faults=Faults.script(steps))


def counted(simulated: Service) -> int:
    return simulated.spent("call_lists", "day")


async def test_an_answer_is_returned_and_the_request_counted():
    simulated = service()
    transport: Transport = SimulatorTransport(simulated, hosts=3)
    response = await transport.send(REQUEST, 2)
    assert msgspec.json.decode(response.body)["code"] == 200
    assert (transport.hosts, counted(simulated), simulated.log[0].host) == (3, 1, 2)
    await transport.close()
    await transport.close()


async def test_wrong_credentials_are_refused():
    response = await SimulatorTransport(service(), customer_secret="wrong").send(REQUEST)
    assert response.status == 401


@pytest.mark.parametrize(("kind", "spent"), [("refused", 0), ("reset", 0), ("reset_after", 1), ("cut", 1)])
async def test_a_connection_fault_raises(kind: str, spent: int):
    simulated = service(Fault(kind))  # type: ignore[arg-type]
    with pytest.raises(TransportError, match=r"connection|body") as caught:
        await SimulatorTransport(simulated).send(REQUEST)
    assert counted(simulated) == spent
    assert not isinstance(caught.value, TransportTimeout)
    assert caught.value.sent is (kind != "refused")
    assert caught.value.request.startswith("GET /beta/analytics/call/lists start_ts=")


@pytest.mark.parametrize("kind", ["huge", "bomb"])
async def test_an_answer_that_is_too_large_raises(kind: str):
    with pytest.raises(DecodeError, match="too large"):
        await SimulatorTransport(service(Fault(kind))).send(REQUEST)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "status", "spent"), [("html", 502, 0), ("busy", 429, 0), ("garbage", 200, 1)])
async def test_a_complete_answer_is_returned_whatever_its_content(kind: str, status: int, spent: int):
    simulated = service(Fault(kind))  # type: ignore[arg-type]
    response = await SimulatorTransport(simulated).send(REQUEST)
    assert response.status == status
    assert response.headers["Date"] == "Tue, 24 Nov 2026 12:00:00 GMT"
    assert counted(simulated) == spent
    with pytest.raises(msgspec.DecodeError):
        assert "code" in msgspec.json.decode(response.body, type=dict[str, int])


async def test_a_slow_answer_times_out_after_it_was_counted():
    simulated = service(Fault("slow", seconds=60))
    with pytest.raises(TransportTimeout, match=r"no answer within 0\.01 s"):
        await SimulatorTransport(simulated, timeout=0.01).send(REQUEST)
    assert counted(simulated) == 1


async def test_the_service_counts_between_the_two_latencies():
    simulated = service()
    delays = iter([(0.0, 60.0), (60.0, 0.0)])
    transport = SimulatorTransport(simulated, latency=lambda: next(delays), timeout=0.01)
    spent = []
    for _ in range(2):
        with pytest.raises(TransportTimeout):
            await transport.send(REQUEST)
        spent.append(counted(simulated))
    assert spent == [1, 1]


async def test_each_host_has_a_clock_of_its_own():
    simulated = service()
    transport = SimulatorTransport(simulated, skews=(0.0, 2.5), latency=(0.001, 0.001))

    async def date(host: int) -> str:
        response: Response = await transport.send(REQUEST, host)
        return response.headers["Date"]

    async with asyncio.TaskGroup() as group:
        dates = [group.create_task(date(host)) for host in (0, 1)]
    assert [task.result()[-12:-4] for task in dates] == ["12:00:00", "12:00:02"]
