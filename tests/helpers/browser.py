"""The live page in Chromium: a tab that notes what went wrong in it, and what a viewer does with it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

NEEDS_BROWSER = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None, reason="needs chromium (a Debian package) and playwright"
)
IN_BROWSER = [
    pytest.mark.slow,
    pytest.mark.real_time,
    pytest.mark.process,
    pytest.mark.asyncio(loop_scope="session"),  # that of the browser
    NEEDS_BROWSER,
]
"""Marks of tests in the browser. Starting it takes longer than most of them, so all share one, each in its own tab."""

VIEWS = ("now", "calls", "insights", "quota", "alerts")

HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
"""Hides the page, or shows it again, as its browser would tell it."""

ARGUMENTS = (
    "--no-sandbox",  # containers run as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


class Tab(NamedTuple):
    """A tab of the browser, what it complained about, and the hosts that it asked."""

    page: Any
    complaints: list[str]
    hosts: set[str]

    async def show(self, address: str) -> None:
        """Show a view, from the beginning."""
        await self.page.goto("about:blank")
        await self.page.goto(address)

    async def text(self, selector: str) -> str:
        return await self.page.inner_text(selector)

    async def until(self, script: str, seconds: float = 20) -> None:
        """Wait until a script returns something true."""
        await self.page.wait_for_function(script, timeout=1_000 * seconds)

    async def says(self, text: str, selector: str = "body", seconds: float = 20) -> None:
        """Wait until a text is shown."""
        await self.page.wait_for_function(
            "([where, text]) => document.querySelector(where)?.innerText.includes(text)",
            arg=[selector, text],
            timeout=1_000 * seconds,
        )


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """Start Chromium."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_tab(browser: Any, **options: Any) -> AsyncIterator[Tab]:
    """Open a tab that shares nothing with others; `options` are those of a context, such as `color_scheme`."""
    context = await browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
    try:
        page = await context.new_page()
        opened = Tab(page, [], set())
        page.on("console", lambda message: _note(opened, message))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("request", lambda request: opened.hosts.add(urlsplit(request.url).netloc))
        yield opened
    finally:
        await context.close()


def _note(opened: Tab, message: Any) -> None:
    if message.type in {"error", "warning"}:
        opened.complaints.append(message.text)
