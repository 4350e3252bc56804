"""The view of a fleet in Chromium: who holds what, what is wrong in words, and names that nobody expects."""

from __future__ import annotations

import pytest
import pytest_asyncio
from helpers.browser import IN_BROWSER
from helpers.page_state import HOSTILE
from helpers.streaming import BUSY, USERS
from helpers.times import NOON
from helpers.web_server import site
from helpers.written_fleet import written_fleet

from agora_analytics.ops import FleetMonitor, LiveState, routes
from agora_analytics.simulator import Simulation

pytest.importorskip("docket", reason="needs the extra fleet")

pytestmark = IN_BROWSER

KEYS = "() => [...document.querySelectorAll('.calls tbody .channel > .name')].map((one) => one.innerText).join()"


@pytest_asyncio.fixture(loop_scope="session")
async def written():
    async with written_fleet() as found:
        await found.worker("one")
        await found.worker("gone", seen=60)
        await found.job("a.watch.x", "one", age=100, takeovers=1)
        await found.job("a.watch.y", "one", age=300)
        yield found


@pytest_asyncio.fixture(loop_scope="session")
async def here(written):
    simulation = Simulation(world=BUSY, plan="enterprise", clock=NOON)
    async with (
        FleetMonitor(written.fleet, every=0.3) as monitor,
        simulation.client() as client,
        LiveState(client, USERS, fleet=monitor) as state,
        site(routes(state)) as found,
    ):
        yield found


async def test_the_view_says_who_holds_what_and_follows_the_fleet(written, here, tab):
    async with tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/fleet")
        await viewer.says("Nothing is wrong", "main")
        assert await viewer.page.evaluate(KEYS) == "a.watch.y,a.watch.x"
        row = await viewer.text(".calls tbody tr:nth-child(2)")
        assert "held" in row
        assert "one" in row
        assert "1 min" in row
        assert "gone\tlost" in (await viewer.text("table.spending")).replace("\n", "")
        await written.job("b.follow.x")
        await viewer.says("1 job has nobody at the moment", "main")
        assert (await viewer.page.evaluate(KEYS)).startswith("b.follow.x,")
        await written.worker("one", seen=60)
        await viewer.says("No worker is alive", "main")
        await written.worker("one")
        await written.job("b.follow.x", "one")
        await viewer.says("Nothing is wrong", "main")
        assert viewer.complaints == []


async def test_jobs_are_searched_sorted_and_sent_as_an_address_with_the_keyboard_alone(here, tab):
    async with tab() as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/fleet?order=oldest")
        await viewer.until("() => document.querySelectorAll('.calls tbody tr').length === 2")
        await viewer.page.focus("th[data-order=takeovers] button")
        await viewer.page.keyboard.press("Enter")
        await viewer.until("() => document.querySelector('.calls tbody .name').innerText === 'a.watch.x'")
        await viewer.until("() => document.querySelector('th[data-order=takeovers]').ariaSort === 'descending'")
        assert await viewer.page.evaluate("document.activeElement.innerText") == "Takeovers"
        await viewer.page.focus("input[type=search]")
        await viewer.page.keyboard.type("watch.y")
        await viewer.until("() => document.querySelectorAll('.calls tbody tr').length === 1")
        assert (await viewer.page.evaluate("location.hash")) == "#/fleet?order=takeovers&text=watch.y"
        await viewer.page.keyboard.type("nothing")
        await viewer.says("No job matches", "main")
        assert viewer.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_hostile_names_are_text_and_break_no_layout_on_a_narrow_screen(written, here, tab, scheme):
    for number, text in enumerate(HOSTILE):
        await written.worker(text or "empty")
        await written.job(f"a.watch.{number}{text}", text or "empty", error=f"{text} {text}", failures=1)
    async with tab(viewport={"width": 360, "height": 700}, color_scheme=scheme) as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/#/fleet?text=%3Cimg&order=toString&state=__proto__&show=NaN")
        await viewer.says("<img src=x", ".calls tbody")
        await viewer.page.evaluate("location.hash = '#/fleet'")
        await viewer.until("() => document.querySelectorAll('.calls tbody tr').length === 7")
        assert await viewer.page.evaluate("document.querySelectorAll('main img, main script').length") == 0
        assert "\u202e" not in await viewer.text("main")
        assert "hacked" not in await viewer.page.title()
        assert await viewer.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert viewer.complaints == []


async def test_a_server_without_a_fleet_has_no_such_view(tab):
    async with (
        Simulation(world=BUSY, plan="enterprise", clock=NOON).client() as client,
        site(routes(LiveState(client, USERS))) as here,
        tab() as viewer,
    ):
        await viewer.show(f"http://127.0.0.1:{here.port}/")
        await viewer.says("live", "#connection")
        assert not await viewer.page.is_visible("a[data-view=fleet]")
        await viewer.page.evaluate("location.hash = '#/fleet'")
        await viewer.says("this server shows no fleet", "main")
