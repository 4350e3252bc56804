"""Observers, for mypy and pyright."""

from __future__ import annotations

from typing import assert_type

from agora_analytics import AnalyticsClient, Plan
from agora_analytics.plans import Endpoint
from agora_analytics.protocols import Attempt, AttemptResult, Outcome, RequestObserver, RequestResult, RequestTrace


class Quiet:
    """An observer, and its trace, that reads all its arguments."""

    def request_started(self, endpoint: Endpoint, priority: str) -> RequestTrace | None:
        assert_type((endpoint.name, priority), tuple[str, str])
        return self

    def attempt_started(self, attempt: Attempt) -> None:
        assert_type((attempt.number, attempt.counter, attempt.waited, attempt.host), tuple[int, str, float, int])
        assert_type((attempt.address, attempt.port), tuple[str, int | None])

    def attempt_ended(self, attempt: Attempt, result: AttemptResult) -> None:
        assert_type((attempt, result.seconds, result.status), tuple[Attempt, float, int | None])
        assert_type((result.error, result.request_id), tuple[type[BaseException] | None, str | None])

    def request_ended(self, result: RequestResult) -> None:
        assert_type((result.outcome, result.seconds), tuple[Outcome, float])
        assert_type(result.error, type[BaseException] | None)


def observed(plan: Plan, mine: RequestObserver) -> None:
    AnalyticsClient("id", "secret", plan=plan, observers=[Quiet(), mine])
    AnalyticsClient("id", "secret", plan=plan, observers=[plan])  # type: ignore[list-item]
