"""Every example in a docstring runs: Python blocks inside `main(client, call)`, the rest as doctests.

Examples of exports, streams, the simulator and servers are tested with those packages, as they need more setup.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import re
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import PACKAGE
from helpers.streaming import HOUR, NOON, simulated

import agora_analytics
from agora_analytics import AnalyticsClient, MemoryCheckpoints
from agora_analytics.endpoints import Calls, Insights, Realtime
from agora_analytics.simulator import World

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
EXAMPLE = re.compile(r"```python|>>> ")
SMALL = World(seed=7, calls_per_hour=12.0, typical_minutes=2.0, long_share=0.0, large_share=0.0)


def docstrings() -> dict[str, str]:
    """Return all docstrings with an example, by file and name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if not EXAMPLE.search(code := path.read_text(encoding="utf-8")):
            continue  # parsing every file takes seconds
        file = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, DOCUMENTED) and EXAMPLE.search(text := ast.get_docstring(node) or ""):
                found[f"{file}: {getattr(node, 'name', 'module')}"] = text
    return found


ELSEWHERE = ("export/", "quota/postgres_ledger.py", "quota/redis_ledger.py", "simulator/", "streams/")
FENCED = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = docstrings()
BLOCKS = {
    name: code for name, text in EXAMPLES.items() if not name.startswith(ELSEWHERE) for code in FENCED.findall(text)
}
DOCTESTS = sorted({name.partition(":")[0] for name, text in EXAMPLES.items() if ">>> " in text})


@pytest.mark.parametrize("name", BLOCKS)
async def test_an_example_in_a_docstring_runs(name, monkeypatch, tmp_path):
    simulation = simulated(world=SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AnalyticsClient, "from_env", classmethod(lambda cls, **options: simulation.client(**options)))
    names: dict[str, Any] = {name: getattr(agora_analytics, name) for name in agora_analytics.__all__}
    names |= {"start": NOON - 2 * HOUR, "end": NOON - HOUR, "timedelta": timedelta, "asyncio": asyncio}
    code = f"async def main(client, call):\n{textwrap.indent(BLOCKS[name], '    ')}"
    exec(compile(code, name, "exec"), names)  # noqa: S102 - our own docstring
    endless = re.search(r"\.(watch|follow)\(", BLOCKS[name]) is not None
    async with simulation.client(checkpoints=MemoryCheckpoints()) as client:
        call = (await client.calls.page(NOON - 2 * HOUR, NOON - HOUR)).items[0]
        try:
            async with asyncio.timeout(900):
                await names["main"](client, call)
        except TimeoutError:
            assert endless
        else:
            assert not endless


@pytest.mark.parametrize("file", DOCTESTS)
def test_the_doctests_of_a_module_pass(file):
    name = f"agora_analytics.{file.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name))
    assert (result.failed, result.attempted > 0) == (0, True)


@pytest.mark.parametrize("group", [Calls, Insights, Realtime])
def test_every_method_of_an_endpoint_group_has_an_example(group):
    file = Path(inspect.getfile(group)).relative_to(PACKAGE).as_posix()
    methods = {f"{file}: {name}" for name in vars(group) if not name.startswith("_")}
    assert methods - set(BLOCKS) == set()


def test_the_main_classes_have_an_example():
    documented = {name.partition(": ")[2] for name in EXAMPLES}
    assert documented >= {"AnalyticsClient", "Span", "Plan", "Selection"}
