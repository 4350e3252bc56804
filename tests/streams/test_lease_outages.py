"""Two processes of one name while the store of its leases is down: the one that polls goes on, and the other waits."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress

import pytest
from helpers.leased_rows import LeasedStore, leased
from helpers.paths import ROOT
from helpers.streaming import HOUR, NOON, USERS, collect, consume, elapsed, simulated

from agora_analytics import AnalyticsClient, Checkpoint, CheckpointError, MemoryLedger, Span, streams

ONE = Checkpoint(stream="watch 0", done=(Span(20, 60),))
LEASE = 10.0


async def taken_over(standby, name: str = "prod") -> float:
    """Stand by as the guide does, and return when the name was taken over."""
    while True:
        try:
            await standby.acquire(name)
        except CheckpointError as error:
            if error.kind not in {"in_use", "store"}:
                raise
            await asyncio.sleep(2)
        else:
            return elapsed()


def stand_by(standby) -> asyncio.Task[float]:
    return asyncio.create_task(taken_over(standby))


@pytest.mark.parametrize("outage", [1.0, 6.5, 9.0, 10.0, 11.5, 13.0, 29.0, 65.0])
@pytest.mark.parametrize("phase", [0.0, 0.9, 1.7, 2.6])
async def test_a_holder_that_runs_keeps_its_name_in_an_outage_of_the_store(outage, phase):
    place = LeasedStore()
    async with leased(place) as holder, leased(place) as standby:
        lease = await holder.acquire("prod")
        await asyncio.sleep(phase)
        waiting = stand_by(standby)
        await asyncio.sleep(20)
        await place.down(outage)
        await asyncio.sleep(60)
        assert not waiting.done()
        await holder.save("prod", ONE, lease.epoch)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting


@pytest.mark.parametrize("seconds", [0.0, 3.0, 9.0, 12.0])
async def test_a_holder_that_dies_in_an_outage_is_replaced_once_the_store_was_back_for_a_lease(seconds):
    place = LeasedStore()
    async with leased(place) as holder, leased(place) as standby:
        await holder.acquire("prod")
        waiting = stand_by(standby)
        await asyncio.sleep(20)
        outage = asyncio.create_task(place.down(12))
        await asyncio.sleep(seconds)
        await holder.close()
        await outage
        back = elapsed()
        taken = await waiting
        assert LEASE <= taken - back <= LEASE + 4


async def test_a_holder_that_dies_is_replaced_when_its_lease_is_over():
    place = LeasedStore()
    async with leased(place) as holder, leased(place) as standby:
        await holder.acquire("prod")
        waiting = stand_by(standby)
        await asyncio.sleep(31)
        died = elapsed()
        await holder.close()
        assert await waiting - died <= LEASE + 2


async def test_a_holder_that_is_cut_off_is_replaced_and_its_next_renewal_ends_its_lease():
    place, lost = LeasedStore(), []
    async with leased(place) as holder, leased(place) as standby:
        lease = await holder.acquire("prod")
        holder.when_lost("prod", lease.epoch, lambda: lost.append(elapsed()))
        waiting = stand_by(standby)
        await asyncio.sleep(20)
        holder._rows.is_cut_off = True
        cut_off = elapsed()
        assert await waiting - cut_off <= LEASE + 2
        assert not lost
        holder._rows.is_cut_off = False
        back = elapsed()
        await asyncio.sleep(60)
        assert len(lost) == 1
        assert lost[0] - back <= LEASE / 3


async def test_a_process_that_starts_after_the_end_of_a_lease_waits_for_one_and_a_released_name_is_free_at_once():
    place = LeasedStore()
    async with leased(place) as holder, leased(place) as other, leased(place) as third:
        await holder.acquire("prod")
        await holder.close()
        await asyncio.sleep(HOUR)
        started = elapsed()
        lease = await other.acquire("prod")
        assert elapsed() - started == pytest.approx(LEASE, abs=0.1)
        await other.release("prod", lease.epoch)
        started = elapsed()
        await third.acquire("prod")
        assert elapsed() == started


async def test_a_takeover_that_is_cancelled_while_it_waits_takes_nothing():
    place = LeasedStore()
    async with leased(place) as holder, leased(place) as other:
        await holder.acquire("prod")
        await holder.close()
        await asyncio.sleep(HOUR)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(LEASE / 2):
                await other.acquire("prod")
        assert place.rows["prod"].epoch == 1


async def test_a_lease_that_cannot_be_renewed_is_logged_once_for_each_outage(caplog):
    place = LeasedStore()
    async with leased(place) as holder:
        await holder.acquire("prod")
        await holder.acquire("test")
        for _ in range(2):
            await asyncio.sleep(20)
            await place.down(40)
    found = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(found) == 2
    assert "lease cannot be renewed" in found[0]
    assert "it is down" in found[0]


# Streams.


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_stream_whose_renewal_is_refused_ends_before_its_next_request(kind):
    simulation, place, events = simulated(), LeasedStore(), []
    async with leased(place) as store, simulation.client(checkpoints=store) as client:
        source = client.realtime.watch if kind == "watch" else client.calls.follow
        arguments = (USERS,) if kind == "watch" else ()
        stream = source(*arguments, start=NOON - HOUR, checkpoint="prod")
        running = asyncio.create_task(consume(stream, events))
        await asyncio.sleep(605)
        assert events
        place.rows["prod"].epoch += 1  # another process took it over
        before, requests = elapsed(), simulation.service.counts.total()
        with pytest.raises(CheckpointError, match="took this stream over") as caught:
            await running
        assert caught.value.kind == "taken_over"
        assert elapsed() - before <= LEASE / 3 + 0.1
        assert simulation.service.counts.total() == requests
        assert "took this stream over" in stream.health.last_error


async def test_a_stream_goes_on_through_an_outage_of_its_store_while_another_stands_by():
    simulation, place, events = simulated(), LeasedStore(), []
    async with (
        leased(place) as store,
        leased(place) as other,
        simulation.client(checkpoints=store) as client,
    ):
        stream = client.realtime.watch(USERS, start=NOON - 1_200, stop=NOON + HOUR, checkpoint="prod", revisions=False)
        running = asyncio.create_task(consume(stream, events))
        await asyncio.sleep(1)
        waiting = stand_by(other)
        for seconds in (9, 10, 11, 12, 13, 25):
            await asyncio.sleep(300)
            await place.down(seconds)
        await running
        await waiting  # it ended, and released its name
        times = [event.ts for event in events]
        assert times == sorted(set(times))


@pytest.mark.parametrize("seconds", [605, 640, 690])
@pytest.mark.parametrize(("plan", "interval"), [("premium", 100), ("enterprise", 40)])
async def test_a_takeover_from_a_stream_that_runs_delays_no_poll_although_its_requests_were_reserved(
    plan, interval, seconds
):
    simulation, place, ledger = simulated(plan), LeasedStore(), MemoryLedger()
    async with (
        leased(place) as first,
        leased(place, 0.0) as second,  # which takes over at once
        simulation.client(checkpoints=first, ledger=ledger) as client,
        simulation.client(checkpoints=second, ledger=ledger) as other,
    ):
        old, new = (
            one.realtime.watch(USERS, start=NOON - 1_200, checkpoint="prod", revisions=False) for one in (client, other)
        )
        running = asyncio.create_task(collect(old))
        await asyncio.sleep(seconds)
        last = simulation.service.log[-1].at
        await anext(new)
        assert simulation.service.log[-1].at - last <= interval + 1
        assert running.exception().kind == "taken_over"
        await new.aclose()


# The program of the guide.


def program(on_event):
    """Return `main` of the first program in the guide, with a function that it calls with each event."""
    page = (ROOT / "docs/guides/failover.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0].replace("asyncio.run(main())\n", "")
    names = {}
    exec(code, names)  # noqa: S102 - our own page
    names["store"] = on_event
    return names["main"]


@pytest.mark.parametrize("outages", [(5, 10, 12), (45, 100), (33, 61, 300)])
async def test_the_program_of_the_guide_goes_on_after_any_outage_of_its_store(monkeypatch, outages):
    place, simulation, seen = LeasedStore(), simulated("enterprise"), []

    async def on_event(event) -> None:
        seen.append(event.span.start)

    monkeypatch.setattr(streams, "RedisCheckpoints", lambda _, lease: leased(place, lease))
    monkeypatch.setattr(AnalyticsClient, "from_env", simulation.client)
    place.is_down = True
    running = [asyncio.create_task(program(on_event)()) for _ in range(2)]
    await asyncio.sleep(100)
    for outage in (0, *outages):
        await place.down(outage)
        await asyncio.sleep(200)
    assert not any(one.done() for one in running)
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    windows = sorted(set(seen))
    assert windows == list(range(windows[0], windows[-1] + 20, 20))
    assert elapsed() + NOON - windows[-1] < 300
    assert len(seen) - len(windows) <= sum(outage > 30 for outage in outages)
