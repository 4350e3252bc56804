"""The documentation: README and all pages in `docs/`, with their Python blocks and tables."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from helpers.paths import ROOT

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    """Return the path of a page inside the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[str]:
    """Return the Python blocks of a page, in order."""
    fenced = re.findall(r"^( *)```python\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in fenced]


def rows_below(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without the table's header."""
    section = (ROOT / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    table = section[section.index("\n|") :].strip().partition("\n\n")[0]
    return [
        [cell.strip("`") for cell in re.split(r" *(?<!\\)\| *", row)]
        for row in re.findall(r"^\| (.*) \|$", table, re.MULTILINE)[2:]
    ]


def marked_blocks_of(page: Path) -> list[str]:
    """Return the Python blocks of a page that do not run: above them is `<!-- not run: … -->`, with the reason."""
    return re.findall(
        r"^<!-- not run: [^\n]+ -->\n```python\n(.*?)^```",
        page.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
