"""`agora-analytics follow`: what happens to calls, as it happens, a line each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

import agora_analytics as agora
from agora_analytics.cli import times
from agora_analytics.cli.commands.heartbeat import pulse
from agora_analytics.cli.formatting import REASONS, clock, lasting, number, percent
from agora_analytics.cli.options import Account, Shown, command
from agora_analytics.cli.signals import stopped_by_signal
from agora_analytics.plans import CALL_LISTS

if TYPE_CHECKING:
    from agora_analytics.models import Call, Session
    from agora_analytics.streams import CallEvent


@attrs.frozen(kw_only=True)
class Fact:
    """An event for JSON: `started`, `changed`, `finished`, `sessions`, `lost` with its call, or a `gap`.

    A gap is from `start` to `end`. `reason` says why something is lost, or why there are no sessions.
    """

    event: str
    call: Call | None = None
    sessions: Sequence[Session] | None = None
    start: int | None = None
    end: int | None = None
    reason: str = ""


@command
async def follow(
    account: Account,
    shown: Shown,
    *,
    last: Annotated[str | None, typer.Option(help="Begin so long ago, where there is no checkpoint yet.")] = "10m",
    start: Annotated[str | None, typer.Option(help="Begin there: ISO 8601 or seconds since 1970.")] = None,
    stop: Annotated[str | None, typer.Option(help="End when the calls that began before are over.")] = None,
    events: Annotated[int | None, typer.Option(help="End after so many.", min=1)] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Go on where the last one of this name ended.")] = None,
    every: Annotated[int, typer.Option(help="Seconds between two looks.", min=1)] = 60,
    with_sessions: Annotated[
        bool, typer.Option("--with-sessions", help="Tell the sessions of calls that are over.")
    ] = False,
) -> None:
    """Follow calls: each start, change and end once.

    Example: agora-analytics follow --with-sessions --json >> calls.jsonl.
    """
    async with account.client(shown.screen) as client:
        begin = times.beginning(start, last, client.plan.of_endpoint(CALL_LISTS).available)
        end = times.instant(stop, "--stop") if stop else None
        stream = client.calls.follow(
            start=begin, stop=end, checkpoint=checkpoint, every=every, with_sessions=with_sessions
        )
        count = 0
        with stopped_by_signal(stream.stop), shown.screen.live() as live:
            async with aclosing(stream), pulse(stream, shown.screen, every) as beat:
                async for event in stream:
                    beat()
                    if shown.screen.json:
                        shown.screen.emit(_fact(event))
                    live.say(_told(event))
                    count += 1
                    if events is not None and count >= events:
                        stream.stop()


def _fact(event: CallEvent) -> Fact:
    match event:
        case agora.Gap():
            return Fact(event="gap", start=event.span.start, end=event.span.end, reason=event.reason)
        case agora.CallStarted():
            return Fact(event="started", call=event.call)
        case agora.CallChanged():
            return Fact(event="changed", call=event.call)
        case agora.CallLost():
            return Fact(event="lost", call=event.call, reason=event.reason)
        case agora.CallFinished() | agora.CallSessions():
            kind = "finished" if isinstance(event, agora.CallFinished) else "sessions"
            return Fact(event=kind, call=event.call, sessions=event.sessions, reason=event.reason)


def _told(event: CallEvent) -> str:
    if isinstance(event, agora.Gap):
        return f"{clock(event.span.start)}  nothing is known of {lasting(event.span.duration)}: {REASONS[event.reason]}"
    call = event.call
    if isinstance(event, agora.CallLost):
        return f"{clock(call.created_ts)}  lost      {call.cname or call.call_id}  nobody sees its end: {event.reason}"
    if isinstance(event, agora.CallSessions):
        told = f"{len(event.sessions)} sessions" if event.sessions is not None else f"no sessions: {event.reason}"
        return f"{clock(call.destroyed_ts)}  sessions  {call.cname or call.call_id}  {told}"
    users = f"{number(call.call_pcu)} users at most" if call.call_pcu else ""
    if isinstance(event, agora.CallFinished):
        rates = f"video froze {percent(call.call_video_freeze_rate)}" if call.call_video_freeze_rate else ""
        lasted = f"after {lasting(call.span.duration - 1)}" if call.span else ""
        without = f"no sessions: {event.reason}" if event.reason else ""
        sessions = f"{len(event.sessions)} sessions" if event.sessions is not None else without
        parts = ("finished", call.cname or call.call_id, lasted, users, sessions, rates)
        return f"{clock(call.destroyed_ts)}  {'  '.join(filter(None, parts))}"
    what = "started " if isinstance(event, agora.CallStarted) else "changed "
    return f"{clock(call.created_ts)}  {'  '.join(filter(None, (what, call.cname or call.call_id, users)))}"
