"""Every block of README's Python runs as it says: as it stands, or inside `main()` with what is named there."""

from __future__ import annotations

import logging
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from streaming import HOUR, NOON, simulated

import agora_analytics
from agora_analytics import AnalyticsClient, MemoryCheckpoints
from agora_analytics.simulator import World

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^( *)```python\n(.*?)^\1```", README, re.DOTALL | re.MULTILINE)
BLOCKS = [textwrap.dedent(code) for _, code in FENCED]
INSIDE = [block for block in BLOCKS if "import " not in block]
SMALL = World(seed=7, calls_per_hour=12.0, typical_minutes=0.2, long_share=0.0, large_share=0.0)


class Enough(Exception):
    """Ends a stream that has none."""


class Yours:
    """What the README calls yours: it is called a few times."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, *_: object) -> None:
        self.calls += 1
        if self.calls == 3:
            raise Enough

    update = correct = __call__


@pytest.mark.parametrize("block", INSIDE, ids=[block.split("\n")[0][:40] for block in INSIDE])
async def test_a_block_without_imports_runs_inside_main(block, monkeypatch, tmp_path):
    simulation = simulated(world=SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AnalyticsClient, "from_env", classmethod(lambda cls, **more: simulation.client(**more)))
    yours = Yours()
    names: dict[str, Any] = {name: getattr(agora_analytics, name) for name in agora_analytics.__all__}
    names |= {"start": NOON - 2 * HOUR, "end": NOON - HOUR, "dashboard": yours, "store": yours}
    names["log"] = logging.getLogger("mine")
    code = f"async def main(client):\n{textwrap.indent(block, '    ')}"
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - it is ours
    endless = "store(" in block or "dashboard." in block
    async with simulation.client(checkpoints=MemoryCheckpoints()) as client:
        try:
            await names["main"](client)
        except Enough:
            assert endless
        else:
            assert not endless


def test_all_other_blocks_compile_with_their_imports():
    others = [block for block in BLOCKS if block not in INSIDE]
    assert len(others) >= 3
    for block in others:
        exec(compile(block.replace("asyncio.run(main())", ""), "README.md", "exec"), {"__name__": "readme"})  # noqa: S102


def test_the_names_that_a_block_may_use_are_told():
    told = README[README.index("The blocks below go on inside") :].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", told))
    assert named == {"client", "start", "end", "dashboard", "store", "log"}
    assert README.index("The blocks below go on inside") < README.index(INSIDE[0].split("\n")[0])


def test_every_error_that_is_raised_is_in_the_table_and_tried_again_as_it_says():
    section = README[README.index("### Errors") :].partition("### Command line")[0]
    rows = [row.split("|") for row in section.splitlines() if row.startswith("| `")]
    told = {name: row[3].strip() for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    errors = {name: getattr(agora_analytics, name) for name in agora_analytics.__all__}
    public = {name: kind for name, kind in errors.items() if isinstance(kind, type) and issubclass(kind, BaseException)}
    assert set(told) == set(public) - {"AgoraError"}
    again = {name for name, kind in public.items() if kind.retryable}
    assert {name for name, said in told.items() if said.startswith("yes")} - {"RateLimited"} == again
