"""The parameters of a world, below all modules that draw from them."""

from __future__ import annotations

import attrs

from agora_analytics._core import validation
from agora_analytics.simulator import validators


# A key of all caches of the world: hashed for each window of each series.
@attrs.frozen(kw_only=True, cache_hash=True)
class WorldParameters:
    """The parameters of a `World`, which documents them."""

    seed: int = 1
    # Over 100 calls in two hours, so that lists have more than one page.
    calls_per_hour: float = 80.0
    typical_minutes: float = 12.0
    # Longer than one request for details may span on any plan (1, 3 or 6 hours): their details come in parts.
    long_share: float = 0.01
    # More sessions than a page of them has rows (100).
    large_share: float = 0.01
    # One user ID, two sessions: only `sid` is a key.
    rejoin_share: float = 0.1
    web_share: float = 0.3
    incidents_per_day: float = 1.5

    def __attrs_post_init__(self) -> None:
        shares = ("long_share", "large_share", "rejoin_share", "web_share")
        validation.apply_rules(
            self,
            seed=validators.integer,
            calls_per_hour=validation.number_in_range,
            typical_minutes=validators.positive,
            incidents_per_day=validation.number_in_range,
            **dict.fromkeys(shares, validators.fraction),
        )
