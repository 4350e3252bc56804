"""The checks of an examination and what each costs, before anything is sent."""

from __future__ import annotations

import attrs

from agora_analytics.catalogue import UsageMetric
from agora_analytics.client import AnalyticsClient, dispatcher_of
from agora_analytics.plans import CALL_LISTS, INSIGHT_USAGE, REALTIME_USAGE, Endpoint

__all__ = ["Check", "checklist"]

PEAK_METRICS = (UsageMetric.PEAK_CURRENT_USERS, UsageMetric.PEAK_CONCURRENT_USERS)
"""The two names that the reference has for one peak metric, in its list and in its notes."""


@attrs.frozen(kw_only=True)
class Check:
    """One check: its name, the question that it answers, and the most requests it sends, to which endpoint."""

    name: str
    question: str
    requests: int = 0
    endpoint: Endpoint | None = None


def checklist(client: AnalyticsClient) -> tuple[Check, ...]:
    """Return the checks of `examine(client)` in their order, with the most that each costs; sends nothing.

    Checks of endpoints that the plan does not include are left out. Raises `ValueError` if that would be all of them.
    """
    # One entry for each check: longer than 25 lines for that.
    hosts = len(dispatcher_of(client).hosts)
    checks = (
        # Hosts first: their answers also tell the time, which the spans of all other checks depend on.
        Check(name="hosts", question="Which hosts answer, and how fast?", requests=hosts, endpoint=CALL_LISTS),
        Check(name="account", question="Are credentials, App ID and plan right?", requests=1, endpoint=CALL_LISTS),
        Check(name="clock", question="How far is the host's clock off?"),
        Check(name="retention", question="Does the service keep what the plan says?", requests=1, endpoint=CALL_LISTS),
        Check(
            name="insights",
            question="Are Data Insights included, and is the bucket of `endTs`?",
            requests=1,
            endpoint=INSIGHT_USAGE,
        ),
        Check(
            name="peak_metrics",
            question="Which name of a peak metric is accepted?",
            requests=len(PEAK_METRICS),
            endpoint=INSIGHT_USAGE,
        ),
        Check(
            name="realtime",
            question="Is Real-time Monitoring included, and how fresh is it?",
            requests=1,
            endpoint=REALTIME_USAGE,
        ),
        Check(
            name="selection",
            question="Do searches select calls by their start or by overlap?",
            requests=1,
            endpoint=CALL_LISTS,
        ),
        Check(name="limits", question="What are the account's rate limits?"),
        # Last, and free: to find out would take a refusal, which everyone who shares the account would feel.
        Check(name="shared_counters", question="Do endpoints of one table share a counter?"),
    )
    found = tuple(check for check in checks if check.endpoint is None or client.plan.offers(check.endpoint))
    if all(check.endpoint is None for check in found):
        client.plan.of_endpoint(CALL_LISTS)  # raises: the plan has no API access
    return found
