"""An observer that records its calls."""

from __future__ import annotations

from typing import Any

import attrs

from agora_analytics.plans import Endpoint
from agora_analytics.protocols import Attempt, AttemptResult, RequestResult


@attrs.define
class Trace:
    """The calls about one request, in order."""

    endpoint: str
    priority: str
    events: list[Any] = attrs.field(factory=list)

    def attempt_started(self, attempt: Attempt) -> None:
        self.events.append(attempt)

    def attempt_ended(self, attempt: Attempt, result: AttemptResult) -> None:
        assert attempt in self.events
        self.events.append(result)

    def request_ended(self, result: RequestResult) -> None:
        self.events.append(attrs.evolve(result, seconds=round(result.seconds, 3)))

    @property
    def attempts(self) -> list[Attempt]:
        return [event for event in self.events if isinstance(event, Attempt)]

    @property
    def results(self) -> list[AttemptResult]:
        return [event for event in self.events if isinstance(event, AttemptResult)]

    @property
    def end(self) -> RequestResult:
        """A request ends once, and nothing comes after it."""
        (end,) = (event for event in self.events if isinstance(event, RequestResult))
        assert self.events[-1] is end
        return end

    @property
    def outcome(self) -> str:
        return self.end.outcome


class Notebook:
    """Observes all requests."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def request_started(self, endpoint: Endpoint, priority: str) -> Trace:
        self.traces.append(Trace(endpoint.name, priority))
        return self.traces[-1]

    @property
    def only(self) -> Trace:
        (trace,) = self.traces
        return trace
