"""What goes wrong is said on the live page, in the probes and in the metrics, and nothing is lost."""

from __future__ import annotations

import errno

import pytest
import pytest_asyncio
from helpers.browser import HIDE, IN_BROWSER
from helpers.page_state import add_users, filled
from helpers.streaming import BUSY, USERS
from helpers.times import NOON
from helpers.web_server import site, until, window

from agora_analytics.errors import CheckpointError
from agora_analytics.ops import LiveState, routes
from agora_analytics.ops.web import feed as feed_module
from agora_analytics.ops.web import live, restarts
from agora_analytics.plans import Plan
from agora_analytics.simulator import Fault, Faults, Simulation
from agora_analytics.streams import MemoryCheckpoints

pytestmark = IN_BROWSER

FRESH = Plan.of("enterprise").with_limits("realtime", per_minute=600, per_day=864_000)
"""So many requests that each window is polled once it is there."""

SOON = NOON + 17
"""Four seconds before the next window."""

POLLED = 45
"""Seconds in which the next window is polled even if the browser took longer than that to start."""


@pytest_asyncio.fixture(loop_scope="session")
async def state():
    async with Simulation(world=BUSY, plan="enterprise", clock=NOON).client() as client:
        found = filled(client)
        await found.monitor.refresh()
        yield found


async def metric(here, sample: str) -> float | None:
    """Return the value of the first sample that begins so."""
    async with here.http.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample)), None)


async def test_an_outage_is_said_in_words_and_what_it_lost_is_a_gap(tab):
    simulation = Simulation(world=BUSY, plan=FRESH, clock=SOON)
    async with (
        simulation.client() as client,
        LiveState(client, USERS, calls=False) as state,
        site(routes(state)) as here,
        tab() as viewer,
    ):
        await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
        await viewer.until("() => document.querySelectorAll('canvas').length === 1")
        simulation.faults = Faults.always(Fault("status", status=503))
        simulation.clock.suspend(6 * 3_600)  # longer than the service keeps
        await viewer.says("Real-time windows: outage since", "#notice", POLLED)
        assert "tried again" in await viewer.text("#notice")
        assert "HTTP 503" in await viewer.text(".streams")
        assert await here.status("/readyz") == 503
        assert (await here.get("/healthz"))["status"] == "degraded"
        assert await metric(here, "agora_stream_failures{") >= 1
        simulation.faults = Faults()
        await viewer.until("() => document.querySelector('#notice').hidden", 2 * POLLED)
        await viewer.until("() => /gap/.test(document.querySelector('.chart .sr').textContent)")
        await viewer.page.focus(".canvas")
        await viewer.page.keyboard.press("Home")
        for _ in range(3):  # windows that were polled before the outage, if the browser took its time
            if "lost: " in (spoken := await viewer.page.get_attribute(".canvas", "aria-valuetext")):
                break
            await viewer.page.keyboard.press("ArrowRight")
        assert "lost: " in spoken
        assert await here.status("/readyz") == 200
        assert await metric(here, 'agora_watch_windows_total{app="') is not None
        assert viewer.complaints == []


async def test_a_spent_day_is_said_with_its_end_and_is_no_trouble(tab):
    simulation = Simulation(world=BUSY, plan=FRESH, clock=SOON)
    async with (
        simulation.client() as client,
        LiveState(client, USERS, calls=False) as state,
        site(routes(state)) as here,
        tab() as viewer,
    ):
        await viewer.show(f"http://127.0.0.1:{here.port}/#/calls")
        await viewer.says("live", "#connection")
        simulation.service.spend("realtime", 10**7)
        await viewer.says("Waiting for quota. Real-time windows: all 864,000 real-time requests", "#notice", POLLED)
        assert "until 25 Nov 00:00 UTC, in 11 h 5" in await viewer.text("#notice")
        await viewer.page.evaluate("location.hash = '#/now'")
        await viewer.says("waits for quota until", ".streams")
        health = await here.get("/healthz")
        assert (health["status"], [note["code"] for note in health["notes"]]) == ("ok", ["quota"])
        assert await metric(here, 'agora_quota_left{account="') is not None
        assert viewer.complaints == []


class FullDisk(MemoryCheckpoints):
    """A store on a disk that is full for a while."""

    full = True

    async def save(self, name, checkpoint, epoch):
        if self.full:
            raise CheckpointError(f"{name}: {errno.ENOSPC}") from OSError(errno.ENOSPC, "No space left on device")
        await super().save(name, checkpoint, epoch)


async def test_a_full_disk_is_said_and_the_windows_go_on_once_there_is_room(monkeypatch, tab):
    monkeypatch.setattr(restarts, "_OTHERS", (2.0, 2.0))
    simulation, store = Simulation(world=BUSY, plan=FRESH, clock=SOON), FullDisk()
    async with (
        simulation.client(checkpoints=store) as client,
        LiveState(client, USERS, calls=False, checkpoint="page") as state,
        site(routes(state)) as here,
        tab() as viewer,
    ):
        await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
        await viewer.says("Real-time windows: ended by an error, starts again at", "#notice")
        assert "page-windows: 28" in await viewer.text("#notice")
        health = await here.get("/healthz")
        assert health["status"] == "degraded"
        assert [one["code"] for one in health["reasons"]] == ["windows", "starting"]  # there is no window yet
        assert await here.status("/readyz") == 503
        async with here.http.get("/metrics") as response:
            (stopped,) = [line for line in (await response.text()).splitlines() if 'state="stopped"' in line]
        assert stopped.endswith(" 1.0")
        store.full = False
        await viewer.until("() => document.querySelector('#notice').hidden")
        await until(lambda: len(next(state.series_views()).values) > 170)
        assert next(state.series_views()).values.count(None) == 0
        assert await metric(here, "agora_checkpoint_saved_timestamp_seconds{") is not None


async def test_a_viewer_that_missed_events_says_how_many_and_loads_its_state_again(state, monkeypatch, tab):
    monkeypatch.setattr(feed_module, "_MAX_EVENTS", 10)
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.page.clock.install()
        await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
        await viewer.says("live", "#connection")
        await until(here.viewers)
        await viewer.page.evaluate(HIDE, True)
        await viewer.page.clock.fast_forward(61_000)
        await until(lambda: not here.viewers())
        for at in range(50):
            add_users(state, NOON + 20 * at, native=800_000 + at)
        await viewer.page.evaluate(HIDE, False)
        await viewer.says("This page missed 40 events, because it was hidden or too slow", "#notice")
        await viewer.says("800,049", ".legend")
        assert (await here.get("/api/v1/status"))["missed"] == 40
        assert await metric(here, "agora_page_missed_events_total") == 40
        await viewer.page.clock.fast_forward(66_000)
        await viewer.until("() => document.querySelector('#notice').hidden")
        assert viewer.complaints == []


async def test_a_viewer_who_leaves_is_counted_no_more(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.page.clock.install()
        async with tab() as other:
            await other.show(f"http://127.0.0.1:{here.port}/#/now")
            await until(lambda: here.viewers() == 1)
            await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
            await viewer.until("() => /Viewers\\s*2/.test(document.body.innerText)")
            assert await metric(here, "agora_page_viewers") == 2
        await until(lambda: here.viewers() == 1)
        assert await metric(here, "agora_page_viewers") == 1
        await viewer.page.clock.fast_forward(36_000)
        await viewer.until("() => /Viewers\\s*1/.test(document.body.innerText)")


async def test_a_page_without_live_updates_says_so_and_loads_again_and_again(state, monkeypatch, tab):
    monkeypatch.setattr(live, "MAX_VIEWERS", 0)
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
        await viewer.says("no live updates", "#connection")
        await viewer.says("as many viewers as it accepts", "#notice")
        add_users(state, NOON, native=345_678)
        await viewer.says("345,678", ".legend")
        monkeypatch.undo()
        await viewer.says("live", "#connection")
        await viewer.until("() => document.querySelector('#notice').hidden")


@pytest.mark.parametrize("data", [b"{", b'{"start":0,"end":20,"changes":null}', b"null", b"[]"])
async def test_an_event_that_cannot_be_understood_is_loaded_instead(state, data, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
        await until(here.viewers)
        state.feed.last += 1
        state.feed._events.append(state.feed._encoded("windows", data))
        state.board.add(window(NOON, Native=765_432))
        state.feed.wake()
        await viewer.says("765,432", ".legend")
        await viewer.says("live", "#connection")
        add_users(state, NOON + 20, native=654_321)
        await viewer.says("654,321", ".legend")
