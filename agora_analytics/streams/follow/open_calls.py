"""Which calls that go on are looked at again, and how: together where that is cheaper, the longer they last the less.

A call that goes on is found where new calls are read only if the service selects by overlap, which nobody knows. So
those that began earlier are looked at: the younger ones by one search over the time in which they began, each of the
older ones by a search for its channel in the second it began. The pause between two looks grows with a call's age, so
a call that never ends costs a few requests a day, however many there are.

A call that is not where it began may have been moved or deleted: it is searched for in a wider span of time, and given
up after a few looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import attrs

from agora_analytics.spans import Span
from agora_analytics.streams.follow.call_tracker import Open

PAGE: Final = 100

_LONG: Final = 7_200
_AGE: Final = 0.1
"""Part of its age after which a call is looked at again."""

MISSES: Final = 3
"""Looks that find nothing after which a call is gone."""

_AGAIN: Final = 300
"""Seconds after a look that found nothing, and twice as many after the next."""

_WIDE: Final = (0, 6 * 3_600, 24 * 3_600)
"""Seconds around its beginning in which a call is searched for, by how often it was missed."""


@attrs.frozen(kw_only=True)
class Looks:
    """Searches to be made: one over `span` for all that began in it, if any, and one for each of `single`."""

    span: Span | None = None
    single: tuple[Open, ...] = ()

    def together(self, older: Sequence[Open]) -> list[Open]:
        """Return the calls that the search over `span` should find."""
        start = self.span.start if self.span is not None else math.inf
        # Where one was missed, another look at the same place proves nothing: it is searched for elsewhere.
        return [one for one in older if one.began >= start and not one.misses and one not in self.single]


def plan(older: Sequence[Open], start: int, *, now: float, density: float, longest: int, most: int) -> Looks:
    """Return the cheapest searches for the calls that are due, oldest first, of those that began before `start`.

    `density` is how many calls a search of one second finds, `longest` what one request may span. At most `most` calls
    are searched for singly, those that are overdue longest.
    """
    due = [one for one in older if _is_due(one, now)]
    missed = [one for one in due if one.misses]
    steady = [one for one in due if not one.misses]
    best, cost = len(steady), float(len(steady))
    for number, one in enumerate(steady):
        back = start - one.began
        together = number + 1 + back // longest + back * density / PAGE
        if together < cost:
            best, cost = number, together
    single = sorted((*steady[:best], *missed), key=lambda one: one.look_at)
    span = Span(steady[best].began, start) if best < len(steady) else None
    return Looks(span=span, single=tuple(single[:most]))


def _is_due(one: Open, now: float) -> bool:
    """Whether it is time for a look; also where no look would be that far off, but for a clock that was set back."""
    longest = max(_LONG, 2 * _AGE * (now - one.began))
    return one.look_at <= now or one.look_at > now + longest


def where(one: Open, newest: int) -> Span:
    """Return the span in which to search for a call."""
    around = _WIDE[min(one.misses, len(_WIDE) - 1)]
    begun = one.began
    start = max(0, begun - around)
    return Span(start, max(min(begun + 1 + around, newest), start + 1))


def found(one: Open, *, now: float, every: int) -> Open:
    """Return a call that a look found, with the time of the next."""
    return attrs.evolve(one, misses=0, look_at=now + max(every, _AGE * (now - one.began)))


def later(one: Open, *, now: float) -> Open:
    """Return a call that cannot be asked for by the clock, with the time of the next look: nothing is known by that."""
    return attrs.evolve(one, look_at=now + _AGAIN)


def missed(one: Open, *, now: float) -> Open:
    """Return a call that a look did not find, with the time of the next."""
    return attrs.evolve(one, misses=one.misses + 1, look_at=now + _AGAIN * 2**one.misses)
