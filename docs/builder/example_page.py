"""The page of examples: the files of `examples/` as they are."""

from __future__ import annotations

import ast

from sources import ROOT


def examples_page() -> str:
    """Return the page: of each example its docstring and its code."""
    intro = (
        "Complete programs. Each runs against the simulator in a test; `agora-analytics simulate` serves one to try."
    )
    parts = ["# Examples", intro]
    for file in sorted((ROOT / "examples").glob("*.py")):
        code = file.read_text(encoding="utf-8")
        summary = (ast.get_docstring(ast.parse(code)) or "").partition("\n\n")[0]
        parts += [f"## {file.name}", summary, f"```python\n{code}```"]
    return "\n\n".join(parts) + "\n"
