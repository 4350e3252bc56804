"""`agora-analytics calls …`: Call Inspector."""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Final

import attrs
import typer

from agora_analytics import plans
from agora_analytics.catalogue import Dimension, FreezeMetric, TimelineMetric
from agora_analytics.cli import tables
from agora_analytics.cli.commands.search import search
from agora_analytics.cli.commands.worst import worst
from agora_analytics.cli.formatting import format_count, format_number, format_time
from agora_analytics.cli.options import CredentialOptions, ListOptions, NameOptions, OutputOptions, TimeOptions, command
from agora_analytics.cli.parsing import (
    completion,
    completion_of,
    list_completion,
    names_of,
    parse_mids,
    parse_uids,
    split_list,
)
from agora_analytics.cli.sorting import SESSION_ORDERS, TopN, sort_key
from agora_analytics.errors import AgoraError, BadRequest, NotFound
from agora_analytics.plans import CALL_LISTS
from agora_analytics.spans import Span

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient
    from agora_analytics.cli.output import Listed, Screen
    from agora_analytics.models import Call, Session, SessionMetrics

_MARGIN: Final = 60
"""Seconds kept from the retention limit: time passes before the request is sent."""

_UNKNOWN_CALL: Final = "nothing is known of a call {} in {}"
_NO_FREEZE_RATE: Final = (
    "no user of call {} in {} has this freeze rate (of video in a call of audio only), or the service does not know it"
)
_NOT_MEASURED: Final = "no value of {} was measured in call {} (none of video in a call of audio only): try {}"

app = typer.Typer(
    no_args_is_help=True,
    help="Find calls, and inspect one: its sessions, their metrics, its quality.\n\n"
    "Example: agora-analytics calls search --last 3h",
)

CallId = Annotated[str, typer.Argument(metavar="CALL_ID", help="The call's id, as `calls search` shows it.")]
Freeze = Annotated[
    str, typer.Option(help="Metric: audio_freeze_rate or video_freeze_rate.", autocompletion=completion("freeze"))
]


app.command()(search)
app.command()(worst)


@app.command()
@command
async def sessions(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: ListOptions,
    *,
    call_id: CallId,
    uids: Annotated[str, typer.Option(help="Only these user IDs, separated by commas.")] = "",
    sort: Annotated[
        str | None,
        typer.Option(
            help=f"Highest first by {', '.join(SESSION_ORDERS)} (the higher freeze rate); reads all sessions."
            " Default: the service's order.",
            autocompletion=completion_of(SESSION_ORDERS),
            show_default=False,
        ),
    ] = None,
    exclude_server_user: Annotated[bool, typer.Option(help="Leave out server users (Linux).")] = True,
) -> None:
    """List the sessions of a call: who joined, when, and with what quality.

    Without a time: the newest span that one request can cover. Server users (Linux) are left out
    (--exclude-server-user); --no-exclude-server-user shows them.

    Example: agora-analytics calls sessions CALL_ID --last 4h --sort worst
    """
    # Checked before the client opens: a misspelled order must not cost a request.
    key = sort_key(SESSION_ORDERS, sort) if sort else None
    async with credentials.client(output.screen) as client:
        span = await time.span(client, plans.CALL_SESSIONS)
        found = client.calls.sessions(call_id, *span, uids=parse_uids(uids), exclude_server_user=exclude_server_user)
        async with explain_missing(client, output.screen, call_id, span) as record:
            if key and sort:
                record(await _show_sorted(output.screen, found, sort, output.max_rows()))
                return
            listed = await output.screen.stream(
                found, "sessions", lambda rows: (tables.sessions(rows),), output.max_rows()
            )
            record(listed.count)
        last = listed.last
        _summarize(
            output.screen, listed, f"the latest to join, back to {format_time(last.join_ts)} UTC" if last else ""
        )


async def _show_sorted(screen: Screen, found: AsyncGenerator[Session], order: str, limit: int | None) -> int:
    """Read all sessions, print the first in an order, and return how many there are."""
    top, count = TopN(SESSION_ORDERS[order], limit), 0
    with screen.progress("sessions") as advance:
        async with aclosing(found) as rows:
            async for session in rows:
                top.add(session)
                count += 1
                advance(count, f"{count:,}")
    screen.show(top.items(), tables.sessions(top.items()))
    if limit is not None and count > limit:
        hidden = format_number(count - limit)
        screen.warn(
            f"the first {format_number(limit)} of {format_number(count)} sessions by {order};"
            f" {hidden} are left out: see --limit"
        )
    elif count:
        screen.note(f"{format_count(count, 'session')}, by {order}")
    return count


@app.command()
@command
async def metrics(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: ListOptions,
    *,
    call_id: CallId,
    sids: Annotated[str, typer.Option(help="Only these sessions, separated by commas.")] = "",
    mids: Annotated[
        str,
        typer.Option(
            help="Show only these metric ids, by number or name, separated by commas: see `metrics metric_id`.",
            autocompletion=list_completion(names_of("metric_id")),
        ),
    ] = "",
    exclude_server_user: Annotated[bool, typer.Option(help="Without --sids, leave out server users (Linux).")] = True,
) -> None:
    """Show the measurements of each session: bitrate, packet loss, freezes and more.

    Tables show 5 sessions unless --limit says otherwise. Without --sids, server users (Linux) are left out
    (--exclude-server-user); --no-exclude-server-user shows them.

    Example: agora-analytics calls metrics CALL_ID --last 4h --mids app_cpu,system_cpu
    """
    wanted = parse_mids(mids)
    async with credentials.client(output.screen) as client:
        span = await time.span(client, plans.CALL_METRICS)
        chosen = split_list(sids) or None
        found = client.calls.metrics(call_id, chosen, *span, exclude_server_user=exclude_server_user)
        async with explain_missing(client, output.screen, call_id, span) as record:
            tracks = _only_tracks(found, wanted)
            # Five, since each session is a table of its own.
            listed = await output.screen.stream(tracks, "sessions", tables.session_metrics, output.max_rows(5))
            record(listed.count)
        _summarize(output.screen, listed, f"up to {listed.last.sid}" if listed.last else "")


@app.command()
@command
async def statistics(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: OutputOptions,
    names: NameOptions,
    *,
    call_id: CallId,
    metric: Freeze = FreezeMetric.VIDEO,
    dimension: Annotated[
        str,
        typer.Option(
            help="Dimension: country, region, net, sdk, os or device.", autocompletion=completion("dimension")
        ),
    ] = Dimension.NET,
) -> None:
    """Show a call's freeze rate by a dimension.

    Example: agora-analytics calls statistics CALL_ID --last 4h --dimension country
    """
    names.check("--metric", metric, "freeze")
    names.check("--dimension", dimension, "dimension")
    async with credentials.client(output.screen) as client:
        span = await time.span(client, plans.CALL_STATISTICS)
        async with explain_missing(client, output.screen, call_id, span) as record:
            found = await client.calls.statistics(call_id, metric, dimension, *span)
            record(len(found))
        output.screen.show(found, tables.statistics(found, metric, dimension))
    if found and all(one.value is None for one in found):
        others = " or ".join(f"--metric {other}" for other in FreezeMetric if other != metric)
        output.screen.warn(_NOT_MEASURED.format(metric, repr(call_id), others))


@app.command()
@command
async def freeze(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: OutputOptions,
    names: NameOptions,
    *,
    call_id: CallId,
    metric: Freeze = FreezeMetric.VIDEO,
) -> None:
    """Show how many users of a call had which freeze rate.

    Example: agora-analytics calls freeze CALL_ID --last 4h --metric audio_freeze_rate
    """
    names.check("--metric", metric, "freeze")
    async with credentials.client(output.screen) as client:
        span = await time.span(client, plans.CALL_FREEZE)
        async with explain_missing(client, output.screen, call_id, span, _NO_FREEZE_RATE) as record:
            found = await client.calls.freeze_buckets(call_id, metric, *span)
            record(len(found))
        output.screen.show(found, tables.freeze_buckets(found, metric))


@app.command()
@command
async def timeline(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: OutputOptions,
    names: NameOptions,
    *,
    call_id: CallId,
    metric: Annotated[
        str,
        typer.Option(
            help="Metric: user_count, audio_freeze_rate, … (see `metrics timeline`).",
            autocompletion=completion("timeline"),
        ),
    ] = TimelineMetric.USER_COUNT,
) -> None:
    """Show a metric of a call minute by minute.

    Example: agora-analytics calls timeline CALL_ID --last 4h --metric video_freeze_rate
    """
    names.check("--metric", metric, "timeline")
    async with credentials.client(output.screen) as client:
        span = await time.span(client, plans.CALL_TIMELINE)
        async with explain_missing(client, output.screen, call_id, span) as record:
            found = await client.calls.timeline(call_id, metric, *span)
            record(len(found))
        output.screen.show(found, *tables.series(found, metric))


def _summarize(screen: Screen, listed: Listed[Session] | Listed[SessionMetrics], which: str) -> None:
    """Write how many sessions were shown, and which were left out."""
    count = format_count(listed.count, "session")
    if listed.more:
        screen.warn(f"{count}, {which}; the others are left out: see --limit and --json")
    elif listed.count:
        screen.note(count)


async def _only_tracks(found: AsyncGenerator[SessionMetrics], mids: frozenset[int]) -> AsyncGenerator[SessionMetrics]:
    """Keep the tracks of these metric ids; an empty set keeps all."""
    async with aclosing(found) as sessions:
        async for session in sessions:
            yield attrs.evolve(session, data=tuple(track for track in session.data if not mids or track.mid in mids))


# A call without any data: its id may be the name of a channel.


@asynccontextmanager
async def explain_missing(
    client: AnalyticsClient, screen: Screen, call_id: str, span: Span, warning: str = _UNKNOWN_CALL
) -> AsyncIterator[Callable[[int], None]]:
    """Explain, at the cost of one request, why nothing was found of a call inside.

    Yields a function to call with the number of rows found. Raises `ValueError` if the id is the name of a channel.
    """
    counts: list[int] = []
    try:
        yield counts.append
    # A request is worth it: an id and a channel's name are easily confused, and both are only text to the service.
    except (BadRequest, NotFound):
        await _refuse_channel_name(client, call_id, span)
        raise
    # The service may answer an unknown call with an empty list instead of an error.
    if not sum(counts):
        await _refuse_channel_name(client, call_id, span)
        screen.warn(f"{warning.format(repr(call_id), span)}: check the id, and --last, --start and --end")


async def _refuse_channel_name(client: AnalyticsClient, name: str, span: Span) -> None:
    call = await _newest_call(client, name, span)
    if call is not None:
        raise ValueError(
            f"{name!r} is the name of a channel, not the id of a call; the channel's newest call in that time is"
            f" {call.call_id}: `agora-analytics calls search --cname {shlex.quote(name)}` lists all of them"
        )


async def _newest_call(client: AnalyticsClient, cname: str, span: Span) -> Call | None:
    """Return the newest call of a channel before the end of a span, as far back as one request goes."""
    from agora_analytics.client import service_time  # noqa: PLC0415 - with a client, when one is needed

    limits = client.plan.of_endpoint(CALL_LISTS)
    kept = limits.queryable(service_time(client).utc_second())
    end = min(span.end, kept.end)
    start = max(end - limits.longest_query, kept.start + _MARGIN)
    try:
        page = await client.calls.page(start, end, cname=cname, page_size=1)
    except (AgoraError, ValueError):
        return None  # the first error, or the empty result, says enough
    return next(iter(page.items), None)
