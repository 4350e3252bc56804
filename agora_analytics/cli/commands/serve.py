"""`agora-analytics serve`: the live page, its API, the probes and the metrics, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import attrs
import typer

from agora_analytics.cli.commands.alerts import AlertOptions
from agora_analytics.cli.commands.simulate import Seed, listen_or_explain
from agora_analytics.cli.options import CredentialOptions, NameOptions, OutputOptions, command, series_argument
from agora_analytics.cli.parsing import parse_series
from agora_analytics.cli.signals import stop_on_signal
from agora_analytics.spans import DAY

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient
    from agora_analytics.cli.output import Screen
    from agora_analytics.cli.serving import ServeSettings
    from agora_analytics.cli.settings import AccountSettings
    from agora_analytics.ops import FleetMonitor, LiveState
    from agora_analytics.ops.alerts import AlertSink, Rule
    from agora_analytics.streams import Series

_FOLLOW_EVERY: Final = 60
_SIMULATED_RATE: Final = 600
"""Real-time requests a minute of the simulated plan: each window of each series is there after 20 seconds."""

# Busier and worse than the default world: a page that is opened for a minute should have something to show.
_CALLS_PER_HOUR: Final = 150
_INCIDENTS_PER_DAY: Final = 40


@attrs.frozen(kw_only=True)
class ServeCheck:
    """What would be served, what it costs a day, and which credentials are missing, as JSON."""

    url: str
    token: bool
    hosts: tuple[str, ...]
    series: tuple[str, ...]
    coverage: str
    realtime_requests: int
    list_requests: int
    alerts: tuple[str, ...] = ()
    fleet: str | None = None
    missing: tuple[str, ...] = ()


@command
async def serve(
    credentials: CredentialOptions,
    output: OutputOptions,
    names: NameOptions,
    alert_options: AlertOptions,
    *,
    series: Annotated[list[str] | None, series_argument("what the plan can poll every six minutes")] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default: 127.0.0.1); any other needs a token.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on (default: 8766); 0 for any free one.", min=0, max=65_535)
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name under which viewers reach the server; may be repeated.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token of viewers; it can also be set by AGORA_SERVE_TOKEN.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page, to tell several servers apart.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Save the positions under this name, and resume from them at the next start.")
    ] = None,
    sessions: Annotated[
        bool | None, typer.Option("--sessions", help="Fetch the sessions of finished calls.", metavar="")
    ] = None,
    gaps: Annotated[
        bool | None, typer.Option("--gaps", help="Accept more series than the quota covers.", metavar="")
    ] = None,
    fleet: Annotated[
        Path | None, typer.Option(help="Description of a fleet: its workers and jobs are shown, too.", metavar="FILE")
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Serve a simulated Agora, without an account.", metavar="")
    ] = False,
    seed: Seed = 1,
    check: Annotated[
        bool, typer.Option("--check", help="Check the settings, print what they cost a day, and exit.", metavar="")
    ] = False,
) -> None:
    """Serve a live page of users, quality, calls and quota until Ctrl-C.

    Viewers cost no request. The same port has /healthz, /readyz, /metrics and /api/v1.

    Example: agora-analytics serve --simulate --check
    """
    # Each option becomes a setting: longer than 25 lines for that.
    from agora_analytics.cli.serving import ServeSettings, serve_settings  # noqa: PLC0415 - loads the client
    from agora_analytics.cli.settings import read_secret  # noqa: PLC0415

    given = ServeSettings(
        series=tuple(series) if series else None,
        host=host,
        port=port,
        hosts=tuple(allow_host) if allow_host else None,
        token=read_secret(token_file) if token_file else None,
        title=title,
        checkpoint=checkpoint,
        sessions=sessions,
        gaps=gaps,
        alerts=tuple(alert_options.alert) if alert_options.alert else None,
        fleet=fleet,
    )
    settings = serve_settings(given, credentials.config)
    if simulate and settings.checkpoint:
        raise ValueError("--simulate and --checkpoint exclude each other: a simulated service has no past")
    for one in map(_series, settings.series or ()):
        names.check_series("SERIES", one.metric, one.product)
    alerting = attrs.evolve(alert_options, alert=list(settings.alerts or ()))
    rules = alerting.rules(allow_unknown=names.allow_unknown)
    account = None if simulate else credentials.settings()
    watched = _fleet(settings.fleet)
    async with _client(credentials, account, output.screen, seed, check=check) as client, alerting.sinks() as sinks:
        state = _state(client, settings, _Alerts(rules, sinks, alerting), watched)
        if check:
            _show_check(output.screen, _check(state, settings, account))
        else:
            async with watched or nullcontext():
                await _run(state, settings, output.screen, simulated=simulate)


class _Alerts(NamedTuple):
    rules: tuple[Rule, ...]
    sinks: list[AlertSink]
    options: AlertOptions


@asynccontextmanager
async def _client(
    credentials: CredentialOptions, account: AccountSettings | None, screen: Screen, seed: int, *, check: bool
) -> AsyncIterator[AnalyticsClient]:
    """Open a client: of a simulated service without an `account`, or of one that no credentials are needed to check."""
    if account is None:
        async with _simulated(seed) as client:
            yield client
    elif check:
        from agora_analytics import MemoryLedger  # noqa: PLC0415 - as above

        # A ledger in memory, because a check must leave no file.
        async with account.with_placeholders().client(MemoryLedger(), max_wait=credentials.max_wait) as client:
            yield client
    else:
        async with credentials.client(screen, account) as client:
            yield client


def _fleet(file: Path | None) -> FleetMonitor | None:
    """Return what reads the status of a described fleet; raises `ValueError` for a description that cannot work."""
    if file is None:
        return None
    from agora_analytics.fleet import Fleet  # noqa: PLC0415 - as above
    from agora_analytics.ops import FleetMonitor  # noqa: PLC0415

    return FleetMonitor(Fleet.from_file(file))


def _state(
    client: AnalyticsClient, settings: ServeSettings, alerting: _Alerts, fleet: FleetMonitor | None
) -> LiveState:
    """Return the state to serve; raises `ValueError` for settings that do not fit each other or the plan."""
    from agora_analytics.ops import LiveState  # noqa: PLC0415 - as above
    from agora_analytics.ops.web.guard import Guard  # noqa: PLC0415
    from agora_analytics.ops.web.server import is_loopback  # noqa: PLC0415

    host, _ = _address(settings)
    if settings.token is None and not is_loopback(host):
        raise ValueError(
            f"--host={host}: other machines can reach it, so viewers need a token: --token-file or AGORA_SERVE_TOKEN"
        )
    # For its checks only: `--check` must find a bad token or host name without opening a port.
    Guard(settings.token, settings.hosts or ())
    return LiveState(
        client,
        *map(_series, settings.series or ()),
        sessions=bool(settings.sessions),
        checkpoint=settings.checkpoint,
        gaps=bool(settings.gaps),
        rules=alerting.rules,
        sinks=alerting.sinks,
        worst=alerting.options.worst(client, link=f"{_url(settings)}#/call/{{call_id}}"),
        fleet=fleet,
    )


def _address(settings: ServeSettings) -> tuple[str, int]:
    from agora_analytics.cli.serving import PORT  # noqa: PLC0415 - as above

    return settings.host or "127.0.0.1", PORT if settings.port is None else settings.port


def _url(settings: ServeSettings) -> str:
    host, port = _address(settings)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


async def _run(state: LiveState, settings: ServeSettings, screen: Screen, *, simulated: bool) -> None:
    from agora_analytics.ops import routes  # noqa: PLC0415 - as above
    from agora_analytics.ops.web.server import listening  # noqa: PLC0415

    host, port = _address(settings)
    title = settings.title or ""
    application = routes(state, token=settings.token, hosts=settings.hosts or (), title=title, simulated=simulated)
    async with state, listen_or_explain(listening(application, host, port), host, port) as opened:
        await _wait_for_signal(screen, state, opened)


async def _wait_for_signal(screen: Screen, state: LiveState, url: str) -> None:
    stopped = asyncio.Event()
    # Stopped and not cancelled: the streams then save their checkpoints.
    with stop_on_signal(stopped.set):
        screen.emit_if_json({"url": url})
        screen.print(f"serving {len(state.series)} series and the calls at {url}")
        screen.note("Ctrl-C stops it")
        await stopped.wait()


def _series(text: str) -> Series:
    return parse_series("SERIES", text)


@asynccontextmanager
async def _simulated(seed: int) -> AsyncIterator[AnalyticsClient]:
    """Open a client of a busy simulated service with many incidents, on a plan that carries every window."""
    from agora_analytics import Plan  # noqa: PLC0415 - as above
    from agora_analytics.simulator import Simulation, World  # noqa: PLC0415 - slow to load

    plan = Plan.of("enterprise").with_limits("realtime", per_minute=_SIMULATED_RATE, per_day=_SIMULATED_RATE * 1_440)
    world = World(seed=seed, calls_per_hour=_CALLS_PER_HOUR, incidents_per_day=_INCIDENTS_PER_DAY)
    async with Simulation(world=world, plan=plan).client() as client:
        yield client


def _check(state: LiveState, settings: ServeSettings, account: AccountSettings | None) -> ServeCheck:
    from agora_analytics.cli.settings import CREDENTIALS  # noqa: PLC0415 - as above

    coverage = state.coverage
    return ServeCheck(
        url=_url(settings),
        token=settings.token is not None,
        hosts=settings.hosts or (),
        series=tuple(map(str, state.series)),
        coverage="" if coverage is None else str(coverage),
        realtime_requests=0 if coverage is None else coverage.polled_per_day,
        list_requests=DAY // _FOLLOW_EVERY,
        alerts=settings.alerts or (),
        fleet=None if state.fleet is None else state.fleet.name,
        missing=() if account is None else account.missing(*CREDENTIALS),
    )


def _show_check(screen: Screen, found: ServeCheck) -> None:
    screen.emit_if_json(found)
    screen.print(f"{found.url}, {'with' if found.token else 'without'} a token")
    for one in found.series:
        screen.print(f"  {one}")
    for rule in found.alerts:
        screen.print(f"alert: {rule}")
    screen.print(f"windows: {found.realtime_requests:,} real-time requests a day; {found.coverage or 'no series'}")
    screen.print(f"calls: about {found.list_requests:,} list requests a day")
    if found.fleet is not None:
        screen.print(f"fleet: {found.fleet}")
    for one in found.missing:
        screen.print(f"missing, and needed to serve: {one}")
