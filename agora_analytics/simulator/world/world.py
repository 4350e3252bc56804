"""A seeded world: what happens in it is a pure function of the seed, the settings and the time.

Nothing is stored. Ask for any span in any order, again or from another process, and the answer is the same. What was
computed lately is kept in caches of bounded size, so that a simulated day costs seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from agora_analytics._core import validation
from agora_analytics.catalogue import Product
from agora_analytics.simulator.service import settings
from agora_analytics.simulator.world import calls, concurrency, metric_samples, participants, quality, usage
from agora_analytics.simulator.world.entities import Incident, SimulatedCall, SimulatedSession
from agora_analytics.simulator.world.parameters import WorldParameters
from agora_analytics.simulator.world.usage import Tally

_PRODUCTS = frozenset(map(str, Product))
_DIMENSIONS = ("country", "region", "net", "network", "sdk", "os", "device")


@attrs.frozen(kw_only=True, cache_hash=True)
class World(WorldParameters):
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

    def calls(self, start: int, end: int) -> tuple[SimulatedCall, ...]:
        """Return the calls created in `[start, end)`, oldest first."""
        start, end = settings.second("start", start), settings.second("end", end)
        return calls.created(self, start, end)

    def calls_during(self, start: int, end: int) -> tuple[SimulatedCall, ...]:
        """Return the calls in use at any time in `[start, end)`, oldest first."""
        return calls.during(self, settings.second("start", start), settings.second("end", end))

    def call(self, call_id: str) -> SimulatedCall | None:
        """Return the call of this id, or None where there is none."""
        hour = calls.hour_of(self, validation.non_empty_str("call_id", call_id))
        found = () if hour is None else calls.of_hour(self, hour)
        return next((call for call in found if call.call_id == call_id), None)

    def sessions(self, call: SimulatedCall) -> tuple[SimulatedSession, ...]:
        """Return all sessions of a call, the first to join first."""
        return participants.sessions(self, call)

    def tracks(self, call: SimulatedCall, session: SimulatedSession) -> tuple[tuple[int, int], ...]:
        """Return which metrics a session has: pairs of metric id and peer's uid (0: its own); may be none."""
        return metric_samples.tracks(self.sessions(call), session)

    def samples(
        self, session: SimulatedSession, mid: int, peer: int, start: int, end: int
    ) -> list[tuple[int, int | float]]:
        """Return a metric's second and value about every 2 seconds in `[start, end)`, oldest first, with holes."""
        return metric_samples.samples(self, session, (mid, peer), start, end)

    def incidents(self, start: int, end: int) -> tuple[Incident, ...]:
        """Return the incidents that touch `[start, end)`, oldest first."""
        return calls.incidents(self, settings.second("start", start), settings.second("end", end))

    def severity(self, ts: int, country: str | None = None) -> float:
        """Return how bad things are at a moment, from 0 (well) to 1, in a country or overall."""
        return calls.severity(self, ts, country)

    def users(self, product: Product, window: int, dimension: str | None = None) -> Mapping[str, int]:
        """Return users in calls at a 20-second window (its start), by value of a dimension, none that is empty.

        Without a dimension the one key is the empty text, and it is there even for 0.
        """
        settings.one_of_few("product", product, _PRODUCTS)
        if dimension is not None:
            settings.one_of_few("dimension", dimension, _DIMENSIONS)
        return concurrency.users(self, product, window, dimension)

    def channels(self, product: Product, window: int) -> int:
        """Return channels in use at a 20-second window."""
        settings.one_of_few("product", product, _PRODUCTS)
        return concurrency.channels(self, product, window)

    def rate(self, metric: str, product: Product | None, ts: int, group: str = "") -> float:
        """Return a quality metric (a fraction) in the window of `ts`, of a dimension's value or (empty) of all."""
        settings.one_of_few("metric", metric, quality.LEVELS)
        if product is not None:
            settings.one_of_few("product", product, _PRODUCTS)
        return quality.rate(self, metric, product, ts, group)

    def tally(self, hour: int) -> Tally:
        """Return the usage of one hour, counted in hours since 1970."""
        return usage.of_hour(self, hour)
