"""Other programs of the same customer, which use up the same rate limits and quotas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from agora_analytics._core import validation
from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.simulator import validators
from agora_analytics.simulator.world.rng import fraction
from agora_analytics.spans import DAY


@attrs.frozen(kw_only=True)
class OtherProgram:
    """Another program of the same customer that sends requests all day long. Pass it to `Variants(others=[…])`.

    ```python
    from agora_analytics.simulator import OtherProgram, Simulation, Variants

    dashboard = OtherProgram(counter="realtime", share=0.5)
    simulation = Simulation(clock=1_795_521_600, variants=Variants(others=[dashboard]))
    assert simulation.service.spent("realtime", "day") > 0  # without any request of ours
    ```

    Attributes:
        counter: name of the counter in the plan, such as `realtime` or `call_details`.
        share: fraction of each day's requests that the program uses, spread irregularly over the day.
        burst: requests that it sends at once; a burst as large as the limit of a second or minute uses it up.
        start, end: UTC seconds between which it runs.

    """

    counter: str
    share: float = 1 / 3
    burst: int = 1
    start: float = float("-inf")
    end: float = float("inf")

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(self, counter=validation.non_empty_str, share=_share, burst=validators.positive_integer)
        validation.apply_rules(self, start=validators.utc_seconds, end=validators.utc_seconds_or_inf)

    def spent(self, per_day: int, since: float, until: float) -> int:
        """Return the requests sent from `since` to `until` (both inclusive), if the plan allows `per_day` a day."""
        since, until = max(since, self.start), min(until, self.end)
        # Computed and not simulated: a test may jump over weeks, and nothing has to run meanwhile.
        interval = self.burst * DAY / (self.share * per_day)
        return self.burst * (self._bursts(interval, until) - self._bursts(interval, since)) if until > since else 0

    def _bursts(self, interval: float, now: float) -> int:
        """Return the bursts since 1970: one in each interval, at a pseudo-random time within it."""
        number, within = divmod(now, interval)
        return int(number) + (fraction("burst", self.counter, int(number)) * interval <= within)


def spent_by(programs: Iterable[OtherProgram], counter: str, rates: Mapping[Unit, int], now: float) -> dict[Unit, int]:
    """Return the requests of other programs in the current second, minute and day of a counter."""
    users = [program for program in programs if program.counter == counter]
    # A share of the day is all that a program is defined by: without a daily limit there is none.
    per_day = rates.get("day", 0)
    if not users or not per_day:
        return {}
    return {
        unit: sum(program.spent(per_day, now // WINDOWS[unit] * WINDOWS[unit], now) for program in users)
        for unit in rates
    }


def _share(name: str, value: object) -> float:
    return validation.number_in_range(name, validators.fraction(name, value), above=True)
