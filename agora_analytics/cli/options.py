"""Options that many commands share, in bundles, and the decorator that makes a typer command of a coroutine function.

A parameter of a command whose type is a bundle becomes the options of that bundle:

    @command
    async def timeline(credentials: CredentialOptions, time: TimeOptions, *, call_id: CallId) -> None: ...
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import attrs
import typer

from agora_analytics.cli import parsing, tables
from agora_analytics.cli.formatting import format_duration
from agora_analytics.cli.output import Screen
from agora_analytics.cli.runner import run_command
from agora_analytics.cli.status_lines import report_quota_waits
from agora_analytics.errors import LedgerError
from agora_analytics.plans import PLANS, Endpoint, is_cut
from agora_analytics.spans import HostSecond, Span, by_host

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient
    from agora_analytics.cli.settings import AccountSettings

Command = Callable[..., Coroutine[Any, Any, None]]

log = logging.getLogger("agora_analytics.cli")

_ACCOUNT, _TIME, _NAMES, _OUTPUT = "Account", "Time", "Names", "Output"


def option(text: str, panel: str | None = None, *names: str, **more: Any) -> Any:
    """Return an option with its help text and panel; the text says the default where that is not plain."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, **more)


def rate_option(text: str, panel: str | None = None) -> Any:
    """Return an option that takes a fraction, also in percent."""
    return option(text, panel, metavar="RATE", parser=_parse_rate)


def freeze_rate_option(panel: str) -> Any:
    """Return the option --min-freeze-rate."""
    return rate_option("Only calls with a higher audio or video freeze rate: 5% or 0.05.", panel)


def _parse_rate(value: object) -> float:
    try:
        return parsing.parse_rate(str(value))  # a default is a number
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def series_argument(default: str) -> Any:
    """Return the argument SERIES; its help says what is watched without it."""
    return typer.Argument(
        metavar="SERIES",
        help=f"METRIC:PRODUCT, or METRIC for Native (default: {default}).",
        autocompletion=parsing.completion_of(parsing.series_names()),
    )


@attrs.frozen(kw_only=True)
class OutputOptions:
    """Tables or JSON."""

    json: Annotated[bool, option("Print JSON Lines (one object per line) instead of tables.", _OUTPUT, "--json")] = (
        False
    )

    @property
    def screen(self) -> Screen:
        """The screen for this output."""
        return Screen(json=self.json)


@attrs.frozen(kw_only=True)
class ListOptions(OutputOptions):
    """Output of a list of any length."""

    limit: Annotated[
        int | None, option("Show at most this many (default: 100, or all with --json).", _OUTPUT, min=1)
    ] = None

    def max_rows(self, default: int = 100) -> int | None:
        """Return how many rows to show, also in a sorted list; None for all."""
        # All for a program, which ends the pipe when it has enough; as many as can be read for people.
        return self.limit if self.limit or self.json else default


@attrs.frozen(kw_only=True)
class PlanOptions:
    """The pricing plan and the ledger."""

    plan: Annotated[
        str | None,
        option(
            f"Pricing plan: {', '.join(PLANS)} (env: AGORA_PLAN).",
            _ACCOUNT,
            autocompletion=parsing.completion_of(PLANS),
        ),
    ] = None
    config: Annotated[
        Path | None,
        option("TOML file with settings (default: ~/.config/agora-analytics/config.toml).", _ACCOUNT),
    ] = None
    ledger: Annotated[
        str | None,
        option(
            "File, or URL of Redis or PostgreSQL, in which commands count their requests together; :memory: for this"
            " command alone (env: AGORA_LEDGER).",
            _ACCOUNT,
        ),
    ] = None

    def settings(self) -> AccountSettings:
        """Return the settings: options before environment variables before the file."""
        # Loads the client, which help does not need.
        from agora_analytics.cli.settings import (  # noqa: PLC0415
            AccountSettings,
            default_path,
            from_environment,
            from_file,
            has_password,
        )

        if has_password(self.ledger):
            raise ValueError(
                "--ledger: other users can read the password in it (value not shown): set AGORA_LEDGER instead"
            )
        path = self.config or default_path()
        file = from_file(path.expanduser(), required=self.config is not None)
        return AccountSettings(plan=self.plan, ledger=self.ledger).over(from_environment(os.environ)).over(file)


@attrs.frozen(kw_only=True)
class CustomerOptions(PlanOptions):
    """The customer whose requests are counted."""

    customer_id: Annotated[str | None, option("Customer ID (env: AGORA_CUSTOMER_ID).", _ACCOUNT)] = None

    def settings(self) -> AccountSettings:
        """Return the settings: options before environment variables before the file."""
        from agora_analytics.cli.settings import AccountSettings  # noqa: PLC0415 - loads the client

        return AccountSettings(customer_id=self.customer_id).over(super().settings())


@attrs.frozen(kw_only=True)
class CredentialOptions(CustomerOptions):
    """Everything that a client needs: credentials, project, plan, hosts."""

    app_id: Annotated[str | None, option("App ID of the project (env: AGORA_APP_ID).", _ACCOUNT)] = None
    secret_file: Annotated[
        Path | None,
        option("File with the Customer Secret; the secret itself can be set by AGORA_CUSTOMER_SECRET.", _ACCOUNT),
    ] = None
    secret_stdin: Annotated[
        bool, option("Read the Customer Secret from standard input.", _ACCOUNT, "--secret-stdin")
    ] = False
    base_url: Annotated[
        str | None, option("Base URL of the service, or several separated by commas (env: AGORA_BASE_URL).", _ACCOUNT)
    ] = None
    ca_file: Annotated[
        Path | None,
        option("PEM file of certificate authorities to trust instead of the system's (corporate proxies).", _ACCOUNT),
    ] = None
    max_wait: Annotated[
        float, option("Longest wait of a request for its quota, in seconds; else it fails (default: 120).", _ACCOUNT)
    ] = 120

    def settings(self) -> AccountSettings:
        """Return the settings: options before environment variables before the file."""
        from agora_analytics.cli.settings import AccountSettings  # noqa: PLC0415 - loads the client

        given = AccountSettings(
            customer_secret=self._secret(),
            app_id=self.app_id,
            ca_file=self.ca_file,
            base_url=tuple(url.strip() for url in self.base_url.split(",")) if self.base_url else None,
        )
        return given.over(super().settings())

    @asynccontextmanager
    async def client(self, screen: Screen, settings: AccountSettings | None = None) -> AsyncIterator[AnalyticsClient]:
        """Open a client and note at its end what it spent; `settings` that were read before are not read again."""
        settings = settings or self.settings()
        async with (
            settings.open_ledger() as ledger,
            settings.client(ledger, max_wait=self.max_wait) as client,
            report_quota_waits(client.quota, screen.note),
        ):
            # The ledger counts other programs, too: only what was added is this command's to report.
            before = await client.quota.snapshot()
            yield client
            with suppress(LedgerError):  # the command has done its work
                screen.note(tables.spent_today((await client.quota.snapshot()).states, before.states))

    def _secret(self) -> str | None:
        from agora_analytics.cli.settings import parse_secret, read_secret  # noqa: PLC0415 - loads the client

        if self.secret_file and self.secret_stdin:
            raise ValueError("--secret-file and --secret-stdin exclude each other")
        if self.secret_file:
            return read_secret(self.secret_file)
        # One line: the rest of the input may be for somebody else.
        return parse_secret(sys.stdin.readline(), "standard input") if self.secret_stdin else None


@attrs.frozen(kw_only=True)
class NameOptions:
    """Names of metrics, dimensions and products: a misspelt one is refused before it costs a request."""

    allow_unknown: Annotated[
        bool,
        option("Send names that `agora-analytics metrics` does not list, too.", _NAMES, "--allow-unknown"),
    ] = False

    def check(self, option: str, name: str | None, *kinds: str) -> None:
        """Raise `ValueError` for a name outside the catalogue, unless unknown names are allowed."""
        if name is not None and not self.allow_unknown:
            parsing.check_name(option, name, *kinds)

    def check_series(self, option: str, metric: str, product: str) -> None:
        """Raise `ValueError` for a real-time series outside the catalogue, unless unknown names are allowed."""
        self.check(option, metric, "realtime_usage", "quality")
        self.check(option, product, "product")


@attrs.frozen(kw_only=True)
class TimeOptions:
    """A span of time."""

    last: Annotated[str | None, option("The newest 45s, 20m, 3h, 2d, 1w, … that the plan gives access to.", _TIME)] = (
        None
    )
    start: Annotated[str | None, option("First moment: ISO 8601 with a zone or Z, or seconds since 1970.", _TIME)] = (
        None
    )
    end: Annotated[
        str | None, option("First moment after the span, in the same form (default: the newest).", _TIME)
    ] = None

    async def span(
        self, client: AnalyticsClient, endpoint: Endpoint, default: int | None = None, *, uncut: bool = False
    ) -> Span:
        """Return the span for an endpoint; without options the newest `default` seconds (None: those of one request).

        A `--last` beyond the plan's retention is cut with a warning, unless `uncut`. Spans that end now use the
        service's clock if the ledger knows it; otherwise they are marked as of the host's clock, and the client moves
        them once it knows the service's.
        """
        from agora_analytics.client import service_time  # noqa: PLC0415 - with a client, when one is needed

        plan, time = client.plan, service_time(client)
        # Loads what the ledger knows of the service's clock: a span that ends now should end by that.
        await client.quota.snapshot()
        now = time.utc_second()
        if self.start is None:
            if self.end is not None:
                raise ValueError("--end needs --start")
            limits = plan.of_endpoint(endpoint)
            if self.last and uncut and (wanted := parsing.parse_duration(self.last)) > limits.retention:
                end = limits.queryable(now).end
                return Span(max(1, end - wanted), end)
            wanted = parsing.parse_duration(self.last) if self.last else default or limits.longest_query
            span = plan.recent(endpoint, wanted, now)
            if self.last:
                _warn_if_cut(self.last, limits.retention, span)
            return span if time.host_ahead() is not None else by_host(span)
        if self.last is not None:
            raise ValueError("--last and --start exclude each other")
        start = parsing.parse_time(self.start, "--start")
        if self.end is not None:
            return Span(start, parsing.parse_time(self.end, "--end"))
        newest = plan.of_endpoint(endpoint).queryable(now).end
        return Span(start, newest if time.host_ahead() is not None else HostSecond(newest))


def stream_start(start: str | None, last: str | None, retention: int) -> int | timedelta | None:
    """Return where a stream starts: at `--start`, or `--last` ago by the service's clock; None for now.

    The stream itself reports what it misses of the past, as a gap.
    """
    if start:
        return parsing.parse_time(start, "--start")
    return timedelta(seconds=_retained(last, retention, ", or at the checkpoint")) if last else None


def _retained(last: str, retention: int, or_else: str = "") -> int:
    """Return the seconds of `--last`, at most the plan's retention; warns if they are cut."""
    wanted = parsing.parse_duration(last)
    if wanted > retention:
        kept = format_duration(retention)
        log.warning("--last=%s is longer than the plan keeps: it starts %s ago%s", last, kept, or_else)
    return min(wanted, retention)


def _warn_if_cut(last: str, retention: int, span: Span) -> None:
    """Warn if a span is shorter than its `--last`: the plan keeps less, or less of it can be requested."""
    wanted = parsing.parse_duration(last)
    if _retained(last, retention) == wanted and is_cut(wanted, span):
        newest = format_duration(span.duration)
        log.warning("--last=%s is longer than can be requested: it covers the newest %s", last, newest)


def command(function: Command) -> Callable[..., None]:
    """Make a typer command of a coroutine function: bundles become options, errors become exit codes."""
    signature = inspect.signature(function, eval_str=True)
    bundles = {name: one.annotation for name, one in signature.parameters.items() if attrs.has(one.annotation)}

    def entry_point(**values: Any) -> None:
        arguments = {
            name: bundle(**{field.name: values.pop(field.name) for field in attrs.fields(bundle)})
            for name, bundle in bundles.items()
        }
        code = run_command(lambda: function(**arguments, **values))
        raise typer.Exit(code)

    # Without annotations typer takes the types from the signature that is set below.
    entry_point.__name__, entry_point.__doc__, entry_point.__annotations__ = function.__name__, function.__doc__, {}
    own = [one for one in signature.parameters.values() if one.name not in bundles]
    # The help shows the account last: it is the longest part, and the same for all commands.
    ordered = sorted(bundles.values(), key=lambda bundle: issubclass(bundle, PlanOptions))
    shared = [parameter for bundle in ordered for parameter in _parameters(bundle)]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in [*own, *shared]]
    for one in parameters:
        _hide_type_of_flag(one)
    entry_point.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
    return entry_point


def _hide_type_of_flag(parameter: inspect.Parameter) -> None:
    """Let the help show a flag without a type: it takes no value."""
    hint = parameter.annotation
    if get_origin(hint) is Annotated and get_args(hint)[0] is bool:
        for info in get_args(hint)[1:]:
            info.metavar = ""


def _parameters(bundle: type[attrs.AttrsInstance]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(bundle, include_extras=True)
    for field in attrs.fields(bundle):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
