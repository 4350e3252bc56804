"""The plan calculator in Chromium: its script agrees with the package, and its page takes any input."""

from __future__ import annotations

import json
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import pytest
from aiohttp import web
from helpers.browser import IN_BROWSER, Tab
from helpers.built_site import NEEDS_DOCS, run_builder
from helpers.paths import ROOT
from helpers.plan_answers import MIDNIGHT, NOTHING, QUALITY, USAGE, answer_of, random_input
from helpers.web_server import site as serve

from agora_analytics import Plan, Selection
from agora_analytics.simulator import Simulation, World

pytestmark = IN_BROWSER

REFERENCE = ROOT / "docs/reference"
ANSWERS = """async ([rules, inputs]) => {
    const { answer } = await import("/calculator-rules.js");
    return inputs.map((input) => answer(rules, input));
}"""
FEW_CALLS = World(seed=7, calls_per_hour=1.0, typical_minutes=0.2, long_share=0.0, large_share=0.0)


@pytest.fixture(scope="module")
def rules():
    run = run_builder("from calculator import calculator_json\nprint(calculator_json())")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@asynccontextmanager
async def calculator(tab: Callable[..., Any], rules: Any, query: str = "", **options: Any) -> AsyncIterator[Tab]:
    """Open a page that has nothing but the calculator; without `rules` its numbers are missing."""
    html = (REFERENCE / "calculator.md").read_text(encoding="utf-8")
    body = html[html.index("<div id=") : html.index("</script>")] + "</script>"

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=f"<!doctype html><link rel=icon href=data:,>{body}", content_type="text/html")

    async def numbers(_: web.Request) -> web.Response:
        return web.json_response(rules) if rules else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/calculator.json", numbers)
    app.router.add_static("/", REFERENCE)
    async with serve(app) as here, tab(**options) as viewer:
        await viewer.show(f"http://127.0.0.1:{here.port}/{query}")
        if options.get("java_script_enabled", True):
            await viewer.until("() => document.querySelector('#calculator form, #calculator [role=alert]')")
        yield viewer


def flat(answer: dict[str, Any], path: str = "") -> dict[str, float]:
    """Return the numbers of an answer by their place."""
    found: dict[str, float] = {}
    for key, value in answer.items():
        place = f"{path} {key}"
        if isinstance(value, dict):
            found |= flat(value, place)
        elif isinstance(value, list):
            found |= {f"{place} {one}": 1 for one in value}
        elif value is not None:
            found[place] = value
    return found


@pytest.mark.parametrize(("seed", "count"), [(26, 80), (27, 1_000)], ids=["few", "many"])
async def test_the_script_gives_the_numbers_of_the_package(seed, count, rules, tab):
    rng = random.Random(seed)
    inputs = [random_input(rng) for _ in range(count)]
    async with calculator(tab, rules) as viewer:
        answers = await viewer.page.evaluate(ANSWERS, [rules, inputs])
    for given, found in zip(inputs, answers, strict=True):
        right = await answer_of(given)
        assert flat(found) == pytest.approx(flat(right), rel=1e-9), (given, found, right)
    # Each kind of answer was among them.
    assert {found["watch"] and found["watch"]["complete"] for found in answers} == {None, True, False}
    assert all(any(found[key] for found in answers) for key in ("missing", "cut", "history", "calls", "expired"))
    assert {done for found in answers for done in found["done"].values()} > {0, math.inf}


@pytest.mark.parametrize("plan", ["standard", "premium", "enterprise"])
async def test_the_script_gives_the_requests_of_an_estimate(plan, rules, tab):
    """For lists of fewer than 100 calls, whose pages the calculator can know."""
    insights = () if plan == "standard" else (USAGE, QUALITY)
    counts = {"usage": len(insights[:1]), "quality": len(insights[1:])}
    inputs = [NOTHING | counts | {"plan": plan, "calls": 24, "days": days} for days in (1, 2, 5, 40)]
    estimates = []
    # At a rate for which nobody waits: this is real time.
    fast = Plan.of(plan).with_limits("call_lists", per_second=1_000, per_day=1_000)
    async with Simulation(world=FEW_CALLS, plan=fast, clock=MIDNIGHT).client() as client:
        for given in inputs:
            past = timedelta(days=given["days"])
            lists = Selection(*client.calls.recent(past), datasets=("calls",))
            estimates.append(dict((await client.export.estimate(lists)).requests))
            for insight in insights:
                series = Selection(*client.insights.recent(past), datasets=("insights",), insights=(insight,))
                estimates[-1] |= (await client.export.estimate(series)).requests
    async with calculator(tab, rules) as viewer:
        answers = await viewer.page.evaluate(ANSWERS, [rules, inputs])
    assert [found["history"] for found in answers] == estimates


async def test_the_page_answers_as_the_form_is_filled_and_its_address_keeps_the_form(rules, tab):
    async with calculator(tab, rules) as viewer:
        await viewer.says("It fits.")
        await viewer.page.get_by_label("Real-time metrics to watch").fill("9")
        await viewer.says("18 requests a poll are more than 480 a day can carry without gaps: at most 12 fit.")
        await viewer.page.get_by_label("Plan").select_option("enterprise")
        await viewer.says("It fits.")
        row = viewer.page.get_by_role("row").filter(has_text="real-time windows")
        assert (await row.inner_text()).split() == ["real-time", "windows", "1,440", "1,440", "100", "%"]
        await viewer.page.reload()
        await viewer.says("A poll takes 18 requests")
        await viewer.page.get_by_label("Calls a day").fill("1000000")
        await viewer.says("Each day takes 2,000,000 requests for call details, and the plan allows 10,000.")
        await viewer.says("A day leaves no request for the history of call details.")
        await viewer.page.get_by_label("Plan").select_option("standard")
        await viewer.says("The plan standard has no real-time windows.")
        await viewer.page.get_by_label("Calls a day").fill("400")
        await viewer.page.get_by_label("Days of history").fill("30")
        await viewer.says("The plan has at most 23 h 56 min of history of call lists.")
        await viewer.says("calls of the history expire before their details are requested.")
        assert viewer.complaints == []


async def test_a_value_that_is_not_allowed_is_named_and_not_computed_with(rules, tab):
    wrong = {"apps": ("0", "1001", "1.5", "-1", "", "1e2"), "every": ("19", "86401"), "days": ("-1", "")}
    async with calculator(tab, rules) as viewer:
        for name, values in wrong.items():
            field, note = viewer.page.locator(f"[name={name}]"), viewer.page.locator(f"#calculator-{name}-note")
            right = await field.input_value()
            for value in values:
                await field.fill(value)
                assert "Allowed are whole numbers from" in await note.inner_text(), (name, value)
                assert await field.get_attribute("aria-invalid") == "true"
                assert await viewer.text(".verdict") == "A value is not allowed: see the form."
                assert not await viewer.page.locator(".results").is_visible()
                assert f"{name}={value}&" not in f"{viewer.page.url}&"
            await field.fill(right)
            await viewer.says("It fits.")
            assert (await note.inner_text(), await field.get_attribute("aria-invalid")) == ("", "false")


async def test_an_address_with_wrong_values_gives_those_to_begin_with(rules, tab):
    async with calculator(tab, rules, "?plan=starter&apps=0&calls=<b>&days=2") as viewer:
        values = [
            await viewer.page.locator(f"[name={name}]").input_value() for name in ("plan", "apps", "calls", "days")
        ]
        assert values == ["premium", "1", "250", "2"]
        await viewer.says("It fits.")


async def test_without_scripts_or_numbers_the_page_says_so(rules, tab):
    async with calculator(tab, rules, java_script_enabled=False) as viewer:
        assert "The calculator needs JavaScript" in await viewer.text("#calculator")
    async with calculator(tab, None) as viewer:
        await viewer.says("The calculator could not be loaded", "#calculator [role=alert]")


@NEEDS_DOCS
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
async def test_the_page_of_the_site_fits_its_width_and_axe_finds_nothing_serious(width, scheme, site, tab):
    app = web.Application()
    app.router.add_static("/", site)
    options = {"viewport": {"width": width, "height": 860}, "color_scheme": scheme}
    async with serve(app) as here, tab(**options) as viewer:
        for query in ("", "?plan=standard&calls=100000000&days=1000"):
            await viewer.show(f"http://127.0.0.1:{here.port}/reference/calculator/index.html{query}")
            await viewer.says("It fits." if not query else "It does not fit.")
            root = "document.documentElement"
            assert await viewer.page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
            if find_spec("axe_playwright_python") is not None:
                await viewer.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
                wanted = "{ resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa'] }"
                found = await viewer.page.evaluate(f"axe.run('#calculator', {wanted})")
                assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
        assert (viewer.complaints, viewer.hosts) == ([], {f"127.0.0.1:{here.port}"})
