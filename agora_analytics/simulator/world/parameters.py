"""The parameters of a world, below all modules that draw from them."""

from __future__ import annotations

import attrs

from agora_analytics._core import validation
from agora_analytics.simulator import validators


@attrs.frozen(kw_only=True, cache_hash=True)
class WorldParameters:
    """The parameters of a `World`, which documents them."""

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
        validation.apply_rules(
            self,
            seed=validators.integer,
            calls_per_hour=validation.number_in_range,
            typical_minutes=validators.positive,
            incidents_per_day=validation.number_in_range,
            **dict.fromkeys(shares, validators.fraction),
        )
