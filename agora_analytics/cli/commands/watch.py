"""`agora-analytics watch`: real-time windows as they come, for people as a table that moves, for pipes line by line."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

import agora_analytics as agora
from agora_analytics.cli import tables, times
from agora_analytics.cli.commands.heartbeat import pulse
from agora_analytics.cli.formatting import REASONS, Pair, clock, lasting
from agora_analytics.cli.options import Account, Shown, command
from agora_analytics.cli.output import Live
from agora_analytics.cli.parsing import series_of, unit_of
from agora_analytics.cli.signals import stopped_by_signal
from agora_analytics.cli.tables import Table
from agora_analytics.plans import REALTIME_USAGE
from agora_analytics.spans import WINDOW

if TYPE_CHECKING:
    from agora_analytics.models import Point
    from agora_analytics.streams import Event, Series, Watch

_KEPT = 180
_USUAL = ("userCount:Native", "audioFreezeRate:Native", "videoFreezeRate:Native")


@attrs.frozen(kw_only=True)
class Line:
    """An event for JSON: a `window` or a `revision` of one at `ts`, or a `gap` from `ts` to `end` with the `reason`.

    `missing` has the series that a window lacks, each with the reason.
    """

    event: str
    ts: int
    end: int
    values: dict[str, tuple[Point, ...]] = attrs.field(factory=dict)
    missing: dict[str, str] = attrs.field(factory=dict)
    final: bool = False
    reason: str = ""


@command
async def watch(
    account: Account,
    shown: Shown,
    *,
    series: Annotated[
        list[str] | None,
        typer.Argument(help="METRIC:PRODUCT, or METRIC for Native (default: users and both freeze rates)."),
    ] = None,
    last: Annotated[
        str | None,
        typer.Option(help="Begin so long ago, at most as the plan keeps, where there is no checkpoint yet."),
    ] = "10m",
    start: Annotated[str | None, typer.Option(help="Begin there: ISO 8601 or seconds since 1970.")] = None,
    windows: Annotated[int | None, typer.Option(help="End after so many windows.", min=1)] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Go on where the last watch of this name ended.")] = None,
    allowed_lateness: Annotated[int, typer.Option(help="Seconds to wait for late windows.", min=0)] = 120,
    only_final: Annotated[bool, typer.Option("--only-final", help="Only what will not change any more.")] = False,
    gaps: Annotated[bool, typer.Option("--gaps", help="More series than the plan carries without gaps.")] = False,
) -> None:
    """Watch 20-second windows, each once and in order. Example: agora-analytics watch userCount:WebRTC --json | jq ."""
    chosen = [series_of(one) for one in series or _USUAL]
    async with account.client(shown.screen) as client:
        begin = times.beginning(start, last, client.plan.of_endpoint(REALTIME_USAGE).available)
        stream = client.realtime.watch(
            *chosen,
            start=begin,
            checkpoint=checkpoint,
            allowed_lateness=allowed_lateness,
            only_final=only_final,
            gaps=gaps,
        )
        delay = client.plan.of_endpoint(REALTIME_USAGE).delay
        board = _Board(chosen)
        coverage = client.realtime.coverage(*chosen)
        shown.screen.note(str(coverage))
        with stopped_by_signal(stream.stop), shown.screen.live(table=True) as live:
            async with aclosing(stream), pulse(stream, shown.screen, coverage.interval) as beat:
                count = 0
                async for event in stream:
                    beat()
                    if shown.screen.json:
                        shown.screen.emit(_line(event))
                    board.take(event)
                    _show(live, board, event, stream, delay)
                    count += isinstance(event, agora.Window)
                    if windows is not None and count >= windows:
                        stream.stop()


class _Board:
    """The last hour of each series."""

    def __init__(self, series: Sequence[Series]) -> None:
        self._pairs: dict[Series, deque[Pair]] = {one: deque(maxlen=_KEPT) for one in series}

    def take(self, event: Event) -> None:
        if isinstance(event, agora.Window):
            for series in event.values:
                self._put(series, event.ts, event.value(series))
        elif isinstance(event, agora.Revision):
            self._put(event.series, event.ts, event.after[0].value)

    def _put(self, series: Series, ts: int, value: float | None) -> None:
        pairs = self._pairs[series]
        if value is None:
            return
        if pairs and ts <= pairs[-1][0]:
            self._pairs[series] = deque(sorted({**dict(pairs), ts: value}.items()), maxlen=_KEPT)
        else:
            pairs.append((ts, value))

    def table(self, title: str) -> Table:
        """Return the table of all series as it is now."""
        rows = tuple(tables.watched(str(one), unit_of(one.metric), tuple(pairs)) for one, pairs in self._pairs.items())
        return Table(title, ("series", "the last hour", ">lowest", ">mean", ">highest", ">last"), rows)


def _show(live: Live, board: _Board, event: Event, stream: Watch, delay: int) -> None:
    health = stream.health
    if isinstance(event, agora.Gap):
        lost = lasting(event.span.duration)
        live.say(f"{clock(event.span.start)}  nothing is known of {lost}: {REASONS[event.reason]}")
    elif isinstance(event, agora.Window):
        told = (tables.reading(series, event.value(series)) for series in stream.series)
        live.say(f"{clock(event.ts)}  {'  '.join(told)}")
        lag = f"{health.lag or 0:.0f} s old, {delay} of them the plan's delay"
        left = "" if health.requests_left is None else f"; {health.requests_left:,} requests left today"
        live.table(board.table(f"{clock(event.ts)} UTC, {lag}{left}"))
    else:
        live.say(f"{clock(event.ts)}  changed: {tables.reading(event.series, event.after[0].value)}")


def _line(event: Event) -> Line:
    if isinstance(event, agora.Gap):
        return Line(event="gap", ts=event.span.start, end=event.span.end, reason=event.reason)
    if isinstance(event, agora.Revision):
        values = {str(event.series): event.after}
        return Line(event="revision", ts=event.ts, end=event.ts + WINDOW, values=values, final=event.final)
    return Line(
        event="window",
        ts=event.ts,
        end=event.span.end,
        values={str(series): points for series, points in event.values.items()},
        missing={str(series): reason for series, reason in event.missing.items()},
        final=event.final,
    )
