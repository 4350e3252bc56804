"""Numbers, times and small plots as text for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median_low

import attrs

from agora_analytics.spans import DAY, HOUR, MINUTE, moment

TimedValue = tuple[int, float]
"""UTC second and value."""

WIDTH = 48
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.:-=+*#"
FULL = "█"
GAP_REASONS = {
    "outage": "requests failed for too long",
    "quota": "the quota was used up",
    "consumer": "earlier events took too long to process",
    "asleep": "this machine was suspended",
    "before_start": "it was too old when this command started",
    "service": "the service keeps less than the plan promises",
}
"""Why data is missing, by `Gap.reason`."""

# From here on one decimal is enough for three digits.
_THREE_DIGITS = 10

# Nine or ten digits: seconds from 1973 on, and neither milliseconds nor a small number.
# Also behind the place in the description of a fleet.
_TIME_FIRST = re.compile(r"(?:'[^']*', accounts\.[\w.\[\]-]*: )?(?:start|end|stop)=\d{9,10}\b")
_EPOCH_TIME = re.compile(r"(?<![\w-])((?:start|end|stop)=|at (?:most|least) (?=\d+ now\b))(\d{9,10})\b")


@attrs.frozen
class SeriesSummary:
    """Lowest, mean, highest and last value of a series."""

    lowest: float
    mean: float
    highest: float
    last: float

    @classmethod
    def of(cls, series: Sequence[TimedValue]) -> SeriesSummary | None:
        """Summarize a series in time order; returns None if it is empty."""
        values = [value for _, value in series]
        return cls(min(values), sum(values) / len(values), max(values), values[-1]) if values else None


def sparkline(series: Sequence[TimedValue], width: int = WIDTH, blocks: str = BLOCKS) -> str:
    """Draw a series in time order, scaled from its lowest to its highest value; missing data is a space."""
    cells = _downsample(series, width)
    present = [value for value in cells if value is not None]
    if not present:
        return ""
    low, extent, steps = min(present), max(present) - min(present), len(blocks) - 1
    # A constant series is a line in the middle: at the bottom it would look like zeros.
    flat = blocks[steps // 2]
    return "".join(
        " " if value is None else blocks[round((value - low) / extent * steps)] if extent else flat for value in cells
    )


def bar(value: float | None, highest: float, width: int = 20, full: str = FULL) -> str:
    """Draw one value as a bar; `highest` fills the width."""
    return full * round(width * (value or 0) / highest) if highest > 0 else ""


def format_percent(rate: float | None) -> str:
    """Format a fraction in percent; empty for None."""
    return "" if rate is None else f"{rate * 100:.2f} %"


def format_number(value: float | None) -> str:
    """Format a count or a measurement; empty for None."""
    if value is None:
        return ""
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= _THREE_DIGITS else f"{value:.4g}"


def format_count(count: int, noun: str) -> str:
    """Format a count with its noun, in the plural unless it is 1."""
    return f"{format_number(count)} {noun}{'' if count == 1 else 's'}"


def format_value(value: float | None, unit: str) -> str:
    """Format a value of this unit; fractions in percent."""
    return format_percent(value) if unit == "fraction" else format_number(value)


def format_time(ts: float | None) -> str:
    """Format UTC seconds; empty for None and 0."""
    time = moment(ts)
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else ""


def format_duration(seconds: float | None) -> str:
    """Format a duration in its two largest units; empty for None."""
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


def with_iso_times(message: str) -> str:
    """Write the epoch seconds of an error about times in ISO 8601: `start=1795521600` is hard to read.

    An error about anything else is left as it is: it may quote a name that looks like a time.
    """
    if not _TIME_FIRST.match(message):
        return message
    return _EPOCH_TIME.sub(lambda found: found[1] + _iso(int(found[2])), message)


def _iso(ts: int) -> str:
    time = moment(ts)
    return f"{time:%Y-%m-%dT%H:%M:%SZ}" if time else str(ts)


def _downsample(series: Sequence[TimedValue], width: int) -> list[float | None]:
    """Average a series into at most `width` equal intervals, no finer than it was measured."""
    if not series:
        return []
    first, extent = series[0][0], series[-1][0] - series[0][0]
    steps = [later - earlier for (earlier, _), (later, _) in pairwise(series) if later > earlier]
    # The usual distance; the mean would grow with each gap, and hide it.
    step = median_low(steps or [1])
    count = max(1, min(width, extent // step + 1))
    buckets: list[list[float]] = [[] for _ in range(count)]
    for ts, value in series:
        buckets[min(count - 1, (ts - first) * count // (extent + step))].append(value)
    return [fmean(values) if values else None for values in buckets]
