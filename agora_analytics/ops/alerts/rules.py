"""What is alerted on: a series, a threshold, and how long, for how many users, and how often."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from typing import Any, Final, Literal

import attrs

from agora_analytics._core import validation
from agora_analytics._core.validation import durations
from agora_analytics.catalogue import QualityMetric, RealtimeUsageMetric
from agora_analytics.models.points import Number
from agora_analytics.spans import DAY, WINDOW
from agora_analytics.streams.watch.series import Series

__all__ = ["Rule", "watched"]

Comparison = Literal[">", ">=", "<", "<="]

COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}

KEYWORDS: Final = frozenset({"by", "of", "in", "uids", "for", "with", "recover", "silent", "no", "max"})
"""Words of a rule's text; a channel or a value that is one of them is written in quotes."""

MAX_WINDOWS: Final = DAY // WINDOW
MAX_VALUES: Final = 1_000
"""Each has a state in memory and in the checkpoint, which is saved with each event."""

MAX_SECONDS: Final = 30 * DAY

_FRACTIONS: Final = frozenset(QualityMetric)


@attrs.frozen(kw_only=True)
class Rule:
    """When to alert: a series that is above or below a threshold, in each of so many final windows in a row.

    ```python
    from agora_analytics.ops import alerts

    rule = alerts.Rule(
        series=Series("videoFreezeRate", product="WebRTC"), comparison=">", threshold=0.05, windows=2, min_users=20
    )
    assert rule == alerts.parse("videoFreezeRate:WebRTC > 5% for 2 with 20 users")
    ```

    A series by dimension, or of several users, has a state for each value. `parse` reads the rule's text, `str(rule)`.
    Raises `ValueError` or `TypeError` for a rule that can never hold.

    Attributes:
        series: what is compared; it must be watched, and `users` too if there is one.
        comparison: `>`, `>=`, `<` or `<=`.
        threshold: a fraction for a metric of quality (0.05 is 5 %), otherwise a count.
        windows: windows of 20 seconds in a row that must hold, all final and without a gap between them.
        min_users: users whom a window must have; one with fewer does not hold.
        recovery: the value that ends the alert, on the other side of the threshold (hysteresis); None: the threshold.
        recovery_windows: windows in a row that end the alert; None: as many as `windows`.
        silence: seconds after the start of an alert in which the next one of the same value is not started.
        no_data: seconds of windows without a value after which that is an alert, too; None: never.
        max_values: dimension values (or users) that may have a state at the same time; the worst come first.

    """

    series: Series
    comparison: Comparison
    threshold: Number
    windows: int = 1
    min_users: int = 0
    recovery: Number | None = None
    recovery_windows: int | None = None
    silence: int = 0
    no_data: int | None = None
    max_values: int = 20

    def __attrs_post_init__(self) -> None:
        count = partial(validation.int_in_range, least=1, most=MAX_WINDOWS)
        seconds = partial(validation.int_in_range, least=0, most=MAX_SECONDS)
        validation.apply_rules(
            self,
            series=partial(validation.instance, kind=Series),
            comparison=partial(validation.one_of, allowed=COMPARISONS),
            threshold=validation.number_in_range,
            windows=count,
            min_users=partial(validation.int_in_range, least=0),
        )
        validation.apply_rules(
            self,
            recovery=partial(validation.none_or, validation.number_in_range),
            recovery_windows=partial(validation.none_or, count),
            silence=seconds,
            no_data=partial(validation.none_or, partial(seconds, least=WINDOW)),
            max_values=partial(validation.int_in_range, least=1, most=MAX_VALUES),
        )
        self._check_values()

    def _check_values(self) -> None:
        if self.fraction and self.threshold > 1:
            raise ValueError(f"threshold={self.threshold}: {self.series.metric} is a fraction: 0.05 is 5 %")
        if self.min_users and (self.series.usage or self.series.uids):
            raise ValueError(f"min_users={self.min_users}: allowed for a metric of quality without uids")
        if self.recovery is not None and self.recovery != self.threshold and self.holds(self.recovery):
            raise ValueError(
                f"recovery={self.recovery}: a value that recovers is not {self.comparison} threshold={self.threshold}"
            )

    @property
    def fraction(self) -> bool:
        """Whether the metric is known to be a fraction, which is shown in percent."""
        return self.series.metric in _FRACTIONS

    @property
    def users(self) -> Series | None:
        """The series that counts the users for `min_users`, which must be watched too."""
        return attrs.evolve(self.series, metric=RealtimeUsageMetric.USER_COUNT.value) if self.min_users else None

    def holds(self, value: Number) -> bool:
        """Whether a value is above the threshold, or below it, as the comparison says."""
        return COMPARISONS[self.comparison](value, self.threshold)

    def recovers(self, value: Number) -> bool:
        """Whether a value counts for the end of an alert."""
        recovery = self.threshold if self.recovery is None else self.recovery
        return not COMPARISONS[self.comparison](value, recovery)

    def number(self, value: Number) -> str:
        """Return a value as the text of the rule has it: in percent for a fraction."""
        # In decimal: 0.07 * 100 is 7.000000000000001, and rules are identified by their text.
        return f"{_plain(Decimal(repr(value)) * 100)}%" if self.fraction else _plain(Decimal(repr(value)))

    def __str__(self) -> str:
        """Return the rule as text, which `parse` reads."""
        optional = (
            f"for {self.windows}" if self.windows > 1 else "",
            f"with {self.min_users} users" if self.min_users else "",
            self._recovery_text(),
            f"silent {durations.text_of(self.silence)}" if self.silence else "",
            f"no data {durations.text_of(self.no_data)}" if self.no_data else "",
            f"max {self.max_values}" if self.max_values != attrs.fields(Rule).max_values.default else "",
        )
        condition = f"{self.comparison} {self.number(self.threshold)}"
        return " ".join(filter(None, (_series_text(self.series), condition, *optional)))

    def _recovery_text(self) -> str:
        if self.recovery is None and self.recovery_windows is None:
            return ""
        value = self.threshold if self.recovery is None else self.recovery
        return f"recover {self.number(value)}" + (f" for {self.recovery_windows}" if self.recovery_windows else "")


def watched(rules: Iterable[Rule]) -> tuple[Series, ...]:
    """Return the series that rules need, each once."""
    needed = (series for rule in rules for series in (rule.series, rule.users) if series is not None)
    return tuple(dict.fromkeys(map(unweighted, needed)))


def unweighted(series: Series) -> Series:
    """Return a series without its weight, which says how often it is polled and not what it is."""
    return series if series.weight == 1 else attrs.evolve(series, weight=1.0)


def _series_text(series: Series) -> str:
    parts = [f"{quoted(f'{series.metric}:{series.product}')}"]
    parts += ["in", quoted(series.cname)] if series.cname is not None else []
    parts += ["by", quoted(series.dimension)] if series.dimension is not None else []
    parts += ["of", *map(quoted, series.dimension_values)] if series.dimension_values else []
    parts += ["uids", *(quoted(str(uid)) for uid in series.uids)] if series.uids else []
    return " ".join(parts)


def quoted(text: str) -> str:
    """Return a word of a rule's text, in quotes if it could be read as anything else."""
    plain = text not in KEYWORDS and not any(letter in '"<>,;\\' or letter.isspace() for letter in text)
    if plain:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _plain(number: Decimal) -> str:
    """Return a number without an exponent and without zeros at its end."""
    return f"{number.normalize():f}"
