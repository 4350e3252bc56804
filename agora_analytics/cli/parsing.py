"""Command-line values: durations, times, lists with commas, and names of the catalogue with their shell completion."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from enum import Enum
from typing import Final

import agora_analytics as agora
from agora_analytics._core.validation import durations, percent, short_repr
from agora_analytics._core.validation.names import did_you_mean
from agora_analytics.catalogue import (
    Dimension,
    FreezeMetric,
    Granularity,
    Metric,
    MetricId,
    Product,
    QualityMetric,
    RealtimeUsageMetric,
    TimelineMetric,
    UsageMetric,
)
from agora_analytics.plans import PLANS
from agora_analytics.spans import DAY, seconds

METRICS: Final[dict[str, type[Metric]]] = {
    "usage": UsageMetric,
    "quality": QualityMetric,
    "realtime_usage": RealtimeUsageMetric,
    "freeze": FreezeMetric,
    "timeline": TimelineMetric,
}
"""Metrics that are requested by name, by the kind that `metrics` lists them under."""

CATALOGUE: Final[dict[str, type[Enum]]] = {
    "metric_id": MetricId,
    **METRICS,
    "dimension": Dimension,
    "product": Product,
    "granularity": Granularity,
}
"""Everything that `metrics` lists, by kind."""

# No number of 64 bits has as many.
_MAX_DIGITS: Final = 20
_LONGEST: Final = 36_525 * DAY
"""A century: longer than any plan keeps data."""


def parse_duration(text: str, option: str = "--last") -> int:
    """Return the seconds of a text like `45s`, `20m`, `3h`, `2d`, `1w` or `1h30m`."""
    if not durations.DURATION.fullmatch(text):
        raise ValueError(f"{option}={short_repr(text)}: allowed are durations like {durations.EXAMPLES}")
    # Before any is converted: `int` is slow for huge numbers, and fails with a message of its own.
    for number in re.findall(r"\d+", text):
        _whole_number(option, number)
    if not 0 < (found := durations.seconds_of(text) or 0) <= _LONGEST:
        raise ValueError(f"{option}={short_repr(text)}: allowed are durations from 1s to {_LONGEST // DAY}d")
    return found


def parse_rate(text: str) -> float:
    """Return the fraction of a text like `0.05` or `5%`."""
    number = percent.number_of(text)
    if number is None or number > 1:
        raise ValueError(f"{short_repr(text)}: allowed are 0 to 1, or percent like 3%, which is 0.03")
    return float(number)


def parse_time(text: str, option: str) -> int:
    """Return the UTC seconds of a text: ISO 8601 with a zone or `Z`, or whole seconds since 1970."""
    if text.isdecimal():
        return seconds(_whole_number(option, text), option)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{option}={text!r}: allowed are ISO 8601 like 2026-11-24T12:00:00Z, or seconds since 1970"
        ) from None
    # No guess of a zone: the wrong hours would be requested without any error.
    if time.utcoffset() is None:
        # With the value that was given, so that it can be copied.
        with_zone = time.isoformat() + "Z"
        raise ValueError(f"{option}={text!r} has no time zone: write {with_zone}, or an offset like +01:00 for the Z")
    return seconds(time, option)


def split_list(text: str) -> tuple[str, ...]:
    """Split at commas; an empty text is an empty list."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


def parse_uids(text: str) -> tuple[int | str, ...]:
    """Parse a list of user IDs; digits become numbers, which the client checks as such."""
    return tuple(_whole_number("--uids", part) if part.isdecimal() else part for part in split_list(text))


def parse_mids(text: str) -> frozenset[int]:
    """Parse a list of metric ids, given by number or by name."""
    return frozenset(map(_mid, split_list(text)))


def parse_filters(texts: Iterable[str]) -> tuple[agora.Filter, ...]:
    """Parse filters like `country=China`."""
    return tuple(map(_filter, texts))


def parse_series(option: str, text: str) -> agora.Series:
    """Parse a real-time series: METRIC:PRODUCT, or METRIC for the product Native."""
    metric, _, product = text.partition(":")
    if not metric:
        raise ValueError(f"{option}={text!r}: allowed is METRIC:PRODUCT, or METRIC for Native, like userCount:WebRTC")
    return agora.Series(metric, product=product or Product.NATIVE)


def unit_of(name: str) -> str:
    """Return a metric's unit; empty for counts and for unknown metrics."""
    units = (metric.unit for metrics in METRICS.values() for metric in metrics if metric == name)
    return next(units, "")


def names_of(*kinds: str) -> list[str]:
    """Return the names of the catalogue of these kinds; metric ids by their lower-case name."""
    members = [member for kind in kinds for member in CATALOGUE[kind]]
    # Metric ids are numbers: their names stand for them, in lower case like all that is typed in a shell.
    return [str(one.value) if isinstance(one, str) else one.name.lower() for one in members]


def check_name(option: str, name: str, *kinds: str) -> None:
    """Raise `ValueError` for a name that the catalogue does not list, with the closest one that it does."""
    known = names_of(*kinds)
    if name in known:
        return
    pages = " and ".join(f"`agora-analytics metrics {kind}`" for kind in kinds)
    verb = "lists" if len(kinds) == 1 else "list"
    raise ValueError(
        f"{option}={name!r} is not in the catalogue: {did_you_mean(name, known)}{pages} {verb} the names;"
        " --allow-unknown sends it as it is"
    )


def check_choice(option: str, name: str, allowed: Collection[str]) -> None:
    """Raise `ValueError` for a name that is not among those allowed, with the closest one that is."""
    if name not in allowed:
        raise ValueError(f"{option}={name!r}: {did_you_mean(name, allowed)}allowed are {', '.join(allowed)}")


def check_plan(option: str, name: str) -> None:
    """Raise `ValueError` for a name that no pricing plan has, with the closest one; case does not matter."""
    if name.lower() not in PLANS:
        check_choice(option, name, PLANS)


def completion(*kinds: str) -> Callable[[str], list[str]]:
    """Return a shell completion of the catalogue's names of these kinds."""
    return completion_of(names_of(*kinds))


def completion_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a completion of these names."""
    known = list(names)
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


def list_completion(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a completion of the last name in a list with commas."""
    known = list(names)

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        return [f"{before}{comma}{name}" for name in known if name.startswith(last) and name not in given]

    return complete


def series_names() -> list[str]:
    """Return all known real-time series as METRIC:PRODUCT."""
    return pairs_of(("realtime_usage", "quality"), "product")


def pairs_of(kinds: Iterable[str], second: str) -> list[str]:
    """Return each name of some kinds with each of a second one, a colon between them."""
    return [f"{name}:{other}" for name in names_of(*kinds) for other in names_of(second)]


def _whole_number(option: str, text: str) -> int:
    """Return the number that a text of digits is; raises `ValueError` if it is longer than any that is allowed."""
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"{option}: {short_repr(text)} has more than {_MAX_DIGITS} digits")
    return int(text)


def _mid(text: str) -> int:
    if text.isdecimal():
        return _whole_number("--mids", text)
    try:
        return MetricId[text.upper()].value
    except KeyError:
        guess = did_you_mean(text, names_of("metric_id"))
        raise ValueError(
            f"--mids={text!r}: {guess}allowed are numbers, and names that `agora-analytics metrics metric_id` lists"
        ) from None


def _filter(text: str) -> agora.Filter:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"--filters={text!r}: allowed is NAME=VALUE, like country=China")
    return agora.Filter(name, value)
