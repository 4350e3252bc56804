"""Pages of lists: which rows one shows, and what it says of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from agora_analytics.simulator.service.context import Case, Document
from agora_analytics.simulator.service.error_responses import invalid
from agora_analytics.simulator.service.params import Page
from agora_analytics.simulator.service.variants import Quirks

_Row = TypeVar("_Row")


def shown(case: Case, rows: Sequence[_Row], page: Page) -> tuple[Sequence[_Row], Document]:
    """Return the rows of a page, and what it says of pages; raises `Refused` where the page lies too deep."""
    quirks = case.quirks
    arrived = _arrived(quirks, page)
    first = (_turned(quirks, page) - 1) * page.size
    most = len(rows) + arrived if quirks.most_rows is None else quirks.most_rows
    if quirks.most_rows is not None and first >= most:
        if quirks.beyond == "refused":
            raise invalid(f"page_no * page_size must not be above {most}")
        first = max(most - page.size, 0) if quirks.beyond == "repeated" else most
    last = min(first + page.size, most)
    found = rows[max(first - arrived, 0) : max(last - arrived, 0)]
    return found, _said(quirks, page, len(rows) + arrived)


def _turned(quirks: Quirks, page: Page) -> int:
    """Return the number of the page that is shown where another is asked for."""
    return {"right": page.number, "never": 1, "alternating": 2 - page.number % 2}[quirks.turning]


def _arrived(quirks: Quirks, page: Page) -> int:
    """Return how many new rows have come before the others since the first page."""
    pages = page.number - 1
    return quirks.arriving * (pages if quirks.arriving_pages is None else min(pages, quirks.arriving_pages))


def _said(quirks: Quirks, page: Page, total: int) -> Document:
    document: Document = {}
    if quirks.totals:
        document |= {"total_size": max(total + quirks.total_off, 0), "page_no": page.number, "page_size": page.size}
    if quirks.has_more:
        most = total if quirks.most_rows is None else quirks.most_rows
        told = min(most, total) if quirks.beyond == "ended" else total
        document["has_more"] = quirks.always_more or min(page.number * page.size, most) < told
    return document
