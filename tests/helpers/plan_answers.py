"""What the plan calculator must answer: the rules of the package, put together for any input of its form."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from math import ceil
from typing import Any

import attrs
from helpers.buckets import known_clock

from agora_analytics import Insight, Plan, Span
from agora_analytics.export import costs
from agora_analytics.export.fetch.sources import CallSource, InsightSource, Source
from agora_analytics.plans import CALL_LISTS, CALL_SESSIONS, REALTIME_USAGE, is_cut
from agora_analytics.quota.bucket import WindowCounter
from agora_analytics.quota.priority import interactive_reserve
from agora_analytics.spans import DAY, WINDOW
from agora_analytics.streams.watch.schedule import coverage

MIDNIGHT = 20_000 * DAY
USAGE = Insight("userCount")
QUALITY = Insight("videoFreezeRate", product="Native")
NOTHING = {"plan": "premium", "apps": 1, "products": 1, "metrics": 0, "every": WINDOW, "calls": 0, "sessions": 1}
NOTHING |= {"details": "none", "usage": 0, "quality": 0, "days": 0}
"""An input that reads nothing."""


def random_input(rng: random.Random) -> dict[str, Any]:
    """Return an input as the form allows it, with extremes more often than by chance."""

    def pick(least: int, most: int) -> int:
        few, many = rng.randint(least, min(most, least + 12)), round(least + (most - least) * rng.random() ** 6)
        return rng.choice((least, few, many))

    return {
        "plan": rng.choice(("standard", "premium", "enterprise")),
        "apps": pick(1, 1_000),
        "products": rng.randint(1, 2),
        "metrics": pick(0, 100),
        "every": pick(WINDOW, DAY),
        "calls": rng.choice((pick(0, 20_000), pick(0, 100_000_000))),
        "sessions": pick(1, 100_000),
        "details": rng.choice(("none", "sessions", "metrics")),
        "usage": pick(0, 100),
        "quality": pick(0, 100),
        "days": pick(0, 1_000),
    }


def seconds(plan: Plan, table: str, requests: int, per_day: int) -> float:
    """Return when so many requests are done, by the forecast of a counter that nothing was sent of."""
    if not requests or per_day <= 0:
        return math.inf if requests else 0
    rates = plan.rates(table) | {"day": per_day}
    # Half a second later, as at midnight itself nobody knows which day it is.
    return math.floor(WindowCounter().forecast(requests, rates, known_clock(MIDNIGHT + 0.5)) + 0.5)


async def answer_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return what the calculator must answer to an input."""
    answer = _Answer(given)
    answer.add_watch()
    await answer.add_calls()
    answer.add_insights()
    return answer.found


class _Answer:
    """An answer that is put together from the rules of the package."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.plan = Plan.of(given["plan"])
        self.found: dict[str, Any] = {"watch": None, "calls": 0, "expired": 0, "missing": []}
        self.found |= {name: {} for name in ("daily", "cut", "history", "done")}

    def history(self, source: Source) -> Sequence[Span]:
        """Return what is requested of a source for the days before."""
        days, limits = self.given["days"], self.plan.of_endpoint(source.endpoint)
        if not days:
            return ()
        span = self.plan.recent(source.endpoint, days * DAY, MIDNIGHT)
        if is_cut(days * DAY, span):
            self.found["cut"][source.endpoint.table] = span.duration
        return [one.span for one in source.split(span, limits.longest_query)]

    def add(self, table: str, each: int, past: int) -> int:
        """Add the requests of a table, and return how many each day leaves to an export."""
        self.found["daily"][table] = each
        per_day = self.plan.limits[table].per_day
        spare = per_day - interactive_reserve(per_day) - each
        if past:
            self.found["history"][table] = past
            self.found["done"][table] = seconds(self.plan, table, past, spare)
        return spare

    def add_watch(self) -> None:
        given = self.given
        watched = given["metrics"] * given["products"] * given["apps"]
        if watched and not self.plan.offers(REALTIME_USAGE):
            self.found["missing"].append("realtime")
        elif watched:
            cover = coverage(self.plan, [1.0] * watched, -(-given["every"] // WINDOW))
            self.found["watch"] = attrs.asdict(cover) | {"polled_per_day": cover.polled_per_day}
            self.found["daily"]["realtime"] = cover.polled_per_day

    async def add_calls(self) -> None:
        given, details = self.given, self.given["details"]
        if not given["calls"]:
            return
        wanted = {"sessions": details != "none", "metrics": details == "metrics"}
        per_call = costs.requests_per_call(given["sessions"], **wanted)
        day = Span(MIDNIGHT, MIDNIGHT + DAY).slices(self.plan.of_endpoint(CALL_LISTS).longest_query)
        past = self.history(CallSource(None))
        self.add("call_lists", *(costs.list_pages(count for _, count in self.slices(spans)) for spans in (day, past)))
        self.found["calls"] = self.calls(past)
        spare = self.add("call_details", *(ceil(self.calls(spans) * per_call) for spans in (day, past)))

        async def done_at(requests: int) -> float:
            return MIDNIGHT + seconds(self.plan, "call_details", requests, spare)

        if per_call and past:
            retention = self.plan.of_endpoint(CALL_SESSIONS).retention
            lost = await costs.expiring(self.slices(past), per_call, retention, done_at)
            self.found["expired"] = sum(count for _, count in lost)

    def calls(self, spans: Sequence[Span]) -> float:
        return sum(span.duration for span in spans) * self.given["calls"] / DAY

    def slices(self, spans: Sequence[Span]) -> list[tuple[Span, float]]:
        """Return the calls of each slice of each App ID's list."""
        calls, apps = self.given["calls"], self.given["apps"]
        return [(span, calls * span.duration / (DAY * apps)) for span in spans for _ in range(apps)]

    def add_insights(self) -> None:
        apps, quality = self.given["apps"], self.given["quality"] * self.given["products"]
        for insight, series in ((USAGE, self.given["usage"]), (QUALITY, quality)):
            source = InsightSource(insight)
            table = source.endpoint.table
            if series and not self.plan.offers(source.endpoint):
                self.found["missing"].append(table)
            elif series:
                self.add(table, series * apps, series * apps * len(self.history(source)))
