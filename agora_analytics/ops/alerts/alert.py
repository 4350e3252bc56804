"""What an alert says: which rule, since when, for whom, what is unknown, and the calls behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import attrs

from agora_analytics._core import validation
from agora_analytics.catalogue import QualityMetric
from agora_analytics.models.points import Number
from agora_analytics.spans import WINDOW, Span, iso

__all__ = ["Alert", "Unknown", "WorstCall", "WorstUser"]

Kind = Literal["firing", "recovered", "no_data"]

FREEZES: Final = frozenset({QualityMetric.AUDIO_FREEZE_RATE, QualityMetric.VIDEO_FREEZE_RATE})
"""Metrics by which calls can be sorted."""

_FRACTIONS: Final = frozenset(QualityMetric)
_REASONS: Final = {
    "no data": "the service had no data",
    "not requested": "the window could not be requested in time",
    "not delivered": "the watch did not deliver it",
    "not final": "the watch did not say that it is final",
    "outage": "requests failed",
    "quota": "no request was left",
    "consumer": "earlier events took too long",
    "asleep": "the machine was suspended",
    "before_start": "it was too old when the watch started",
    "service": "the service did not keep it",
}


@attrs.frozen(kw_only=True)
class Unknown:
    """A span whose windows counted neither for nor against an alert.

    `reason` is one of `Gap` or `Window.missing`, `not delivered`, or `not final`. `of` is `users` if only the number of
    users was unknown.
    """

    span: Span
    reason: str
    of: str = ""

    def __str__(self) -> str:
        what = "the number of users" if self.of else "the value"
        lasted = f"{iso(self.span.start)} for {self.span.duration} s"
        return f"{what} is unknown from {lasted}: {_REASONS.get(self.reason, self.reason)}"


@attrs.frozen(kw_only=True)
class WorstUser:
    """A user in a bad call; freeze rates are fractions."""

    uid: int | str | None
    network: str | None = None
    platform: str | None = None
    audio_freeze_rate: float | None = None
    video_freeze_rate: float | None = None

    def __str__(self) -> str:
        where = ", ".join(filter(None, (self.network, self.platform)))
        return f"user {self.uid}{f' ({where})' if where else ''}{_freezes(self)}"


@attrs.frozen(kw_only=True)
class WorstCall:
    """A call that was in use during an alert; freeze rates are fractions, of the call so far.

    `started_ts` is its start in UTC seconds, `users` the peak, `link` a page about it. `worst_users` is empty unless
    its sessions were fetched.
    """

    call_id: str
    cname: str | None = None
    started_ts: int | None = None
    users: int | None = None
    audio_freeze_rate: float | None = None
    video_freeze_rate: float | None = None
    link: str = ""
    worst_users: tuple[WorstUser, ...] = ()

    def __str__(self) -> str:
        users = "" if self.users is None else f", {self.users} users at peak"
        shown = f"{self.cname or 'unnamed'} ({self.call_id}){_freezes(self)}{users}"
        people = "".join(f"; {user}" for user in self.worst_users)
        return f"{shown}{people}{f' {self.link}' if self.link else ''}"


@attrs.frozen(kw_only=True)
class Alert:
    """A change that a rule reports: `firing`, `recovered`, or `no_data`.

    The same events give the same alerts, with the same `key`: a receiver that has seen a key drops the second one. An
    alert and its recovery have the same `incident`. `str(alert)` is one line, `alert.text` has the calls too.

    Attributes:
        key: identifies this alert, 16 hexadecimal digits.
        incident: the key of the alert that began what this one is about.
        kind: `recovered` ends a `firing` or a `no_data` alert.
        about: `value` or `data`: what has changed, the value or that there are values at all.
        rule: the rule's text.
        series: the series' text.
        group: the dimension's value or the user; None for a series without.
        ts: start of the window that decided, in UTC seconds.
        since: start of the first window of the run that decided; for `no_data`, the end of the last one with a value.
        windows: how many windows in a row decided.
        value: the value in the window at `ts`, a fraction or a count.
        users: the users in that window, if the rule has a least number of them.
        unknown: spans without a value, just before the run or since the incident began; at most the newest eight.
        untracked: other values that meet the rule, beyond its `max_values`.
        calls: the worst calls in use then, worst first; empty unless they were looked up.
        note: what there is to know about `calls`, such as that no request was left for them.
        command: the command that lists the worst calls.

    """

    key: str
    incident: str
    kind: Kind
    rule: str
    series: str
    ts: int
    since: int
    about: Literal["value", "data"] = "value"
    group: str | None = None
    windows: int = 0
    value: Number | None = None
    users: Number | None = None
    unknown: tuple[Unknown, ...] = ()
    untracked: int = 0
    calls: tuple[WorstCall, ...] = ()
    note: str = ""

    @property
    def span(self) -> Span:
        """From `since` to the end of the window that decided."""
        return Span(self.since, max(self.ts + WINDOW, self.since + 1))

    @property
    def command(self) -> str:
        """The command that lists the worst calls of the window that decided."""
        metric = self.series.partition(" ")[0]
        by = f" --metric {metric}" if metric in FREEZES else ""
        return f"agora-analytics calls worst --at {iso(self.ts)}{by}"

    def __str__(self) -> str:
        name = self.series if self.group is None else f"{self.series}={self.group}"
        return validation.printable(f"{self.kind.replace('_', ' ')}: {name} {self._what()} [{self.rule}]")

    def _what(self) -> str:
        if self.kind == "no_data":
            return f"has had no value since {iso(self.since)}"
        if self.about == "data":
            return f"has values again from {iso(self.ts)}"
        users = "" if self.users is None else f", {self.users} users"
        count = f"{self.windows} window{'s' if self.windows > 1 else ''}"
        return f"{self._shown_value()} at {iso(self.ts)}{users}, {count} from {iso(self.since)}"

    def _shown_value(self) -> str:
        fraction = self.series.partition(" ")[0] in _FRACTIONS
        return "" if self.value is None else f"{self.value:.2%}" if fraction else f"{self.value:g}"

    @property
    def text(self) -> str:
        """The alert for people, in several lines: what happened, what is unknown, and the worst calls."""
        # Channel names come from users: an end of a line in one would make a line of its own.
        return "\n".join(map(validation.printable, self._lines()))

    def _lines(self) -> Iterator[str]:
        yield str(self)
        yield from map(str, self.unknown)
        if self.untracked:
            yield f"{self.untracked} more values meet the rule and are not tracked"
        yield from (f"{place}. {call}" for place, call in enumerate(self.calls, 1))
        if self.note:
            yield self.note
        if self.kind == "firing":
            yield self.command


def _freezes(item: WorstUser | WorstCall) -> str:
    rates = (("video", item.video_freeze_rate), ("audio", item.audio_freeze_rate))
    return "".join(f", {kind} freeze {rate:.1%}" for kind, rate in rates if rate is not None)
