"""Checks a follow: start and end of each call once and in order, or a loss with the right reason."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import attrs

from agora_analytics import CallChanged, CallFinished, CallLost, CallSessions, Gap
from agora_analytics.plans import PREMIUM
from agora_analytics.simulator import SimulatedCall, Simulation
from agora_analytics.streams import CallEvent
from benchmarks.endurance.schedule import DAY, LATE, RefusedCalls
from benchmarks.endurance.truth import Fate, Hindrances, fate
from benchmarks.endurance.windows import Report

_LIMITS: Final = PREMIUM.limits["call_lists"]
_HOUR: Final = 3_600
_SOON: Final = 3_600.0
"""Seconds without a hindrance in which a follow makes progress, even if single requests fail."""

_JUDGED: Final = _LIMITS.retention + DAY
"""Seconds after the start of a call within which all its events come, even if it lasts twelve hours."""

_MOVED: Final = 130
_MAY_FOLLOW: Final = {"quota", "outage"}
_REASON: Final = re.compile(r"quota|outage|expired|[A-Z]\w+: .*")


@attrs.define
class _Delivered:
    """The events of a call, in order, and when it began."""

    kinds: list[str] = attrs.field(factory=list)
    ended: int | None = None
    reason: str = ""
    sessions: str = ""

    @property
    def over(self) -> bool:
        """Whether its end was reported, or its loss."""
        return "CallFinished" in self.kinds or "CallLost" in self.kinds


class CallJudge:
    """Takes the committed events of all processes, in order."""

    def __init__(self, simulation: Simulation, begin: int, hindrances: Hindrances, report: Report, seed: int) -> None:
        self._simulation = simulation
        self._hindrances = hindrances
        self._report = report
        self._refused = RefusedCalls(seed)
        self.refused: set[str] = set()
        self._delivered: dict[str, _Delivered] = {}
        self.judged = begin
        self._begin = begin
        self.seen: Counter[str] = Counter()
        self.ages: list[float] = []

    def take(self, at: float, life: int, event: CallEvent) -> None:  # noqa: ARG002 - a seam that two judges share
        """Take an event that was committed."""
        self.seen[type(event).__name__] += 1
        if isinstance(event, Gap):
            self._report("no calls lost: the plan keeps a week", str(event))
            return
        delivered = self._delivered.setdefault(event.call.call_id, _Delivered())
        if not isinstance(event, CallChanged):
            delivered.kinds.append(type(event).__name__)
        if isinstance(event, CallChanged) and delivered.kinds != ["CallStarted"]:
            self._report("changes between start and end", f"{event.call.call_id}: {delivered.kinds}")
        if isinstance(event, CallFinished):
            delivered.ended, delivered.sessions = event.call.destroyed_ts, event.reason
            self.ages.append(at - (event.call.destroyed_ts or 0) - _LIMITS.delay)
        if isinstance(event, CallLost):
            delivered.reason = event.reason
        if isinstance(event, CallFinished | CallSessions):
            self._sessions(event)

    def _sessions(self, event: CallFinished | CallSessions) -> None:
        self.seen[f"{type(event).__name__} {_kind(event.reason) or 'with sessions'}"] += 1
        call = self._simulation.world.call(event.call.call_id)
        if event.sessions is None:
            self._reason(event, call)
            return
        if event.reason or call is None:
            self._report("sessions are the world's", f"{event.call.call_id}: {event.reason}")
            return
        found = sorted((one.sid, one.leave_ts) for one in event.sessions)
        begun = event.call.created_ts or 0
        true = sorted(
            (one.sid, one.leave)
            for one in self._simulation.world.sessions(call)
            if not one.server and one.overlaps(begun, call.destroyed)
        )
        if found != true:
            self._report("sessions are the world's", f"{call.call_id}: {len(found)} of {len(true)}")

    def _reason(self, event: CallFinished | CallSessions, call: SimulatedCall | None) -> None:
        if not _REASON.fullmatch(event.reason) or (isinstance(event, CallSessions) and event.reason == "outage"):
            self._report("sessions without a documented reason", f"{event.call.call_id}: {event.reason!r}")
        own = ":" in event.reason
        refused = call and (
            self._refused.of(call.call_id) or call.call_id in self.refused or fate(self._simulation, call).deleted
        )
        if own and not refused:
            self._report("sessions refused by the service alone", f"{event.call.call_id}: {event.reason}")

    def judge(self, now: float) -> None:
        """Judge the calls of which no more events can come, and forget them."""
        while self.judged + _HOUR < now - _JUDGED:
            self._judge_hour(self.judged, now)
            self.judged += _HOUR

    def close(self, end: int, now: float) -> None:
        """Judge all calls that began before the accidents were over."""
        while self.judged < end:
            self._judge_hour(self.judged, now)
            self.judged += _HOUR

    def _judge_hour(self, hour: int, now: float) -> None:
        for call in self._simulation.world.calls(hour, hour + _HOUR):
            delivered = self._delivered.pop(call.call_id, _Delivered())
            self.seen["calls judged"] += 1
            wrong = self._wrong(call, fate(self._simulation, call), delivered, now)
            if wrong:
                self._report(f"calls: {wrong}", f"{call} {fate(self._simulation, call)} {delivered}")

    def _wrong(self, call: SimulatedCall, fate: Fate, delivered: _Delivered, now: float) -> str:
        """Return what is wrong with the events of a call; empty if nothing is."""
        if wrong := _wrong_order(delivered):
            return wrong
        if not delivered.kinds:
            return "" if self._unseen(call, fate) else "a start that was not reported"
        if delivered.reason:
            return self._wrong_loss(call, fate, delivered, now)
        return self._wrong_end(call, fate, delivered) if delivered.over else self._wrong_open(call, fate, now)

    def _unseen(self, call: SimulatedCall, fate: Fate) -> bool:
        """Whether a call was deleted before it could be read, or was moved to before the follow began."""
        visible = call.created + _LIMITS.delay + LATE
        if call.created + fate.moved < self._begin:
            return True
        return fate.deleted is not None and fate.deleted < self._hindrances.next_free(visible, _SOON)

    def _wrong_loss(self, call: SimulatedCall, fate: Fate, delivered: _Delivered, now: float) -> str:
        if delivered.reason == "gone":
            return "" if fate.deleted is not None else "gone, and it is there"
        if delivered.reason == "expired":
            old = now > call.created - _MOVED + _LIMITS.retention
            return "" if fate.endless and fate.deleted is None and old else "expired, and it is not"
        return "lost for no documented reason"

    def _wrong_end(self, call: SimulatedCall, fate: Fate, delivered: _Delivered) -> str:
        if fate.endless:
            return "an end of a call without one"
        if delivered.ended != call.destroyed:
            return "another end"
        return "an end after it was deleted" if fate.deleted is not None and fate.deleted < call.destroyed else ""

    def _wrong_open(self, call: SimulatedCall, fate: Fate, now: float) -> str:
        """Return what is wrong with a call that is still open by its events; empty if nothing is."""
        if fate.deleted is not None:
            age = now - fate.deleted
            return "deleted, and not reported" if age > 2 * _HOUR + 0.2 * (now - call.created) else ""
        if fate.endless:
            return "expired, and not reported" if now > call.created + _LIMITS.retention + DAY else ""
        return "an end that was not reported" if now > call.destroyed + _HOUR + 0.2 * call.duration else ""


def _wrong_order(delivered: _Delivered) -> str:
    """Return what is wrong with the order of the events of a call; empty if nothing is."""
    often = Counter(delivered.kinds)
    if any(count > 1 for count in often.values()) or often["CallFinished"] + often["CallLost"] > 1:
        return "a start or an end twice"
    if delivered.kinds and delivered.kinds[0] != "CallStarted":
        return "an end before its start"
    if often["CallSessions"] and (delivered.kinds[-1] != "CallSessions" or delivered.sessions not in _MAY_FOLLOW):
        return "sessions that were not to follow"
    return ""


def _kind(reason: str) -> str:
    return reason.split(":", maxsplit=1)[0]
