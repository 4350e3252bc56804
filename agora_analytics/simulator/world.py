"""A seeded world: what happens in it is a pure function of the seed, the settings and the time.

Nothing is stored. Ask for any span in any order, again or from another process, and the answer is the same. What was
computed lately is kept in caches of bounded size, so that a simulated day costs seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import chain
from operator import attrgetter

import attrs

from agora_analytics import _checks
from agora_analytics.catalogue import Product
from agora_analytics.simulator import allowed, casting, gauges, happenings, load, quality, tallies
from agora_analytics.simulator.facts import Incident, SimulatedCall, SimulatedSession
from agora_analytics.simulator.tallies import Tally

HOUR = 3_600
_PRODUCTS = frozenset(map(str, Product))
_DIMENSIONS = ("country", "region", "net", "network", "sdk", "os", "device")

_created = attrgetter("created")


@attrs.frozen(kw_only=True, cache_hash=True)
class World:
    """A world full of calls.

    Attributes:
        seed: what makes one world differ from another.
        calls_per_hour: average over a day; nights have fewer, evenings more.
        typical_minutes: median length of a call.
        long_share: fraction of calls that last 6 to 11.5 hours.
        large_share: fraction of calls with 101 to 260 users.
        rejoin_share: fraction of users who leave and come back.
        web_share: fraction of users on the web.
        incidents_per_day: average number of times in which quality is bad.

    """

    seed: int = 1
    calls_per_hour: float = 80.0
    typical_minutes: float = 12.0
    long_share: float = 0.01
    large_share: float = 0.01
    rejoin_share: float = 0.1
    web_share: float = 0.3
    incidents_per_day: float = 1.5

    def __attrs_post_init__(self) -> None:
        shares = ("long_share", "large_share", "rejoin_share", "web_share")
        _checks.settle(
            self,
            seed=allowed.whole,
            calls_per_hour=_checks.amount,
            typical_minutes=allowed.above_nothing,
            incidents_per_day=_checks.amount,
            **dict.fromkeys(shares, allowed.fraction),
        )

    def calls(self, start: int, end: int) -> tuple[SimulatedCall, ...]:
        """Return the calls created in `[start, end)`, oldest first."""
        start, end = allowed.second("start", start), allowed.second("end", end)
        hours = range(start // HOUR, -(-end // HOUR))
        found = tuple(chain.from_iterable(happenings.of_hour(self, hour) for hour in hours))
        return found[bisect_left(found, start, key=_created) : bisect_left(found, end, key=_created)]

    def calls_during(self, start: int, end: int) -> tuple[SimulatedCall, ...]:
        """Return the calls in use at any time in `[start, end)`, oldest first."""
        earliest = allowed.second("start", start) - happenings.LONGEST
        return tuple(call for call in self.calls(earliest, end) if call.destroyed > start)

    def call(self, call_id: str) -> SimulatedCall | None:
        """Return the call of this id, or None where there is none."""
        hour = happenings.hour_of(self, _checks.text("call_id", call_id))
        calls = () if hour is None else happenings.of_hour(self, hour)
        return next((call for call in calls if call.call_id == call_id), None)

    def sessions(self, call: SimulatedCall) -> tuple[SimulatedSession, ...]:
        """Return all sessions of a call, the first to join first."""
        return casting.sessions(self, call)

    def tracks(self, call: SimulatedCall, session: SimulatedSession) -> tuple[tuple[int, int], ...]:
        """Return which metrics a session has: pairs of metric id and peer's uid (0: its own); may be none."""
        return gauges.tracks(self.sessions(call), session)

    def samples(
        self, session: SimulatedSession, mid: int, peer: int, start: int, end: int
    ) -> list[tuple[int, int | float]]:
        """Return a metric's second and value about every 2 seconds in `[start, end)`, oldest first, with holes."""
        return gauges.samples(self, session, (mid, peer), start, end)

    def incidents(self, start: int, end: int) -> tuple[Incident, ...]:
        """Return the incidents that touch `[start, end)`, oldest first."""
        return happenings.incidents(self, allowed.second("start", start), allowed.second("end", end))

    def severity(self, ts: int, country: str | None = None) -> float:
        """Return how bad things are at a moment, from 0 (well) to 1, in a country or overall."""
        return happenings.severity(self, ts, country)

    def users(self, product: Product, window: int, dimension: str | None = None) -> Mapping[str, int]:
        """Return users in calls at a 20-second window (its start), by value of a dimension, none that is empty.

        Without a dimension the one key is the empty text, and it is there even for 0.
        """
        allowed.one_of_few("product", product, _PRODUCTS)
        if dimension is not None:
            allowed.one_of_few("dimension", dimension, _DIMENSIONS)
        return load.users(self, product, window, dimension)

    def channels(self, product: Product, window: int) -> int:
        """Return channels in use at a 20-second window."""
        allowed.one_of_few("product", product, _PRODUCTS)
        return load.channels(self, product, window)

    def rate(self, metric: str, product: Product | None, ts: int, group: str = "") -> float:
        """Return a quality metric (a fraction) in the window of `ts`, of a dimension's value or (empty) of all."""
        allowed.one_of_few("metric", metric, quality.LEVELS)
        if product is not None:
            allowed.one_of_few("product", product, _PRODUCTS)
        return quality.rate(self, metric, product, ts, group)

    def tally(self, hour: int) -> Tally:
        """Return the usage of one hour, counted in hours since 1970."""
        return tallies.of_hour(self, hour)
