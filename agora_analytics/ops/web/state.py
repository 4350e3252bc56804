"""`LiveState`: what a page shows, in bounded memory, fed by one watch and one follow."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import attrs

from agora_analytics._core import validation
from agora_analytics._core.decoding.json import encode
from agora_analytics._core.futures import cancel_and_wait
from agora_analytics.client import AnalyticsClient, app_of, dispatcher_of, service_time
from agora_analytics.ops.alerts.rules import Rule, watched
from agora_analytics.ops.alerts.sinks import AlertSink
from agora_analytics.ops.alerts.worst_calls import WorstCalls
from agora_analytics.ops.fleet.monitor import FleetMonitor
from agora_analytics.ops.web.alerting import RuleReader, limits_of
from agora_analytics.ops.web.board import CallBoard, CallGap, entry_of
from agora_analytics.ops.web.feed import EventFeed
from agora_analytics.ops.web.feeding import StreamReader, StreamView
from agora_analytics.ops.web.fleet_view import fleet_news
from agora_analytics.ops.web.history import SeriesView, WindowBoard
from agora_analytics.ops.web.monitor import StateMonitor
from agora_analytics.ops.web.selection import sensible_series, with_watched
from agora_analytics.ops.web.usage import RequestUsage
from agora_analytics.plans import CALL_LISTS, REALTIME_USAGE
from agora_analytics.quota.service_time import Now
from agora_analytics.spans import HOUR, MINUTE
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.events import CallEvent, Event, Gap
from agora_analytics.streams.follow.follow import Follow
from agora_analytics.streams.listeners import Listeners
from agora_analytics.streams.watch.schedule import Coverage
from agora_analytics.streams.watch.series import Series
from agora_analytics.streams.watch.watch import Watch

__all__ = ["LiveState"]

StreamT = TypeVar("StreamT", Watch, Follow)

_MAX_ALERTS: Final = 200

log = logging.getLogger("agora_analytics.ops")


@attrs.frozen(kw_only=True)
class AlertEntry:
    """An alert as JSON: its number, when it came (UTC seconds), and what it says."""

    id: int
    at: int
    alert: Any


class LiveState:
    """The last hour of each series, the newest and the worst calls, the quota, the streams and the alerts.

    ```python
    from aiohttp import web

    from agora_analytics import ops

    users = Series("userCount", product="Native")
    async with AnalyticsClient.from_env() as client, ops.LiveState(client, users) as state:
        application = web.Application()
        application.add_subapp("/agora/", ops.routes(state))
    ```

    Entering the context starts one watch and one follow, and leaving it ends them. Reading the state costs no request.
    Memory is bounded: 180 windows of each series, about a thousand calls, 200 alerts. A stream that ends by an error is
    started again: after some minutes at most, or with the new day if its quota is spent.

    Raises `ValueError` or `TypeError` for invalid arguments, for series that the plan cannot cover without gaps, and
    for a client without an App ID.

    Args:
        client: the client; it is not closed.
        series: what to watch; by default what the plan can poll every six minutes.
        calls: whether to follow calls.
        sessions: whether to fetch the sessions of finished calls, as the day's requests for details allow.
        back: how long ago the follow starts; the watch starts with what the service still keeps of the last hour.
        checkpoint: name under which both streams save their positions, with `-windows` and `-calls` added. They resume
            there, and what came before is not in the state then: use it only if your program stores each event.
        gaps: whether to accept more series than the plan covers.
        rules: rules of `ops.alerts`, whose series are watched too; their alerts are shown and go to the `sinks`. With a
            `checkpoint` a restart repeats none.
        sinks: where alerts are sent, as `alerts.evaluate` takes them; close them yourself.
        worst: adds the worst calls to each alert.
        fleet: a fleet whose workers and jobs are shown, too; open and close it yourself.

    """

    def __init__(
        self,
        client: AnalyticsClient,
        *series: Series,
        calls: bool = True,
        sessions: bool = False,
        back: timedelta = timedelta(hours=2),
        checkpoint: str | None = None,
        gaps: bool = False,
        rules: Iterable[Rule] = (),
        sinks: Sequence[AlertSink] = (),
        worst: WorstCalls | None = None,
        fleet: FleetMonitor | None = None,
    ) -> None:
        # What is kept, and what feeds it, on one page: longer than 25 lines for that.
        self.client = validation.instance("client", client, AnalyticsClient)
        self._rules = validation.instances("rules", rules, Rule)
        given = validation.instances("series", series, Series)
        needed = watched(self._rules)
        self.series = with_watched(given, needed) if given else sensible_series(client, needed)
        self.feed = EventFeed()
        self.board = WindowBoard(self.series)
        self.calls = CallBoard()
        self.fleet = None if fleet is None else validation.instance("fleet", fleet, FleetMonitor)
        self.call_gaps: deque[CallGap] = deque(maxlen=_MAX_ALERTS)
        self.alerts: deque[AlertEntry] = deque(maxlen=_MAX_ALERTS)
        self._opened_at: Now | None = None
        self._time = service_time(client)
        self.usage = RequestUsage(self._time)
        self.monitor = StateMonitor(client, self.feed, self.usage, lambda: self.streams, self.now)
        self._sessions = validation.boolean("sessions", sessions)
        self._back = validation.instance("back", back, timedelta)
        self._checkpoint = validation.none_or(validation.non_empty_str, "checkpoint", checkpoint)
        self._gaps = validation.boolean("gaps", gaps)
        self._listeners: Listeners[Event | CallEvent] = Listeners("the live state")
        self._stream_listeners: Listeners[Watch | Follow] = Listeners("the live state")
        self._tasks: list[asyncio.Task[None]] = []
        self._ignore_fleet: Callable[[], None] = _nothing
        reading = RuleReader(rules=self._rules, sinks=sinks, worst=worst, on_alert=self.add_alert)
        reader = reading.read if self._rules else None
        windows = StreamReader("windows", self._open_watch, self._add_event, self.now, reader)
        self._watch = windows if self.series else None
        followed = validation.boolean("calls", calls)
        self._follow = StreamReader("calls", self._open_follow, self._add_call, self.now) if followed else None
        # Opened once to raise what is wrong with the arguments.
        if self._watch is not None:
            self._watch.open(None)
        if self._follow is not None:
            self._follow.open(None)
        self.coverage: Coverage | None = client.realtime.coverage(*self.series) if self.series else None

    def now(self) -> float:
        """Return UTC seconds by the service's clock, as far as it is known."""
        return self._time.utc()

    @property
    def started(self) -> int | None:
        """When the state was opened, by the service's clock: the host's may have been wrong then."""
        if self._opened_at is None:
            return None
        if not self._opened_at.confirmed:
            now = self._time.now()
            utc = self._opened_at.utc + now.shift_since(self._opened_at)
            self._opened_at = self._opened_at._replace(utc=utc, confirmed=now.confirmed)
        return int(self._opened_at.utc)

    @property
    def app(self) -> str:
        """The beginning of the App ID: enough to tell two projects apart."""
        return app_of(self.client) or ""

    @property
    def streams(self) -> tuple[StreamView, ...]:
        """The state of each stream."""
        return tuple(reader.view() for reader in (self._watch, self._follow) if reader is not None)

    @property
    def is_open(self) -> bool:
        """Whether the state is open: only then requests are counted."""
        return bool(self._tasks)

    @property
    def failed(self) -> bool:
        """Whether a part of the state has ended by a fault of this library: nothing restarts it."""
        return any(task.done() for task in self._tasks)

    def series_views(self) -> Iterator[SeriesView]:
        """Yield the last hour of each series."""
        for history in self.board.histories.values():
            yield history.view(self._final_before(history.series), limits_of(history.series, self._rules))

    def on_event(self, listener: Callable[[Event | CallEvent], object]) -> Callable[[], None]:
        """Call a function with each event of both streams, and return a function that ends this.

        An exception from it ends nothing; its first one is logged.
        """
        return self._listeners.add(listener)

    def on_stream(self, listener: Callable[[Watch | Follow], object]) -> Callable[[], None]:
        """Call a function with the streams that are open, and with each that is opened later; for metrics.

        Return a function that ends this. An exception about a later stream ends nothing; the first one is logged.
        """
        remove = self._stream_listeners.add(listener, "a stream")
        for reader in (self._watch, self._follow):
            if isinstance(stream := reader and reader.stream, Watch | Follow):
                listener(stream)
        return remove

    def add_alert(self, alert: object) -> None:
        """Show an alert: any value that can be encoded as JSON; raises `TypeError` for others."""
        # Encoded only to raise here, at the caller's, and not later for each viewer.
        encode(alert)
        number = self.alerts[-1].id + 1 if self.alerts else 1
        self.alerts.append(AlertEntry(id=number, at=int(self.now()), alert=alert))
        self.feed.publish("alert", self.alerts[-1])

    async def __aenter__(self) -> Self:
        if self._tasks:
            raise RuntimeError("this live state is open already: a second watch would cost its requests once more")
        self.feed.open()
        self._opened_at = self._time.now()
        dispatcher_of(self.client).observers.add(self.usage)
        if self.fleet is not None:
            self._ignore_fleet = self.fleet.on_status(self._show_fleet)
        # Before the tasks: the first viewer finds a quota, and a load has a price.
        await self.monitor.refresh()
        work = [self.monitor.run(), *(reader.run() for reader in (self._watch, self._follow) if reader is not None)]
        self._tasks = [asyncio.create_task(one) for one in work]
        for task in self._tasks:
            task.add_done_callback(_log_failure)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # First, so that viewers do not wait for the streams, whose last save may take a while.
        self.feed.close()
        dispatcher_of(self.client).observers.remove(self.usage)
        self._ignore_fleet()
        tasks, self._tasks = self._tasks, []
        await cancel_and_wait(*tasks)

    def _open_watch(self, reached: Checkpoint | None) -> Watch:
        limits = self.client.plan.of_endpoint(REALTIME_USAGE)
        # A minute less than the service keeps: what expired while the first request waited would be shown as a gap.
        back = max(min(HOUR, limits.retention - limits.delay - MINUTE), MINUTE)
        # A name, or else where the stream before ended: a restart repeats nothing and leaves nothing out.
        named = self._checkpoint and f"{self._checkpoint}-windows"
        watch = self.client.realtime.watch(
            *self.series, start=timedelta(seconds=back), checkpoint=named or reached, gaps=self._gaps
        )
        return self._opened(watch)

    def _open_follow(self, reached: Checkpoint | None) -> Follow:
        # An hour inside the retention, for the same reason: call lists are kept for days.
        kept = timedelta(seconds=self.client.plan.of_endpoint(CALL_LISTS).retention - HOUR)
        named = self._checkpoint and f"{self._checkpoint}-calls"
        follow = self.client.calls.follow(
            start=min(self._back, kept), checkpoint=named or reached, with_sessions=self._sessions
        )
        return self._opened(follow)

    def _opened(self, stream: StreamT) -> StreamT:
        self._stream_listeners.notify(stream)
        return stream

    def _final_before(self, series: Series) -> int | None:
        watch = self._watch and self._watch.stream
        return watch.final_before(series) if isinstance(watch, Watch) else None

    def _show_fleet(self, monitor: FleetMonitor) -> None:
        # Each reading has other ages: without viewers they would only push the other events out.
        if self.feed.viewers:
            self.feed.publish("fleet", fleet_news(monitor))

    def _add_event(self, event: Event) -> None:
        # The state first, and then the listeners, which may read it.
        change = self.board.add(event, self._final_before)
        if change is not None:
            self.feed.publish("windows", change)
        self._listeners.notify(event)

    def _add_call(self, event: CallEvent) -> None:
        entry = entry_of(event, int(self.now()))
        if entry is not None:
            self.calls.add(entry)
            self.feed.publish("call", entry)
        elif isinstance(event, Gap):
            self.call_gaps.append(CallGap(start=event.span.start, end=event.span.end, reason=event.reason))
            self.feed.publish("call_gap", self.call_gaps[-1])
        self._listeners.notify(event)


def _nothing() -> None:
    """End nothing."""


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a part of the live state ended: it is no longer up to date", exc_info=error)
