"""Observers see what each request does, and no observer can harm a request."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from helpers.observing import Notebook

from agora_analytics import (
    AnalyticsClient,
    QuotaExhausted,
    RateLimited,
    Series,
    TransportError,
    Unauthorized,
    broadcast,
)
from agora_analytics.protocols import Attempt, AttemptResult, RequestResult
from agora_analytics.simulator import APP_ID, CUSTOMER_SECRET, Fault, Faults

REFUSED = Fault("refused")


async def page(client):
    return await client.calls.page(*client.calls.recent(600))


async def test_an_observer_gets_the_endpoint_the_attempt_its_result_and_the_outcome(simulation):
    notebook = Notebook()
    async with simulation.client(observers=[notebook], transport=simulation.transport(latency=(0.25, 0.5))) as client:
        await page(client)
    trace = notebook.only
    assert (trace.endpoint, trace.priority) == ("call_lists", "interactive")
    attempt = Attempt(number=1, counter="call_lists", waited=0.0, host=0, address="host0.agora.test", port=443)
    assert trace.events == [attempt, AttemptResult(seconds=0.75, status=200), RequestResult(outcome="ok", seconds=0.75)]


async def test_each_retry_is_an_attempt_with_its_own_host_and_error(simulation):
    simulation.faults = Faults.script([REFUSED, Fault("status", status=503), REFUSED])
    notebook = Notebook()
    async with simulation.client(observers=[notebook]) as client:
        await page(client)
    trace = notebook.only
    assert [attempt.number for attempt in trace.attempts] == [1, 2, 3, 4]
    assert [attempt.host for attempt in trace.attempts] == [0, 0, 1, 1]
    assert [attempt.address for attempt in trace.attempts[1:3]] == ["host0.agora.test", "host1.agora.test"]
    assert [result.status for result in trace.results] == [None, 503, None, 200]
    assert [result.error and result.error.__name__ for result in trace.results] == [
        "TransportError",
        "ServerError",
        "TransportError",
        None,
    ]
    assert trace.outcome == "ok"


async def test_the_time_that_a_request_waits_for_its_quota_is_reported(simulation):
    notebook = Notebook()
    async with simulation.client(observers=[notebook]) as client:
        await asyncio.gather(*(page(client) for _ in range(30)))
    waits = [attempt.waited for trace in notebook.traces for attempt in trace.attempts]
    assert len(waits) == 30
    assert min(waits) == 0.0
    assert 0.5 < max(waits) < 30


async def test_a_request_that_may_not_wait_for_its_quota_ends_without_an_attempt(simulation):
    notebook = Notebook()
    simulation.service.spend("call_lists", 10**6)
    async with simulation.client(observers=[notebook], max_wait=0) as client:
        for _ in range(2):
            with pytest.raises(QuotaExhausted):
                await page(client)
    first, second = notebook.traces
    assert (first.outcome, [result.error for result in first.results]) == ("quota", [RateLimited])
    assert second.events == [RequestResult(outcome="quota", seconds=0.0, error=QuotaExhausted)]


async def test_a_request_that_the_service_refuses_again_and_again_is_refused(simulation):
    simulation.faults = Faults.always(Fault("busy"))
    notebook = Notebook()
    async with simulation.client(observers=[notebook]) as client:
        with pytest.raises(RateLimited):
            await page(client)
    assert notebook.only.outcome == "refused"
    assert {result.status for result in notebook.only.results} == {429}


async def test_an_error_that_is_not_retried_ends_the_request_with_it(simulation):
    simulation.faults = Faults.always(Fault("status", status=401))
    notebook = Notebook()
    async with simulation.client(observers=[notebook]) as client:
        with pytest.raises(Unauthorized):
            await page(client)
    assert (notebook.only.outcome, notebook.only.end.error) == ("error", Unauthorized)
    assert notebook.only.results == [AttemptResult(seconds=0.0, status=401, error=Unauthorized)]


@pytest.mark.parametrize("after", [0.1, 2.0])
async def test_a_cancelled_request_ends_its_attempt_and_itself(simulation, after):
    """It is cancelled while it is on its way, and while it waits for its next attempt."""
    simulation.faults = Faults.always(REFUSED)
    notebook = Notebook()
    async with simulation.client(observers=[notebook], transport=simulation.transport(latency=(0.5, 0.0))) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(after):
                await page(client)
    trace = notebook.only
    assert trace.outcome == "cancelled"
    assert len(trace.results) == len(trace.attempts)
    assert trace.results[-1].error in {asyncio.CancelledError, TransportError}
    assert trace.end == RequestResult(outcome="cancelled", seconds=after, error=asyncio.CancelledError)


async def test_a_request_that_is_cancelled_while_it_waits_for_its_quota_has_no_attempt(simulation):
    notebook = Notebook()
    async with simulation.client(observers=[notebook]) as client:
        tasks = [asyncio.create_task(page(client)) for _ in range(30)]
        await asyncio.sleep(0.01)
        tasks[-1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    (cancelled,) = (trace for trace in notebook.traces if trace.outcome == "cancelled")
    assert cancelled.events == [RequestResult(outcome="cancelled", seconds=0.01, error=asyncio.CancelledError)]


async def test_a_request_with_nothing_left_to_fetch_at_its_next_attempt_is_skipped(simulation):
    simulation.faults = Faults.script([REFUSED])
    notebook = Notebook()
    async with simulation.client(observers=[notebook]) as client:
        found = client.calls.search(*client.calls.recent(3_600), max_requests=1)
        assert [call async for call in found] == []
    assert (notebook.only.outcome, len(notebook.only.attempts)) == ("skipped", 1)


async def test_clients_of_another_app_or_priority_have_the_same_observers(simulation):
    notebook = Notebook()
    async with simulation.client(observers=(notebook,)) as client:
        await page(client.with_priority("export"))
        await page(client.with_app(APP_ID))
    assert [trace.priority for trace in notebook.traces] == ["export", "interactive"]


def test_from_env_takes_observers(monkeypatch):
    monkeypatch.setenv("AGORA_CUSTOMER_ID", "a")
    monkeypatch.setenv("AGORA_CUSTOMER_SECRET", "b")
    monkeypatch.setenv("AGORA_PLAN", "premium")
    assert AnalyticsClient.from_env(observers=[Notebook()])
    with pytest.raises(TypeError, match=r"observers\[0\]"):
        AnalyticsClient.from_env(observers=["mine"])


@pytest.mark.parametrize("method", ["request_started", "attempt_started", "attempt_ended", "request_ended"])
@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, RecursionError])
async def test_an_observer_that_raises_is_logged_once_and_not_called_again(simulation, caplog, method, error):
    calls = []

    class Broken(Notebook):
        def request_started(self, endpoint, priority):
            calls.append("request_started")
            self.fail("request_started")
            return self

        def attempt_started(self, attempt):
            self.fail("attempt_started")

        def attempt_ended(self, attempt, result):
            self.fail("attempt_ended")

        def request_ended(self, result):
            self.fail("request_ended")

        def fail(self, here):
            if here == method:
                raise error

    notebook = Notebook()
    transport = simulation.transport(latency=(0.1, 0.1))
    async with simulation.client(observers=[Broken(), notebook], transport=transport) as client:
        await asyncio.gather(page(client), page(client))
        await page(client)
    assert [trace.outcome for trace in notebook.traces] == ["ok"] * 3
    assert caplog.messages == ["observer Broken raised, and is switched off"]
    assert len(calls) == (1 if method.endswith("started") else 2)  # two were under way


async def test_a_trace_without_a_method_harms_no_request(simulation, caplog):
    class Half(Notebook):
        def request_started(self, endpoint, priority):
            return object()

    async with simulation.client(observers=[Half()]) as client:
        await page(client)
    assert caplog.messages == ["observer Half raised, and is switched off"]


async def test_an_observer_gets_no_secret_and_no_app_id(simulation):
    simulation.faults = Faults.script([REFUSED, Fault("status", status=503)])
    notebook = Notebook()
    async with simulation.client(observers=[notebook]) as client:
        await client.calls.page(*client.calls.recent(600), cname="secret-channel")
    text = repr(notebook.traces)
    assert len(notebook.only.results) == 3
    assert [word for word in (APP_ID, CUSTOMER_SECRET, "secret-channel", "start_ts") if word in text] == []


CALLER = contextvars.ContextVar("CALLER", default="nobody")


class Callers(Notebook):
    """Writes down in whose context requests start."""

    def request_started(self, endpoint, priority):
        self.traces.append(CALLER.get())


async def test_requests_of_a_stream_belong_to_its_consumer_and_prefetched_pages_to_their_reader(simulation):
    callers = Callers()
    async with simulation.client(observers=[callers]) as client:
        CALLER.set("consumer")
        async with client.realtime.watch(Series("userCount", product="Native")) as stream:
            await anext(stream)
        CALLER.set("reader")
        assert len([call async for call in client.calls.search(*client.calls.recent(3_600), page_size=10)]) > 10
    assert set(callers.traces) == {"consumer", "reader"}


async def test_requests_of_a_broadcast_belong_to_its_maker_and_to_no_subscriber(simulation):
    callers = Callers()
    CALLER.set("maker")
    async with simulation.client(observers=[callers]) as client:
        stream = client.realtime.watch(Series("userCount", product="Native"))
        async with broadcast(stream) as hub:
            CALLER.set("subscriber")
            await anext(hub.subscribe())
    assert set(callers.traces) == {"maker"}
