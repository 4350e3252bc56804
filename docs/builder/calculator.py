"""The numbers of the page's calculator: limits of each plan and the rules' constants, from the package, as JSON."""

from __future__ import annotations

import json
from typing import Final

from agora_analytics._core import validation
from agora_analytics.catalogue import Product
from agora_analytics.plans import ENDPOINTS, PLANS, REALTIME_USAGE, Endpoint, Plan
from agora_analytics.quota.priority import interactive_reserve
from agora_analytics.spans import DAY, WINDOW
from agora_analytics.streams.watch.schedule import max_windows_per_request

NUMBERS: Final = "reference/calculator.json"
"""The file of the site."""

_EVER: Final = 10_000 * DAY
"""Longer than any plan keeps data."""


def calculator_json() -> str:
    """Return what the script of the page computes with."""
    rules = {
        "day": DAY,
        "window": WINDOW,
        "products": len(Product),
        "page_size": validation.PAGE_SIZE,
        "sids": validation.SIDS,
        # Plans without access to the API have nothing to compute.
        "plans": {plan.name: _plan(plan) for plan in PLANS.values() if plan.limits},
    }
    return json.dumps(rules, indent=1)


def _plan(plan: Plan) -> dict[str, dict[str, int | None]]:
    endpoints = {endpoint.table: endpoint for endpoint in ENDPOINTS if plan.offers(endpoint)}
    tables = {table: _table(plan, endpoint) for table, endpoint in endpoints.items()}
    if REALTIME_USAGE.table in tables:
        tables[REALTIME_USAGE.table]["windows_per_request"] = max_windows_per_request(plan)
    return tables


def _table(plan: Plan, endpoint: Endpoint) -> dict[str, int | None]:
    limits = plan.of_endpoint(endpoint)
    names = ("per_second", "per_minute", "per_day", "retention", "delay", "longest_query")
    # The strict bounds, and the margin for requests that have to queue, are the plan's to know.
    history = plan.recent(endpoint, _EVER, now=_EVER).duration
    reserve = interactive_reserve(limits.per_day)
    return {**{name: getattr(limits, name) for name in names}, "longest_history": history, "reserve": reserve}
