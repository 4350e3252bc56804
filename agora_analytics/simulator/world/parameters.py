"""What makes one world differ from another."""

from __future__ import annotations

import attrs

from agora_analytics._core import validation
from agora_analytics.simulator.service import settings


@attrs.frozen(kw_only=True, cache_hash=True)
class WorldParameters:
    """The numbers of a world; what each is, `World` says."""

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
        validation.settle(
            self,
            seed=settings.whole,
            calls_per_hour=validation.amount,
            typical_minutes=settings.above_nothing,
            incidents_per_day=validation.amount,
            **dict.fromkeys(shares, settings.fraction),
        )
