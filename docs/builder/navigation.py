"""Navigation of the site: sections and order of `docs/index.md`, with the pages that are made from the code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from sources import API_TITLE, ROOT, title_of

Section = dict[str, "str | Section"]
"""Pages by title, and sections with pages of their own."""


def navigation(pages: Mapping[str, str], made: Iterable[str]) -> Section:
    """Return the navigation of all pages, given by their text.

    `made` are pages that are made from the code: those of a folder `reference/x` become a section of the reference.
    """
    sections: Section = {"Home": "index.md"}
    for heading, page in _listed():
        _add(sections, heading, page, pages)
    for page in made:
        # The section of a page that no source lists is its folder's: `reference/api/client.md` is in Reference, Api.
        folder = [part.title().replace("Api", "Python API") for part in page.split("/")[:-1]]
        _add(sections, folder, page, pages)
    for page in pages:
        if page.startswith("project/"):
            _add(sections, ["Project"], page, pages)
    _add(sections, ["Project"], "contents.md", pages)
    return sections


def _listed() -> Iterator[tuple[list[str], str]]:
    """Yield each page that `docs/index.md` lists, with its sections: headings, and lines such as `Calls:`."""
    headings: list[str] = []
    for line in (ROOT / "docs/index.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"(##+) (.*)", line):
            headings = [*headings[: len(heading[1]) - 2], heading[2]]
        elif group := re.fullmatch(r"([A-Z][^.\[]*):", line):
            headings = [*headings[:1], group[1]]
        elif headings:
            yield from ((list(headings), page) for page in re.findall(r"\]\(([^)#\s]+\.md)\)", line))


def _add(sections: Section, headings: Iterable[str], page: str, pages: Mapping[str, str]) -> None:
    for heading in headings:
        inner = sections.setdefault(heading, {})
        if not isinstance(inner, dict):
            raise SystemExit(f"a page and a section have one title: {heading}")
        sections = inner
    sections[title_of(pages[page]).removeprefix(API_TITLE)] = page


def pages_in(sections: Section) -> Iterator[tuple[str, str, str]]:
    """Yield the outermost section, the title and the page of each entry."""
    for title, entry in sections.items():
        if isinstance(entry, str):
            yield title, title, entry
        else:
            yield from ((title, inner, page) for _, inner, page in pages_in(entry))


def as_toml(sections: Section) -> str:
    """Return the navigation as the value of `nav`."""
    entries = (
        f"{{ {_quoted(title)} = {_quoted(entry) if isinstance(entry, str) else as_toml(entry)} }}"
        for title, entry in sections.items()
    )
    return f"[{', '.join(entries)}]"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
