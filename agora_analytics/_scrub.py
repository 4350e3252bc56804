"""Blanks out what must not be quoted: credentials and App IDs, however an answer spells them when it echoes them.

An echo may be percent-encoded, escaped, of another case, or cut off, as the first half of a secret is still a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

_BLANK = b"***"

_SHORTEST = 4
"""Shorter texts are not looked for: they would be found everywhere."""

_LONG = 24
"""From this length on, the first half of a text is blanked out too; of shorter ones it may be a common word."""

_APP = re.compile(rb"""(appid(?:=|%3d|"\s?:\s?"))[^&\s"'<>\\]+""", re.IGNORECASE)

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}

_LEAST_APP = 8
"""Shorter App IDs, which no real account has, are blanked out only where they are named as one."""


class Scrubber:
    """Blanks out texts in bytes, in time linear in their number."""

    def __init__(self, *texts: str) -> None:
        self._hidden = frozenset(form for text in texts if len(text) >= _SHORTEST for form in _forms(text))

    def __repr__(self) -> str:
        """Show nothing."""
        return "Scrubber(***)"

    def scrub(self, body: bytes) -> bytes:
        """Return the bytes without the texts."""
        lowered = body.lower()
        kept: list[bytes] = []
        at = 0
        for start, end in sorted(place for form in self._hidden for place in _places(lowered, form)):
            if start >= at:
                kept += body[at:start], _BLANK
            at = max(at, end)
        return b"".join([*kept, body[at:]])


def without_app(body: bytes, app_id: str) -> bytes:
    """Return the bytes without an App ID, and without whatever is named as one."""
    named = _APP.sub(rb"\1" + _BLANK, body)
    return Scrubber(app_id).scrub(named) if len(app_id) >= _LEAST_APP else named


def _forms(text: str) -> Iterator[bytes]:
    """Yield the spellings of a text, in lower case."""
    escaped = json.dumps(text)[1:-1]
    url_safe = text.replace("+", "-").replace("/", "_")  # base64's other alphabet
    percent = quote(text, safe=""), quote(text), quote_plus(text)
    for form in (text, url_safe, *percent, _in_html(text), escaped, escaped.replace("/", "\\/")):
        yield form.encode("utf-8", "surrogatepass").lower()


def _in_html(text: str) -> str:
    """Escape a text as `html.escape` does, whose module takes a millisecond to load."""
    return "".join(_HTML.get(char, char) for char in text)


def _places(body: bytes, hidden: bytes) -> Iterator[tuple[int, int]]:
    """Yield where a text stands, or the better part of a long one."""
    head = hidden[: len(hidden) // 2] if len(hidden) >= _LONG else hidden
    at = body.find(head)
    while at >= 0:
        end = at + _alike(body[at : at + len(hidden)], hidden)
        yield at, end
        at = body.find(head, end)


def _alike(found: bytes, hidden: bytes) -> int:
    """Return how many bytes two texts begin with in common."""
    return next((n for n, (here, there) in enumerate(zip(found, hidden, strict=False)) if here != there), len(found))
