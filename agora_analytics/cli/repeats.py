"""Lines that come again and again: the first is told at once, those after it are counted."""

from __future__ import annotations

from typing import Final

import attrs

from agora_analytics.cli.formatting import lasting, number

_FIRST: Final = 60.0
_LONGEST: Final = 3_600.0


@attrs.define
class Pauses:
    """Moments at ever longer pauses, from a minute to an hour: when trouble that goes on is told again."""

    begun: float
    pause: float = _FIRST
    last: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.last = self.begun

    @property
    def over(self) -> float:
        """When it is next told."""
        return self.last + self.pause

    def told(self, now: float) -> None:
        """Note that it was told now: the next pause is twice as long."""
        self.last, self.pause = now, min(2 * self.pause, _LONGEST)


@attrs.define
class _Kind:
    pauses: Pauses
    latest: float
    untold: int = 0
    newest: str = ""


class Repeats:
    """Turns lines of kinds into those that are told; times are seconds of any clock that only goes forward."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def take(self, kind: str, line: str, now: float) -> list[str]:
        """Return the lines to tell now that this one came; none where it is only counted."""
        known = self._kinds.get(kind)
        if known is None or now - known.latest > 2 * known.pauses.pause:
            left = self._rest(known) if known else []
            self._kinds[kind] = _Kind(Pauses(now), now)
            return [*left, line]
        known.latest = now
        if now < known.pauses.over:
            known.untold, known.newest = known.untold + 1, line
            return []
        told = f"{line}{self._more(known.untold, now - known.pauses.last)}"
        known.untold = 0
        known.pauses.told(now)
        return [told]

    def rest(self) -> list[str]:
        """Return what was counted and not told yet."""
        return [line for known in self._kinds.values() for line in self._rest(known)]

    @staticmethod
    def _rest(known: _Kind) -> list[str]:
        if not known.untold:
            return []
        return [f"{known.newest}{Repeats._more(known.untold - 1, known.latest - known.pauses.last)}"]

    @staticmethod
    def _more(count: int, seconds: float) -> str:
        return f" (and {number(count)} more like it in {lasting(seconds)})" if count else ""
