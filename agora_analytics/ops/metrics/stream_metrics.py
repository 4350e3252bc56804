"""Streams as metrics: each is observed by a listener, so that its consumer iterates over it as before."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain
from typing import Final, Generic, TypeVar, get_args

import attrs
from prometheus_client import Counter

from agora_analytics._core.decoding.scanner import Steps, finish
from agora_analytics.models import Point
from agora_analytics.ops.metrics.families import Family, Value, values_of
from agora_analytics.ops.metrics.realtime_metrics import SeriesValues, reduced, users_behind
from agora_analytics.spans import WINDOW
from agora_analytics.streams.error_policy import StreamState
from agora_analytics.streams.events import (
    CallChanged,
    CallEvent,
    CallFinished,
    CallLost,
    CallSessions,
    CallStarted,
    Event,
    Gap,
    Window,
)
from agora_analytics.streams.follow.follow import Follow
from agora_analytics.streams.health import Health
from agora_analytics.streams.stream import Stream
from agora_analytics.streams.watch.series import Series
from agora_analytics.streams.watch.watch import Watch

T = TypeVar("T")

STATE = Family("agora_stream_state", "1 for the state that the stream is in, 0 for the others.")
LAG = Family("agora_stream_lag_seconds", "Age of the newest data that the stream has delivered.")
FAILURES = Family("agora_stream_failures", "Failed polls in a row.")
SKIPPED = Family(
    "agora_stream_skipped_rows", "Rows skipped because they do not match the API reference.", "counter", "_total"
)
SAVED = Family("agora_checkpoint_saved_timestamp_seconds", "When the named checkpoint was last saved.")
NEWEST = Family("agora_watch_newest_window_timestamp_seconds", "Start of the newest window that is final.")
OPEN_CALLS = Family("agora_follow_open_calls", "Calls that are open, as they were last seen.")

FAMILIES: Final = (STATE, LAG, FAILURES, SKIPPED, SAVED, NEWEST, OPEN_CALLS)

_STATES: Final = get_args(StreamState)
_WINDOW_KINDS: Final = ("complete", "missing", "revised", "gap")
_CALL_KINDS: Final = {
    CallStarted: "started",
    CallChanged: "changed",
    CallFinished: "finished",
    CallSessions: "sessions",
    CallLost: "lost",
    Gap: "gap",
}
_SETTLE_AT: Final = 32
"""Windows that may wait for a scrape before those that are final are reduced to their newest."""


class StreamCounters:
    """The counters of all streams of a collector."""

    def __init__(self) -> None:
        self.windows = Counter(
            "agora_watch_windows",
            "Windows delivered complete, with missing series, or lost in a gap; and revisions of a series.",
            ("app", "watch", "kind"),
            registry=None,
        )
        self.calls = Counter("agora_follow_events", "Events of calls.", ("app", "follow", "kind"), registry=None)

    def all(self) -> tuple[Counter, Counter]:
        """Return the counters."""
        return self.windows, self.calls

    def values(self) -> Iterator[Value]:
        """Yield the samples."""
        return chain.from_iterable(map(values_of, self.all()))


class StreamObserver(ABC, Generic[T]):
    """Observes a stream without keeping it alive: one that its consumer dropped counts as stopped."""

    def __init__(self, stream: Stream[T], app: str, name: str) -> None:
        self.app = app
        self.name = name
        self._stream = weakref.ref(stream)
        self.detach = stream.on_event(self.on_event)
        """Ends the observation."""

    @property
    def health(self) -> Health:
        """The health of the stream."""
        stream = self._stream()
        return Health(state="stopped") if stream is None else stream.health

    @abstractmethod
    def on_event(self, event: T) -> None:
        """Take an event into account."""

    @abstractmethod
    def forget(self) -> None:
        """Remove the counters of the stream."""

    def values(self) -> Iterator[Value]:
        """Yield the samples that all streams have."""
        health, labels = self.health, {"app": self.app, "stream": self.name}
        # One sample for each state, as Prometheus has no values that are texts.
        for state in _STATES:
            yield Value(STATE, labels | {"state": state}, health.state == state)
        yield Value(FAILURES, labels, health.failures)
        yield Value(SKIPPED, labels, health.skipped)
        if health.lag is not None:
            yield Value(LAG, labels, health.lag)
        if health.checkpoint_saved is not None:
            yield Value(SAVED, labels, health.checkpoint_saved)


class FollowObserver(StreamObserver[CallEvent]):
    """Observes a follow."""

    def __init__(self, follow: Follow, app: str, name: str, counters: StreamCounters) -> None:
        super().__init__(follow, app, name)
        self._follow = weakref.ref(follow)
        self._counter = counters.calls
        for kind in _CALL_KINDS.values():
            # At 0 from the start: `increase()` of a counter that appears with its first event would miss that one.
            self._counter.labels(app, name, kind)

    def on_event(self, event: CallEvent) -> None:
        """Count an event."""
        self._counter.labels(self.app, self.name, _CALL_KINDS[type(event)]).inc()

    def forget(self) -> None:
        """Remove the counters of the stream."""
        for kind in _CALL_KINDS.values():
            self._counter.remove(self.app, self.name, kind)

    def values(self) -> Iterator[Value]:
        """Yield the samples."""
        yield from super().values()
        follow = self._follow()
        if follow is not None:
            yield Value(OPEN_CALLS, {"app": self.app, "follow": self.name}, follow.open_calls)


class WatchObserver(StreamObserver[Event]):
    """Observes a watch: keeps its windows until they are final, and then the newest values of each shown series."""

    def __init__(self, watch: Watch, app: str, name: str, counters: StreamCounters, *, channels: bool) -> None:
        super().__init__(watch, app, name)
        self._watch = weakref.ref(watch)
        self._counter = counters.windows
        self._series = watch.series
        self._channels = channels
        self._windows: dict[int, Window] = {}
        self._newest: dict[Series, _NewestPoints] = {}
        self._reduced: dict[Series, SeriesValues] = {}
        self._settle_at = _SETTLE_AT
        for kind in _WINDOW_KINDS:
            self._counter.labels(app, name, kind)

    def on_event(self, event: Event) -> None:
        """Count an event, and keep what it says until the window is final."""
        if isinstance(event, Gap):
            self._count("gap", event.span.duration // WINDOW)
        elif isinstance(event, Window):
            self._count("missing" if event.missing else "complete")
            self._windows[event.ts] = event
            if len(self._windows) >= self._settle_at:
                finish(self._settle())
        else:
            self._count("revised")
            window = self._windows.get(event.ts)
            if window is not None:
                self._windows[event.ts] = attrs.evolve(
                    window,
                    values={**window.values, event.series: event.after},
                    missing={series: why for series, why in window.missing.items() if series != event.series},
                )

    def forget(self) -> None:
        """Remove the counters of the stream."""
        for kind in _WINDOW_KINDS:
            self._counter.remove(self.app, self.name, kind)

    def values(self) -> Iterator[Value]:
        """Yield the samples of the stream, without those of its series."""
        yield from super().values()
        newest = max((found.ts for found in self._newest.values()), default=None)
        if newest is not None:
            yield Value(NEWEST, {"app": self.app, "watch": self.name}, newest)

    def series_values(self) -> Steps[list[SeriesValues]]:
        """Return the values of each series, but for those of users, and of channels unless these are shown."""
        yield from self._settle()
        for series, newest in list(self._newest.items()):
            if series.uids or (series.cname is not None and not self._channels):
                continue
            before = self._reduced.get(series)
            if before is None or before.ts != newest.ts:
                shown = before.values if before is not None else {}
                values = yield from reduced(series, newest.points, newest.users, shown)
                self._reduced[series] = SeriesValues(series=series, ts=newest.ts, values=values)
                yield None
        return list(self._reduced.values())

    def _count(self, kind: str, windows: int = 1) -> None:
        self._counter.labels(self.app, self.name, kind).inc(windows)

    def _settle(self) -> Steps[None]:
        """Find the newest final window of each series, and drop the windows that nothing waits for any more."""
        watch, windows = self._watch(), dict(self._windows)  # events may come between two steps
        oldest = max(windows, default=0) + WINDOW
        for series in self._series:
            before = (watch.final_before(series) if watch is not None else None) or 0
            oldest = min(oldest, before)
            # What was not asked for is not known, so the values before it stay; what has no data is known to have none.
            found = [
                window
                for ts, window in windows.items()
                if (ts < before or window.final) and window.missing.get(series) != "not requested"
            ]
            if found:
                self._take(series, max(found, key=lambda window: window.ts))
            yield None
        for ts, window in windows.items():
            # Unless a revision has replaced it since the copy was made.
            if (ts < oldest or window.final) and self._windows.get(ts) is window:
                del self._windows[ts]
        # Twice what is left: then the work for each window is constant, however many wait.
        self._settle_at = 2 * len(self._windows) + _SETTLE_AT

    def _take(self, series: Series, window: Window) -> None:
        known = self._newest.get(series)
        if known is None or window.ts > known.ts:
            self._newest[series] = _NewestPoints(window.ts, window.points(series), users_behind(series, window))


@attrs.frozen
class _NewestPoints:
    """The points of a series in its newest final window, and the users by the same dimension."""

    ts: int
    points: tuple[Point, ...]
    users: tuple[Point, ...]
