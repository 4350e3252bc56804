"""The live page for everyone: by keyboard, by screen reader, in light and dark, from a telephone to a wall."""

from __future__ import annotations

from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import pytest
import pytest_asyncio
from helpers.browser import IN_BROWSER, VIEWS, Tab
from helpers.page_state import add_users, filled, following, over
from helpers.streaming import BUSY
from helpers.times import NOON
from helpers.web_server import site

from agora_analytics.ops import routes
from agora_analytics.simulator import Simulation

pytestmark = IN_BROWSER

needs_axe = pytest.mark.skipif(find_spec("axe_playwright_python") is None, reason="needs axe-playwright-python")

SETTLED = "() => document.querySelector('main h2') && !document.querySelector('main .loading')"


@pytest_asyncio.fixture(loop_scope="session")
async def state():
    async with Simulation(world=BUSY, plan="enterprise", clock=NOON).client() as client:
        yield filled(client)


async def serious(viewer: Tab) -> list[Any]:
    """Return what axe finds in a view that is serious or worse."""
    await viewer.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = await viewer.page.evaluate("axe.run({ resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa'] })")
    assert len(found["passes"]) > 10
    return [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", [*VIEWS, "calls?find=1", "call/C3", "call/unknown"])
async def test_axe_finds_nothing_serious(state, view, scheme, tab):
    async with site(routes(state)) as here, tab(color_scheme=scheme) as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/{view}")
        await viewer.until(SETTLED)
        assert await serious(viewer) == []


@needs_axe
@pytest.mark.parametrize(("scheme", "width"), [("light", 1_280), ("dark", 360)])
async def test_a_call_with_all_its_details_is_accessible_and_fits(scheme, width, tab):
    async with (
        following() as state,
        site(routes(state)) as here,
        tab(color_scheme=scheme, viewport={"width": width, "height": 900}) as viewer,
    ):
        await viewer.show(f"http://127.0.0.1:{here.port}/#/call/{over(state).call_id}")
        await viewer.page.locator("button.load", has_text="Load everything").click()
        await viewer.until("() => document.querySelectorAll('[data-metric]').length === 4")  # what is loaded last
        await viewer.page.locator(".sessions a").first.click()
        await viewer.page.locator("button.load", has_text="metrics").click()
        await viewer.until("() => document.querySelectorAll('canvas').length > 8")
        assert await serious(viewer) == []
        assert await viewer.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0


@pytest.mark.parametrize("width", [360, 1_280, 3_840])
@pytest.mark.parametrize("view", [*VIEWS, "calls?find=1", "call/C3"])
async def test_no_view_scrolls_sideways(state, view, width, tab):
    async with site(routes(state)) as here, tab(viewport={"width": width, "height": 900}) as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/{view}")
        await viewer.until(SETTLED)
        assert await viewer.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0


async def test_all_views_are_reached_by_keyboard_alone(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/")
        await viewer.until(SETTLED)
        for place, view in enumerate(VIEWS):
            await viewer.page.evaluate(
                "document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)"
            )
            await viewer.page.focus(".skip")
            for _ in range(place + 1):
                await viewer.page.keyboard.press("Tab")
            outlined = "getComputedStyle(document.activeElement).outlineStyle"
            assert await viewer.page.evaluate(outlined) != "none"
            await viewer.page.keyboard.press("Enter")
            await viewer.until(f"() => document.querySelector('nav [aria-current]').dataset.view === '{view}'")
            assert await viewer.page.evaluate("document.activeElement.tagName") in {"H2", "A"}


async def test_a_call_is_opened_and_its_order_chosen_by_keyboard(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/calls")
        await viewer.until("() => document.querySelectorAll('.calls tbody tr').length === 50")
        await viewer.page.focus("[role=radio][aria-checked=true]")
        await viewer.page.keyboard.press("ArrowRight")
        await viewer.until("() => location.hash.includes('order=worst')")
        assert await viewer.page.evaluate("document.activeElement.textContent") == "Worst"
        await viewer.page.focus(".calls tbody a")
        await viewer.page.keyboard.press("Enter")
        await viewer.until("() => location.hash.startsWith('#/call/C0')")
        await viewer.until("() => document.activeElement.tagName === 'H2'")


async def test_the_values_of_a_chart_are_in_a_table_too(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/")
        await viewer.until("() => document.querySelectorAll('canvas').length === 2")
        await viewer.page.focus(".values summary")
        await viewer.page.keyboard.press("Enter")
        await viewer.until("() => document.querySelectorAll('.values[open] tbody tr').length === 180")
        first = "[...document.querySelectorAll('.values[open] tbody tr:first-child > *')].map((one) => one.textContent)"
        assert await viewer.page.evaluate(first) == ["11:59:40", str(40 + (NOON - 20) // 20 % 17), "7"]
        about = await viewer.page.text_content(f"#{await viewer.page.get_attribute('.canvas', 'aria-describedby')}")
        assert about.startswith("Users. Native: newest ")


async def test_the_cursor_of_a_chart_is_moved_by_keys_and_says_its_values(state, tab):
    async with site(routes(state)) as here, tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/")
        await viewer.until("() => document.querySelectorAll('canvas').length === 2")

        async def said(key: str) -> str:
            await viewer.page.keyboard.press(key)
            return await viewer.page.get_attribute(".canvas", "aria-valuetext")

        await viewer.page.focus(".canvas")
        native = 40 + (NOON - 20) // 20 % 17
        assert await said("ArrowRight") == f"11:59:40; Native {native}; WebRTC 7"
        assert await said("ArrowLeft") == f"11:59:20; Native {native - 1}; WebRTC 7"
        assert (await said("PageDown")).startswith("11:56:00")
        assert await said("Home") == "11:00:00; Native 45; WebRTC 7"
        for _ in range(4):
            await said("PageUp")
        assert await said("ArrowUp") == "11:13:40; Native \u2013; WebRTC \u2013; lost: outage"
        freezes = viewer.page.locator(".chart").nth(1)
        assert (await freezes.locator(".chart-foot").inner_text()).startswith("11:13:40")  # cursors move together
        add_users(state, NOON, native=5)
        await viewer.until(
            "() => document.querySelector('.canvas').getAttribute('aria-valuetext').includes('11:13:40')"
        )
        await viewer.until("() => document.querySelector('.canvas').getAttribute('aria-valuenow') === '40'")
        assert await viewer.text(".chart-foot") == "11:13:40 \u00b7 lost: outage"
        assert await said("Escape") == "12:00:00; Native 5; WebRTC 7"
        await viewer.page.locator(".canvas").nth(1).focus()
        await viewer.page.keyboard.press("End")
        text = await viewer.page.locator(".canvas").nth(1).get_attribute("aria-valuetext")
        assert text == "12:00:00; Native 8.0 %, beyond the limit"


async def test_the_theme_is_the_systems_or_the_one_that_was_chosen(state, tab):
    async with site(routes(state)) as here, tab(color_scheme="dark") as viewer:
        background = "() => getComputedStyle(document.body).backgroundColor"
        await viewer.show(f"http://127.0.0.1:{here.port}/")
        await viewer.until(SETTLED)
        dark = await viewer.page.evaluate(background)
        await viewer.page.click("#theme")
        light = await viewer.page.evaluate(background)
        assert dark != light
        await viewer.page.reload()
        await viewer.until(SETTLED)
        assert await viewer.page.evaluate(background) == light
