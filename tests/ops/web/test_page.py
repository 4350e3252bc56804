"""The live page in Chromium: what it shows, how it follows events, and what a click costs."""

from __future__ import annotations

import asyncio
import re

import pytest_asyncio
from helpers.browser import HIDE, IN_BROWSER, VIEWS
from helpers.page_state import HOSTILE, SERIES, add_users, call, filled, following, over
from helpers.streaming import BUSY, USERS
from helpers.times import NOON
from helpers.web_server import site, until

from agora_analytics.ops import LiveState, alerts, routes
from agora_analytics.ops.web.board import listed
from agora_analytics.plans import Plan
from agora_analytics.simulator import Fault, Faults, Simulation

pytestmark = IN_BROWSER

PAINTED = """() => [...document.querySelectorAll("canvas")].map((canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return new Set(new Uint32Array(pixels.buffer)).size;
})"""
"""How many colours each canvas has: a blank one has one."""


@pytest_asyncio.fixture(loop_scope="session")
async def client():
    async with Simulation(world=BUSY, plan="enterprise", clock=NOON).client() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="session")
async def state(client):
    found = filled(client)
    await found.monitor.refresh()
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def followed():
    async with following() as found:
        yield found


async def test_charts_are_drawn_without_an_error_or_another_host(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        address = f"http://127.0.0.1:{here.port}/"
        for view in VIEWS:
            await viewer.show(f"{address}#/{view}")
            await viewer.until("() => document.querySelector('h2') && !document.querySelector('.failure')")
        await viewer.show(address)
        await viewer.until("() => document.querySelectorAll('canvas').length === 2")
        painted = await viewer.page.evaluate(PAINTED)
        assert len(painted) == 2
        assert all(colours > 5 for colours in painted)
        assert viewer.complaints == []
        assert viewer.hosts - {""} == {f"127.0.0.1:{here.port}"}


async def test_thresholds_gaps_and_late_windows_are_in_the_pixels(state, tab):
    """Each is drawn in a colour that nothing else of the chart has, or is hatched."""
    async with site(routes(state)) as here, tab(device_scale_factor=1) as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/")
        await viewer.until("() => document.querySelectorAll('canvas').length === 2")
        count = """([index, token]) => {
            const probe = document.createElement("canvas").getContext("2d");
            probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(token).trim();
            probe.fillRect(0, 0, 1, 1);
            const wanted = new Uint32Array(probe.getImageData(0, 0, 1, 1).data.buffer)[0];
            const canvas = document.querySelectorAll("canvas")[index];
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return new Uint32Array(pixels.buffer).filter((one) => one === wanted).length;
        }"""
        users, freezes = 0, 1
        assert await viewer.page.evaluate(count, [freezes, "--limit"]) > 50
        assert await viewer.page.evaluate(count, [users, "--limit"]) == 0
        assert await viewer.page.evaluate(count, [users, "--gap-fill"]) > 500
        assert await viewer.page.evaluate(count, [users, "--warn"]) >= 6  # a window without a value
        assert (await viewer.page.text_content(".chart .sr")).endswith("; 1 gap.")


async def test_the_lines_are_the_thresholds_of_the_rules_in_force(client, tab):
    rules = [alerts.parse("videoFreezeRate:Native > 7% for 2"), alerts.parse("userCount:WebRTC < 4")]
    state = LiveState(client, *SERIES, calls=False, rules=rules)
    add_users(state, NOON - 20, native=50)
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/")
        await viewer.says("alert above 7 %")
        await viewer.says("alert below 4 (WebRTC)")
        level = "[...document.querySelectorAll('.legend .key')].at(-1).dataset.level"
        assert await viewer.page.evaluate(level) == "good"  # 2 %
        add_users(state, NOON, native=50, web=3)
        await viewer.until(f"() => {level} === 'warn'")  # 8 %
        assert await viewer.page.locator(".key[data-level=warn]").count() == 2
        assert "limit 5 %" not in await viewer.text("main")


async def test_windows_that_may_still_change_are_shaded_and_become_final(state, monkeypatch, tab):
    monkeypatch.setattr(state, "_final_before", lambda _: NOON - 100)
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/")
        await viewer.until("() => document.querySelectorAll('canvas').length === 2")
        await viewer.page.focus(".canvas")

        async def newest() -> str:
            await viewer.page.keyboard.press("End")
            return await viewer.page.get_attribute(".canvas", "aria-valuetext")

        assert (await newest()).endswith("may still change")
        await viewer.page.keyboard.press("Escape")
        monkeypatch.setattr(state, "_final_before", lambda _: NOON + 20)
        add_users(state, NOON, native=333)
        await viewer.says("333", ".legend")
        assert "may still change" not in await newest()


async def test_simulated_data_are_said_to_be_simulated(state, tab):
    for simulated in (True, False):
        async with (
            site(routes(state, simulated=simulated)) as here,
            tab(viewport={"width": 320, "height": 600}) as viewer,
        ):
            await viewer.show(f"http://127.0.0.1:{here.port}/")
            await viewer.says("live", "#connection")
            assert await viewer.page.get_by_text("Simulated data", exact=True).is_visible() is simulated


async def test_a_value_changes_with_an_event(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/")
        await viewer.says("live", "#connection")
        await until(here.viewers)
        add_users(state, NOON, native=987_654)
        await viewer.says("987,654", ".legend")
        assert viewer.complaints == []


async def test_the_page_reconnects_after_a_restart_of_the_server_and_says_so(client, state, tab):
    async with tab() as viewer:
        async with site(routes(state)) as here:
            await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
            await viewer.says("live", "#connection")
        await viewer.says("reconnecting", "#connection")
        await viewer.says("The server cannot be reached", "#notice")
        other = filled(client)
        add_users(other, NOON, native=123_456)
        async with site(routes(other), port=here.port):
            await viewer.says("123,456", ".legend")
            await viewer.says("live", "#connection")
            assert await viewer.page.is_hidden("#notice")
            assert "Connected again" in await viewer.text("#live")


async def used(state, counter: str) -> int:
    snapshot = await state.client.quota.snapshot()
    return next(one.used for one in snapshot if (one.counter, one.unit) == (counter, "day"))


async def test_the_price_on_a_button_is_what_the_quota_then_shows(followed, tab):
    call = over(followed)
    async with site(routes(followed)) as here, tab() as viewer:
        address = f"http://127.0.0.1:{here.port}/"
        await viewer.show(f"{address}#/call/{call.call_id}")
        button = viewer.page.locator("button.load", has_text="Load everything")
        await button.wait_for()
        label = await button.inner_text()
        price, left = (int(text.replace(",", "")) for text in re.findall(r"([\d,]+) of ([\d,]+) requests", label)[0])
        before = await used(followed, "call_details")
        assert left == 10_000 - before
        await button.click()
        await viewer.until("() => document.querySelectorAll('[data-metric]').length === 4")  # what is loaded last
        spent = await used(followed, "call_details") - before
        assert spent == price == 10
        link = viewer.page.locator(".sessions a").first
        await link.click()
        metrics = viewer.page.locator("button.load", has_text="metrics")
        assert re.search(r"1 of [\d,]+ requests of today", await metrics.inner_text())
        await metrics.click()
        await viewer.until("() => document.querySelectorAll('canvas').length > 8")
        assert all(colours > 3 for colours in await viewer.page.evaluate(PAINTED))
        await viewer.page.evaluate("location.hash = '#/quota'")
        await viewer.until(
            f"() => document.querySelector('[data-counter=call_details]')?.textContent === '{before + 11}'"
        )
        assert viewer.complaints == []


async def test_load_everything_is_offered_once_all_its_prices_are_known(followed, tab):
    call, released = over(followed), asyncio.Event()

    async def delay(route):
        await released.wait()
        await route.continue_()

    async with site(routes(followed)) as here, tab() as viewer:
        await viewer.page.route("**/statistics?*", delay)
        await viewer.show(f"http://127.0.0.1:{here.port}/#/call/{call.call_id}")
        for part in ("sessions", "minute by minute", "how many users froze"):
            await viewer.page.locator("button.load", has_text=part).wait_for()
        everything = viewer.page.locator("button.load", has_text="Load everything")
        assert await everything.is_hidden()
        released.set()
        await everything.wait_for()
        assert re.search(r"\b10 of [\d,]+ requests", await everything.inner_text())
        assert viewer.complaints == []


async def test_an_address_shows_the_same_view_to_a_colleague(state, tab):
    async with site(routes(state)) as here, tab() as viewer, tab() as colleague:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/calls")
        await viewer.page.get_by_role("radio", name="Worst").click()
        await viewer.page.get_by_label("Channel", exact=True).first.fill("room 1")
        await viewer.until("() => location.hash.includes('channel=room+1')")
        await viewer.says("11 of 11 matching calls", ".sub")
        await colleague.show(viewer.page.url)
        await colleague.says("11 of 11 matching calls", ".sub")
        first = "() => document.querySelector('.calls tbody a').innerText"
        assert await colleague.page.evaluate(first) == await viewer.page.evaluate(first)


async def test_hostile_names_are_text(state, tab):
    async with site(routes(state)) as here, tab(viewport={"width": 360, "height": 740}) as viewer:
        for view in ("calls?order=worst", "alerts", "now"):
            await viewer.show(f"http://127.0.0.1:{here.port}/#/{view}")
            await viewer.says("<img src=x")
            assert (
                await viewer.page.evaluate("document.querySelectorAll('main img, main script, main b b').length") == 0
            )
            assert "hacked" not in await viewer.page.title()
            assert await viewer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await viewer.show(f"http://127.0.0.1:{here.port}/#/calls")
        await viewer.says("room 0")
        assert HOSTILE[1][0] not in await viewer.text("main")
        assert viewer.complaints == []


async def test_a_call_that_the_server_does_not_know_leads_to_a_search(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/call/X?channel=room-1&at={NOON - 7_200}")
        await viewer.says("This call is not known here")
        await viewer.page.get_by_role("link", name="Search for it").click()
        await viewer.says("1 of 10,000 requests of today", ".search")
        assert await viewer.page.input_value("input[type=text]") == "room-1"


async def test_a_viewer_without_the_token_is_asked_for_it(state, tab):
    async with site(routes(state, token="viewers-of-this-test")) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/quota")
        await viewer.page.fill("input[type=password]", "viewers-of-this-test")
        await viewer.page.keyboard.press("Enter")
        await viewer.says("live", "#connection")


async def test_times_are_in_utc_or_in_the_zone_of_the_viewer(state, tab):
    async with site(routes(state)) as here, tab(timezone_id="Asia/Tokyo") as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
        await viewer.says("newest 11:59:40 UTC")
        await viewer.page.click("#zone")
        await viewer.says("newest 20:59:40 GMT+9")
        await viewer.page.reload()
        await viewer.says("newest 20:59:40 GMT+9")


async def test_the_first_view_loads_less_than_300_kilobytes_with_its_data(state, tab):
    for at in range(100, 1_000):
        state.calls.add(listed(call(at, f"room {at}"), NOON))
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/")
        await viewer.until("() => document.querySelectorAll('canvas').length === 2")
        loaded = "performance.getEntriesByType('resource').map((one) => [one.name, one.decodedBodySize])"
        first = await viewer.page.evaluate(loaded)
        assert sum(size for _, size in first) < 300_000
        assert not any("view-call" in name for name, _ in first)
        await viewer.page.evaluate("location.hash = '#/calls'")
        await viewer.says("50 of 965 known calls", ".sub")


async def test_all_views_are_there_when_the_server_is_away(state, tab):
    async with tab() as viewer:
        async with site(routes(state)) as here:
            await viewer.show(f"http://127.0.0.1:{here.port}/")
            loaded = "performance.getEntriesByType('resource').map((one) => one.name).join()"
            await viewer.until(
                f"() => ['call', 'calls', 'insights', 'alerts'].every((one) => {loaded}.includes(`view-${{one}}.js`))"
            )
            await viewer.says("live", "#connection")
        await viewer.says("reconnecting", "#connection")
        await viewer.page.evaluate("location.hash = '#/alerts'")
        await viewer.says("3 alerts, newest first")


async def test_a_wrong_secret_is_said_above_every_view(tab):
    refused = Faults.always(Fault("status", status=401))
    async with (
        Simulation(world=BUSY, plan="enterprise", clock=NOON, faults=refused).client() as client,
        LiveState(client, USERS) as state,
        site(routes(state)) as here,
        tab() as viewer,
    ):
        await viewer.show(f"http://127.0.0.1:{here.port}/#/insights")
        await viewer.says("Degraded. Real-time windows: ended by an error", "#notice")
        await viewer.page.evaluate("location.hash = '#/now'")
        await viewer.says("ended by an error", ".streams")
        await viewer.says("no window has come yet", ".sub")


async def test_a_load_beyond_the_day_is_refused_and_says_why(tab):
    plan = Plan.of("enterprise").with_limits("call_details", per_day=2)
    async with following(plan=plan) as state, site(routes(state)) as here, tab() as viewer:
        call = over(state)
        await viewer.show(f"http://127.0.0.1:{here.port}/#/call/{call.call_id}")
        await viewer.page.locator("button.load", has_text="Load everything").click()
        await viewer.says("Try again", "main")
        assert "left of today" in await viewer.text(".failure")
        assert await used(state, "call_details") == 2


async def test_an_alert_leads_to_the_calls_behind_it(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/alerts")
        await viewer.says("Video freeze Native: 27.0 %")
        await viewer.says("2 windows in a row from 11:58:40 (40 s)")
        await viewer.page.get_by_role("radio", name="Recovered").click()
        await viewer.says("1 alert, newest first")
        await viewer.page.get_by_role("radio", name="All").click()
        await viewer.page.locator(".alert-calls a").click()
        await viewer.says("Users at peak")
        assert await viewer.page.evaluate("location.hash.split('?')[0]") == "#/call/C3"


async def test_minutes_of_a_month_are_set_against_the_budget_in_the_address(followed, tab):
    async with site(routes(followed)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/insights?budget=1000")
        button = viewer.page.locator("button.load", has_text="Load minutes by day")
        requests = int((await button.inner_text()).split("\n")[-1].split(" ")[0])
        await button.click()
        await viewer.says("of 1,000 min", "main")
        await viewer.says("November 2026", "main")
        assert await used(followed, "insight_usage") == requests
        await viewer.page.get_by_role("spinbutton", name="Budget a month").fill("2000")
        await viewer.says("of 2,000 min", "main")
        assert "budget=2000" in viewer.page.url
        assert viewer.complaints == []


async def test_a_search_costs_its_price_and_its_calls_can_be_opened(followed, tab):
    async with site(routes(followed)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/calls?find=1&from={NOON - 3_000}&to={NOON - 600}")
        before = await used(followed, "call_lists")
        await viewer.page.locator("button.load", has_text="Search").click()
        await viewer.says("found · page 1 of", ".search")
        assert await used(followed, "call_lists") == before + 1
        await viewer.page.locator(".search tbody a").first.click()
        await viewer.says("Who was there when")
        assert viewer.complaints == []


async def test_a_hidden_page_gives_its_connection_back_and_catches_up_when_it_is_seen(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.page.clock.install()
        await viewer.show(f"http://127.0.0.1:{here.port}/#/now")
        await viewer.says("live", "#connection")
        await until(here.viewers)
        await viewer.page.evaluate(HIDE, True)
        await viewer.page.clock.fast_forward(61_000)
        await viewer.says("paused", "#connection")
        await until(lambda: not here.viewers())
        add_users(state, NOON, native=456_789)
        await viewer.page.evaluate(HIDE, False)
        await viewer.says("456,789", ".legend")
