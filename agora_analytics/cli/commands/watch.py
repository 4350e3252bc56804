"""`agora-analytics watch`: real-time windows as they arrive: a live table for people, JSON lines for pipes."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

import agora_analytics as agora
from agora_analytics.cli import tables
from agora_analytics.cli.commands.alerts import AlertOptions, AlertRow
from agora_analytics.cli.commands.follow import gap_line
from agora_analytics.cli.events import watch_row
from agora_analytics.cli.formatting import TimedValue, format_time
from agora_analytics.cli.options import (
    CredentialOptions,
    NameOptions,
    OutputOptions,
    command,
    series_argument,
    stream_start,
)
from agora_analytics.cli.output import LiveView
from agora_analytics.cli.parsing import parse_series, unit_of
from agora_analytics.cli.signals import stop_on_signal
from agora_analytics.cli.status_lines import heartbeat
from agora_analytics.cli.tables import Table
from agora_analytics.ops import alerts
from agora_analytics.plans import REALTIME_USAGE

if TYPE_CHECKING:
    from agora_analytics.cli.output import Screen
    from agora_analytics.streams import Event, Series, Watch

_KEPT: Final = 180
"""Values per series in the live table: an hour."""

_DEFAULT: Final = ("userCount:Native", "audioFreezeRate:Native", "videoFreezeRate:Native")


@command
async def watch(
    credentials: CredentialOptions,
    output: OutputOptions,
    names: NameOptions,
    alert_options: AlertOptions,
    *,
    series: Annotated[list[str] | None, series_argument("those of --alert, or users and both freeze rates")] = None,
    last: Annotated[
        str | None, typer.Option(help="Start this long ago: 10m, 1h. A saved checkpoint takes precedence.")
    ] = "10m",
    start: Annotated[
        str | None, typer.Option(help="Start at this moment instead: ISO 8601 with a zone or Z, or seconds since 1970.")
    ] = None,
    windows: Annotated[int | None, typer.Option(help="Exit after this many windows.", min=1)] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Save the position under this name, and resume from it at the next start.")
    ] = None,
    allowed_lateness: Annotated[int, typer.Option(help="Seconds to wait for late data of a window.", min=0)] = 120,
    only_final: Annotated[
        bool, typer.Option("--only-final", help="Only windows that will not be revised any more.")
    ] = False,
    gaps: Annotated[
        bool, typer.Option("--gaps", help="Accept more series than the quota covers, with gaps in each.")
    ] = False,
) -> None:
    """Watch real-time windows of 20 seconds: each once, in time order; --alert reports what holds in final windows.

    Runs until Ctrl-C or --windows. With --checkpoint a restart loses nothing that the service still keeps.

    Example: agora-analytics watch userCount:WebRTC videoFreezeRate:WebRTC --windows 5
    """
    # The view, the heartbeat and the stream are open together: longer than 25 lines for that.
    rules = alert_options.rules(allow_unknown=names.allow_unknown)
    chosen = _chosen(series, rules, names)
    async with credentials.client(output.screen) as client, alert_options.sinks() as sinks:
        limits = client.plan.of_endpoint(REALTIME_USAGE)
        stream = client.realtime.watch(
            *chosen,
            start=stream_start(start, last, limits.retention),
            checkpoint=checkpoint,
            allowed_lateness=allowed_lateness,
            only_final=only_final,
            gaps=gaps,
        )
        coverage = client.realtime.coverage(*chosen)
        output.screen.note(str(coverage))
        with stop_on_signal(stream.stop), output.screen.live(table=True) as view:
            async with aclosing(stream), heartbeat(stream, output.screen, coverage.poll_interval) as record_event:
                show = partial(_show, view, _History(chosen), stream=stream, delay=limits.delay)
                events = _shown(stream, output.screen, record_event, show, windows)
                if not rules:
                    async for _ in events:
                        pass
                    return
                worst = alert_options.worst(client)
                found = alerts.evaluate(stream, rules, sinks=sinks, worst=worst, events=events)
                async with aclosing(found):
                    async for alert in found:
                        output.screen.emit_if_json(AlertRow(event="alert", alert=alert))
                        for line in alert.text.splitlines():
                            view.notice(line)


def _chosen(given: Sequence[str] | None, rules: Sequence[alerts.Rule], names: NameOptions) -> list[Series]:
    """Return the series to watch: those that are given, or the default ones, and those of the rules."""
    chosen = [parse_series("SERIES", text) for text in given or (() if rules else _DEFAULT)]
    for one in chosen:
        names.check_series("SERIES", one.metric, one.product)
    return chosen + [one for one in alerts.watched(rules) if one not in chosen]


async def _shown(
    stream: Watch,
    screen: Screen,
    record_event: Callable[[], None],
    show: Callable[[Event], None],
    windows: int | None,
) -> AsyncGenerator[Event]:
    """Yield the events of a stream, each once it is shown; stop the stream after so many windows."""
    count = 0
    async for event in stream:
        record_event()
        screen.emit_if_json(watch_row(event))
        show(event)
        count += isinstance(event, agora.Window)
        if windows is not None and count >= windows:
            # Stopped and not left: the last window then counts as processed, and the checkpoint moves past it.
            stream.stop()
        yield event


class _History:
    """The last hour of each series."""

    def __init__(self, series: Sequence[Series]) -> None:
        # Grouped series have a value for each group, which one row cannot show; JSON has them all.
        self._values: dict[Series, deque[TimedValue]] = {one: deque(maxlen=_KEPT) for one in series if not one.grouped}

    def add(self, event: Event) -> None:
        if isinstance(event, agora.Window):
            for series in self._values.keys() & event.values.keys():
                self._put(series, event.ts, event.value(series))
        elif isinstance(event, agora.Revision) and event.series in self._values:
            self._put(event.series, event.ts, event.after[0].value)

    def _put(self, series: Series, ts: int, value: float | None) -> None:
        values = self._values[series]
        if value is None:
            return
        if values and ts <= values[-1][0]:
            # A revision: rare, so that sorting an hour again costs nothing.
            self._values[series] = deque(sorted({**dict(values), ts: value}.items()), maxlen=_KEPT)
        else:
            values.append((ts, value))

    def table(self, title: str) -> Table:
        """Return the current table of all series."""
        rows = tuple(
            tables.live_row(str(series), unit_of(series.metric), tuple(values))
            for series, values in self._values.items()
        )
        return Table(title, ("series", "last hour", ">lowest", ">mean", ">highest", ">last"), rows)


def _show(view: LiveView, history: _History, event: Event, *, stream: Watch, delay: int) -> None:
    history.add(event)
    health = stream.health
    if isinstance(event, agora.Gap):
        view.line(gap_line(event))
    elif isinstance(event, agora.Window):
        values = (tables.series_value(series, event.value(series)) for series in stream.series if not series.grouped)
        view.line(f"{format_time(event.ts)}  {'  '.join(values)}")
        # How far the stream has read is unknown until its first window is processed.
        lag = "" if health.lag is None else f", {health.lag:.0f} s old, {delay} s of them the plan's delay"
        left = "" if health.requests_left is None else f"; {health.requests_left:,} requests left today"
        view.table(history.table(f"{format_time(event.ts)} UTC{lag}{left}"))
    elif not event.series.grouped:
        view.line(f"{format_time(event.ts)}  revised: {tables.series_value(event.series, event.after[0].value)}")
