"""What the list of calls tells about a call's users."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Self

import attrs

from agora_analytics.simulator.world.entities import SimulatedCall, SimulatedSession


@attrs.frozen
class Attendance:
    """Most users at once, users on average, and average freeze rates: None where nobody had any."""

    peak: int
    average: float
    audio_freeze: float | None
    video_freeze: float | None

    @classmethod
    def of(cls, sessions: Iterable[SimulatedSession], call: SimulatedCall, until: int) -> Self:
        """Sum up a call as far as it is known; server users do not count."""
        known = [one for one in sessions if not one.server and one.join < until]
        end = min(call.destroyed, until)
        seconds = sum(min(one.leave, end) - one.join for one in known)
        return cls(
            peak=_most_at_once(known),
            average=round(seconds / max(1, end - call.created), 2),
            audio_freeze=mean([one.audio_freeze for one in known]),
            video_freeze=mean([one.video_freeze for one in known]),
        )


def mean(rates: Sequence[float | None]) -> float | None:
    """Return the mean of the rates that are there, with 4 digits; None where none is."""
    there = [rate for rate in rates if rate is not None]
    return round(sum(there) / len(there), 4) if there else None


def _most_at_once(sessions: Sequence[SimulatedSession]) -> int:
    steps = sorted([(one.join, 1) for one in sessions] + [(one.leave, -1) for one in sessions])
    return max(accumulate(step for _, step in steps), default=0)
