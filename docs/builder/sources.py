"""Sources of the site: which file becomes which page, and where a link of a source leads on the site."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = "agora_analytics"
EXAMPLES = "guides/examples.md"
"""The page with the code of all examples."""

API_TITLE = "API: "
"""Begins the titles of pages of the Python API."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


@cache
def project() -> Mapping[str, Any]:
    """Return the table `project` of pyproject.toml."""
    table: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def page_of(source: str) -> str | None:
    """Return the page that a file or folder of the repository becomes; None if it is not on the site."""
    path = PurePosixPath(source)
    if path.parts[0] == "docs":
        # README is the first page of the site, where the list of all pages would be empty words.
        return "contents.md" if source == "docs/index.md" else path.relative_to("docs").as_posix()
    if source == "README.md":
        return "index.md"
    if source == "benchmarks/README.md":
        return "project/benchmarks.md"
    if path.parts[0] == "examples":
        return EXAMPLES
    return f"project/{path.stem.lower()}.md" if path.suffix == ".md" and len(path.parts) == 1 else None


def sources() -> dict[str, Path]:
    """Return all files that the site shows as they are, by their page."""
    files = [*ROOT.glob("*.md"), ROOT / "benchmarks/README.md", *(ROOT / "docs").rglob("*.md")]
    files += [*(ROOT / "docs/images").iterdir(), *(ROOT / "docs/reference").glob("calculator*.[cj]s*")]
    found = {page_of(file.relative_to(ROOT).as_posix()): file for file in sorted(files)}
    return {page: file for page, file in found.items() if page}


def with_site_links(text: str, source: str) -> str:
    """Return the text of a source with each link changed to the page that its target becomes."""
    return _LINK.sub(partial(_site_link, source), text)


def _site_link(source: str, link: re.Match[str]) -> str:
    image, text, target = link.groups()
    file, _, anchor = target.partition("#")
    if not file or ":" in file:
        return link[0]
    wanted = normpath((PurePosixPath(source).parent / file).as_posix())
    page, here = page_of(wanted), page_of(source) or ""
    if page is None:
        # As in hatch_build.py. A file of the repository, such as a module, has no page: without an address only a name.
        repository = os.environ.get("PROJECT_URL", "").rstrip("/")
        return f"[{text}]({repository}/blob/main/{wanted})" if repository else text
    if page == EXAMPLES:
        anchor = slug(PurePosixPath(wanted).name) if wanted.endswith((".py", ".ipynb")) else ""
    return f"{image}[{text}]({relpath(page, PurePosixPath(here).parent)}{'#' if anchor else ''}{anchor})"


def slug(heading: str, separator: str = "-") -> str:
    """Return the anchor of a heading, as GitHub builds it, so that links of sources work in both places."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def title_of(text: str) -> str:
    """Return the title of a page: its first heading, without formatting."""
    heading = re.search(r"^# (.*)$", text, re.MULTILINE)
    if heading is None:
        raise SystemExit(f"a page without a title: {text[:80]!r}")
    return heading[1].replace("`", "")


def summary_of(text: str) -> str:
    """Return the first sentence below the title of a page, without links: it says what the page is."""
    below = re.search(r"^# .*\n\n((?:.+\n)+)", text, re.MULTILINE)
    first = " ".join(below[1].split()) if below else ""
    return re.split(r"(?<=\.) ", _LINK.sub(r"\2", first))[0]
