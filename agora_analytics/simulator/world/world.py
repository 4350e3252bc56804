"""A seeded world: everything in it is a pure function of the seed, the other parameters and the time.

Nothing is stored. Query any span in any order, repeatedly or from another process: the result is the same. Recent
results are cached, in caches of bounded size, so that a simulated day takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from agora_analytics._core import validation
from agora_analytics.catalogue import Product
from agora_analytics.simulator import validators
from agora_analytics.simulator.world import calls, concurrency, metric_samples, participants, quality, usage
from agora_analytics.simulator.world.entities import Incident, SimulatedCall, SimulatedSession
from agora_analytics.simulator.world.parameters import WorldParameters
from agora_analytics.simulator.world.usage import Usage

_PRODUCTS = frozenset(map(str, Product))
_DIMENSIONS = ("country", "region", "net", "network", "sdk", "os", "device")


@attrs.frozen(kw_only=True, cache_hash=True)
class World(WorldParameters):
    """A simulated world of calls: the truth that the simulated service reports, to compare results with.

    ```python
    from agora_analytics.simulator import World

    world = World(seed=7, calls_per_hour=20)
    noon = 1_795_521_600
    call = world.calls(noon, noon + 3_600)[0]
    session = world.sessions(call)[0]
    assert world.call(call.call_id) == call
    assert call.created <= session.join < session.leave <= call.destroyed
    metric_id, peer_uid = world.tracks(call, session)[0]
    samples = world.samples(session, metric_id, peer_uid, session.join, session.leave)
    assert World(seed=7, calls_per_hour=20).calls(noon, noon + 3_600)[0] == call  # on every machine
    ```

    Attributes:
        seed: worlds with different seeds differ, worlds with equal parameters are equal.
        calls_per_hour: average over a day, with a minimum at 02:00 UTC and a maximum at 14:00 UTC.
        typical_minutes: median length of a call.
        long_share: fraction of calls that last 6 to 11.5 hours.
        large_share: fraction of calls with 101 to 260 users.
        rejoin_share: fraction of users who leave and come back.
        web_share: fraction of users on the web.
        incidents_per_day: average number of periods of bad quality.

    """

    def calls(self, start: int, end: int) -> tuple[SimulatedCall, ...]:
        """Return the calls created in `[start, end)`, oldest first."""
        start, end = validators.whole_utc_seconds("start", start), validators.whole_utc_seconds("end", end)
        return calls.created(self, start, end)

    def calls_during(self, start: int, end: int) -> tuple[SimulatedCall, ...]:
        """Return the calls that overlap `[start, end)`, oldest first."""
        return calls.during(
            self, validators.whole_utc_seconds("start", start), validators.whole_utc_seconds("end", end)
        )

    def call(self, call_id: str) -> SimulatedCall | None:
        """Return the call with this ID, or None."""
        hour = calls.hour_of(self, validation.non_empty_str("call_id", call_id))
        candidates = () if hour is None else calls.of_hour(self, hour)
        return next((call for call in candidates if call.call_id == call_id), None)

    def sessions(self, call: SimulatedCall) -> tuple[SimulatedSession, ...]:
        """Return all sessions of a call, ordered by time of joining."""
        return participants.sessions(self, call)

    def tracks(self, call: SimulatedCall, session: SimulatedSession) -> tuple[tuple[int, int], ...]:
        """Return a session's metrics as pairs of metric ID and peer's user ID (0: the user's own); may be empty."""
        return metric_samples.tracks(self.sessions(call), session)

    def samples(
        self, session: SimulatedSession, mid: int, peer: int, start: int, end: int
    ) -> list[tuple[int, int | float]]:
        """Return samples `(UTC seconds, value)` of one metric in `[start, end)`, about every 2 seconds, with gaps."""
        return metric_samples.samples(self, session, (mid, peer), start, end)

    def incidents(self, start: int, end: int) -> tuple[Incident, ...]:
        """Return the incidents that overlap `[start, end)`, oldest first."""
        return calls.incidents(
            self, validators.whole_utc_seconds("start", start), validators.whole_utc_seconds("end", end)
        )

    def severity(self, ts: int, country: str | None = None) -> float:
        """Return how bad quality is at `ts`, from 0 (good) to 1, in one country or overall."""
        return calls.severity(self, ts, country)

    def users(self, product: Product, window: int, dimension: str | None = None) -> Mapping[str, int]:
        """Return the number of users in the 20-second window that starts at `window`, by value of a dimension.

        Values without users are left out. Without a dimension the only key is the empty string, even for 0 users.
        """
        validators.check_member("product", product, _PRODUCTS)
        if dimension is not None:
            validators.check_member("dimension", dimension, _DIMENSIONS)
        return concurrency.users(self, product, window, dimension)

    def channels(self, product: Product, window: int) -> int:
        """Return the number of active channels in the 20-second window that starts at `window`."""
        validators.check_member("product", product, _PRODUCTS)
        return concurrency.channels(self, product, window)

    def rate(self, metric: str, product: Product | None, ts: int, group: str = "") -> float:
        """Return a quality metric, a fraction, in the window of `ts`, for a value of a dimension or (empty) for all."""
        validators.check_member("metric", metric, quality.LEVELS)
        if product is not None:
            validators.check_member("product", product, _PRODUCTS)
        return quality.rate(self, metric, product, ts, group)

    def usage(self, hour: int) -> Usage:
        """Return the usage of one hour; `hour` counts hours since 1970 UTC."""
        return usage.of_hour(self, hour)
