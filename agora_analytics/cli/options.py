"""Options that many commands share, told once: bundles of them, and the decorator that spreads a bundle out."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import attrs
import typer

from agora_analytics.cli import tables, times
from agora_analytics.cli.output import Screen
from agora_analytics.cli.quota_waits import telling_waits
from agora_analytics.cli.runner import finish
from agora_analytics.plans import Endpoint
from agora_analytics.spans import HostSecond, Span, by_host

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient
    from agora_analytics.cli.settings import Settings

Command = Callable[..., Coroutine[Any, Any, None]]


def _option(text: str, panel: str | None = None, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, **more)


_ACCOUNT, _TIME, _OUTPUT = "Account", "Time", "Output"


@attrs.frozen(kw_only=True)
class Shown:
    """How results are shown."""

    json: Annotated[bool, _option("One JSON object a line instead of tables.", _OUTPUT, "--json")] = False

    @property
    def screen(self) -> Screen:
        """The screen that shows them so."""
        return Screen(json=self.json)


@attrs.frozen(kw_only=True)
class Limited(Shown):
    """How a list of any length is shown."""

    limit: Annotated[int | None, _option("Show so many (default: 100, or all with --json).", _OUTPUT, min=1)] = None

    def most(self, otherwise: int = 100) -> int | None:
        """Return where to stop."""
        return self.limit if self.limit or self.json else otherwise


@attrs.frozen(kw_only=True)
class Chosen:
    """Which plan, where nothing else of the account matters."""

    plan: Annotated[
        str | None, _option("Pricing plan: starter, standard, premium or enterprise [AGORA_PLAN].", _ACCOUNT)
    ] = None
    config: Annotated[
        Path | None,
        _option("TOML file with settings (default: ~/.config/agora-analytics/config.toml).", _ACCOUNT),
    ] = None
    ledger: Annotated[
        str | None,
        _option("File in which commands count their requests together, or :memory: [AGORA_LEDGER].", _ACCOUNT),
    ] = None

    def settings(self) -> Settings:
        """Return flags over environment over file."""
        from agora_analytics.cli.settings import Settings, default_path, from_environment, from_file  # noqa: PLC0415 - with a client, when one is needed

        path = self.config or default_path()
        file = from_file(path.expanduser(), required=self.config is not None)
        return Settings(plan=self.plan, ledger=self.ledger).over(from_environment(os.environ)).over(file)


@attrs.frozen(kw_only=True)
class Customer(Chosen):
    """Whose requests are counted."""

    customer_id: Annotated[str | None, _option("Customer ID [AGORA_CUSTOMER_ID].", _ACCOUNT)] = None

    def settings(self) -> Settings:
        """Return flags over environment over file."""
        from agora_analytics.cli.settings import Settings  # noqa: PLC0415 - with a client, when one is needed

        return Settings(customer_id=self.customer_id).over(super().settings())


@attrs.frozen(kw_only=True)
class Account(Customer):
    """Who asks, and where."""

    app_id: Annotated[str | None, _option("App ID of the project [AGORA_APP_ID].", _ACCOUNT)] = None
    secret_file: Annotated[
        Path | None, _option("File with the Customer Secret [AGORA_CUSTOMER_SECRET is the secret itself].", _ACCOUNT)
    ] = None
    secret_stdin: Annotated[
        bool, _option("Read the Customer Secret from standard input.", _ACCOUNT, "--secret-stdin")
    ] = False
    base_url: Annotated[
        str | None, _option("Host, or several with commas between them [AGORA_BASE_URL].", _ACCOUNT)
    ] = None
    ca_file: Annotated[
        Path | None,
        _option("PEM file of the authorities to trust instead of the system's, as a firewall's own.", _ACCOUNT),
    ] = None
    max_wait: Annotated[float, _option("Seconds that one request waits for its quota (default: 120).", _ACCOUNT)] = 120

    def settings(self) -> Settings:
        """Return flags over environment over file."""
        from agora_analytics.cli.settings import Settings  # noqa: PLC0415 - with a client, when one is needed

        flags = Settings(
            customer_secret=self._secret(),
            app_id=self.app_id,
            ca_file=self.ca_file,
            base_url=tuple(url.strip() for url in self.base_url.split(",")) if self.base_url else None,
        )
        return flags.over(super().settings())

    @asynccontextmanager
    async def client(self, screen: Screen, settings: Settings | None = None) -> AsyncIterator[AnalyticsClient]:
        """Open a client, and tell in the end what it spent; settings that were read already are not read again."""
        settings = settings or self.settings()
        async with (
            settings.counting() as ledger,
            settings.client(ledger, max_wait=self.max_wait) as client,
            telling_waits(client.quota, screen.note),
        ):
            yield client
            screen.note(tables.spent((await client.quota.snapshot()).states))

    def _secret(self) -> str | None:
        from agora_analytics.cli.settings import secret_of, secret_text  # noqa: PLC0415 - with a client, when one is needed

        if self.secret_file and self.secret_stdin:
            raise ValueError("--secret-file and --secret-stdin exclude each other")
        if self.secret_file:
            return secret_of(self.secret_file)
        return secret_text(sys.stdin.readline(), "standard input") if self.secret_stdin else None


@attrs.frozen(kw_only=True)
class When:
    """Which span of time."""

    last: Annotated[str | None, _option("The newest 45s, 20m, 3h, 2d, … that the plan tells.", _TIME)] = None
    start: Annotated[str | None, _option("ISO 8601 with a zone or Z, or seconds since 1970.", _TIME)] = None
    end: Annotated[str | None, _option("The same; the end is not included (default: the newest).", _TIME)] = None

    async def span(
        self, client: AnalyticsClient, endpoint: Endpoint, usual: int | None = None, *, uncut: bool = False
    ) -> Span:
        """Return the span for an endpoint; without any option the newest `usual` seconds (None: one request's).

        A `--last` beyond what the plan keeps is cut, and that is told; or `uncut`, for who tells what is not there.
        What ends now does so by the service's clock, which a ledger may know; else requests about it are moved to that.
        """
        from agora_analytics.client import service_time  # noqa: PLC0415 - with a client, when one is needed

        plan, time = client.plan, service_time(client)
        await client.quota.snapshot()
        now = time.utc_second()
        if self.start is None:
            if self.end is not None:
                raise ValueError("--end needs --start")
            limits = plan.of_endpoint(endpoint)
            if self.last and uncut and (wanted := times.duration(self.last)) > limits.available:
                end = limits.askable(now).end
                return Span(max(1, end - wanted), end)
            wanted = times.duration(self.last) if self.last else usual or limits.longest_query
            span = plan.recent(endpoint, wanted, now)
            if self.last:
                times.tell_cut(self.last, limits.available, span)
            return span if time.host_ahead() is not None else by_host(span)
        if self.last is not None:
            raise ValueError("--last and --start exclude each other")
        start = times.instant(self.start, "--start")
        if self.end is not None:
            return Span(start, times.instant(self.end, "--end"))
        newest = plan.of_endpoint(endpoint).askable(now).end
        return Span(start, newest if time.host_ahead() is not None else HostSecond(newest))


def command(function: Command) -> Callable[..., None]:
    """Make a typer command of a coroutine function: bundles become their options, errors become exit codes."""
    signature = inspect.signature(function, eval_str=True)
    bundles = {name: one.annotation for name, one in signature.parameters.items() if attrs.has(one.annotation)}

    def spread(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in attrs.fields(kind)})
            for name, kind in bundles.items()
        }
        code = finish(lambda: function(**made, **given))
        raise typer.Exit(code)

    spread.__name__, spread.__doc__, spread.__annotations__ = function.__name__, function.__doc__, {}
    own = [one for one in signature.parameters.values() if one.name not in bundles]
    shared = [option for kind in bundles.values() for option in _options(kind)]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in [*own, *shared]]
    for one in parameters:
        _without_type(one)
    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    return spread


def _without_type(parameter: inspect.Parameter) -> None:
    """Let the help show a flag without a type: there is no value to give."""
    hint = parameter.annotation
    if get_origin(hint) is Annotated and get_args(hint)[0] is bool:
        for option in get_args(hint)[1:]:
            option.metavar = ""


def _options(kind: type[attrs.AttrsInstance]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for field in attrs.fields(kind):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
