"""Call Inspector's lists: calls, their sessions, and the metrics of sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import NamedTuple, Self, TypeVar

import attrs

from agora_analytics.simulator.service import call_changes
from agora_analytics.simulator.service.context import Document, RequestContext
from agora_analytics.simulator.service.error_responses import invalid, no_such_call
from agora_analytics.simulator.service.params import PageRequest, TimeRange
from agora_analytics.simulator.service.variants import Variants
from agora_analytics.simulator.world.entities import SimulatedCall, SimulatedSession
from agora_analytics.simulator.world.rng import fraction, rng_for
from agora_analytics.simulator.world.world import World

_Row = TypeVar("_Row")

_GONE = 404


class _ListedCall(NamedTuple):
    """A call, and as what the service shows it."""

    call: SimulatedCall
    shown: SimulatedCall


def lists(context: RequestContext) -> Document:
    """Answer a search for calls: a page of them, newest first."""
    time_range = context.time_range("start_ts", "end_ts")
    page, cname = context.params.page(), context.params.optional_text("cname")
    known = context.known_until
    calls = [
        one
        for one in _listed(context, time_range)
        if cname in {None, one.call.cname} and _appeared(context, one.call, known)
    ]
    shown, said = _page(context, calls[::-1], page)
    return {**said, "call_lists": [_call_row(context, one) for one in shown]}


def sessions(context: RequestContext) -> Document:
    """Answer a request for sessions: a page of them, the latest to join first."""
    time_range = context.time_range("start_ts", "end_ts")
    page, uids = context.params.page(), context.params.csv_list("uids", 10)
    hidden = context.params.one_of("exclude_server_user", ("true", "false")) if _says_servers(context) else "true"
    found = [
        session
        for session in sessions_in(context, time_range, overlapping=context.variants.sessions_overlap)
        if not (session.server and hidden == "true") and (not uids or str(session.uid) in uids)
    ]
    shown, said = _page(context, found[::-1], page)
    return {**said, "call_info": [_session_row(context, session) for session in shown]}


def metrics(context: RequestContext) -> Document:
    """Answer a request for metrics: the sessions in no order, left out where nothing was measured."""
    time_range = context.time_range("start_ts", "end_ts")
    context.params.text("sids")
    sids = context.params.csv_list("sids", 20)
    found = [one for one in sessions_in(context, time_range) if one.sid in sids]
    call = context.world.call(context.params.text("call_id"))
    rows = [
        {"sid": one.sid, "data": tracks}
        for one in found
        if call and (tracks := _tracks(context, time_range, call, one))
    ]
    rng_for(context.world.seed, *sids).shuffle(rows)
    return {"metrics": rows}


def sessions_in(context: RequestContext, time_range: TimeRange, *, overlapping: bool = True) -> list[SimulatedSession]:
    """Return the sessions of the call asked for that overlap a time frame, or start in it, first to join first.

    Raises `ErrorResponse` where the call was deleted.
    """
    call = context.world.call(context.params.text("call_id"))
    shown = call and call_changes.as_shown(context.world, context.variants, call, context.now)
    if call and not shown:
        raise no_such_call(context.variants.unknown_call or _GONE)
    if not call or not shown:
        return _unknown(context)
    return [
        session
        for session in call_changes.sessions(context.world, call, shown)
        if (
            session.overlaps(time_range.start, time_range.end)
            if overlapping
            else time_range.start <= session.join < time_range.end
        )
    ]


def _unknown(context: RequestContext) -> list[SimulatedSession]:
    if context.variants.unknown_call is not None:
        raise no_such_call(context.variants.unknown_call)
    return []


def _listed(context: RequestContext, time_range: TimeRange) -> list[_ListedCall]:
    """Return the calls of a time frame as the service tells of them, oldest first."""
    world, variants = context.world, context.variants
    if not variants.changes_calls:
        select = world.calls_during if variants.calls_overlap else world.calls
        calls = select(time_range.start, time_range.end)
        return list(map(_ListedCall, calls, calls))
    shown = (
        _ListedCall(call, one)
        for call in _candidates(context, time_range).values()
        if (one := call_changes.as_shown(world, variants, call, context.now))
    )
    found = [one for one in shown if _selected(context, time_range, one.shown)]
    return sorted(found, key=lambda one: one.shown.created)


def _candidates(context: RequestContext, time_range: TimeRange) -> dict[str, SimulatedCall]:
    """Return the calls by id that may be told of in a time frame; any call is told of only while the plan keeps it."""
    world, variants = context.world, context.variants
    select = world.calls_during if variants.calls_overlap else world.calls
    kept = context.now - context.limits.available if variants.calls_overlap else time_range.start
    found = chain(
        select(time_range.start, time_range.end),
        call_changes.shown_elsewhere(world, variants, time_range.start, time_range.end),
        call_changes.endless(world, variants, kept, time_range.end),
    )
    return {call.call_id: call for call in found}


def _selected(context: RequestContext, time_range: TimeRange, call: SimulatedCall) -> bool:
    if context.variants.calls_overlap:
        return call.created < time_range.end and call.destroyed > time_range.start
    return time_range.start <= call.created < time_range.end


def _says_servers(context: RequestContext) -> bool:
    return "exclude_server_user" in context.params.values


def _appeared(context: RequestContext, call: SimulatedCall, known: int) -> bool:
    """Whether the service, which knows what happened until then, has heard of a call yet."""
    age = known - call.created
    if not 0 <= age < context.variants.late_by:
        return age >= 0
    return fraction(context.world.seed, "late call", call.call_id) >= context.variants.late_calls


def _end(context: RequestContext, end: int) -> int | None:
    """Spell the end of a call or session: known only when it has come."""
    return end if end <= context.known_until else _unfinished(context)


def _unfinished(context: RequestContext) -> int | None:
    return {"null": None, "zero": 0, "last_seen": context.known_until}[context.variants.unfinished_end]


def _call_row(context: RequestContext, told: _ListedCall) -> Document:
    call = told.shown
    attendance = _attendance(context.world, told, min(context.known_until, call.destroyed + 1))
    return {
        "call_id": call.call_id,
        "cname": call.cname,
        "created_ts": call.created,
        "destroyed_ts": _unfinished(context) if context.variants.untold_ends else _end(context, call.destroyed),
        "finished": call.destroyed <= context.known_until,
        "call_pcu": attendance.peak,
        "call_acu": attendance.average,
        "call_audio_freeze_rate": attendance.audio_freeze,
        "call_video_freeze_rate": attendance.video_freeze,
    }


@lru_cache(maxsize=4_096)
def _attendance(world: World, told: _ListedCall, until: int) -> Attendance:
    return Attendance.of(call_changes.sessions(world, told.call, told.shown), told.shown, until)


def _session_row(context: RequestContext, session: SimulatedSession) -> Document:
    row: Document = {
        "sid": session.sid,
        "cname": session.cname,
        "uid": str(session.uid) if context.variants.uid_as_text else session.uid,
        "network": session.profile.network,
        "platform": session.profile.os,
        "speaker": session.speaker,
        "roles": ",".join(session.roles) if context.variants.roles_as_text else list(session.roles),
        "sdk_version": session.profile.sdk,
        "device_type": session.profile.device,
        "join_ts": session.join,
        "leave_ts": _end(context, session.leave),
        "finished": session.leave <= context.known_until,
        "user_video_freeze_rate": session.video_freeze,
    }
    if session.account is not None:
        row["account"] = session.account
    if session.audio_freeze is not None or context.variants.web_audio_freeze != "absent":
        row["user_audio_freeze_rate"] = audio_rate(context, session.audio_freeze)
    return row


def audio_rate(context: RequestContext, rate: float | None) -> float | None:
    """Spell an audio freeze rate, of which there is none on the web."""
    return 0 if rate is None and context.variants.web_audio_freeze == "zero" else rate


def _tracks(
    context: RequestContext, time_range: TimeRange, call: SimulatedCall, session: SimulatedSession
) -> list[Document]:
    tracks: list[Document] = []
    for mid, peer in context.world.tracks(call, session):
        kvs = context.world.samples(session, mid, peer, time_range.start, time_range.end)
        if kvs:
            tracks.append({"mid": mid, "kvs": kvs, "peer_uid": str(peer) if context.variants.uid_as_text else peer})
    return tracks


def _page(context: RequestContext, rows: Sequence[_Row], page: PageRequest) -> tuple[Sequence[_Row], Document]:
    """Return the rows of a page, and what it says of pages; raises `ErrorResponse` where the page lies too deep."""
    variants = context.variants
    arrived = _arrived(variants, page)
    first = (_turned(variants, page) - 1) * page.size
    most = len(rows) + arrived if variants.most_rows is None else variants.most_rows
    if variants.most_rows is not None and first >= most:
        if variants.beyond == "refused":
            raise invalid(f"page_no * page_size must not be above {most}")
        first = max(most - page.size, 0) if variants.beyond == "repeated" else most
    last = min(first + page.size, most)
    found = rows[max(first - arrived, 0) : max(last - arrived, 0)]
    return found, _said(variants, page, len(rows) + arrived)


def _turned(variants: Variants, page: PageRequest) -> int:
    """Return the number of the page that is shown where another is asked for."""
    return {"right": page.number, "never": 1, "alternating": 2 - page.number % 2}[variants.turning]


def _arrived(variants: Variants, page: PageRequest) -> int:
    """Return how many new rows have come before the others since the first page."""
    pages = page.number - 1
    return variants.arriving * (pages if variants.arriving_pages is None else min(pages, variants.arriving_pages))


def _said(variants: Variants, page: PageRequest, total: int) -> Document:
    document: Document = {}
    if variants.totals:
        document |= {"total_size": max(total + variants.total_off, 0), "page_no": page.number, "page_size": page.size}
    if variants.has_more:
        most = total if variants.most_rows is None else variants.most_rows
        told = min(most, total) if variants.beyond == "ended" else total
        document["has_more"] = variants.always_more or min(page.number * page.size, most) < told
    return document


@attrs.frozen
class Attendance:
    """Most users at once, users on average, and average freeze rates: None where nobody had any."""

    peak: int
    average: float
    audio_freeze: float | None
    video_freeze: float | None

    @classmethod
    def of(cls, sessions: Iterable[SimulatedSession], call: SimulatedCall, until: int) -> Self:
        """Sum up a call as far as it is known; server users do not count."""
        known = [one for one in sessions if not one.server and one.join < until]
        end = min(call.destroyed, until)
        seconds = sum(min(one.leave, end) - one.join for one in known)
        return cls(
            peak=_most_at_once(known),
            average=round(seconds / max(1, end - call.created), 2),
            audio_freeze=mean([one.audio_freeze for one in known]),
            video_freeze=mean([one.video_freeze for one in known]),
        )


def mean(rates: Sequence[float | None]) -> float | None:
    """Return the mean of the rates that are there, with 4 digits; None where none is."""
    there = [rate for rate in rates if rate is not None]
    return round(sum(there) / len(there), 4) if there else None


def _most_at_once(sessions: Sequence[SimulatedSession]) -> int:
    steps = sorted([(one.join, 1) for one in sessions] + [(one.leave, -1) for one in sessions])
    return max(accumulate(step for _, step in steps), default=0)
