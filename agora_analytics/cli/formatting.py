"""Numbers, times and small plots as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median_low

import attrs

from agora_analytics.spans import DAY, HOUR, MINUTE, moment

Pair = tuple[int, float]
"""UTC second and value."""

WIDTH = 48
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.:-=+*#"
FULL = "█"
REASONS = {
    "outage": "requests failed for too long",
    "quota": "the quota was spent",
    "consumer": "earlier events took too long",
    "asleep": "this machine stood still",
    "before_start": "it was too old when this began",
    "service": "the service keeps less than the plan says",
}
"""Why something was lost, by `Gap.reason`."""

_FINE = 10


@attrs.frozen
class Summary:
    """What a series comes to."""

    lowest: float
    mean: float
    highest: float
    last: float

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Summary | None:
        """Sum up a series in order of time; None where there is nothing in it."""
        values = [value for _, value in pairs]
        return cls(min(values), sum(values) / len(values), max(values), values[-1]) if values else None


def printable(text: str) -> str:
    """Blank out what could steer a terminal: names of channels and messages come from anywhere."""
    return "".join(char if char.isprintable() else " " for char in text)


def sparkline(pairs: Sequence[Pair], width: int = WIDTH, blocks: str = BLOCKS) -> str:
    """Draw a series in order of time, lowest to highest value; where nothing was measured there is a gap."""
    cells = _cells(pairs, width)
    present = [value for value in cells if value is not None]
    if not present:
        return ""
    low, reach, steps = min(present), max(present) - min(present), len(blocks) - 1
    flat = blocks[steps // 2]
    return "".join(
        " " if value is None else blocks[round((value - low) / reach * steps)] if reach else flat for value in cells
    )


def bar(value: float | None, highest: float, width: int = 20, full: str = FULL) -> str:
    """Draw one value as a bar; `highest` fills the width."""
    return full * round(width * (value or 0) / highest) if highest > 0 else ""


def percent(rate: float | None) -> str:
    """Tell a fraction in percent; empty where there is none."""
    return "" if rate is None else f"{rate * 100:.2f} %"


def number(value: float | None) -> str:
    """Tell a count or measurement; empty where there is none."""
    if value is None:
        return ""
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= _FINE else f"{value:.4g}"


def measured(value: float | None, unit: str) -> str:
    """Tell a value of this unit, fractions in percent."""
    return percent(value) if unit == "fraction" else number(value)


def clock(ts: float | None) -> str:
    """Tell UTC seconds; empty for null and 0."""
    when = moment(ts)
    return f"{when:%Y-%m-%d %H:%M:%S}" if when else ""


def lasting(seconds: float | None) -> str:
    """Tell a duration in its two largest units; empty where there is none."""
    if seconds is None:
        return ""
    whole = int(seconds)
    parts = (
        (whole // DAY, "d"),
        (whole % DAY // HOUR, "h"),
        (whole % HOUR // MINUTE, "m"),
        (whole % MINUTE, "s"),
    )
    return " ".join([f"{count} {unit}" for count, unit in parts if count][:2]) or "0 s"


def _cells(pairs: Sequence[Pair], width: int) -> list[float | None]:
    """Average a series into at most `width` equal stretches of time, no finer than it was measured."""
    if not pairs:
        return []
    first, reach = pairs[0][0], pairs[-1][0] - pairs[0][0]
    steps = [later - earlier for (earlier, _), (later, _) in pairwise(pairs) if later > earlier]
    step = median_low(steps or [1])
    count = max(1, min(width, reach // step + 1))
    found: list[list[float]] = [[] for _ in range(count)]
    for ts, value in pairs:
        found[min(count - 1, (ts - first) * count // (reach + step))].append(value)
    return [fmean(values) if values else None for values in found]
