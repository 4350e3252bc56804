"""`agora-analytics export`: data as files; `--dry-run` estimates what an export takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
import typer

import agora_analytics as agora
from agora_analytics._core.extras import MissingExtraError
from agora_analytics.cli.formatting import format_count, format_duration, format_number, format_time
from agora_analytics.cli.options import (
    CredentialOptions,
    NameOptions,
    OutputOptions,
    TimeOptions,
    command,
    freeze_rate_option,
    option,
)
from agora_analytics.cli.output import Screen, StepRow
from agora_analytics.cli.parsing import (
    check_choice,
    check_plan,
    completion_of,
    list_completion,
    names_of,
    pairs_of,
    parse_mids,
    parse_series,
    series_names,
    split_list,
)
from agora_analytics.cli.runner import FAILED
from agora_analytics.cli.tables import Table
from agora_analytics.export import DATASETS, formats
from agora_analytics.export.sinks import check_place
from agora_analytics.plans import CALL_LISTS, INSIGHT_USAGE, REALTIME_USAGE, Endpoint

if TYPE_CHECKING:
    from agora_analytics import (
        AnalyticsClient,
        Breakdown,
        ExportEstimate,
        ExportProgress,
        ExportReport,
        Insight,
        Selection,
        Series,
        Skipped,
    )
    from agora_analytics.cli.settings import AccountSettings

_PANEL: Final = "Data"
_FIRST_LINE: Final = 5.0
_LINE_EVERY: Final = 60.0
"""Seconds until the first line of progress where there is no terminal, and between later ones."""

# Other tools preview with `--plan`: an error names the option for that.
_PLAN_HINT: Final = "--plan names the pricing plan; --dry-run estimates what an export takes"

_UNITS: Final = ("B", "KB", "MB", "GB", "TB")
_THOUSAND: Final = 1_000


@attrs.frozen(kw_only=True)
class SelectionOptions:
    """Which data to export."""

    datasets: Annotated[
        str,
        option(
            f"Datasets, separated by commas: {', '.join(DATASETS)} (default: calls).",
            _PANEL,
            autocompletion=list_completion(DATASETS),
        ),
    ] = "calls"
    apps: Annotated[str, option("App IDs, separated by commas (default: the account's).", _PANEL)] = ""
    channels: Annotated[str, option("Only calls of these channels, separated by commas.", _PANEL)] = ""
    min_freeze_rate: Annotated[float | None, freeze_rate_option(_PANEL)] = None
    finished: Annotated[bool, option("Only finished calls.", _PANEL, "--finished")] = False
    mids: Annotated[
        str,
        option(
            "Only these metric ids, by number or name, separated by commas.",
            _PANEL,
            autocompletion=list_completion(names_of("metric_id")),
        ),
    ] = ""
    statistics: Annotated[
        str,
        option(
            "METRIC:DIMENSION, separated by commas (default: both freeze rates by country and by SDK).",
            _PANEL,
            autocompletion=list_completion(pairs_of(("freeze",), "dimension")),
        ),
    ] = ""
    insights: Annotated[
        str,
        option(
            "METRIC[:PRODUCT[:BY]], separated by commas; BY is a granularity or a dimension. Usage has no product:"
            " userCount::1h.",
            _PANEL,
            autocompletion=list_completion(names_of("usage", "quality")),
        ),
    ] = ""
    series: Annotated[
        str,
        option(
            "Real-time series, METRIC:PRODUCT, separated by commas.",
            _PANEL,
            autocompletion=list_completion(series_names()),
        ),
    ] = ""

    def check_names(self, names: NameOptions) -> None:
        """Raise `ValueError` for metrics, products and dimensions outside the catalogue."""
        for name in split_list(self.datasets):
            check_choice("--datasets", name, DATASETS)
        for breakdown in self._breakdowns():
            names.check("--statistics", breakdown.metric, "freeze")
            names.check("--statistics", breakdown.dimension, "dimension")
        for insight in map(_insight, split_list(self.insights)):
            names.check("--insights", insight.metric, "usage", "quality")
            names.check("--insights", insight.product, "product")
            kinds = ("dimension", "granularity")
            names.check("--insights", insight.dimension, *kinds)
            names.check("--insights", insight.granularity, *kinds)
        for series in self._series():
            names.check_series("--series", series.metric, series.product)

    def complete(self, credentials: CredentialOptions) -> tuple[CredentialOptions, AccountSettings]:
        """Return the credentials and their settings, with the first of `--apps` if no App ID is set.

        The settings are read once: the secret may come from standard input.
        """
        app_id = credentials.app_id or next(iter(split_list(self.apps)), None)
        credentials = attrs.evolve(credentials, app_id=app_id)
        return credentials, credentials.settings().complete()

    async def selection(self, client: AnalyticsClient, time: TimeOptions) -> Selection:
        """Return the selection; without a time it is all that the plan keeps.

        Raises `ValueError` for options that contradict each other.
        """
        kept = client.plan.of_endpoint(self.endpoint).retention
        # Uncut, since the service decides what it still has: the export reports the rest as expired.
        span = await time.span(client, self.endpoint, kept, uncut=True)
        return agora.Selection(
            *span,
            datasets=split_list(self.datasets),
            apps=split_list(self.apps),
            channels=split_list(self.channels),
            min_freeze_rate=self.min_freeze_rate,
            finished=self.finished,
            mids=parse_mids(self.mids),
            statistics=self._breakdowns(),
            insights=tuple(map(_insight, split_list(self.insights))),
            series=self._series(),
        )

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint whose retention bounds `--last`."""
        names = split_list(self.datasets)
        # Of several datasets calls decide, then insights; what another one no longer has is reported as expired.
        if all(name == "realtime" for name in names):
            return REALTIME_USAGE
        return INSIGHT_USAGE if all(name in {"insights", "realtime"} for name in names) else CALL_LISTS

    def _series(self) -> tuple[Series, ...]:
        return tuple(parse_series("--series", text) for text in split_list(self.series))

    def _breakdowns(self) -> tuple[Breakdown, ...]:
        return tuple(agora.Breakdown(*_pair(text, "--statistics")) for text in split_list(self.statistics))


@command
async def export(
    credentials: CredentialOptions,
    output: OutputOptions,
    time: TimeOptions,
    selected: SelectionOptions,
    names: NameOptions,
    *,
    to: Annotated[
        str | None,
        typer.Argument(metavar="TO", help="A folder, or a URL that fsspec supports, like s3://bucket/folder."),
    ] = None,
    format: Annotated[  # noqa: A002 - the name of the option
        str, typer.Option(help=f"File format: {', '.join(formats.NAMES)}.", autocompletion=completion_of(formats.NAMES))
    ] = "parquet",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Estimate requests, rows and sizes, for a few requests; write nothing."),
    ] = False,
    worst: Annotated[
        bool, typer.Option("--worst", help="Fetch details of the worst calls first, instead of the oldest.")
    ] = False,
    min_users: Annotated[int, typer.Option(help="Skip details of calls with a lower peak of users.", min=0)] = 0,
    max_requests: Annotated[int | None, typer.Option(help="Stop after so many requests; 0: only write.", min=0)] = None,
    concurrency: Annotated[int, typer.Option(help="Concurrent requests.", min=1, max=1_000)] = 16,
    state: Annotated[
        str | None, typer.Option(help="Local folder for the state of an export to a URL.", show_default=False)
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Continue with the files that are there: accept missing or changed ones, and rebuild a lost state"
            " from manifest.json.",
        ),
    ] = False,
) -> None:
    """Export data to files. Run the same command again to resume after any interruption.

    Exit code: 0 if all selected rows are exported, 1 if some are skipped (expired, refused) or pending.
    --dry-run exits with 0, and lists what has expired already.

    Example: agora-analytics export data --last 1d --format csv
    """
    # Mostly options that are passed on: longer than 25 lines for that.
    try:
        _check_options(credentials.plan, format, to, dry_run=dry_run)
    # An estimate writes nothing, and so needs no library of a format.
    except MissingExtraError as error:
        if not dry_run:
            raise
        output.screen.note(f"the export itself cannot run yet: {error}")
    selected.check_names(names)
    credentials, settings = selected.complete(credentials)
    order: Any = "worst" if worst else "oldest"
    async with credentials.client(output.screen, settings) as client:
        selection = await selected.selection(client, time)
        if to is None or dry_run:
            estimate = await client.export.estimate(selection, order=order, max_requests=max_requests)
            _show_estimate(output.screen, estimate)
            return
        with _progress(output.screen) as on_progress:
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
        _show_report(output.screen, report)
    if not report.complete:
        raise typer.Exit(FAILED)


def _check_options(plan: str | None, format: str, to: str | None, *, dry_run: bool) -> None:  # noqa: A002 - as above
    """Raise `ValueError` for options that would fail only after requests were spent."""
    if plan:
        check_plan(f"{_PLAN_HINT}: --plan", plan)
    if to is None and not dry_run:
        raise ValueError("TO is missing: give a folder or a URL, or --dry-run")
    check_choice("--format", format, formats.NAMES)
    formats.check(format)
    if to is not None:
        check_place(to)


@contextmanager
def _progress(screen: Screen) -> Iterator[Callable[[ExportProgress], None]]:
    """Yield a progress callback: JSON lines, a live table, or a line per minute where there is no terminal."""
    # The first line comes early: it shows that the export works.
    written = monotonic() - _LINE_EVERY + _FIRST_LINE

    def line(progress: ExportProgress) -> None:
        nonlocal written
        if monotonic() - written >= _LINE_EVERY:
            written = monotonic()
            screen.note(", ".join(f"{name}: {value}" for name, value in _stages(progress)))

    try:
        with screen.live_table() as draw:
            if screen.json:
                yield lambda progress: screen.emit(StepRow("progress", progress))
            elif draw is None:
                yield line
            else:
                yield lambda progress: draw(Table("", ("stage", "now"), tuple(_stages(progress))))
    except asyncio.CancelledError:
        screen.note("stopped: run the same command again to resume")
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


def _show_estimate(screen: Screen, estimate: ExportEstimate) -> None:
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


def _show_report(screen: Screen, report: ExportReport) -> None:
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


def _pair(text: str, option: str) -> tuple[str, str]:
    first, colon, second = text.partition(":")
    if not (first and colon and second):
        raise ValueError(f"{option}={text!r}: allowed is METRIC:DIMENSION, like audio_freeze_rate:country")
    return first, second


def _insight(text: str) -> Insight:
    metric, product, by = (*text.split(":", 2), "", "")[:3]
    # Granularities begin with a digit, and dimensions never do.
    over_time = not by or by[0].isdecimal()
    return agora.Insight(
        metric,
        product=product or None,
        granularity=by if by and over_time else "1d",
        dimension=None if over_time else by,
    )
