"""What makes one world differ from another."""

from __future__ import annotations

import attrs

from agora_analytics._core import validation
from agora_analytics.simulator.service import settings


@attrs.frozen(kw_only=True, cache_hash=True)
class WorldParameters:
    """The numbers of a world.

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
        validation.apply_rules(
            self,
            seed=settings.whole,
            calls_per_hour=validation.number_in_range,
            typical_minutes=settings.above_nothing,
            incidents_per_day=validation.number_in_range,
            **dict.fromkeys(shares, settings.fraction),
        )
