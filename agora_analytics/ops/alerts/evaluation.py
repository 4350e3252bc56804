"""Alerts of a watch: takes its events, publishes the alerts, and saves the state before the watch moves on.

The order makes it at least once. Alerts of an event are published first, then the state of the rules is saved, and
only then the watch is asked for its next event, which saves the watch's checkpoint. A crash before the state is saved
repeats the event and its alerts, with the same keys; a crash after it repeats the event, which the rules then ignore.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Final

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import in_turns
from agora_analytics._core.futures import cancel_and_wait, retrieve_error
from agora_analytics._core.redaction import fingerprint
from agora_analytics.ops.alerts.alert import Alert
from agora_analytics.ops.alerts.delivery import Delivery
from agora_analytics.ops.alerts.evaluator import Evaluator, FinalBefore, checked
from agora_analytics.ops.alerts.rules import Rule, unweighted, watched
from agora_analytics.ops.alerts.sinks import AlertSink, log
from agora_analytics.ops.alerts.worst_calls import WorstCalls
from agora_analytics.streams.events import Event
from agora_analytics.streams.position import Position
from agora_analytics.streams.watch.watch import Watch

__all__ = ["evaluate"]

_SUFFIX: Final = "alerts"
_MAX_MARKS: Final = 10_000
"""Events between a watch and a subscriber of its hub for which is remembered what was final then."""


def evaluate(
    watch: Watch,
    rules: Iterable[Rule],
    *,
    sinks: Sequence[AlertSink] = (),
    worst: WorstCalls | None = None,
    events: AsyncIterator[Event] | None = None,
) -> AsyncGenerator[Alert]:
    """Yield the alerts of a watch, until it ends; each is sent to the sinks first.

    ```python
    from agora_analytics.ops import alerts

    rule = alerts.parse("videoFreezeRate:WebRTC > 5% for 2 with 20 users")
    async with client.realtime.watch(*alerts.watched([rule]), checkpoint="prod") as watch:
        async for alert in alerts.evaluate(watch, [rule]):
            print(alert.text)
    ```

    Only final windows count: after `final_after` seconds, as `Watch.final_before` says. The same events give the same
    alerts with the same keys, whatever the clock; only a `no_data` rule also looks at how long no event has come.

    If the watch has a named checkpoint, the state of the rules is saved beside it, under `NAME.alerts`: after a restart
    no alert is lost, and one that comes again has the same key. `worst` adds the worst calls to each firing alert.
    `events` are the watch's events if they come another way: `hub.subscribe()` of `broadcast(watch)`.

    Raises `ValueError` or `TypeError` for wrong arguments and for a series that is not watched; while iterating,
    `CheckpointError`, and what the watch raises.
    """
    validation.instance("watch", watch, Watch)
    found = checked(rules)
    missing = set(watched(found)) - set(map(unweighted, watch.series))
    if missing:
        names = ", ".join(sorted(map(str, missing)))
        raise ValueError(f"rules: the watch lacks the series {names}; watch alerts.watched(rules)")
    for sink in sinks:
        validation.with_members("sinks", sink, "a list of AlertSink, such as Webhook(url)", "send", "pending", "flush")
    validation.none_or(validation.instance, "worst", worst, WorstCalls)
    position = watch.position_beside(_SUFFIX, f"{_SUFFIX} {fingerprint(watch.app_id)}")
    return _Evaluation(watch, found, tuple(sinks), worst, position).alerts(watch if events is None else events)


class _Evaluation:
    """One run of `evaluate`."""

    def __init__(
        self,
        watch: Watch,
        rules: tuple[Rule, ...],
        sinks: tuple[AlertSink, ...],
        worst: WorstCalls | None,
        position: Position | None,
    ) -> None:
        self._watch = watch
        self._rules = rules
        self._delivery = Delivery(sinks, worst, {str(rule): rule.series.cname for rule in rules})
        self._position = position
        self._marks = _FinalMarks(watch, rules)

    async def alerts(self, events: AsyncIterator[Event]) -> AsyncGenerator[Alert]:
        saved = None if self._position is None else await self._position.resume()
        source = _PatientEvents(events, self._rules)
        try:
            # In a thread: a checkpoint may hold an hour of windows with thousands of values.
            evaluator = await asyncio.to_thread(Evaluator, self._rules, source=self._watch.app_id, checkpoint=saved)
            for rule in evaluator.dropped:
                log.warning("an alert of the rule %s will not recover: the rule is not given any more", rule)
            await self._delivery.resume(saved)
            while (found := await source.next()) is not None:
                for alert in await self._apply(evaluator, *found):
                    yield await self._delivery.publish(alert)
                await self._save(evaluator)
            # The watch has ended: what a sink delivers now is not sent again after a restart.
            await self._delivery.flush()
            await self._save(evaluator)
        finally:
            self._marks.close()
            try:
                await source.close()
            finally:
                if self._position is not None:
                    await self._position.release()

    async def _apply(self, evaluator: Evaluator, event: Event | None, seconds: float) -> list[Alert]:
        if event is None:
            return evaluator.silent(seconds, self._watch.utc())
        return await in_turns(evaluator.steps(event, self._marks.at(event)))

    async def _save(self, evaluator: Evaluator) -> None:
        if self._position is not None:
            await self._position.save(self._delivery.added_to(evaluator.checkpoint))


class _FinalMarks:
    """What is final of each series at the moment when the watch hands out an event.

    A subscriber of a hub gets events later: the watch may have revised a window by then, in an event that is still to
    come.
    """

    def __init__(self, watch: Watch, rules: tuple[Rule, ...]) -> None:
        needed = set(watched(rules))
        self._watch = watch
        self._series = tuple(series for series in watch.series if unweighted(series) in needed)
        self._marks: deque[tuple[Event, FinalBefore]] = deque(maxlen=_MAX_MARKS)
        # Weakly, so that an evaluation that nobody ever iterated over is not kept by its watch.
        note = weakref.WeakMethod(self._note)
        self._detach = weakref.finalize(self, watch.on_event(lambda event: (here := note()) and here(event)))
        self._detach.atexit = False

    def _note(self, event: Event) -> None:
        self._marks.append((event, {series: self._watch.final_before(series) for series in self._series}))

    def at(self, event: Event) -> FinalBefore | None:
        """Return what was final when an event was handed out; None for one from before, of a hub's history."""
        # By identity, as a hub hands on the same object: to compare thousands of points would hold the loop.
        if not any(noted is event for noted, _ in self._marks):
            return None
        while True:  # events that a slow subscriber has lost are passed over
            noted, marks = self._marks.popleft()
            if noted is event:
                return marks

    def close(self) -> None:
        """Note nothing any more."""
        self._detach()
        self._marks.clear()


class _PatientEvents:
    """Waits for events, and at most as long as a rule's `no_data` lasts."""

    def __init__(self, events: AsyncIterator[Event], rules: tuple[Rule, ...]) -> None:
        self._events = events
        self._limits = sorted({rule.no_data for rule in rules if rule.no_data is not None})
        self._pending: asyncio.Task[Event | None] | None = None
        self._heard: float | None = None
        self._silent = 0.0

    async def next(self) -> tuple[Event | None, float] | None:
        """Return the next event, or None and the seconds of silence so far; None at the end."""
        now = asyncio.get_running_loop().time
        self._heard = now() if self._heard is None else self._heard
        # Once for each limit in turn, as each rule alerts only once.
        limit = next((limit for limit in self._limits if limit > self._silent), None)
        if self._pending is None:
            # A task, so that the wait may end without losing the event.
            self._pending = asyncio.create_task(_next(self._events))
            self._pending.add_done_callback(retrieve_error)
        await asyncio.wait((self._pending,), timeout=None if limit is None else max(limit - (now() - self._heard), 0))
        if not self._pending.done():
            self._silent = now() - self._heard if limit is None else float(limit)
            return None, self._silent
        task, self._pending, self._heard, self._silent = self._pending, None, None, 0.0
        event = task.result()
        return None if event is None else (event, 0.0)

    async def close(self) -> None:
        """Stop waiting for the next event; the watch keeps it."""
        if self._pending is not None:
            await cancel_and_wait(self._pending)


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)
