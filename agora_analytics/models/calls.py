"""Call Inspector: calls, sessions, their metrics and statistics.

The fields are the service's own, under its names and in its units: `…_ts` are UTC seconds, rates are fractions (0.12 is
12 %), null where it sent null or nothing. Derived values are properties.
"""

from __future__ import annotations

import math
import re
from array import array
from typing import TYPE_CHECKING

import attrs

from agora_analytics._core.decoding.json import Whole
from agora_analytics.models.envelope import Answer, few
from agora_analytics.spans import Span, moment

if TYPE_CHECKING:
    from datetime import datetime

    Uid = int | str
    """A user ID; text only where the service sent text that is no number."""
else:
    # For the strict decoder: text falls back to the lenient one, which converts numeric text to numbers.
    Uid = Whole


@attrs.frozen(kw_only=True)
class Call:
    """One call of a channel, from its first join to its last leave (`/beta/analytics/call/lists`).

    `call_acu` is the average number of callers by the reference page, accumulated callers by two other editions of it.
    """

    call_id: str
    cname: str | None = None
    created_ts: Whole | None = None
    destroyed_ts: Whole | None = None
    finished: bool | None = None
    call_pcu: Whole | None = None
    call_acu: float | None = None
    call_audio_freeze_rate: float | None = None
    call_video_freeze_rate: float | None = None

    @property
    def started_at(self) -> datetime | None:
        """Start, aware, UTC."""
        return moment(self.created_ts)

    @property
    def ended_at(self) -> datetime | None:
        """End, aware, UTC; None while the call is open, whatever `destroyed_ts` is."""
        return moment(self.destroyed_ts) if self.finished is not False else None

    @property
    def is_over(self) -> bool:
        """Whether the call has ended: as `finished` says, or where that is missing, whether it has an end."""
        return self.ended_at is not None if self.finished is None else self.finished

    @property
    def span(self) -> Span | None:
        """From the first second to the last, both included; None while the call is open or has no times."""
        if not (self.created_ts and self.started_at and self.destroyed_ts and self.ended_at):
            return None
        # A second more, as spans are half-open; and never empty, though an end before its start occurs.
        return Span(self.created_ts, max(self.destroyed_ts, self.created_ts) + 1)


@attrs.frozen(kw_only=True)
class Session:
    """One user's stay in a call (`/beta/analytics/call/sessions`); `sid` is its key, `uid` may occur twice."""

    sid: str
    cname: str | None = None
    uid: Uid | None = None
    account: str | None = None
    network: str | None = None
    platform: str | None = None
    speaker: bool | None = None
    roles: tuple[str, ...] | None = None
    sdk_version: str | None = None
    device_type: str | None = None
    join_ts: Whole | None = None
    leave_ts: Whole | None = None
    finished: bool | None = None
    user_audio_freeze_rate: float | None = None
    user_video_freeze_rate: float | None = None

    @property
    def joined_at(self) -> datetime | None:
        """Moment of joining, aware, UTC."""
        return moment(self.join_ts)

    @property
    def left_at(self) -> datetime | None:
        """Moment of leaving, aware, UTC; None while the user is in the call."""
        return moment(self.leave_ts) if self.finished is not False else None


@attrs.frozen(kw_only=True)
class Track:
    """One metric of one session over time; `mid` is explained by `catalogue.MetricId`, which does not know all.

    `kvs` are pairs of UTC second and value as sent: unordered, with gaps. `peer_uid` is the remote user of the values,
    0 for the session's own.
    """

    mid: Whole
    kvs: tuple[tuple[Whole, float | None], ...] = attrs.field(repr=few)
    peer_uid: Uid | None = None

    @property
    def points(self) -> tuple[tuple[int, float], ...]:
        """`kvs` in order of time, without nulls."""
        return tuple(sorted((ts, value) for ts, value in self.kvs if value is not None))

    def columns(self) -> tuple[array[int], array[float]]:
        """`points` as two arrays: UTC seconds (64-bit integers) and values (doubles)."""
        if not self.kvs:
            return array("q"), array("d")
        stamps, values = zip(*self.kvs, strict=True)
        columns = array("q", stamps)
        # Both checks run in C; nearly every track is in order and without nulls.
        if None in values or list(stamps) != sorted(stamps):
            return Track(mid=self.mid, kvs=self.points).columns()
        return columns, array("d", values)


@attrs.frozen(kw_only=True)
class SessionMetrics:
    """All metrics of one session (`/beta/analytics/call/metrics`); `data` is empty if the service has none."""

    sid: str
    data: tuple[Track, ...] = attrs.field(default=(), repr=few)

    def track(self, mid: int, peer_uid: int | str = 0) -> Track | None:
        """Return the track of a metric id and a peer (0: the session's own), or None."""
        # Older answers leave the peer out for the session itself.
        return next((track for track in self.data if track.mid == mid and (track.peer_uid or 0) == peer_uid), None)


@attrs.frozen(kw_only=True)
class Statistic:
    """Average of a metric over the users that share a dimension's value (`/beta/analytics/call/statistics`)."""

    dimension_value: str | None
    user_count: Whole | None = None
    value: float | None = None


@attrs.frozen(kw_only=True)
class FreezeBucket:
    """How many users froze how much (`/beta/analytics/call/freeze/bucket`); `bucket` is like `[3%,5%)`."""

    bucket: str
    user_count: Whole | None = None

    @property
    def lowest(self) -> float:
        """Lower bound as a fraction, included; infinity if `bucket` has none, so that it sorts last."""
        # Bounded, without backtracking: the text is the service's.
        found = re.search(r"(?<![0-9.])([0-9]{1,9}(?:\.[0-9]{1,9})?) ?%", self.bucket)
        return float(found[1]) / 100 if found else math.inf


@attrs.frozen(kw_only=True)
class CallPage(Answer):
    """One page of calls, newest first; `total_size` counts all pages, `page_size` may be less than requested."""

    calls: tuple[Call, ...] | None = attrs.field(repr=few)
    total_size: Whole | None = None
    page_no: Whole | None = None
    page_size: Whole | None = None
    has_more: bool | None = None

    @property
    def items(self) -> tuple[Call, ...]:
        """The calls, never None."""
        return self.calls or ()


@attrs.frozen(kw_only=True)
class SessionPage(Answer):
    """One page of sessions, latest to join first.

    `missing` are spans of the call that could not be fetched: expired, or not queryable yet.
    """

    sessions: tuple[Session, ...] | None = attrs.field(repr=few)
    total_size: Whole | None = None
    page_no: Whole | None = None
    page_size: Whole | None = None
    has_more: bool | None = None
    missing: tuple[Span, ...] = ()

    @property
    def items(self) -> tuple[Session, ...]:
        """The sessions, never None."""
        return self.sessions or ()


@attrs.frozen(kw_only=True)
class MetricsAnswer(Answer):
    """Metrics of up to 20 sessions, in the service's order: find yours by `sid`."""

    metrics: tuple[SessionMetrics, ...] | None = attrs.field(repr=few)
