"""Other programs of the same customer, which spend from the same counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from agora_analytics._core import validation
from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.simulator.service import settings
from agora_analytics.simulator.world.rng import share
from agora_analytics.spans import DAY


@attrs.frozen(kw_only=True)
class Spender:
    """Another program that spends from a counter all day long.

    Attributes:
        counter: the counter's name in the plan, such as `realtime` or `call_details`.
        share: fraction of each day's requests that it spends, spread over the day at irregular moments.
        burst: requests that it sends at once; as many as a minute or a second allows leave none of it to others.
        start, end: UTC seconds between which it runs.

    """

    counter: str
    share: float = 1 / 3
    burst: int = 1
    start: float = float("-inf")
    end: float = float("inf")

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(self, counter=validation.non_empty_str, share=_share, burst=settings.some)
        validation.apply_rules(self, start=settings.moment, end=settings.later)

    def spent(self, per_day: int, since: float, until: float) -> int:
        """Return the requests that it sends from `since` up to and including `until`, where a day has `per_day`."""
        since, until = max(since, self.start), min(until, self.end)
        interval = self.burst * DAY / (self.share * per_day)
        return self.burst * (self._bursts(interval, until) - self._bursts(interval, since)) if until > since else 0

    def _bursts(self, interval: float, now: float) -> int:
        """Return the bursts since 1970: one in each interval, at a moment that follows from its number."""
        number, within = divmod(now, interval)
        return int(number) + (share("burst", self.counter, int(number)) * interval <= within)


def spent_by(spenders: Iterable[Spender], counter: str, rates: Mapping[Unit, int], now: float) -> dict[Unit, int]:
    """Return what others have spent from a counter in each current window of its units."""
    mine = [spender for spender in spenders if spender.counter == counter]
    per_day = rates.get("day", 0)
    if not mine or not per_day:
        return {}
    return {unit: sum(one.spent(per_day, now // WINDOWS[unit] * WINDOWS[unit], now) for one in mine) for unit in rates}


def _share(name: str, value: object) -> float:
    return validation.number_in_range(name, settings.fraction(name, value), above=True)
