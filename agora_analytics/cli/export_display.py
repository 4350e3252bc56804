"""What `export` shows: its progress, an estimate, and the report at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final

import attrs

from agora_analytics.cli.formatting import format_count, format_duration, format_number, format_time
from agora_analytics.cli.output import Screen, StepRow
from agora_analytics.cli.tables import Table

if TYPE_CHECKING:
    from agora_analytics import ExportEstimate, ExportProgress, ExportReport, Skipped

_FIRST_LINE: Final = 5.0
_LINE_EVERY: Final = 60.0
"""Seconds until the first line of progress where there is no terminal, and between later ones."""

STOPPED: Final = "stopped: run the same command again to resume"

_UNITS: Final = ("B", "KB", "MB", "GB", "TB")
_THOUSAND: Final = 1_000


@contextmanager
def export_progress(screen: Screen) -> Iterator[tuple[Callable[[ExportProgress], None], Callable[[str], None]]]:
    """Yield a progress callback, and a function for notes beside it.

    Progress is JSON lines, a live table, or a line per minute where there is no terminal.
    """
    # The first line comes early: it shows that the export works.
    written = monotonic() - _LINE_EVERY + _FIRST_LINE

    def line(progress: ExportProgress) -> None:
        nonlocal written
        if monotonic() - written >= _LINE_EVERY:
            written = monotonic()
            screen.note(", ".join(f"{name}: {value}" for name, value in _stages(progress)))

    try:
        with screen.live_table() as view:
            if screen.json:
                yield lambda progress: screen.emit(StepRow("progress", progress)), screen.note
            elif view is None:
                yield line, screen.note
            else:
                yield lambda progress: view.table(Table("", ("stage", "now"), tuple(_stages(progress)))), view.notice
    except asyncio.CancelledError:
        screen.note(STOPPED)
        raise


def _stages(progress: ExportProgress) -> Iterator[tuple[str, str]]:
    """Yield the progress of each stage as name and value."""
    yield "requests made", format_number(progress.requests)
    yield "spans to read", format_number(progress.slices)
    yield "calls to fetch", format_number(progress.calls)
    yield from ((f"rows of {name}", format_number(count)) for name, count in progress.rows.items())
    yield "rows written", format_number(progress.written)
    if progress.left:
        yield (
            "requests left today",
            ", ".join(f"{name} {format_number(count)}" for name, count in progress.left.items()),
        )
    if progress.waiting:
        yield "waiting for quota", format_number(progress.waiting)
    if progress.early:
        yield "not queryable yet", format_number(progress.early)
    if progress.done_at is not None:
        yield "done at about", f"{progress.done_at:%Y-%m-%d %H:%M} UTC"


def show_estimate(screen: Screen, estimate: ExportEstimate) -> None:
    """Show what an export will take."""
    if screen.json:
        screen.emit(estimate)
        return
    about = "" if estimate.counted else "about "
    likely = " ({} to {})".format(*map(format_number, estimate.calls_range)) if estimate.calls_range else ""
    calls, spent = format_count(estimate.calls, "call"), format_count(estimate.spent, "request")
    screen.print(f"{about}{calls}{likely}; this estimate took {spent}")
    requests = tuple((counter, format_number(count)) for counter, count in estimate.requests.items())
    screen.show((), Table("requests", ("counter", ">requests"), requests, empty="none"))
    rows = tuple((one.dataset, format_number(one.rows), _size(one.bytes)) for one in estimate.estimates)
    if rows:
        screen.show((), Table("rows, about", ("dataset", ">rows", ">as JSON Lines"), rows))
    if estimate.done_at is not None:
        screen.print(f"done by {estimate.done_at:%Y-%m-%d %H:%M} UTC, if nothing else uses the quota")
    for skipped in estimate.expired:
        screen.print(f"skipped: {_describe(skipped)}")


def show_report(screen: Screen, report: ExportReport) -> None:
    """Show what a run has done, and what is left."""
    if screen.json:
        screen.emit(StepRow("report", attrs.asdict(report) | {"complete": report.complete}))
        return
    rows = tuple((name, format_number(count)) for name, count in report.rows.items())
    screen.show((), Table(f"in {report.to}", ("dataset", ">rows"), rows))
    screen.print(
        f"{format_count(report.requests, 'request')}, {format_count(report.parts, 'part')}, listed in manifest.json"
    )
    if report.unfinished:
        screen.print(f"still open: {format_count(report.unfinished, 'call')}; run it again when they have finished")
    if report.provisional:
        screen.print(f"provisional: {format_count(report.provisional, 'row')}; the next run fetches them again")
    if report.pending:
        screen.print(f"pending: {format_number(report.pending)} calls and spans; run it again")
    for skipped in report.skipped:
        screen.print(f"skipped: {_describe(skipped)}")


def _describe(skipped: Skipped) -> str:
    calls = "" if skipped.calls is None else f"{format_count(skipped.calls, 'call')}{_call_ids(skipped)}"
    rows = "" if skipped.rows is None else format_count(skipped.rows, "row")
    span = skipped.span
    when = "" if span is None else f"{format_duration(span.duration)} from {format_time(span.start)} UTC"
    again = "the next run tries again" if skipped.again else ""
    parts = (f"{skipped.what}: {skipped.reason}", calls, rows, when, skipped.app_id, again)
    return ", ".join(filter(None, parts))


def _call_ids(skipped: Skipped) -> str:
    """Return the ids of the calls that are left out, as far as they are listed."""
    if not skipped.call_ids:
        return ""
    more = ", …" if (skipped.calls or 0) > len(skipped.call_ids) else ""
    return f" ({', '.join(skipped.call_ids)}{more})"


def _size(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < _THOUSAND:
            return f"{count:,.0f} {unit}"
        count /= _THOUSAND
    return f"{count:,.1f} {_UNITS[-1]}"
