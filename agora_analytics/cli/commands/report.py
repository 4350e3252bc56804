"""`agora-analytics report`: an HTML report of a week or of one call, from an export or live."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora_analytics._core.files import check_writable, write_atomically
from agora_analytics.cli.commands.sql import require_queries
from agora_analytics.cli.formatting import format_count
from agora_analytics.cli.options import CredentialOptions, OutputOptions, TimeOptions, command, option
from agora_analytics.plans import CALL_SESSIONS
from agora_analytics.spans import Span

if TYPE_CHECKING:
    from agora_analytics.cli.output import Screen


@command
async def report(
    credentials: CredentialOptions,
    output: OutputOptions,
    time: TimeOptions,
    *,
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="An export to report on; without it the report is live.")
    ] = None,
    call: Annotated[str | None, option("Report on this call, by its id, instead of a week.")] = None,
    to: Annotated[Path, option("The HTML file to write (default: report.html).")] = Path("report.html"),
    max_requests: Annotated[
        int, option("Refuse a live report that takes more requests than this (default: 50).", min=1)
    ] = 50,
) -> None:
    """Write a report of a week, or of one call, as one HTML file that loads nothing.

    From an export (FOLDER) it sends no request. A live report says first how many it takes; that of a call needs a
    time that the call lies in.

    Example: agora-analytics report --call CALL_ID --last 4h
    """
    screen = output.screen
    # A call from the API alone needs no DuckDB; everything else reads an export, if only one in a temporary folder.
    if folder is not None or call is None:
        require_queries()
    # Before anything is paid for.
    await asyncio.to_thread(check_writable, to)
    from agora_analytics.ops import report as reports  # noqa: PLC0415 - loads the client, which help does not need

    if folder is not None:
        page = await asyncio.to_thread(_from_export, reports, folder, call, time)
    else:
        async with credentials.client(screen) as client:
            limits: Any = {"max_requests": max_requests, "on_price": lambda price: _say(screen, price, max_requests)}
            if call is None:
                if time.last or time.start or time.end:
                    raise ValueError("--last, --start and --end are for a call: a live week is the newest 7 days")
                screen.note("an estimate of the price takes at most 12 requests")
                page = await reports.live_week(client, **limits)
            else:
                span = await time.span(client, CALL_SESSIONS)
                page = await reports.live_call(client, call, Span(int(span.start), int(span.end)), **limits)
    await asyncio.to_thread(write_atomically, to, page)
    screen.show([{"report": str(to), "bytes": len(page.encode())}])
    if not screen.json:
        screen.print(f"written to {to}")


def _from_export(reports: Any, folder: Path, call: str | None, time: TimeOptions) -> str:
    if time.last or time.start or time.end:
        raise ValueError("--last, --start and --end are for a live call: the report of an export is its newest week")
    found: str = reports.week(folder) if call is None else reports.call(folder, call)
    return found


def _say(screen: Screen, price: int, most: int) -> None:
    screen.note(f"the report takes about {format_count(price, 'request')}; --max-requests allows {most}")
