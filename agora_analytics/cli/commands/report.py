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
from agora_analytics.cli.runner import FAILED
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
    time that the call lies in. Exit code: 1 if requests of a live report failed; it is written with the rest.

    Example: agora-analytics report --call CALL_ID --last 4h
    """
    screen = output.screen
    # A call from the API alone needs no DuckDB; everything else reads an export, if only one in a temporary folder.
    if folder is not None or call is None:
        require_queries()
    # Before anything is paid for.
    await asyncio.to_thread(check_writable, to)
    from agora_analytics.ops import report as reports  # noqa: PLC0415 - loads the client, which help does not need

    missing: list[str] = []
    if folder is not None:
        page = await asyncio.to_thread(_from_export, reports, folder, call, time)
    else:
        page, missing = await _live(reports, credentials, screen, call=call, time=time, max_requests=max_requests)
    await asyncio.to_thread(write_atomically, to, page)
    screen.show([{"report": str(to), "bytes": len(page.encode())}])
    if not screen.json:
        screen.print(f"written to {to}")
    for part in missing:
        screen.warn(f"missing: {part}")
    if missing:
        raise typer.Exit(FAILED)


async def _live(
    reports: Any,
    credentials: CredentialOptions,
    screen: Screen,
    *,
    call: str | None,
    time: TimeOptions,
    max_requests: int,
) -> tuple[str, list[str]]:
    """Return a live report, and the parts that it lacks."""
    if call is None and (time.last or time.start or time.end):
        raise ValueError("--last, --start and --end are for a call: a live week is the newest 7 days")
    missing: list[str] = []
    async with credentials.client(screen) as client:
        span = None if call is None else await time.span(client, CALL_SESSIONS)
        if span is None:
            screen.note("an estimate of the price takes at most 12 requests")
        with screen.progress("report") as advance:
            options: Any = {
                "max_requests": max_requests,
                "on_price": lambda price: _say(screen, price, max_requests),
                "on_progress": lambda done: advance(done, format_count(done, "request")),
                "on_missing": missing.append,
            }
            if span is None:
                return await reports.live_week(client, **options), missing
            return await reports.live_call(client, call, Span(int(span.start), int(span.end)), **options), missing


def _from_export(reports: Any, folder: Path, call: str | None, time: TimeOptions) -> str:
    if time.last or time.start or time.end:
        raise ValueError("--last, --start and --end are for a live call: the report of an export is its newest week")
    found: str = reports.week(folder) if call is None else reports.call(folder, call)
    return found


def _say(screen: Screen, price: int, most: int) -> None:
    screen.note(f"the report takes about {format_count(price, 'request')}; --max-requests allows {most}")
