"""What the live page does with addresses, clocks, time zones and names that nobody expects."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from helpers.browser import HIDE, IN_BROWSER
from helpers.page_state import call, filled, following, over
from helpers.streaming import BUSY
from helpers.times import NOON
from helpers.web_server import site, until

from agora_analytics.ops import LiveState, routes
from agora_analytics.ops.web.board import listed
from agora_analytics.simulator import Simulation

pytestmark = IN_BROWSER

LATE_HOUR = 1_792_890_000
"""25 October 2026, 01:00 UTC: in Berlin the second 02:00 of that day."""

TEXTS = """() => {
    window.drawn = [];
    const draw = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
        drawn.push(text);
        draw.call(this, text, ...more);
    };
}"""
"""Notes the texts that are drawn on canvases."""


@pytest_asyncio.fixture(loop_scope="session")
async def state():
    async with Simulation(world=BUSY, plan="enterprise", clock=NOON).client() as client:
        found = filled(client)
        await found.monitor.refresh()
        yield found


@pytest.mark.parametrize(
    "address",
    [
        "constructor",
        "__proto__/x",
        "call",
        "call/%00",
        "calls?find=1&from=abc&to=1e400&page=-1",
        "calls?find=1&from=9e15&to=-9e15",
        "calls?order=toString&state=__proto__&users=x&freeze=NaN&show=-1e99",
        "insights?um=constructor&qm=__proto__&ug=valueOf&ud=1e9&by=hasOwnProperty&budget=Infinity",
        "alerts?kind=constructor",
        "%E0%A4%A",
    ],
)
async def test_an_address_that_nobody_wrote_shows_a_view(state, address, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/{address}")
        await viewer.until("() => document.querySelector('main h2') && !document.querySelector('main .loading')")
        await viewer.says("live", "#connection")
        assert "function" not in await viewer.text("main")
        assert [one for one in viewer.complaints if not one.startswith("Failed to load resource")] == []


@pytest.mark.parametrize("hours", [-11, 7])
async def test_the_clock_of_the_browser_may_be_wrong(state, hours, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.page.clock.install(time=datetime.fromtimestamp(NOON, UTC) + timedelta(hours=hours))
        await viewer.show(f"http://127.0.0.1:{here.port}/#/quota")
        await viewer.until("() => /in 1[12] h/.test(document.querySelector('main').innerText)")
        await viewer.page.evaluate("location.hash = '#/now'")
        await viewer.until(r"() => /newest 11:59:40 UTC, \d+ s ago/.test(document.querySelector('.sub').innerText)")


async def test_a_machine_that_slept_asks_for_the_time(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.page.clock.install()
        await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
        await viewer.says("live", "#connection")
        await viewer.page.clock.fast_forward(6_000)
        asked: list[str] = []
        viewer.page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
        await viewer.page.clock.set_system_time(datetime.now(UTC) + timedelta(hours=3))
        await viewer.page.clock.fast_forward(6_000)
        await until(lambda: "status" in asked)


async def test_the_hour_that_comes_twice_stays_the_one_that_it_is(state, tab):
    async with site(routes(state)) as here, tab(timezone_id="Europe/Berlin") as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/calls")
        await viewer.page.click("#zone")
        start, end = LATE_HOUR + 1_830, LATE_HOUR + 3_600
        await viewer.show(f"http://127.0.0.1:{here.port}/#/calls?find=1&from={start}&to={end}")
        await viewer.says("From (GMT+1)", ".search")
        assert await viewer.page.input_value("[type=datetime-local]") == "2026-10-25T02:30"
        await viewer.page.fill(".search input[type=text]", "room")
        await viewer.until("() => location.hash.includes('sc=room')")
        assert f"from={start}&to={end}" in viewer.page.url


async def test_the_axis_of_times_is_that_of_its_zone(tab):
    async with following() as state, site(routes(state)) as here, tab(timezone_id="Asia/Kolkata") as viewer:
        await viewer.page.add_init_script(f"({TEXTS})()")
        await viewer.show(f"http://127.0.0.1:{here.port}/#/quota")
        await viewer.until("() => document.querySelectorAll('canvas').length === 1")
        await viewer.until("() => drawn.includes('12:00')")
        hours = [text for text in await viewer.page.evaluate("drawn") if re.fullmatch(r"\d\d:\d\d", text)]
        assert {text[3:] for text in hours} == {"00"}


async def test_a_page_that_was_opened_in_the_background_gives_its_connection_back(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.page.clock.install()
        await viewer.page.add_init_script(f"({HIDE})(true)")
        await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
        await until(here.viewers)
        await viewer.page.clock.fast_forward(61_000)
        await until(lambda: not here.viewers())
        await viewer.page.evaluate(HIDE, False)
        await viewer.says("live", "#connection")


async def test_going_back_shows_the_same_place_of_the_same_list(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/calls")
        await viewer.page.get_by_text("Show 100 more").click()
        await viewer.until("() => document.querySelectorAll('.calls tbody tr').length === 65")
        await viewer.page.evaluate("scrollTo(0, 1200)")
        await viewer.until("() => history.state?.y === 1200")
        await viewer.page.evaluate("location.hash = '#/call/C30'")
        await viewer.says("Users at peak")
        await viewer.until("() => scrollY === 0")
        await viewer.page.go_back()
        await viewer.until("() => document.querySelectorAll('.calls tbody tr').length === 65 && scrollY === 1200")
        await viewer.page.go_forward()
        await viewer.says("Users at peak")


async def test_a_session_is_chosen_without_losing_the_order(tab):
    async with following() as state, site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/call/{over(state).call_id}")
        await viewer.page.locator("button.load", has_text="Load the sessions").click()
        await viewer.page.get_by_role("radio", name="Worst first").click()
        await viewer.page.locator(".sessions a").nth(1).click()
        await viewer.until("() => location.hash.includes('session=') && location.hash.includes('sort=worst')")


async def test_very_long_names_break_nothing(state, tab):
    for at, letter in enumerate(("x", "\u0e49", "\U0001f4a9", "\u202e")):
        state.calls.add(listed(call(70 + at, letter * 10_000), NOON))
    async with site(routes(state)) as here, tab(viewport={"width": 320, "height": 700}) as viewer:
        for view in ("calls?order=newest&show=100", "call/C70", "call/C71", "call/C73"):
            await viewer.show(f"http://127.0.0.1:{here.port}/#/{view}")
            await viewer.until("() => document.querySelector('main h2') && !document.querySelector('main .loading')")
            assert await viewer.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
            assert len(await viewer.page.title()) < 400
        assert viewer.complaints == []


@pytest.mark.parametrize("width", [240, 320, 5_120])
async def test_no_view_scrolls_sideways_on_a_watch_or_a_wall(state, width, tab):
    async with site(routes(state)) as here, tab(viewport={"width": width, "height": 500}) as viewer:
        for view in ("now", "calls", "insights", "quota", "alerts", "call/C3"):
            await viewer.show(f"http://127.0.0.1:{here.port}/#/{view}")
            await viewer.until("() => document.querySelector('main h2') && !document.querySelector('main .loading')")
            assert (view, await viewer.page.evaluate("document.documentElement.scrollWidth - innerWidth")) == (view, 0)


async def test_a_server_without_series_and_calls_says_what_it_has(state, tab):
    nothing = LiveState(state.client, calls=False)
    nothing.board.histories.clear()
    async with site(routes(nothing)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
        await viewer.says("No series by product is watched")
        await viewer.page.evaluate("location.hash = '#/calls'")
        await viewer.says("No call is known yet")
        assert viewer.complaints == []
