"""The guides to fleets and schedulers agree with the code, and what they show works."""

from __future__ import annotations

import ast
import asyncio
import importlib
import re

import pytest
from helpers.pages import ROOT, blocks_of

from agora_analytics.fleet import Fleet
from agora_analytics.fleet.description_file import _KEYS
from agora_analytics.simulator import APP_ID

GUIDE = ROOT / "docs/guides/fleet.md"
SCHEDULERS = ROOT / "docs/guides/schedulers.md"
HEADINGS = {"fleet": "the file", "account": "an account"} | {
    kind: f"a{'n' * (kind == 'export')} {kind}" for kind in ("watch", "follow", "export")
}


def fenced(page, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("kind", _KEYS)
def test_the_documented_keys_are_those_of_a_description(kind):
    section = GUIDE.read_text().partition(f"\n### Keys of {HEADINGS[kind]}\n")[2].partition("\n#")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == sorted(_KEYS[kind])


def test_the_documented_file_is_a_description(tmp_path):
    path = tmp_path / "fleet.toml"
    trial, whole = fenced(GUIDE, "toml")
    path.write_text(whole)
    keys = Fleet.from_file(path).jobs
    assert [key.rpartition(".")[0] for key in keys] == ["acme.watch", "acme.follow", "acme.export"]
    path.write_text(trial)
    watch, follow = Fleet.from_file(path).jobs.values()
    assert {watch.app_id, follow.app_id} == {APP_ID}


@pytest.mark.real_time
async def test_the_documented_program_runs(monkeypatch, capsys):
    (block,) = [block for block in blocks_of(GUIDE) if "memory://" in block]
    monkeypatch.setenv("ACME_ID", "")  # so that what the program sets is undone
    monkeypatch.setenv("ACME_SECRET", "")
    names = {"__name__": "page"}
    exec(compile(block.replace("asyncio.run(main())", ""), str(GUIDE), "exec"), names)  # noqa: S102 - our own page
    async with asyncio.timeout(30):
        await names["main"]()
    assert capsys.readouterr().out.startswith("acme.watch.web Window(")


@pytest.mark.parametrize("block", fenced(SCHEDULERS, "py"), ids=lambda block: block.split()[1])
def test_a_recipe_uses_what_is_there(block):
    """The engines are not installed here, so the recipes are compiled, and their other imports are looked up."""
    (tasks,) = blocks_of(SCHEDULERS)
    known = {node.name for node in ast.parse(tasks).body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "agora_tasks":
            assert {name.name for name in node.names} <= known
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("agora_analytics"):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, name.name) for name in node.names)
