"""What is said where nothing is found of a call: its id may be a channel's name."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from agora_analytics.errors import AgoraError, BadRequest, NotFound
from agora_analytics.plans import CALL_LISTS
from agora_analytics.spans import Span

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient
    from agora_analytics.cli.output import Screen
    from agora_analytics.models import Call

_UNKNOWN: Final = "nothing is known of a call {} in {}"

_MARGIN: Final = 60
"""Seconds that the question keeps off the oldest moment that can be asked: time passes before it is sent."""


@asynccontextmanager
async def explained(
    client: AnalyticsClient, screen: Screen, call_id: str, span: Span, *, nothing: str = _UNKNOWN
) -> AsyncIterator[Callable[[int], None]]:
    """Look, where nothing is found of a call inside, whether its id is a channel's name; for one request.

    Yields what is to be told how much was found. Raises `ValueError` for a channel's name.
    """
    counts: list[int] = []
    try:
        yield counts.append
    except (BadRequest, NotFound):
        await _refuse_channel(client, call_id, span)
        raise
    if not sum(counts):
        await _refuse_channel(client, call_id, span)
        screen.warn(f"{nothing.format(repr(call_id), span)}: check the id, and --last, --start and --end")


async def _refuse_channel(client: AnalyticsClient, name: str, span: Span) -> None:
    call = await _newest_of(client, name, span)
    if call is not None:
        raise ValueError(
            f"{name!r} is a channel's name, not a call's id; its newest call there is {call.call_id}:"
            f" `agora-analytics calls search --cname {shlex.quote(name)}` lists them all"
        )


async def _newest_of(client: AnalyticsClient, cname: str, span: Span) -> Call | None:
    """Return the newest call of a channel up to the end of a span, from as much as one request carries."""
    limits = client.plan.of_endpoint(CALL_LISTS)
    kept = limits.askable(int(client.quota.utc()))
    end = min(span.end, kept.end)
    start = max(end - limits.longest_query, kept.start + _MARGIN)
    try:
        page = await client.calls.page(start, end, cname=cname, page_size=1)
    except (AgoraError, ValueError):
        return None  # what was found, or the first error, says enough
    return next(iter(page.items), None)
