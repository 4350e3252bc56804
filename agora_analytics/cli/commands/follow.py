"""`agora-analytics follow`: calls as they start, change and finish, one line per event."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

import agora_analytics as agora
from agora_analytics.cli.events import follow_row
from agora_analytics.cli.formatting import GAP_REASONS, format_count, format_duration, format_percent, format_time
from agora_analytics.cli.options import CredentialOptions, OutputOptions, command, stream_start
from agora_analytics.cli.parsing import parse_time
from agora_analytics.cli.signals import stop_on_signal
from agora_analytics.cli.status_lines import heartbeat
from agora_analytics.plans import CALL_LISTS

if TYPE_CHECKING:
    from agora_analytics.models import Call
    from agora_analytics.streams import CallEvent


@command
async def follow(
    credentials: CredentialOptions,
    output: OutputOptions,
    *,
    last: Annotated[
        str | None, typer.Option(help="Start this long ago: 10m, 2h, 1d. A saved checkpoint takes precedence.")
    ] = "10m",
    start: Annotated[
        str | None, typer.Option(help="Start at this moment instead: ISO 8601 with a zone or Z, or seconds since 1970.")
    ] = None,
    stop: Annotated[
        str | None, typer.Option(help="Exit once all calls that began before this moment have finished.")
    ] = None,
    events: Annotated[int | None, typer.Option(help="Exit after this many events.", min=1)] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Save the position under this name, and resume from it at the next start.")
    ] = None,
    every: Annotated[int, typer.Option(help="Polling interval in seconds.", min=1)] = 60,
    with_sessions: Annotated[
        bool, typer.Option("--with-sessions", help="Fetch the sessions of finished calls.")
    ] = False,
) -> None:
    """Follow calls: print each start, change and end once.

    Runs until Ctrl-C, --events or --stop. With --checkpoint a restart loses nothing that the service still keeps.

    Example: agora-analytics follow --last 30m --with-sessions --events 5
    """
    async with credentials.client(output.screen) as client:
        begin = stream_start(start, last, client.plan.of_endpoint(CALL_LISTS).retention)
        end = parse_time(stop, "--stop") if stop else None
        stream = client.calls.follow(
            start=begin, stop=end, checkpoint=checkpoint, every=every, with_sessions=with_sessions
        )
        count = 0
        with stop_on_signal(stream.stop), output.screen.live() as view:
            async with aclosing(stream), heartbeat(stream, output.screen, every) as record_event:
                async for event in stream:
                    record_event()
                    output.screen.emit_if_json(follow_row(event))
                    view.line(_line(event))
                    count += 1
                    if events is not None and count >= events:
                        # Stopped and not left: the events then count as processed, and the checkpoint moves past them.
                        stream.stop()


def gap_line(gap: agora.Gap) -> str:
    """Return the line of a gap in a stream."""
    missing = format_duration(gap.span.duration)
    return f"{format_time(gap.span.start)}  gap of {missing}: {GAP_REASONS[gap.reason]}"


def _line(event: CallEvent) -> str:
    """Return the line of an event: the time, what happened, the channel, and what is known of the call."""
    if isinstance(event, agora.Gap):
        return gap_line(event)
    call = event.call
    ts = call.created_ts
    if isinstance(event, agora.CallLost):
        kind, details = "lost", [f"its end will not be seen: {event.reason}"]
    elif isinstance(event, agora.CallSessions):
        kind, details, ts = "sessions", [_sessions(event)], call.destroyed_ts
    elif isinstance(event, agora.CallFinished):
        kind, details, ts = "finished", [_lasted(call), _peak(call), _sessions(event), _froze(call)], call.destroyed_ts
    else:
        kind, details = "started" if isinstance(event, agora.CallStarted) else "changed", [_peak(call)]
    parts = (f"{kind:<8}", call.cname or call.call_id, *details)
    return f"{format_time(ts)}  {'  '.join(filter(None, parts))}"


def _lasted(call: Call) -> str:
    return f"after {format_duration(call.span.duration - 1)}" if call.span else ""


def _peak(call: Call) -> str:
    return f"{format_count(call.call_pcu, 'user')} at peak" if call.call_pcu else ""


def _froze(call: Call) -> str:
    return f"video freeze {format_percent(call.call_video_freeze_rate)}" if call.call_video_freeze_rate else ""


def _sessions(event: agora.CallFinished | agora.CallSessions) -> str:
    if event.sessions is not None:
        return format_count(len(event.sessions), "session")
    return f"no sessions: {event.reason}" if event.reason or isinstance(event, agora.CallSessions) else ""
