"""Call Inspector's lists: calls, their sessions, and the metrics of sessions."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from agora_analytics.simulator.service import call_changes, paging
from agora_analytics.simulator.service.call_users import Attendance
from agora_analytics.simulator.service.context import Case, Document
from agora_analytics.simulator.service.error_responses import no_such_call
from agora_analytics.simulator.service.params import Frame
from agora_analytics.simulator.world.entities import SimulatedCall, SimulatedSession
from agora_analytics.simulator.world.rng import share, stream
from agora_analytics.simulator.world.world import World

_GONE = 404


class _Told(NamedTuple):
    """A call, and as what the service shows it."""

    call: SimulatedCall
    shown: SimulatedCall


def lists(case: Case) -> Document:
    """Answer a search for calls: a page of them, newest first."""
    frame = case.frame("start_ts", "end_ts")
    page, cname = case.asked.page(), case.asked.maybe_text("cname")
    known = case.known_until
    calls = [
        one for one in _listed(case, frame) if cname in {None, one.call.cname} and _appeared(case, one.call, known)
    ]
    shown, said = paging.shown(case, calls[::-1], page)
    return {**said, "call_lists": [_call_row(case, one) for one in shown]}


def sessions(case: Case) -> Document:
    """Answer a request for sessions: a page of them, the latest to join first."""
    frame = case.frame("start_ts", "end_ts")
    page, uids = case.asked.page(), case.asked.several("uids", 10)
    hidden = case.asked.one_of("exclude_server_user", ("true", "false")) if _says_servers(case) else "true"
    found = [
        session
        for session in sessions_in(case, frame, overlapping=case.quirks.sessions_overlap)
        if not (session.server and hidden == "true") and (not uids or str(session.uid) in uids)
    ]
    shown, said = paging.shown(case, found[::-1], page)
    return {**said, "call_info": [_session_row(case, session) for session in shown]}


def metrics(case: Case) -> Document:
    """Answer a request for metrics: the sessions in no order, left out where nothing was measured."""
    frame = case.frame("start_ts", "end_ts")
    case.asked.text("sids")
    sids = case.asked.several("sids", 20)
    found = [one for one in sessions_in(case, frame) if one.sid in sids]
    call = case.world.call(case.asked.text("call_id"))
    rows = [{"sid": one.sid, "data": tracks} for one in found if call and (tracks := _tracks(case, frame, call, one))]
    stream(case.world.seed, *sids).shuffle(rows)
    return {"metrics": rows}


def sessions_in(case: Case, frame: Frame, *, overlapping: bool = True) -> list[SimulatedSession]:
    """Return the sessions of the call asked for that overlap a time frame, or start in it, first to join first.

    Raises `Refused` where the call was deleted.
    """
    call = case.world.call(case.asked.text("call_id"))
    shown = call and call_changes.told(case.world, case.quirks, call, case.now)
    if call and not shown:
        raise no_such_call(case.quirks.unknown_call or _GONE)
    if not call or not shown:
        return _unknown(case)
    return [
        session
        for session in call_changes.sessions(case.world, call, shown)
        if (session.overlaps(frame.start, frame.end) if overlapping else frame.start <= session.join < frame.end)
    ]


def _unknown(case: Case) -> list[SimulatedSession]:
    if case.quirks.unknown_call is not None:
        raise no_such_call(case.quirks.unknown_call)
    return []


def _listed(case: Case, frame: Frame) -> list[_Told]:
    """Return the calls of a time frame as the service tells of them, oldest first."""
    world, quirks = case.world, case.quirks
    if not quirks.changes_calls:
        select = world.calls_during if quirks.calls_overlap else world.calls
        calls = select(frame.start, frame.end)
        return list(map(_Told, calls, calls))
    shown = (
        _Told(call, one)
        for call in _candidates(case, frame).values()
        if (one := call_changes.told(world, quirks, call, case.now))
    )
    found = [one for one in shown if _selected(case, frame, one.shown)]
    return sorted(found, key=lambda one: one.shown.created)


def _candidates(case: Case, frame: Frame) -> dict[str, SimulatedCall]:
    """Return the calls by id that may be told of in a time frame; any call is told of only while the plan keeps it."""
    world, quirks = case.world, case.quirks
    select = world.calls_during if quirks.calls_overlap else world.calls
    kept = case.now - case.limits.available if quirks.calls_overlap else frame.start
    found = chain(
        select(frame.start, frame.end),
        call_changes.astray(world, quirks, frame.start, frame.end),
        call_changes.endless(world, quirks, kept, frame.end),
    )
    return {call.call_id: call for call in found}


def _selected(case: Case, frame: Frame, call: SimulatedCall) -> bool:
    if case.quirks.calls_overlap:
        return call.created < frame.end and call.destroyed > frame.start
    return frame.start <= call.created < frame.end


def _says_servers(case: Case) -> bool:
    return "exclude_server_user" in case.asked.values


def _appeared(case: Case, call: SimulatedCall, known: int) -> bool:
    """Whether the service, which knows what happened until then, has heard of a call yet."""
    age = known - call.created
    if not 0 <= age < case.quirks.late_by:
        return age >= 0
    return share(case.world.seed, "late call", call.call_id) >= case.quirks.late_calls


def _end(case: Case, end: int) -> int | None:
    """Spell the end of a call or session: known only when it has come."""
    return end if end <= case.known_until else _unfinished(case)


def _unfinished(case: Case) -> int | None:
    return {"null": None, "zero": 0, "last_seen": case.known_until}[case.quirks.unfinished_end]


def _call_row(case: Case, told: _Told) -> Document:
    call = told.shown
    attendance = _attendance(case.world, told, min(case.known_until, call.destroyed + 1))
    return {
        "call_id": call.call_id,
        "cname": call.cname,
        "created_ts": call.created,
        "destroyed_ts": _unfinished(case) if case.quirks.untold_ends else _end(case, call.destroyed),
        "finished": call.destroyed <= case.known_until,
        "call_pcu": attendance.peak,
        "call_acu": attendance.average,
        "call_audio_freeze_rate": attendance.audio_freeze,
        "call_video_freeze_rate": attendance.video_freeze,
    }


@lru_cache(maxsize=4_096)
def _attendance(world: World, told: _Told, until: int) -> Attendance:
    return Attendance.of(call_changes.sessions(world, told.call, told.shown), told.shown, until)


def _session_row(case: Case, session: SimulatedSession) -> Document:
    row: Document = {
        "sid": session.sid,
        "cname": session.cname,
        "uid": str(session.uid) if case.quirks.uid_as_text else session.uid,
        "network": session.profile.network,
        "platform": session.profile.os,
        "speaker": session.speaker,
        "roles": ",".join(session.roles) if case.quirks.roles_as_text else list(session.roles),
        "sdk_version": session.profile.sdk,
        "device_type": session.profile.device,
        "join_ts": session.join,
        "leave_ts": _end(case, session.leave),
        "finished": session.leave <= case.known_until,
        "user_video_freeze_rate": session.video_freeze,
    }
    if session.account is not None:
        row["account"] = session.account
    if session.audio_freeze is not None or case.quirks.web_audio_freeze != "absent":
        row["user_audio_freeze_rate"] = audio_rate(case, session.audio_freeze)
    return row


def audio_rate(case: Case, rate: float | None) -> float | None:
    """Spell an audio freeze rate, of which there is none on the web."""
    return 0 if rate is None and case.quirks.web_audio_freeze == "zero" else rate


def _tracks(case: Case, frame: Frame, call: SimulatedCall, session: SimulatedSession) -> list[Document]:
    tracks: list[Document] = []
    for mid, peer in case.world.tracks(call, session):
        kvs = case.world.samples(session, mid, peer, frame.start, frame.end)
        if kvs:
            tracks.append({"mid": mid, "kvs": kvs, "peer_uid": str(peer) if case.quirks.uid_as_text else peer})
    return tracks
