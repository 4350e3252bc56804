"""Samples lists of calls for an estimate: how many calls there are, and which share the filters let through.

The share is a sample of pages. Calls that freeze come in groups, because they share a bad network or hour, so that a
page says less than its 100 calls would one by one: the range is Wilson's for a proportion, of as many independent calls
as the differences between the pages leave (the design effect).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from math import ceil, floor, hypot, sqrt
from typing import Final

import attrs

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.errors import AgoraError
from agora_analytics.export.fetch.fetcher import RETENTION_MARGIN, RetentionExpired, RetryingFetcher
from agora_analytics.export.fetch.skip_reasons import may_be_own
from agora_analytics.export.fetch.sources import EndpointSet
from agora_analytics.export.selection import Selection, wants
from agora_analytics.models import Call, CallPage
from agora_analytics.plans import CALL_LISTS
from agora_analytics.spans import Span

_SAMPLED_PAGES: Final = 6
"""Requests for a list: slices whose totals are requested, and with filters further pages if there are fewer slices."""

_ATTEMPTS: Final = 3
"""Requests for one page, if the clock proves to be wrong."""

_QUANTILE: Final = 2.57
"""Of 95 % confidence, where the spread is measured on six pages (Student's t with five degrees of freedom)."""


@attrs.frozen
class ListSample:
    """A sampled list of calls.

    Attributes:
        slices: the number of calls by slice.
        counted: whether these numbers are the service's own, and no filter applies.
        calls: the calls of the sampled pages that the filters let through; all of them if they let none through.
        share: the share of calls that the filters let through.
        bounds: the least and the most calls that the filters may let through; both are the number of these calls if all
            were read; None if unknown.

    """

    slices: Sequence[tuple[Span, float]]
    counted: bool
    calls: Sequence[Call]
    share: float
    bounds: tuple[float, float] | None

    @property
    def total(self) -> float:
        """The calls of all slices."""
        return sum(count for _, count in self.slices)

    @property
    def wanted(self) -> list[tuple[Span, float]]:
        """The calls that the filters are expected to let through, by slice."""
        return [(span, count * self.share) for span, count in self.slices]


@attrs.define
class SliceSample:
    """What is known of a slice: its total, and the calls of each page that was read."""

    total: float
    pages: dict[int, Sequence[Call]] = attrs.field(factory=dict)

    @property
    def calls(self) -> list[Call]:
        """The calls of all pages."""
        return [call for page in self.pages.values() for call in page]

    def add(self, number: int, page: CallPage) -> None:
        """Add the calls of a page that no earlier page had: rows move if others arrive."""
        known = {call.call_id for call in self.calls}
        self.pages[number] = [call for call in page.items if call.call_id not in known]


class ListSampler:
    """Samples the lists of App IDs."""

    def __init__(self, dispatcher: Dispatcher, fetcher: RetryingFetcher, selection: Selection) -> None:
        self._dispatcher = dispatcher
        self._fetcher = fetcher
        self._selection = selection
        self._filters = selection.finished or selection.min_freeze_rate is not None
        self._channel = selection.channels[0] if selection.channels else None

    async def sample(self, endpoints: EndpointSet, spans: Sequence[Span]) -> ListSample:
        """Request a few slices of a list, evenly spread; with filters, up to six whole pages of them."""
        steps = range(_SAMPLED_PAGES) if spans else ()
        places = sorted({round(step * (len(spans) - 1) / (_SAMPLED_PAGES - 1)) for step in steps})
        sampled, exact = await self._first_pages(endpoints, spans, places)
        if self._filters and exact:
            await self._further_pages(endpoints, spans, sampled)
        density = sum(one.total for one in sampled.values()) / max(1, sum(spans[at].duration for at in sampled))
        channels = max(1, len(self._selection.channels))
        totals = {at: one.total for at, one in sampled.items()}
        counts = [(span, totals.get(at, density * span.duration) * channels) for at, span in enumerate(spans)]
        calls = [call for one in sampled.values() for call in one.calls]
        wanted = [call for call in calls if wants(self._selection, call)]
        total = sum(count for _, count in counts)
        share = self._share(list(sampled.values()), whole=exact and len(calls) >= total)
        bounds = self._bounds(list(sampled.values()), total) if self._filters and exact and channels == 1 else None
        counted = exact and len(places) == len(spans) and channels == 1 and not self._filters
        return ListSample(counts, counted, wanted or calls, share, bounds)

    async def _first_pages(
        self, endpoints: EndpointSet, spans: Sequence[Span], places: Sequence[int]
    ) -> tuple[dict[int, SliceSample], bool]:
        """Return the totals and first pages of slices, and whether the service reports totals."""
        sampled: dict[int, SliceSample] = {}
        exact = True
        for place in places:
            whole = self._filters or place == places[len(places) // 2]
            # One row, because only the total is needed; the request costs the same, and the answer is small.
            size = validation.PAGE_SIZE if whole or not exact else 1
            page = await self._page(endpoints, spans[place], size)
            if page.total_size is None and exact:
                # Without totals a page shows no more than its own rows: request whole pages from here on.
                exact = False
                if size == 1:
                    page = await self._page(endpoints, spans[place], validation.PAGE_SIZE)
            sampled[place] = SliceSample(len(page.items) if page.total_size is None else page.total_size)
            if whole:
                sampled[place].add(1, page)
        return sampled, exact

    async def _further_pages(
        self, endpoints: EndpointSet, spans: Sequence[Span], sampled: dict[int, SliceSample]
    ) -> None:
        """Request further pages of the same slices, evenly spread, until six are read."""
        pages = {at: ceil(one.total / validation.PAGE_SIZE) for at, one in sampled.items()}
        unread = [(at, number) for at, last in pages.items() for number in range(2, last + 1)]
        count = min(_SAMPLED_PAGES - len(sampled), len(unread))
        # The middle of each of `count` equal parts.
        for at, number in [unread[(2 * step + 1) * len(unread) // (2 * count)] for step in range(count)]:
            try:
                sampled[at].add(number, await self._page(endpoints, spans[at], validation.PAGE_SIZE, number))
            except AgoraError as error:
                # A service may refuse pages far down a list: those that were read are enough.
                if not may_be_own(error):
                    raise

    async def _page(self, endpoints: EndpointSet, span: Span, size: int, number: int = 1) -> CallPage:
        """Return a page of the part of a span that is kept; retries if only the answer corrects the clock."""
        for _ in range(_ATTEMPTS):
            with suppress(RetentionExpired):
                return await self._fetcher(
                    lambda: endpoints.calls.page(
                        *self._kept_part(span), cname=self._channel, page_no=number, page_size=size
                    )
                )
        return CallPage(calls=(), total_size=0)

    def _kept_part(self, span: Span) -> Span:
        kept = self._dispatcher.plan.of_endpoint(CALL_LISTS).queryable(self._dispatcher.time.utc_second())
        end = max(min(span.end, kept.end), span.start + 1)
        return Span(min(max(span.start, kept.start + RETENTION_MARGIN), end - 1), end)

    # Shares

    def _passing(self, calls: Sequence[Call]) -> int:
        return sum(wants(self._selection, call) for call in calls)

    def _share(self, sampled: Sequence[SliceSample], *, whole: bool) -> float:
        """Return the share of calls that the filters let through, weighted by the calls of each slice."""
        read = [(one, one.calls) for one in sampled if one.calls]
        if not self._filters or not read:
            return 1.0
        passing = sum(one.total * self._passing(calls) / len(calls) for one, calls in read)
        # None in a sample does not prove that there are none.
        least = 0.0 if whole else 0.5 / sum(len(calls) for _, calls in read)
        return max(passing / sum(one.total for one, _ in read), least)

    def _bounds(self, sampled: Sequence[SliceSample], total: float) -> tuple[float, float] | None:
        """Return the least and the most calls that the filters may let through; None if no call was read."""
        pages = [(len(page), self._passing(page)) for one in sampled for page in one.pages.values() if page]
        read, passing = (sum(column) for column in zip(*pages, strict=True)) if pages else (0, 0)
        if read >= total:
            return float(passing), float(passing)
        if not read:
            return None
        # Fewer are left to chance, the more of all calls were read.
        independent = read / design_effect(pages) * max(1.0, total - 1) / (total - read)
        low, high = wilson(self._share(sampled, whole=True), independent)
        return max(low * total, passing), min(high * total, total - (read - passing))


def design_effect(pages: Sequence[tuple[int, int]]) -> float:
    """Return how many calls of such pages say as much as one independent call; pages are calls and how many pass."""
    read, passing = sum(size for size, _ in pages), sum(count for _, count in pages)
    if len(pages) < 2 or passing in (0, read):  # noqa: PLR2004 - one page shows no differences
        return 1.0
    share = passing / read
    between = sum(size * (count / size - share) ** 2 for size, count in pages) / (len(pages) - 1)
    return max(1.0, between / (share * (1 - share)))


def wilson(share: float, count: float) -> tuple[float, float]:
    """Return Wilson's confidence interval of a proportion that was seen in `count` independent cases."""
    square = _QUANTILE**2 / count
    half = _QUANTILE * sqrt((share * (1 - share) + square / 4) / count)
    return (share + square / 2 - half) / (1 + square), (share + square / 2 + half) / (1 + square)


def calls_range(samples: Sequence[ListSample]) -> tuple[int, int] | None:
    """Return the range of the calls of all lists together; None if it is unknown, or if all calls were read."""
    bounds = [sample.bounds for sample in samples if sample.bounds is not None]
    if len(bounds) < len(samples) or all(low == high for low, high in bounds):
        return None
    means = [sample.total * sample.share for sample in samples]
    # The lists are independent, so that their errors partly cancel out.
    below = hypot(*(mean - low for mean, (low, _) in zip(means, bounds, strict=True)))
    above = hypot(*(high - mean for mean, (_, high) in zip(means, bounds, strict=True)))
    return max(0, floor(sum(means) - below)), ceil(sum(means) + above)
