"""Quality metrics: a constant level, a little noise, and what incidents add."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import attrs

from agora_analytics.simulator.world import calls
from agora_analytics.simulator.world.parameters import WorldParameters
from agora_analytics.simulator.world.population import COUNTRIES
from agora_analytics.simulator.world.rng import fraction
from agora_analytics.spans import WINDOW

if TYPE_CHECKING:
    from agora_analytics.catalogue import Product

# A day has 4,320 windows; the mean of all of them would differ by less than the noise.
_POINTS = 24


@attrs.frozen
class _Level:
    """A metric's fraction of failures on an ordinary day, what an incident adds, and whether it counts successes."""

    base: float
    incident: float
    success: bool = False


LEVELS = {
    "joinSuccessRate": _Level(0.012, 0.25, success=True),
    "joinSuccessIn5sRate": _Level(0.045, 0.4, success=True),
    "audioFreezeRate": _Level(0.012, 0.2),
    "videoFreezeRate": _Level(0.025, 0.3),
    "networkDelay": _Level(0.018, 0.35),
}


def rate(world: WorldParameters, metric: str, product: Product | None, ts: int, group: str = "") -> float:
    """Return a quality metric in the window of `ts` as a fraction with 6 decimals; see `World.rate`."""
    level = LEVELS[metric]
    # Groups differ for good, so that a top list has an order; the noise below changes with each window.
    bias = 0.6 + 0.8 * _bias(world.seed, metric, product, group)
    noise = 0.7 + 0.6 * fraction(world.seed, metric, product, group, ts // WINDOW)
    bad = level.base * bias * noise + level.incident * calls.severity(world, ts, group if group in COUNTRIES else None)
    return round(1 - bad if level.success else bad, 6)


@lru_cache(maxsize=4_096)
def _bias(seed: int, metric: str, product: Product | None, group: str) -> float:
    return fraction(seed, metric, product, group)


def average(
    world: WorldParameters, metric: str, product: Product | None, start: int, end: int, *, group: str = ""
) -> float:
    """Return a quality metric over `[start, end)`: the mean of about 24 evenly spaced windows, or of all if fewer."""
    step = max(WINDOW, (end - start) // _POINTS)
    values = [rate(world, metric, product, ts, group) for ts in range(start, end, step)]
    return round(sum(values) / len(values), 6)
