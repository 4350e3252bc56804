"""HTML of a report: text of the service is escaped here and nowhere else, and so never becomes markup.

`Html` is text that is markup already. Every function takes plain text and escapes it, or takes `Html`.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable
from datetime import datetime
from importlib.resources import files
from typing import Any, Final, NewType

from agora_analytics.spans import moment

Html = NewType("Html", str)
"""Markup. Made only in this file and in `charts.py`, from literals and escaped text."""

NONE: Final = "\N{EN DASH}"
_MAX_NAME: Final = 300
_TWO_DIGITS_BELOW: Final = 0.01
_THREE_DIGITS: Final = 100
_TOO_LONG: Final = 1e15
"""A figure that no one measured: it is shown with an exponent."""

# As on the live page: invisible characters, and those that turn text around.
_HIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Should markup of someone else ever get into a report, a browser would still load and run nothing."""


def text(value: object) -> Html:
    """Return text escaped, also for attributes; hidden characters become a visible mark."""
    shown = _HIDDEN.sub("\ufffd", str(value))
    return Html(html.escape(shown if len(shown) <= _MAX_NAME else f"{shown[:_MAX_NAME]}…"))


def name(value: object) -> Html:
    """Return a name that others chose, isolated, so that its direction does not change the text around it."""
    return Html(f"<bdi>{text(value)}</bdi>") if value is not None and value != "" else Html(NONE)


def is_finite(value: object) -> bool:
    """Whether a value can be shown: sums of what a service sends may be infinite, or no number."""
    return not isinstance(value, float) or math.isfinite(value)


def joined(parts: Iterable[Html]) -> Html:
    """Return parts one after the other."""
    return Html("".join(parts))


def tag(element: str, content: Html, **attributes: str) -> Html:
    """Return an element; values of attributes are escaped."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{text(value)}"' for key, value in attributes.items())
    return Html(f"<{element}{written}>{content}</{element}>")


def figure(value: Any, unit: str = "") -> Html:
    """Return a figure with its unit; a `fraction` in percent, a time of unit `day` without the hour."""
    if value is None or not is_finite(value):
        return Html(NONE)
    if isinstance(value, bool):
        return text("yes" if value else "no")
    if isinstance(value, datetime):
        return tag("time", text(f"{value:%Y-%m-%d}" if unit == "day" else f"{value:%Y-%m-%d %H:%M}"))
    return text(_number(value, unit)) if isinstance(value, int | float) else name(value)


def _number(value: float, unit: str) -> str:
    if unit == "fraction" and abs(value) < _TOO_LONG:
        return f"{value * 100:.{2 if 0 < abs(value) < _TWO_DIGITS_BELOW else 1}f} %"
    is_whole = abs(value) < _TOO_LONG and (float(value).is_integer() or abs(value) >= _THREE_DIGITS)
    shown = f"{value:,.0f}" if is_whole else f"{value:,.3g}"
    return f"{shown} {'' if unit == 'fraction' else unit}".rstrip()


def time(ts: float | None) -> Html:
    """Return UTC seconds as a time; what stands beside it says UTC."""
    found = moment(ts)
    return tag("time", text(f"{found:%Y-%m-%d %H:%M:%S}")) if found else Html(NONE)


def listed(lines: Iterable[Html]) -> Html:
    """Return a list; empty for no lines."""
    items = joined(tag("li", line) for line in lines)
    return tag("ul", items) if items else items


def table(caption: str, heads: Iterable[Html], rows: Iterable[Iterable[Html]], *, numbers: Iterable[bool]) -> Html:
    """Return a table that scrolls on a narrow screen; the first column is the head of each row."""
    classes = ["n" if is_number else "t" for is_number in numbers]
    head = joined(tag("th", one, scope="col", class_=kind) for one, kind in zip(heads, classes, strict=True))
    body = joined(
        tag(
            "tr",
            joined(
                tag("td", cell, class_=kind) if at else tag("th", cell, scope="row", class_=kind)
                for at, (cell, kind) in enumerate(zip(row, classes, strict=True))
            ),
        )
        for row in rows
    )
    content = joined(
        [
            tag("caption", text(caption), class_="sr"),
            tag("thead", tag("tr", head)),
            tag("tbody", body),
        ]
    )
    # A region that scrolls must be reachable by keyboard.
    return tag("div", tag("table", content), class_="scroll", tabindex="0", role="region", aria_label=caption)


def section(title: str, source: str, *content: Html) -> Html:
    """Return a section with a title and the source of its figures."""
    return tag(
        "section", joined([tag("h2", text(title)), *content, tag("p", text(f"Source: {source}"), class_="source")])
    )


def page(title: str, heading: Html, *content: Html) -> Html:
    """Return the whole document."""
    style = (files("agora_analytics.ops.report") / "report.css").read_text(encoding="utf-8")
    return Html(
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{text(title)}</title><style>{style}</style></head>\n"
        f"<body><header><h1>{heading}</h1></header><main>{joined(content)}</main></body></html>\n"
    )
