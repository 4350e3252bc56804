"""`agora-analytics export`: everything the plan keeps, as files; `--dry-run` says first what it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
import typer

import agora_analytics as agora
from agora_analytics.catalogue import MetricId
from agora_analytics.cli.formatting import clock, lasting, number
from agora_analytics.cli.options import Account, Shown, When, command
from agora_analytics.cli.output import Screen, Step
from agora_analytics.cli.parsing import listed, mids_of, series_of, suggest
from agora_analytics.cli.runner import FAILED
from agora_analytics.cli.tables import Table
from agora_analytics.export import DATASETS, formats
from agora_analytics.export.sinks import check_place
from agora_analytics.plans import CALL_LISTS, INSIGHT_USAGE, PLANS, REALTIME_USAGE, Endpoint
from agora_analytics.spans import Span

if TYPE_CHECKING:
    from agora_analytics import ExportEstimate, ExportProgress, ExportReport, Insight, Selection, Skipped

_PANEL: Final = "What"
_FIRST: Final = 5.0
_QUIET: Final = 60.0
"""Seconds until the first line about progress where there is no terminal, and between two."""

_PLAN_HINT: Final = "--plan names the pricing plan; --dry-run only says what an export will take"

_UNITS: Final = ("B", "KB", "MB", "GB", "TB")
_THOUSAND: Final = 1_000


def _option(text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=_PANEL, show_default=False, **more)


@attrs.frozen(kw_only=True)
class What:
    """Which rows."""

    datasets: Annotated[str, _option(f"With commas between: {', '.join(DATASETS)} (default: calls).")] = "calls"
    apps: Annotated[str, _option("App IDs, with commas between (default: the account's).")] = ""
    channels: Annotated[str, _option("Only calls of these channels, with commas between.")] = ""
    min_freeze_rate: Annotated[
        float | None, _option("Only calls whose audio or video froze more: 0.05 is 5 %.", min=0, max=1)
    ] = None
    finished: Annotated[bool, _option("Only calls that are over.", "--finished")] = False
    mids: Annotated[str, _option("Only these metric ids, by number or name.", autocompletion=suggest(MetricId))] = ""
    statistics: Annotated[
        str, _option("METRIC:DIMENSION, with commas between (default: both freeze rates by country and by SDK).")
    ] = ""
    insights: Annotated[
        str, _option("METRIC[:PRODUCT[:1h or a dimension]], with commas between; usage has no product: userCount::1h.")
    ] = ""
    series: Annotated[str, _option("Of real-time windows: METRIC:PRODUCT, with commas between.")] = ""

    def selection(self, span: Span) -> Selection:
        """Return the selection; raises `ValueError` for what cannot be asked."""
        return agora.Selection(
            *span,
            datasets=listed(self.datasets),
            apps=listed(self.apps),
            channels=listed(self.channels),
            min_freeze_rate=self.min_freeze_rate,
            finished=self.finished,
            mids=mids_of(self.mids),
            statistics=tuple(agora.Breakdown(*_pair(one, "--statistics")) for one in listed(self.statistics)),
            insights=tuple(map(_insight, listed(self.insights))),
            series=tuple(map(series_of, listed(self.series))),
        )

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that decides how far back `--last` may go."""
        names = listed(self.datasets)
        if all(name == "realtime" for name in names):
            return REALTIME_USAGE
        return INSIGHT_USAGE if all(name in {"insights", "realtime"} for name in names) else CALL_LISTS


@command
async def export(
    account: Account,
    shown: Shown,
    when: When,
    what: What,
    *,
    to: Annotated[
        str | None, typer.Argument(help="A folder, or a URL that fsspec knows, like s3://bucket/folder.")
    ] = None,
    format: Annotated[  # noqa: A002 - the word for it
        str, typer.Option(help=f"{', '.join(formats.NAMES)}.", autocompletion=lambda: list(formats.NAMES))
    ] = "parquet",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it will take, for a handful of requests.")
    ] = False,
    worst: Annotated[bool, typer.Option("--worst", help="Details of the worst calls first, not the oldest.")] = False,
    min_users: Annotated[int, typer.Option(help="No details of calls with fewer users at once.", min=0)] = 0,
    max_requests: Annotated[int | None, typer.Option(help="End after so many requests.", min=1)] = None,
    concurrency: Annotated[int, typer.Option(help="Requests at a time.", min=1, max=1_000)] = 16,
    state: Annotated[str | None, typer.Option(help="Folder for this machine's copy of a URL's state.")] = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Go on with the files that are there; a lost state is made of manifest.json."),
    ] = False,
) -> None:
    """Export to files; stopped by whatever, run again, it goes on. Example: agora-analytics export data --last 7d.

    Ends with 0 only if every row that was asked for is there, with 1 if any is left out: expired, refused, gone.
    """
    if account.plan and account.plan.lower() not in PLANS:
        raise ValueError(f"{_PLAN_HINT}: --plan={account.plan!r}, allowed are {', '.join(PLANS)}")
    if to is None and not dry_run:
        raise ValueError("TO is missing: give a folder or a URL, or only --dry-run")
    _check_target(format, to)
    who = attrs.evolve(account, app_id=account.app_id or next(iter(listed(what.apps)), None))
    settings = who.settings().complete()  # once: the secret may come from standard input
    order: Any = "worst" if worst else "oldest"
    async with who.client(shown.screen, settings) as client:
        kept = client.plan.of_endpoint(what.endpoint).available
        selection = what.selection(await when.span(client, what.endpoint, kept, uncut=True))
        if to is None or dry_run:
            _show_plan(shown.screen, await client.export.estimate(selection, order=order, max_requests=max_requests))
            return
        with _watching(shown.screen) as on_progress:
            report = await client.export.run(
                selection,
                to,
                format=format,
                order=order,
                min_users=min_users,
                max_requests=max_requests,
                concurrency=concurrency,
                state=state,
                rebuild=rebuild,
                on_progress=on_progress,
            )
        _show_report(shown.screen, report)
    if not report.complete:
        raise typer.Exit(FAILED)


def _check_target(format: str, to: str | None) -> None:  # noqa: A002 - the word for it
    """Raise `ValueError` for what would end the export once it is planned: it needs what is not installed."""
    formats.check(format)
    if to is not None:
        check_place(to)


@contextmanager
def _watching(screen: Screen) -> Iterator[Callable[[ExportProgress], None]]:
    """Show how far it is: JSON lines, a table that moves, or a line a minute; and how to go on if it is stopped."""
    said = time.monotonic() - _QUIET + _FIRST

    def line(progress: ExportProgress) -> None:
        nonlocal said
        if time.monotonic() - said >= _QUIET:
            said = time.monotonic()
            screen.note(", ".join(f"{what} {how}" for what, how in _stages(progress)))

    try:
        with screen.board() as draw:
            if screen.json:
                yield lambda progress: screen.emit(Step("progress", progress))
            elif draw is None:
                yield line
            else:
                yield lambda progress: draw(Table("", ("stage", "now"), tuple(_stages(progress))))
    except asyncio.CancelledError:
        screen.note("stopped: the same command goes on where it was")
        raise


def _stages(progress: ExportProgress) -> Iterator[tuple[str, str]]:
    """Yield what is told of a run, stage by stage."""
    yield "requests made", number(progress.requests)
    yield "spans to read", number(progress.slices)
    yield "calls to look into", number(progress.calls)
    yield from ((f"rows of {name}", number(count)) for name, count in progress.rows.items())
    yield "rows written", number(progress.written)
    if progress.left:
        yield "requests left today", ", ".join(f"{name} {number(count)}" for name, count in progress.left.items())
    if progress.waiting:
        yield "waiting for quota", number(progress.waiting)
    if progress.early:
        yield "waiting for what the service has later", number(progress.early)
    if progress.done_at is not None:
        yield "done by, about", f"{progress.done_at:%Y-%m-%d %H:%M} UTC"


def _show_plan(screen: Screen, plan: ExportEstimate) -> None:
    if screen.json:
        screen.emit(plan)
        return
    about = "" if plan.counted else "about "
    screen.say(f"{about}{_many(plan.calls, 'call')}; found out with {_many(plan.spent, 'request')}")
    requests = tuple((counter, number(count)) for counter, count in plan.requests.items())
    screen.show((), Table("requests", ("counter", ">requests"), requests, empty="none"))
    rows = tuple((one.dataset, number(one.rows), _size(one.bytes)) for one in plan.estimates)
    if rows:
        screen.show((), Table("rows, about", ("dataset", ">rows", ">as JSON Lines"), rows))
    if plan.done_at is not None:
        screen.say(f"done by {plan.done_at:%Y-%m-%d %H:%M} UTC, if nobody else spends")
    for one in plan.expired:
        screen.say(f"cannot be had: {_told(one)}")


def _show_report(screen: Screen, report: ExportReport) -> None:
    if screen.json:
        screen.emit(Step("report", attrs.asdict(report) | {"complete": report.complete}))
        return
    rows = tuple((name, number(count)) for name, count in report.rows.items())
    screen.show((), Table(f"in {report.to}", ("dataset", ">rows"), rows))
    screen.say(f"{_many(report.requests, 'request')}, {_many(report.parts, 'part')}, listed in manifest.json")
    if report.unfinished:
        screen.say(f"{number(report.unfinished)} calls go on: run it again when they are over")
    if report.provisional:
        screen.say(f"{number(report.provisional)} rows are provisional: the next run fetches them again")
    if report.pending:
        screen.say(f"not asked for yet: {number(report.pending)} calls and spans; run it again")
    for one in report.skipped:
        screen.say(f"left out: {_told(one)}")


def _told(one: Skipped) -> str:
    calls = "" if one.calls is None else f"{number(one.calls)} calls{_names(one)}"
    rows = "" if one.rows is None else f"{number(one.rows)} rows"
    when = "" if one.span is None else f"{clock(one.span.start)} and {lasting(one.span.duration)} on"
    again = "the next run asks again" if one.again else ""
    return ", ".join(filter(None, (f"{one.what}: {one.reason}", calls, rows, when, one.app_id, again)))


def _names(one: Skipped) -> str:
    """Return which calls are left out, as far as they are named."""
    if not one.call_ids:
        return ""
    more = ", …" if (one.calls or 0) > len(one.call_ids) else ""
    return f" ({', '.join(one.call_ids)}{more})"


def _many(count: int, what: str) -> str:
    return f"{number(count)} {what}{'' if count == 1 else 's'}"


def _size(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < _THOUSAND:
            return f"{count:,.0f} {unit}"
        count /= _THOUSAND
    return f"{count:,.1f} {_UNITS[-1]}"


def _pair(text: str, option: str) -> tuple[str, str]:
    first, colon, second = text.partition(":")
    if not (first and colon and second):
        raise ValueError(f"{option}={text!r}: allowed is METRIC:DIMENSION, like audio_freeze_rate:country")
    return first, second


def _insight(text: str) -> Insight:
    metric, product, by = (*text.split(":", 2), "", "")[:3]
    over_time = not by or by[0].isdecimal()
    return agora.Insight(
        metric,
        product=product or None,
        granularity=by if by and over_time else "1d",
        dimension=None if over_time else by,
    )
