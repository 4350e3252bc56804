"""Handlers of Call Inspector's lists: calls, their sessions, and metrics of sessions; and the paging of lists."""

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

_RowT = TypeVar("_RowT")

_NOT_FOUND = 404


class _ListedCall(NamedTuple):
    """A call as it happened, and as the service reports it."""

    actual: SimulatedCall
    shown: SimulatedCall


def lists(context: RequestContext) -> Document:
    """Answer a search for calls with one page, newest calls first."""
    time_range = context.time_range("start_ts", "end_ts")
    page, cname = context.params.page(), context.params.optional_text("cname")
    calls = [
        call
        for call in _listed_calls(context, time_range)
        if cname in {None, call.actual.cname} and _has_appeared(context, call.actual)
    ]
    rows, page_fields = _page_of(context.variants, calls[::-1], page)
    return {**page_fields, "call_lists": [_call_row(context, call) for call in rows]}


def sessions(context: RequestContext) -> Document:
    """Answer a request for sessions with one page, ordered by time of joining, latest first."""
    time_range = context.time_range("start_ts", "end_ts")
    page, uids = context.params.page(), context.params.csv_list("uids", 10)
    hide_servers = _hides_servers(context)
    selected = [
        session
        for session in sessions_in(context, time_range, overlapping=context.variants.sessions_overlap)
        if not (session.server and hide_servers) and (not uids or str(session.uid) in uids)
    ]
    rows, page_fields = _page_of(context.variants, selected[::-1], page)
    return {**page_fields, "call_info": [_session_row(context, session) for session in rows]}


def metrics(context: RequestContext) -> Document:
    """Answer a request for metrics: sessions in random order, without those that have no samples."""
    time_range = context.time_range("start_ts", "end_ts")
    context.params.text("sids")
    sids = context.params.csv_list("sids", 20)
    selected = [session for session in sessions_in(context, time_range) if session.sid in sids]
    call = context.world.call(context.params.text("call_id"))
    rows = [
        {"sid": session.sid, "data": tracks}
        for session in selected
        if call and (tracks := _tracks(context, time_range, call, session))
    ]
    # Clients must match rows by `sid`; a fixed order would hide that one matches them by position.
    rng_for(context.world.seed, *sids).shuffle(rows)
    return {"metrics": rows}


def sessions_in(context: RequestContext, time_range: TimeRange, *, overlapping: bool = True) -> list[SimulatedSession]:
    """Return the requested call's sessions that overlap a time range, or start in it, ordered by time of joining.

    Raises `ErrorResponse` if the call was deleted, or if it is unknown and `Variants.unknown_call` is set.
    """
    call = context.world.call(context.params.text("call_id"))
    shown = call and call_changes.as_shown(context.world, context.variants, call, context.now)
    if call and not shown:
        raise no_such_call(context.variants.unknown_call or _NOT_FOUND)
    if not call or not shown:
        return _sessions_of_unknown_call(context)
    start, end = time_range.start, time_range.end
    return [
        session
        for session in call_changes.sessions(context.world, call, shown)
        if (session.overlaps(start, end) if overlapping else start <= session.join < end)
    ]


def _sessions_of_unknown_call(context: RequestContext) -> list[SimulatedSession]:
    if context.variants.unknown_call is not None:
        raise no_such_call(context.variants.unknown_call)
    return []


def _hides_servers(context: RequestContext) -> bool:
    if "exclude_server_user" not in context.params.values:
        return True
    return context.params.one_of("exclude_server_user", ("true", "false")) == "true"


def _listed_calls(context: RequestContext, time_range: TimeRange) -> list[_ListedCall]:
    """Return the calls that the service reports in a time range, oldest first."""
    world, variants = context.world, context.variants
    # A shortcut for most worlds: otherwise each call is looked at for changes.
    if not variants.changes_calls:
        select = world.calls_during if variants.calls_overlap else world.calls
        calls = select(time_range.start, time_range.end)
        return list(map(_ListedCall, calls, calls))
    candidates = (
        _ListedCall(call, shown)
        for call in _candidates(context, time_range).values()
        if (shown := call_changes.as_shown(world, variants, call, context.now))
    )
    # By the times that are shown: a call that was moved belongs where a client would look for it.
    selected = [call for call in candidates if _is_selected(context, time_range, call.shown)]
    return sorted(selected, key=lambda call: call.shown.created)


def _candidates(context: RequestContext, time_range: TimeRange) -> dict[str, SimulatedCall]:
    """Return the calls, by ID, that may be reported in a time range; endless ones only within the plan's retention."""
    world, variants = context.world, context.variants
    select = world.calls_during if variants.calls_overlap else world.calls
    # A call without an end overlaps every later span; without a bound the world would be drawn since 1970.
    oldest = context.now - context.limits.retention if variants.calls_overlap else time_range.start
    candidates = chain(
        select(time_range.start, time_range.end),
        call_changes.shown_elsewhere(world, variants, time_range.start, time_range.end),
        call_changes.endless_calls(world, variants, oldest, time_range.end),
    )
    return {call.call_id: call for call in candidates}


def _is_selected(context: RequestContext, time_range: TimeRange, call: SimulatedCall) -> bool:
    if context.variants.calls_overlap:
        return call.created < time_range.end and call.destroyed > time_range.start
    return time_range.start <= call.created < time_range.end


def _has_appeared(context: RequestContext, call: SimulatedCall) -> bool:
    """Whether searches return a call yet; see `Variants.late_calls`."""
    age = context.known_until - call.created
    if not 0 <= age < context.variants.late_by:
        return age >= 0
    return fraction(context.world.seed, "late call", call.call_id) >= context.variants.late_calls


def _end(context: RequestContext, end: int) -> int | None:
    """Return the end of a call or session as rows show it; it is known only once it has passed."""
    return end if end <= context.known_until else _unknown_end(context)


def _unknown_end(context: RequestContext) -> int | None:
    return {"null": None, "zero": 0, "last_seen": context.known_until}[context.variants.unfinished_end]


def _call_row(context: RequestContext, listed: _ListedCall) -> Document:
    call = listed.shown
    # The same second for all requests after the end, so that a finished call is summarized once.
    summary = _summary(context.world, listed, min(context.known_until, call.destroyed + 1))
    return {
        "call_id": call.call_id,
        "cname": call.cname,
        "created_ts": call.created,
        "destroyed_ts": _unknown_end(context) if context.variants.unreported_ends else _end(context, call.destroyed),
        "finished": call.destroyed <= context.known_until,
        "call_pcu": summary.peak_users,
        "call_acu": summary.average_users,
        "call_audio_freeze_rate": summary.audio_freeze,
        "call_video_freeze_rate": summary.video_freeze,
    }


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
        row["user_audio_freeze_rate"] = audio_freeze_value(context, session.audio_freeze)
    return row


def audio_freeze_value(context: RequestContext, rate: float | None) -> float | None:
    """Return an audio freeze rate as rows show it; on the web there is none."""
    return 0 if rate is None and context.variants.web_audio_freeze == "zero" else rate


def _tracks(
    context: RequestContext, time_range: TimeRange, call: SimulatedCall, session: SimulatedSession
) -> list[Document]:
    tracks: list[Document] = []
    for mid, peer in context.world.tracks(call, session):
        samples = context.world.samples(session, mid, peer, time_range.start, time_range.end)
        if samples:
            peer_uid = str(peer) if context.variants.uid_as_text else peer
            tracks.append({"mid": mid, "kvs": samples, "peer_uid": peer_uid})
    return tracks


def _page_of(variants: Variants, rows: Sequence[_RowT], page: PageRequest) -> tuple[Sequence[_RowT], Document]:
    """Return the rows of a page and its paging fields; raises `ErrorResponse` if the page is beyond `max_rows`."""
    arrived = _arrived_rows(variants, page)
    total = len(rows) + arrived
    first = (_served_page(variants, page) - 1) * page.size
    limit = total if variants.max_rows is None else variants.max_rows
    if variants.max_rows is not None and first >= limit:
        if variants.beyond == "refused":
            raise invalid(f"page_no * page_size must not be above {limit}")
        first = max(limit - page.size, 0) if variants.beyond == "repeated" else limit
    last = min(first + page.size, limit)
    return rows[max(first - arrived, 0) : max(last - arrived, 0)], _page_fields(variants, page, total)


def _served_page(variants: Variants, page: PageRequest) -> int:
    """Return the number of the page that is served for the requested one."""
    return {"right": page.number, "never": 1, "alternating": 2 - page.number % 2}[variants.turning]


def _arrived_rows(variants: Variants, page: PageRequest) -> int:
    """Return how many new rows have been inserted before all others since the first page."""
    earlier = page.number - 1
    return variants.arriving * (earlier if variants.arriving_pages is None else min(earlier, variants.arriving_pages))


def _page_fields(variants: Variants, page: PageRequest, total: int) -> Document:
    fields: Document = {}
    if variants.totals:
        fields |= {"total_size": max(total + variants.total_off, 0), "page_no": page.number, "page_size": page.size}
    if variants.has_more:
        limit = total if variants.max_rows is None else variants.max_rows
        announced = min(limit, total) if variants.beyond == "ended" else total
        fields["has_more"] = variants.always_more or min(page.number * page.size, limit) < announced
    return fields


@attrs.frozen
class CallSummary:
    """A call's peak and average concurrent users, and its average freeze rates, None if no session has one."""

    peak_users: int
    average_users: float
    audio_freeze: float | None
    video_freeze: float | None

    @classmethod
    def of(cls, sessions: Iterable[SimulatedSession], call: SimulatedCall, until: int) -> Self:
        """Summarize a call up to the UTC second `until`, without server users."""
        known = [session for session in sessions if not session.server and session.join < until]
        end = min(call.destroyed, until)
        seconds = sum(min(session.leave, end) - session.join for session in known)
        return cls(
            peak_users=_peak_users(known),
            average_users=round(seconds / max(1, end - call.created), 2),
            audio_freeze=mean([session.audio_freeze for session in known]),
            video_freeze=mean([session.video_freeze for session in known]),
        )


@lru_cache(maxsize=4_096)
def _summary(world: World, call: _ListedCall, until: int) -> CallSummary:
    return CallSummary.of(call_changes.sessions(world, call.actual, call.shown), call.shown, until)


def mean(rates: Sequence[float | None]) -> float | None:
    """Return the mean of the rates that are not None, with 4 decimals, or None if there are none."""
    known = [rate for rate in rates if rate is not None]
    return round(sum(known) / len(known), 4) if known else None


def _peak_users(sessions: Sequence[SimulatedSession]) -> int:
    # Sorted, a leave comes before a join of the same second: a user who rejoins at once counts once.
    joins, leaves = [(session.join, 1) for session in sessions], [(session.leave, -1) for session in sessions]
    return max(accumulate(step for _, step in sorted(joins + leaves)), default=0)
