"""Makes the pictures of the pages from the running program: `python docs/builder/pictures.py [FOLDER]`.

By default into `docs/images`. The live page is that of `serve --simulate` in Chromium, down to the groups by dimension;
the terminal is what a command prints into one, as SVG. Needs the extras `cli` and `ops`, and playwright with Chromium.
"""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shutil
import sys
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))  # this checkout's package, whichever is installed

from playwright.async_api import async_playwright
from rich.console import Console
from rich.text import Text

from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Service, World
from agora_analytics.simulator.server import serve

IMAGES: Final = Path(__file__).parents[1] / "images"
COMMAND: Final = (sys.executable, "-m", "agora_analytics.cli")

TERMINALS: Final = {"terminal-graph.svg": "realtime quality --metric videoFreezeRate --product WebRTC --last 40m"}
"""Commands whose output is a picture, by file."""

_LINES: Final = 40
_COLUMNS: Final = 118
"""As on the pages of the tutorial."""

_WIDTH: Final = 1280
"""Pixels of the live page."""

_CHARTS: Final = 6
"""The charts of the page, each of one metric."""


async def main(folder: Path) -> None:
    """Make all pictures into a folder."""
    await live_page(folder / "live-page.png")
    with TemporaryDirectory() as state:
        async with serve(Service(World(seed=1), "premium")) as url:
            for name, command in TERMINALS.items():
                printed = await in_terminal(command, _settings(url, state))
                write_svg(folder / name, command, printed)


def _settings(url: str, state: str) -> dict[str, str]:
    return {
        "AGORA_BASE_URL": url,
        "AGORA_CUSTOMER_ID": CUSTOMER_ID,
        "AGORA_CUSTOMER_SECRET": CUSTOMER_SECRET,
        "AGORA_APP_ID": APP_ID,
        "AGORA_PLAN": "premium",
        "XDG_STATE_HOME": state,
    }


async def live_page(file: Path) -> None:
    """Take a picture of the live page, once it has its charts and groups."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    async with _served() as url, async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = await chromium.new_page(viewport={"width": _WIDTH, "height": 1_600})
        await page.goto(url)
        groups = page.locator(".groups")
        await page.locator(".charts canvas").nth(_CHARTS - 1).wait_for()
        await groups.locator("li").nth(3).wait_for()  # the shortest group has four rows
        await page.wait_for_timeout(1_000)  # charts are drawn in the next frames
        box = await groups.bounding_box()
        bottom = 0.0 if box is None else box["y"] + box["height"]
        await page.screenshot(path=file, clip={"x": 0, "y": 0, "width": _WIDTH, "height": bottom + 16})
        await chromium.close()


@asynccontextmanager
async def _served() -> AsyncIterator[str]:
    """Run `serve --simulate` and yield its URL."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*COMMAND, "serve", "--simulate", "--port", "0", stdout=pipe)
    try:
        line = (await process.stdout.readline()).decode() if process.stdout else ""
        if not line:
            raise SystemExit("serve --simulate did not start")
        yield line.split()[-1]
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def in_terminal(command: str, settings: Mapping[str, str]) -> str:
    """Return what a command prints into a terminal, with its colours."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (_LINES, _COLUMNS))
    environment = {**os.environ, "TERM": "xterm-256color", **settings}
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *command.split(), stdin=its, stdout=its, stderr=asyncio.subprocess.DEVNULL, env=environment
    )
    os.close(its)
    printed = await asyncio.to_thread(_read, ours)
    os.close(ours)
    if await process.wait():
        raise SystemExit(f"agora-analytics {command} failed: {printed}")
    return printed


def _read(terminal: int) -> str:
    pieces = []
    with suppress(OSError):  # as Linux says that the other end is closed
        while piece := os.read(terminal, 65_536):
            pieces.append(piece)
    return b"".join(pieces).decode().replace("\r\n", "\n")


def write_svg(file: Path, command: str, printed: str) -> None:
    """Write a terminal with a command and its output as SVG."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=_COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text(f"$ agora-analytics {command}", style="bold"))
        console.print(Text.from_ansi(printed.strip()))
        svg = console.export_svg(title="agora-analytics", unique_id="terminal")
    # Without the font of another host: a page of this documentation loads nothing from elsewhere.
    own = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    file.write_text(own, encoding="utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(target))
