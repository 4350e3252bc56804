"""A fleet in the JSON of the page, in its events and in its probes."""

from __future__ import annotations

import asyncio

import pytest
from helpers.streaming import USERS, simulated
from helpers.web_server import site
from helpers.written_fleet import written_fleet

from agora_analytics.ops import FleetMonitor, LiveState, routes
from agora_analytics.ops.web.readiness import probe

pytest.importorskip("docket", reason="needs the extra fleet")


@pytest.fixture
async def written():
    async with written_fleet() as found:
        yield found


async def read_by(monitor: FleetMonitor) -> None:
    """Wait for a reading that begins now."""
    for _ in range(2):
        read = asyncio.Event()
        ignore = monitor.on_status(lambda _, read=read: read.set())
        await asyncio.wait_for(read.wait(), 20)
        ignore()


@pytest.mark.real_time
async def test_jobs_are_sorted_searched_and_limited_by_the_server(written):
    await written.worker("one", jobs=2)
    await written.job("a.watch.x", "one", age=100, takeovers=2)
    await written.job("a.watch.y", "one", age=300, failures=1, error="Unauthorized: no\nsecrets")
    await written.job("b.follow.x", "gone", age=5)
    async with (
        FleetMonitor(written.fleet, every=0.05) as monitor,
        simulated().client() as client,
        site(routes(LiveState(client, USERS, fleet=monitor))) as here,
    ):
        await read_by(monitor)

        async def keys(query: str) -> list[str]:
            return [job["key"] for job in (await here.get(f"/api/v1/fleet?{query}"))["jobs"]]

        assert await keys("") == ["b.follow.x", "a.watch.y", "a.watch.x"]
        assert await keys("order=oldest") == ["a.watch.y", "a.watch.x", "b.follow.x"]
        assert await keys("order=takeovers&limit=1") == ["a.watch.x"]
        assert await keys("order=key") == ["a.watch.x", "a.watch.y", "b.follow.x"]
        assert await keys("order=worker&state=held") == ["a.watch.x", "a.watch.y"]
        assert await keys("text=UNAUTH") == ["a.watch.y"]
        assert await keys("text=gone") == ["b.follow.x"]
        found = await here.get("/api/v1/fleet?state=held&limit=1")
        assert (found["matching"], len(found["jobs"])) == (2, 1)
        assert found["fleet"]["jobs"] == {"held": 2, "retrying": 0, "queued": 0, "nobody": 1, "done": 0}
        assert (found["fleet"]["workers"], found["fleet"]["takeovers"], found["fleet"]["failing"]) == (1, 2, 1)
        (worker,) = found["workers"]
        assert (worker["name"], worker["state"], worker["jobs"]) == ("one", "working", {"watch": 2})
        (failing,) = (await here.get("/api/v1/fleet?text=watch.y"))["jobs"]
        assert failing["error"] == "Unauthorized: no secrets"
        assert (await here.get("/api/v1/status"))["fleet"] == "agora"
        for query in ("order=constructor", "state=x", "limit=0", "limit=1001"):
            assert await here.status(f"/api/v1/fleet?{query}") == 400


@pytest.mark.real_time
async def test_a_server_without_a_fleet_has_none_to_show():
    async with simulated().client() as client, site(routes(LiveState(client, USERS))) as here:
        async with here.http.get("/api/v1/fleet") as response:
            assert response.status == 404
            assert (await response.json())["error"]["code"] == "fleet"
        assert (await here.get("/api/v1/status"))["fleet"] is None


@pytest.mark.real_time
async def test_a_fleet_before_its_first_reading_is_empty(written):
    async with simulated().client() as client:
        state = LiveState(client, USERS, fleet=FleetMonitor(written.fleet))
        async with site(routes(state)) as here:
            found = await here.get("/api/v1/fleet")
            assert (found["fleet"]["at"], found["fleet"]["error"]) == (None, "it was not read yet")
            assert (found["jobs"], found["workers"]) == ([], [])


async def test_jobs_with_nobody_degrade_the_server_which_stays_ready(written):
    await written.job("a.watch.x")
    async with (
        FleetMonitor(written.fleet) as monitor,
        simulated("enterprise").client() as client,
    ):
        state = LiveState(client, USERS, fleet=monitor)
        async with state:
            await asyncio.sleep(50)
            assert (probe(state).status, probe(state).ready) == ("ok", True)
            await asyncio.sleep(30)
            found = probe(state)
            assert (found.status, found.ready, [reason.code for reason in found.reasons]) == (
                "degraded",
                True,
                ["fleet"],
            )
            assert "no worker is alive: a.watch.x" in found.reasons[0].text
            # What makes the server itself unready still does.
            assert not probe(LiveState(client, USERS, fleet=monitor)).ready


async def test_each_reading_is_an_event_while_somebody_watches(written):
    async with FleetMonitor(written.fleet) as monitor, simulated("enterprise").client() as client:
        async with LiveState(client, USERS, calls=False, fleet=monitor) as state:
            await asyncio.sleep(60)
            kinds = [event.split(b"\n")[1] for event in state.feed.after(0, 1_000)]
            assert b"event: fleet" not in kinds
            with state.feed.viewer():
                await asyncio.sleep(60)
            kinds = [event.split(b"\n")[1] for event in state.feed.after(0, 1_000)]
            assert 10 <= kinds.count(b"event: fleet") <= 13
        last = state.feed.last
        with state.feed.viewer():
            await asyncio.sleep(60)
        assert state.feed.last == last
