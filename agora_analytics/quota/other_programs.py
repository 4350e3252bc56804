"""What other programs take of a day's requests: the service tells nobody, but a refusal for the day shows it."""

from __future__ import annotations

from typing import Final

import attrs

_NEWS: Final = 0.5
"""Weight of the last such day: a program that runs once is not planned for like one that runs every day."""

_FADES: Final = 0.9
"""Part of what is known that holds on after a day without a refusal, which shows nothing but that it was not more."""


@attrs.define
class Others:
    """How many requests others make in a day, as learned on the days on which they left too few; `day` was the last."""

    daily: float = 0.0
    day: int = 0

    def saw(self, taken: int, day: int) -> None:
        """Note how many requests of a day others had made when it was spent."""
        self.daily = (1 - _NEWS) * self.of(day) + _NEWS * max(0, taken)
        self.day = day

    def of(self, day: int) -> int:
        """Return how many requests others probably make on a day; how many of them they have made is not known."""
        return int(self.daily * _FADES ** max(0, day - self.day - 1))
