"""The page of troubleshooting quotes errors as the code writes them, and has every error of the library."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from helpers.paths import ROOT

import agora_analytics
from agora_analytics import AgoraError

PAGE = (ROOT / "docs/guides/troubleshooting.md").read_text(encoding="utf-8")
QUOTED = [text for _, text in re.findall(r"^\| (`+)(.*?)\1 \| ", PAGE, re.MULTILINE)]
NOT_RAISED = ROOT / "agora_analytics/ops/alerts/webhook.py"
"""Its errors are logged, not raised."""

ERRORS = {
    name
    for name in agora_analytics.__all__
    if isinstance(found := getattr(agora_analytics, name), type) and issubclass(found, AgoraError)
}


def template(node: ast.AST) -> str:
    """Return a text as the page writes it, with `…` for each part that differs; empty for what is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    parts = node.values if isinstance(node, ast.JoinedStr) else []
    return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in parts)


def nodes(name: str) -> Iterator[ast.AST]:
    """Yield the nodes of all files of a package, without the simulator's."""
    for path in sorted((ROOT / name).rglob("*.py")):
        if "simulator" not in path.parts and path != NOT_RAISED:
            yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def code() -> list[ast.AST]:
    return list(nodes("agora_analytics"))


@pytest.fixture(scope="module")
def texts(code) -> list[str]:
    return [text for node in code if (text := template(node))]


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_quoted_error_is_a_text_of_the_code(quoted, texts):
    assert any(quoted in text for text in texts)


def test_every_error_of_the_library_is_on_the_page(code):
    raised = {
        text
        for node in code
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args
        if len((text := template(node.args[0])).replace("…", "")) > 2
    }
    assert len(raised) > 35
    assert sorted(text for text in raised if not any(text in quoted or quoted in text for quoted in QUOTED)) == []
