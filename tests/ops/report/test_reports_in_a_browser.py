"""A report in Chromium: it fits two widths and both themes, is accessible, needs no script and loads nothing."""

from __future__ import annotations

from importlib.resources import files
from importlib.util import find_spec

import pytest
from helpers.browser import IN_BROWSER, chromium, open_tab
from helpers.written_exports import write_export

from agora_analytics.export import queries
from agora_analytics.ops import report

pytestmark = IN_BROWSER


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    write_export(folder, format="jsonl")
    call_id = queries.run("who_froze_whom", folder).rows[0][1]
    for name, page in (("week", report.week(folder)), ("call", report.call(folder, call_id))):
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["week", "call"])
async def test_a_report_fits_its_width_and_axe_finds_nothing_serious(pages, name):
    async with chromium() as browser:
        for width, scheme in ((1280, "light"), (390, "dark")):
            async with open_tab(browser, viewport={"width": width, "height": 860}, color_scheme=scheme) as tab:
                await tab.show((pages / f"{name}.html").as_uri())
                assert await tab.page.evaluate("document.documentElement.scrollWidth") == width
                assert tab.hosts == {""}
                if find_spec("axe_playwright_python") is not None:
                    await tab.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
                    wanted = "{ resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa'] }"
                    found = await tab.page.evaluate(f"axe.run({wanted})")
                    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
                assert tab.complaints == []


async def test_a_report_is_whole_without_scripts(pages):
    async with chromium() as browser, open_tab(browser, java_script_enabled=False) as tab:
        await tab.show((pages / "week.html").as_uri())
        for heading in ("Worst countries", "Who froze whom", "Day by day"):
            assert heading in await tab.page.inner_text("main")
        assert await tab.page.locator("figure svg path.line").count() > 0
