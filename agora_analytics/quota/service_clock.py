"""The service's clock, as far as it can be known from the `Date` headers of its answers.

A header has whole seconds and is never ahead of its host's clock; it may be stale. So an answer that reached us at `r`
and is dated `D` proves that the service's clock was at least `D` by then: a lower bound of how far it is ahead of our
monotonic clock, and the best of these bounds is the one that everything builds on. An answer that comes right after the
service's second has changed proves nearly all there is to prove, so while the clock is unknown a burst is worth holding
back for such a moment (`telling`). The upper bound would be as good if headers were always fresh. As they are not, it
only guides that search, and what is certain (`top`) is looser by the staleness that real servers show.

The machine that counts requests may be another than the one that writes the header, with a clock at any fixed distance,
and a request is counted when it arrives. So each burst is aimed at a place in the second. A request that is sent when
the lower bound says X arrives when the header's clock shows `X + least` at the earliest, where `least` is the shortest
round trip: the bound falls short by the way back, and the way there is the rest. Sent that much earlier, a burst
arrives just after the header's second changes, however long the way. A refusal, although no second was given more than
the limit, shows that the counter's second changes while the burst arrives. The aim then moves on (`shift`):

    header's clock     |         .         .         .         .         |
    first aim          [ arrivals ]
    counter's clock    .    |    .         .         .         .         .    |
    second aim         .         .      [ arrivals ] .         .         .

The second place suits a counter that is not beside the header just as well, so little is lost where the refusal had
another reason, such as another program. The third place is for arrivals that spread so far that the counter's second
changes among those of either; then comes the first again.

Both bounds give way slowly, because two clocks never run at quite the same pace, and an answer that contradicts them (a
stepped clock, a machine that slept) starts the estimate anew. Our wall clock has no part in any of this.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from agora_analytics.quota.clock_reading import GUARD, Moment
from agora_analytics.spans import DAY

DRIFT: Final = 2.5e-4
"""Seconds per second by which our clock and the service's may differ in pace."""

STALE: Final = 1.0 + GUARD
"""Seconds by which a header may be behind its host."""

_FAR: Final = 1e15
NEAR: Final = 0.05
"""Seconds after a telling moment that are as good."""

_WIDTH: Final = 0.12
"""Bounds this close after a few such moments need no further search: after one, a stale header may have told them."""

_SLACK: Final = 0.2
"""Seconds by which the lower bound may be behind the truth once it has been searched for."""

_TRIES: Final = 6
_RETRIES: Final = 2
"""Telling moments after which the search ends, whatever it found: the first time, and later on."""

_OLD: Final = 0.15
"""Seconds of doubt that age adds, after which the bound is searched for again."""

_ROOM: Final = 0.8
"""Part of a second that the slack and the differences of the way may take: more slack costs nothing where these are
small."""

_SHIFTS: Final = (0.4, 0.3, 0.3)
"""Seconds by which bursts are sent later once the counter's second was found to change while they arrive."""

_PROVEN: Final = 300
"""Answers after which a later aim is kept at a refusal, which has another reason then."""

_WARY: Final = 1.0
_WARIEST: Final = 60.0
_SOON: Final = 30.0
"""Seconds without bursts after such a refusal, their maximum, and how soon after them another refusal doubles them."""

_BEHIND: Final = 60.0
"""Seconds by which the counter's days may begin later than the header's, as far as that is remembered."""

_STEP: Final = 0.05
_RARE: Final = 0.01
"""How the length of the way is followed: in such steps, so that so few take longer."""

_FORGET: Final = 5e-5
"""Part of what the way is longer by usually that the shortest one grows at each answer: routes change."""


@attrs.define
class ServerClock:
    """Bounds of the service's clock minus ours, in seconds; every `now` is of our monotonic clock.

    `floor`, `ceiling` and `top` are the lower bound, the upper one and the certain upper one, each with the moment
    that it is of. `way` is a round trip that few exceed, `least` the shortest one. `shift` is how much later bursts are
    sent after so many `moves`, `moved` whether one was made by these bounds, `proven` how many answers came since the
    last refusal. `behind` is how much later than the header's the counter's days begin.
    """

    floor: float = -_FAR
    floor_at: float = 0.0
    ceiling: float = _FAR
    ceiling_at: float = 0.0
    top: float = _FAR
    top_at: float = 0.0
    tries: int = 0
    tried_at: float = -_FAR
    sure_at: float | None = None
    way: float = 0.0
    least: float = _FAR
    shift: float = 0.0
    moves: int = 0
    moved: bool = False
    proven: int = 0
    behind: float = 0.0
    wary: float = 0.0
    wary_until: float = -_FAR

    @property
    def known(self) -> bool:
        """Whether there was any answer yet."""
        return self.floor > -_FAR

    def low(self, now: float) -> float:
        """Return how far the service's clock is ahead of ours at least."""
        return self.floor - DRIFT * (now - self.floor_at)

    def bounds(self, now: float) -> tuple[float, float, float]:
        """Return how far the service's clock is ahead of ours at least, and how much more it may be.

        That by all experience, and for certain; both are infinite before the first answer.
        """
        low = self.floor - DRIFT * (now - self.floor_at)
        if low < -_FAR / 2:
            return low, math.inf, math.inf
        doubt = self.top + DRIFT * (now - self.top_at) - low
        if self.sure_at is None or now < self.wary_until:
            return low, doubt, doubt
        return low, min(doubt, max(_ROOM - self.way + self.least, _SLACK)), doubt

    def moment(self, now: float, wall: float) -> Moment:
        """Return a moment of our clocks with all that is known of the service's."""
        low, slack, doubt = self.bounds(now)
        if slack == doubt:
            return Moment(now, wall, low, slack, doubt, behind=self.behind)
        return Moment(now, wall, low, slack, doubt, None, self.least - self.shift, self.least, self.behind)

    def refused(self, moment: Moment, *, crowded: bool) -> None:
        """Learn from a refusal that no count of ours explains: send no bursts for a while, then aim elsewhere.

        `crowded` tells whether the aim can be the reason: so many were sent that one in a wrong second was too many.
        """
        now, held = moment.now, moment.now - self.wary_until
        if held < 0:
            return
        self.wary = min(2 * self.wary, _WARIEST) if held < _SOON else _WARY
        self.wary_until = now + self.wary
        if crowded and moment.sure and (not self.moves or self.proven < _PROVEN):
            self.shift = (self.shift + _SHIFTS[self.moves % len(_SHIFTS)]) % 1
            self.moves += 1
            self.moved = True
        self.proven = 0

    def dawned(self, at: float) -> None:
        """Learn how late the counter's day began, from the first request that it accepted after refusing others."""
        begun = (at + self.low(at)) % DAY
        if self.known and begun < _BEHIND:
            self.behind = max(self.behind, begun)

    @property
    def searching(self) -> bool:
        """Whether the lower bound is still being searched for the first time."""
        return self.sure_at is None

    def ageing(self, now: float) -> bool:
        """Whether it is time to search again."""
        return self.sure_at is not None and self._age(now) > _OLD

    def telling(self, now: float) -> float:
        """Return the next moment at which an answer tells most: the service's second changes, by the best guess."""
        if not self.known:
            return now
        # It is the arrival that tells, which is later by half of a long way; a little later tells more than too early.
        guess = (self.low(now) + self._upper(now) + max(0.0, self.least - GUARD)) / 2
        return math.ceil(now + guess) - guess

    def observe(self, sent: float, received: float, date: int) -> bool:
        """Learn from an answer: when its request was sent and it was received, and what its header says.

        Returns whether it changed anything, which it seldom does once the clock is known.
        """
        changed = self._bound(sent, received, date)
        self._follow(received - sent)
        self.proven += 1
        return changed

    def _bound(self, sent: float, received: float, date: int) -> bool:
        low, high = date - received, date + 1 - sent
        known = self.floor - DRIFT * (received - self.floor_at)
        if high + STALE < known or low > self.top + DRIFT * (received - self.top_at):
            self.restart()
        elif low <= known and self.sure_at is not None and not self.ageing(received):
            return False
        self._narrow(sent, received, low, high)
        self._decide(received)
        return True

    def _follow(self, way: float) -> None:
        """Keep the shortest round trip and one that few exceed."""
        if self.least == _FAR:
            self.way = self.least = way
        self.way += _STEP * (1 - _RARE if way > self.way else -_RARE)
        least = self.least + _FORGET * (self.way - self.least)
        self.least = way if way < least else least  # noqa: FURB136 - twice as fast, at every answer

    def _narrow(self, sent: float, received: float, low: float, high: float) -> None:
        if sent > self.tried_at and self.telling(sent - NEAR) <= sent:
            self.tries, self.tried_at = self.tries + 1, received
        if low > self.low(received):
            if self.moved and self.sure_at is not None:
                # What was found out about the aim holds for it as it was, wherever the header's second turns out to be.
                self.shift = (self.shift + max(0.0, low - self.floor - DRIFT * (received - self.floor_at))) % 1
            self.floor, self.floor_at = low, received
        if high < self._upper(received):
            self.ceiling, self.ceiling_at = high, received
        if self._upper(received) < self.low(received):
            # The header was stale once: look for the truth in the whole second above the lower bound.
            self.ceiling, self.ceiling_at = self.low(received) + 1, received
        if high + STALE < self.top + DRIFT * (received - self.top_at):
            self.top, self.top_at = high + STALE, received

    def restart(self) -> None:
        """Forget where the service's clock is; how long the way is and how far off the counter is holds on."""
        kept = {name: getattr(self, name) for name in ("way", "least", "shift", "moves", "proven", "behind")}
        self.__init__(**kept)  # type: ignore[misc]

    def _decide(self, now: float) -> None:
        """End the search where it has found enough or lasted long enough."""
        enough = _TRIES if self.sure_at is None else _RETRIES
        if self.sure_at is not None and not self.ageing(now):
            self.tries = 0
        elif self.tries >= enough or (self.tries >= _RETRIES and self._upper(now) - self.low(now) <= _WIDTH):
            self.sure_at, self.tries = now, 0

    def _upper(self, now: float) -> float:
        return self.ceiling + DRIFT * (now - self.ceiling_at)

    def _age(self, now: float) -> float:
        return 2 * DRIFT * (now - (self.sure_at or 0.0))
