"""Texts for language models: `llms.txt` lists all pages, and each page is there as plain Markdown, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from api import summary_of_page
from navigation import Section, pages_in
from sources import PACKAGE, project, summary_of, title_of

_API = "reference/api/"


def write_texts(site: Path, texts: Mapping[str, str], sections: Section) -> None:
    """Write `llms.txt`, and the Markdown of the pages beside their HTML."""
    for page, text in texts.items():
        # A page of the API is a list of names without their docstrings: only its HTML says anything.
        if not _is_api(page):
            (site / page).parent.mkdir(parents=True, exist_ok=True)
            (site / page).write_text(text, encoding="utf-8")
    (site / "llms.txt").write_text("\n".join(_lines(texts, sections)) + "\n", encoding="utf-8")


def _lines(texts: Mapping[str, str], sections: Section) -> Iterator[str]:
    """Yield the lines: a title, a summary, and a section of links for each section of the navigation."""
    yield f"# {PACKAGE}"
    yield f"\n> {project()['description']}"
    last = ""
    for section, _, page in pages_in(sections):
        if section != last:
            yield f"\n## {section}\n"
            last = section
        module = page.removeprefix(_API).removesuffix(".md").replace("-", ".")
        summary = summary_of_page(module) if _is_api(page) else summary_of(texts[page])
        url = page.removesuffix(".md") + "/" if _is_api(page) else page
        yield f"- [{title_of(texts[page])}]({url}): {summary}"


def _is_api(page: str) -> bool:
    return page.startswith(_API)
