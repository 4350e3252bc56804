"""Every Python block in README and docs runs: unchanged, or inside `main()` with the names that README lists.

A block for `main()` imports nothing but operations. Of a program with the line `<!-- not run: … -->` above it, which
names what it needs, only the imports and definitions run.
"""

from __future__ import annotations

import asyncio
import logging
import re
import textwrap
from typing import Any

import pytest
from helpers.pages import PAGES, README, ROOT, blocks_of, marked_blocks_of, name_of
from helpers.streaming import HOUR, NOON, simulated

import agora_analytics
from agora_analytics import AnalyticsClient, Call
from agora_analytics.simulator import World

BLOCKS = [(name_of(page), block) for page in PAGES for block in blocks_of(page)]
OPERATIONS = "from agora_analytics.ops import "
INSIDE = [(page, block) for page, block in BLOCKS if "import " not in block.removeprefix(OPERATIONS)]
CLIENT = re.search(r"`client` is\s`(AnalyticsClient\.from_env\(.*?\))`", README.read_text(encoding="utf-8"))[1]
"""The expression for `client` that README gives for its blocks."""

SMALL = World(seed=7, calls_per_hour=12.0, typical_minutes=0.2, long_share=0.0, large_share=0.0)


class StreamStopped(Exception):
    """Raised to end an endless stream."""


class UserCode:
    """Stands for a user's own code; ends the stream at the third call."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, *_: object) -> None:
        self.calls += 1
        if self.calls == 3:
            raise StreamStopped

    update = correct = __call__


async def ended_call(client: AnalyticsClient) -> Call:
    """Return a call that ended an hour ago or earlier."""
    async for call in client.calls.search(NOON - 2 * HOUR, NOON - HOUR):
        if call.finished:
            return call
    raise AssertionError("no call has ended")


@pytest.mark.parametrize(
    ("page", "block"), INSIDE, ids=[f"{page}: {block.partition(chr(10))[0][:40]}" for page, block in INSIDE]
)
async def test_a_block_without_imports_runs_inside_main(page, block, monkeypatch, tmp_path):
    simulation = simulated(world=SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AnalyticsClient, "from_env", classmethod(lambda cls, **options: simulation.client(**options)))
    user_code = UserCode()
    names: dict[str, Any] = {name: getattr(agora_analytics, name) for name in agora_analytics.__all__}
    names |= {"start": NOON - 2 * HOUR, "end": NOON - HOUR, "dashboard": user_code, "store": user_code}
    names["log"] = logging.getLogger("user")
    code = f"async def main(client):\n{textwrap.indent(block, '    ')}"
    exec(compile(code, page, "exec"), names)  # noqa: S102 - our own documentation
    endless = "store(" in block or "dashboard." in block
    async with eval(CLIENT, names) as client:  # noqa: S307 - our own README
        names["call"] = await ended_call(client)
        try:
            await names["main"](client)
        except StreamStopped:
            assert endless
        else:
            assert not endless


OTHERS = [(page, block) for page, block in BLOCKS if (page, block) not in INSIDE]


@pytest.mark.parametrize(("page", "block"), OTHERS, ids=[f"{page}: {len(block)}" for page, block in OTHERS])
async def test_a_block_with_imports_runs_and_so_does_its_main(page, block, monkeypatch, tmp_path):
    if "fastapi" in block:
        pytest.importorskip("fastapi")
    simulation = simulated(world=SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AnalyticsClient, "from_env", classmethod(lambda cls, **options: simulation.client(**options)))
    names: dict[str, Any] = {"__name__": "page"}
    program, call, _ = block.partition("asyncio.run(main())")
    exec(compile(program, page, "exec"), names)  # noqa: S102 - our own documentation
    if call and block not in marked_blocks_of(ROOT / page):
        try:
            async with asyncio.timeout(900):
                await names["main"]()
        except TimeoutError:
            assert ".watch(" in block


def test_only_programs_have_a_mark():
    marked = [block for page in PAGES for block in marked_blocks_of(page)]
    assert marked
    assert [block for block in marked if "asyncio.run(main())" not in block] == []


def test_readme_lists_the_names_that_blocks_use_before_the_first_block():
    readme = README.read_text(encoding="utf-8")
    paragraph = readme[readme.index("Put the snippets below inside") :].partition("\n\n")[0]
    names = set(re.findall(r"`(\w+)`", paragraph))
    assert names == {"client", "call", "start", "end", "dashboard", "store", "log"}
    first = next(block for page, block in INSIDE if page == "README.md")
    assert readme.index("Put the snippets below inside") < readme.index(first.partition("\n")[0])


def test_the_table_of_errors_lists_every_public_error_whether_it_is_retried_and_what_to_do():
    page = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    table = page[page.index("| error | when | retried by the client | what to do |") :].partition("\n\n")[0]
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| `")]
    documented = {name: row[3].strip() for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    exported = {name: getattr(agora_analytics, name) for name in agora_analytics.__all__}
    public = {
        name: kind for name, kind in exported.items() if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    assert set(documented) == set(public) - {"AgoraError"}
    retryable = {name for name, kind in public.items() if kind.retryable}
    retried = {name for name, cell in documented.items() if cell.startswith("yes")}
    assert retried - {"RateLimited"} == retryable
    assert [row for row in rows if len(row[4].strip()) < 10] == []
