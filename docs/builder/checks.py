"""Checks of the built site: links, anchors, pages and public names."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from posixpath import normpath
from urllib.parse import unquote, urlsplit

from api import shown_names
from navigation import Section, pages_in


class _Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        # What a page loads from other hosts, its readers tell those hosts.
        if tag in {"script", "img", "link"} and values.get("rel") not in {"canonical", "alternate"}:
            self.loaded += [value for value in (values.get("src") or values.get("href"),) if value]
        self.links += [values[name] for name in ("href", "src") if name in values and tag != "base"]


def check_site(site: Path, sections: Section, texts: Mapping[str, str]) -> None:
    """Raise `SystemExit` that lists everything that is wrong with a built site."""
    listed = {page for _, _, page in pages_in(sections)}
    wrong = [f"{page}: not in the navigation" for page in texts if page not in listed]
    wrong += _dead_links(site)
    documented = inventory(site / "objects.inv")
    names = (name for names in shown_names().values() for name in names)
    wrong += [f"{name}: public, and not in the reference" for name in names if name not in documented]
    if wrong:
        raise SystemExit("\n".join(wrong))


def _dead_links(site: Path) -> Iterator[str]:
    pages = {
        file.relative_to(site).as_posix(): _Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")
    }
    # The page of unknown addresses is served from any folder: its links are checked nowhere else.
    for name, page in pages.items():
        yield from (f"{name}: loads {link} from another host" for link in page.loaded if urlsplit(link).netloc)
        for link in page.links if name != "404.html" else ():
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = normpath(f"{Path(name).parent.as_posix()}/{unquote(parts.path)}") if parts.path else name
            if (site / target).is_dir():
                target = normpath(f"{target}/index.html")
            if not (site / target).is_file():
                yield f"{name}: {link} leads nowhere"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{name}: {link} has no such heading"


def inventory(file: Path) -> set[str]:
    """Return the names in an inventory of objects (`objects.inv`), which other sites link to."""
    *_, packed = file.read_bytes().split(b"\n", 4)
    return {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
