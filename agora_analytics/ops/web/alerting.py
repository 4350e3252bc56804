"""Evaluates rules on the windows that a live state reads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

import attrs

from agora_analytics.ops.alerts.alert import Alert
from agora_analytics.ops.alerts.evaluation import evaluate
from agora_analytics.ops.alerts.rules import Rule, unweighted
from agora_analytics.ops.alerts.sinks import AlertSink
from agora_analytics.ops.alerts.worst_calls import WorstCalls
from agora_analytics.ops.web.history import SeriesLimit
from agora_analytics.streams.events import Event
from agora_analytics.streams.stream import Stream
from agora_analytics.streams.watch.series import Series
from agora_analytics.streams.watch.watch import Watch


def limits_of(series: Series, rules: Iterable[Rule]) -> tuple[SeriesLimit, ...]:
    """Return the thresholds of the rules about a series."""
    about = [rule for rule in rules if unweighted(rule.series) == unweighted(series)]
    return tuple(
        SeriesLimit(limit=rule.threshold, bad="above" if rule.comparison in {">", ">="} else "below", rule=str(rule))
        for rule in about
    )


@attrs.frozen(kw_only=True)
class RuleReader:
    """Reads a watch: passes each event on, evaluates the rules on it, and passes on the alerts."""

    rules: tuple[Rule, ...]
    sinks: Sequence[AlertSink]
    worst: WorstCalls | None
    on_alert: Callable[[Alert], None]

    async def read(self, watch: Stream[Event], deliver: Callable[[Event], None]) -> None:
        """Read a watch to its end."""
        assert isinstance(watch, Watch)  # noqa: S101 - the state opens no other stream of windows
        events = _delivered(watch, deliver)
        found = evaluate(watch, self.rules, sinks=self.sinks, worst=self.worst, events=events)
        async with aclosing(events), aclosing(found):
            async for alert in found:
                self.on_alert(alert)


async def _delivered(watch: Watch, deliver: Callable[[Event], None]) -> AsyncGenerator[Event]:
    """Yield the events of a watch, each once it is delivered: the page does not wait for the calls of an alert."""
    async for event in watch:
        deliver(event)
        yield event
