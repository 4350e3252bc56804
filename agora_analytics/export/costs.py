"""Rules of an estimate: what calls cost in requests, and which of them expire before their turn. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import ceil

from agora_analytics._core import validation
from agora_analytics.spans import Span


def list_pages(counts: Iterable[float]) -> int:
    """Return the requests for lists of so many calls; an empty list costs one, too."""
    return sum(max(1, ceil(count / validation.PAGE_SIZE)) for count in counts)


def requests_per_call(size: float, *, sessions: bool, metrics: bool, breakdowns: int = 0) -> float:
    """Return the detail requests for a call of `size` sessions."""
    requests = float(breakdowns)
    if sessions:
        requests += max(1.0, ceil(size / validation.PAGE_SIZE))
    if metrics:
        requests += max(1.0, size / validation.SIDS)
    return requests


async def expiring(
    slices: Sequence[tuple[Span, float]],
    per_call: float,
    retention: int,
    done_at: Callable[[int], Awaitable[float]],
    *,
    worst: bool = False,
) -> list[tuple[Span, float]]:
    """Return the slices of which calls expire before their details are requested, each with the number of these calls.

    `slices` have the number of all calls, and `done_at` returns the second at which so many requests will be done. With
    the `worst` calls first, any of them may be last.
    """
    lost, before = [], 0.0
    for span, count in sorted(slices, key=lambda pair: pair[0].start):
        done = await done_at(max(1, ceil(before + count * per_call)))
        # With the worst first, nobody knows which calls are last: those of the oldest slice set the time.
        expiry = (slices[0][0] if worst else span).start + retention
        # Calls begin evenly in a slice: of one that is done too late, the older part expires.
        share = min(1.0, max(0.0, done - expiry) / span.duration)
        if count and share:
            lost.append((span, count * share))
        # What is lost costs no request, so that later calls have their turn sooner.
        before += count * per_call * (1 - share)
    return lost
