"""The page of examples: the programs and notebooks of `examples/` as they are."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

from sources import ROOT


def examples_page() -> str:
    """Return the page: of each example its docstring and its code."""
    intro = (
        "Complete programs and notebooks. Each runs against the simulator in a test; `agora-analytics simulate` serves"
        " one to try."
    )
    parts = ["# Examples", intro]
    for file in sorted((ROOT / "examples").glob("*.py")):
        code = file.read_text(encoding="utf-8")
        summary = (ast.get_docstring(ast.parse(code)) or "").partition("\n\n")[0]
        parts += [f"## {file.name}", summary, f"```python\n{code}```"]
    for file in sorted((ROOT / "examples").glob("*.ipynb")):
        parts += [f"## {file.name}", *_cells(file)]
    return "\n\n".join(parts) + "\n"


def _cells(notebook: Path) -> Iterator[str]:
    """Yield the cells of a notebook as Markdown, with its headings below that of the notebook."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        yield (
            f"```python\n{text}\n```" if cell["cell_type"] == "code" else re.sub("^#", "###", text, flags=re.MULTILINE)
        )
