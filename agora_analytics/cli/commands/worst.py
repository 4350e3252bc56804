"""`agora-analytics calls worst`: the calls that were in use at a moment, worst first, for one request."""

from __future__ import annotations

from typing import Annotated

import typer

from agora_analytics.cli import tables
from agora_analytics.cli.formatting import format_count, format_time
from agora_analytics.cli.options import CredentialOptions, ListOptions, NameOptions, command
from agora_analytics.cli.parsing import completion, parse_time
from agora_analytics.ops import alerts
from agora_analytics.spans import WINDOW, Span

_DEFAULT_LIMIT = 10


@command
async def worst(
    credentials: CredentialOptions,
    output: ListOptions,
    names: NameOptions,
    *,
    at: Annotated[
        str | None,
        typer.Option(
            help="Moment: ISO 8601 with a zone or Z, or seconds since 1970 (default: the newest).", show_default=False
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Sort by videoFreezeRate or audioFreezeRate (default: the higher one).",
            autocompletion=completion("quality"),
            show_default=False,
        ),
    ] = None,
    cname: Annotated[str | None, typer.Option(help="Only calls of this channel.")] = None,
) -> None:
    """List the worst calls of a moment: those in use then that have frozen, by freeze rate x peak of users.

    Takes one request, which covers the newest 100 calls that began before that moment.

    Example: agora-analytics calls worst --limit 5
    """
    names.check("--metric", metric, "quality")
    async with credentials.client(output.screen) as client:
        # The window of that moment, as `watch` shows it.
        window = parse_time(at, "--at") // WINDOW * WINDOW if at else None
        span = None if window is None else Span(window, window + WINDOW)
        found = await alerts.calls_in_use(client, span, metric=metric or "", cname=cname)
        shown = found.calls[: output.max_rows(_DEFAULT_LIMIT)]
        title = f"worst calls at {format_time(found.span.start)} UTC"
        output.screen.show(shown, tables.calls(shown, title, impact=True))
        count = f"{format_count(len(found.calls), 'call')} in use then had frozen"
        output.screen.note("; ".join(filter(None, (count, found.note))))
