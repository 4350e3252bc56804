"""`agora-analytics export`: data as files; `--dry-run` estimates what an export takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
import typer

import agora_analytics as agora
from agora_analytics._core.extras import MissingExtraError
from agora_analytics.cli.export_display import STOPPED, export_progress, show_estimate, show_report
from agora_analytics.cli.options import (
    CredentialOptions,
    NameOptions,
    OutputOptions,
    TimeOptions,
    command,
    freeze_rate_option,
    option,
)
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
from agora_analytics.cli.signals import drain_on_signal
from agora_analytics.export import DATASETS, formats
from agora_analytics.export.sinks import check_place
from agora_analytics.plans import CALL_LISTS, INSIGHT_USAGE, REALTIME_USAGE, Endpoint

if TYPE_CHECKING:
    from agora_analytics import (
        AnalyticsClient,
        Breakdown,
        Insight,
        Selection,
        Series,
    )
    from agora_analytics.cli.settings import AccountSettings

_PANEL: Final = "Data"

# Other tools preview with `--plan`: an error names the option for that.
_PLAN_HINT: Final = "--plan names the pricing plan; --dry-run estimates what an export takes"


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

    Ctrl-C and SIGTERM wait up to 10 seconds for answers that are under way; a second one ends it at once.

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
            show_estimate(output.screen, estimate)
            return
        with export_progress(output.screen) as (on_progress, note), drain_on_signal(note) as drain:
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
                drain=drain,
            )
        show_report(output.screen, report)
        if report.complete:
            return
        if not drain.is_set():
            raise typer.Exit(FAILED)
        output.screen.note(STOPPED)  # with the exit code of the signal


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
