"""Redacts credentials and App IDs in whatever encoding a response echoes them.

An echo may be percent-encoded, escaped, of another case, or cut off, as the first half of a secret is still a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import chain, islice
from typing import Any
from urllib.parse import quote, quote_plus

from agora_analytics._core.decoding.scanner import Steps

_BLANK = b"***"

_SHORTEST = 4
"""Shorter texts are not redacted: they would match everywhere."""

_LONG = 24
"""From this length on, the first half of a text is redacted too; half of a shorter one may be a common word."""

_APP = re.compile(rb"""(appid(?:=|%3d|"\s?:\s?"))[^&\s"'<>\\]+""", re.IGNORECASE)

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}

_LEAST_APP = 8
"""Shorter App IDs, which no real account has, are redacted only after `appid`."""

_WINDOW = 32_768
_OVERLAP = 4_096
"""Bytes searched at once, and how far the next window overlaps: more than the longest text."""

_ESCAPE = re.compile(rb"\\(?:u00([2-7][0-9a-fA-F])|.)", re.DOTALL)

_BREAK = re.compile(rb"[\"\s]")
_BREAKS = 8
_NEAR = 256
"""Where a body may be cut, how many such places are tried, and how many bytes one by one after that."""


def fingerprint(text: str) -> str:
    """Return 16 hexadecimal digits that name a text, such as an account, without disclosing it.

    >>> fingerprint("customer id")
    'b97611f73136e27f'
    """
    return sha256(text.encode()).hexdigest()[:16]


class Hidden:
    """A value that may hold credentials, and that no traceback with the variables of its frames shows."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Scrubber:
    """Redacts texts in bytes, in time linear in the bytes."""

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
        # Places may overlap, as one spelling may contain another: they become one blank.
        for start, end in sorted(place for form in self._hidden for place in _places(lowered, form)):
            if start >= at:
                kept += body[at:start], _BLANK
            at = max(at, end)
        return b"".join([*kept, body[at:]])


def without_app(body: bytes, app_id: str) -> bytes:
    """Return the bytes without an App ID, and without any value named `appid`."""
    named = _APP.sub(rb"\1" + _BLANK, body)
    return Scrubber(app_id).scrub(named) if len(app_id) >= _LEAST_APP else named


def without_escapes(body: bytes) -> bytes:
    """Return equivalent JSON with ASCII unescaped: many gateways escape `&`, `<` and `=`."""
    return _ESCAPE.sub(_plainly, body) if b"\\" in body else body


def in_steps(body: bytes, scrub: Callable[[bytes], bytes]) -> Steps[bytes]:
    """Apply `scrub` to a body in steps of a few milliseconds."""
    kept, at = [], 0
    while at < len(body):
        part = body[at : at + _WINDOW + _OVERLAP]
        end = _WINDOW
        # With nothing to hide up to the overlap's end, no secret crosses the window's end.
        if scrub(part) != part:
            end = len(part) if at + len(part) == len(body) else (yield from _cut(part, scrub))
            if not end:
                # No place to cut is safe: the loop is held rather than half a secret shown.
                return scrub(body)
        kept.append(scrub(part[:end]))
        at += end
        yield None
    found = b"".join(kept)
    return body if found == body else found


def _cut(part: bytes, scrub: Callable[[bytes], bytes]) -> Steps[int]:
    """Return where a part can be cut without splitting a secret; 0 for nowhere."""
    breaks = (found.end() for found in islice(_BREAK.finditer(part, _WINDOW), _BREAKS))
    for end in chain(breaks, range(_WINDOW, _WINDOW + _NEAR)):
        before, after = part[end - _OVERLAP : end], part[end:]
        # Safe is a cut where both sides, scrubbed apart, are what they are together.
        if scrub(before) + scrub(after) == scrub(before + after):
            return end
        yield None
    return 0


def _plainly(found: re.Match[bytes]) -> bytes:
    """Return the character of an escape, unless JSON needs it escaped."""
    if found[1] is None:
        return b"/" if found[0] == rb"\/" else found[0]
    char = bytes([int(found[1], 16)])
    return found[0] if char in {b'"', b"\\", b"\x7f"} else char


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
