"""Looks up open calls again: several in one search where that is cheaper, and old calls less often than young ones.

Reading new calls shows an open call again only if the service selects calls by overlap, which is not documented. So
calls that began before the span just read are looked up: the younger ones by one search over the time in which they
began, each older one by a search for its channel in the second in which it began. The pause between two lookups is a
tenth of a call's age, so one that never ends costs ever fewer requests; and a poll makes at most three single lookups
for each request that reading new calls takes, however many calls are open.

A call that is not found where it began may have been moved or deleted. It is searched for in wider spans, and counts
as gone after three misses.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Final

import attrs

from agora_analytics._core import validation
from agora_analytics._core.wire import NothingToFetchError
from agora_analytics.errors import AgoraError, IncompleteList, RateLimited, ResponseError, ServerError
from agora_analytics.models import Call
from agora_analytics.spans import DAY, HOUR, Span
from agora_analytics.streams.follow.call_lists import CallListReader
from agora_analytics.streams.follow.call_tracker import CallTracker, OpenCall
from agora_analytics.streams.health import log

_LONG: Final = 7_200
"""Seconds ahead for which a lookup of any call may be planned; see `_is_due`."""

_AGE: Final = 0.1
"""Share of its age after which a call is looked up again."""

MAX_MISSES: Final = 3
"""Misses in a row after which a call counts as gone."""

_MISS_INTERVAL: Final = 300
"""Seconds until the next lookup after a first miss; doubled for each further one."""

_MARGINS: Final = (0, 6 * HOUR, DAY)
"""Seconds around the start of a call in which it is searched for, by the number of misses."""

_MAX_SINGLE: Final = 3
"""Calls looked up one by one in one poll, for each request that reading new calls takes."""


@attrs.frozen(kw_only=True)
class LookupPlan:
    """Searches to make: one over `span` (if any) for all calls that began in it, and one for each of `single`."""

    span: Span | None = None
    single: tuple[OpenCall, ...] = ()

    def together(self, older: Sequence[OpenCall]) -> list[OpenCall]:
        """Return the calls that the search over `span` should find."""
        start = self.span.start if self.span is not None else math.inf
        # A call that was missed is searched for elsewhere: the same place again would prove nothing.
        return [known for known in older if known.began >= start and not known.misses and known not in self.single]


def plan_lookups(
    older: Sequence[OpenCall], start: int, *, now: float, density: float, longest: int, most: int
) -> LookupPlan:
    """Return the cheapest searches for those calls that are due, of calls (oldest first) that began before `start`.

    `density` is the number of calls that a search of one second finds, `longest` the seconds that one request may span.
    At most `most` calls are searched for one by one: those that are overdue longest.
    """
    due = [known for known in older if _is_due(known, now)]
    missed = [known for known in due if known.misses]
    steady = [known for known in due if not known.misses]
    best, cost = len(steady), float(len(steady))
    # The oldest calls one by one, at a request each, and the others by one search, at a request for each slice and
    # page: find the cheapest split.
    for number, known in enumerate(steady):
        back = start - known.began
        together = number + 1 + back // longest + back * density / validation.PAGE_SIZE
        if together < cost:
            best, cost = number, together
    single = sorted((*steady[:best], *missed), key=lambda known: known.next_lookup)
    span = Span(steady[best].began, start) if best < len(steady) else None
    return LookupPlan(span=span, single=tuple(single[:most]))


def _is_due(known: OpenCall, now: float) -> bool:
    """Whether a lookup is due, or so far off that the clock must have been set back since it was planned."""
    longest = max(_LONG, 2 * _AGE * (now - known.began))
    return known.next_lookup <= now or known.next_lookup > now + longest


def search_span(known: OpenCall, newest: int) -> Span:
    """Return the span in which to search for one call."""
    margin = _MARGINS[min(known.misses, len(_MARGINS) - 1)]
    start = max(0, known.began - margin)
    # At least the second in which it began, also if the clock says that this lies ahead.
    return Span(start, max(min(known.began + 1 + margin, newest), start + 1))


def after_hit(known: OpenCall, *, now: float, every: int) -> OpenCall:
    """Return the state of a call that was found."""
    return attrs.evolve(known, misses=0, next_lookup=now + max(every, _AGE * (now - known.began)))


def after_miss(known: OpenCall, *, now: float) -> OpenCall:
    """Return the state of a call that was not found."""
    return attrs.evolve(known, misses=known.misses + 1, next_lookup=now + _MISS_INTERVAL * 2**known.misses)


def postponed(known: OpenCall, *, now: float) -> OpenCall:
    """Return the state of a call whose lookup proved nothing: its span is not queryable, or the list was cut off."""
    return attrs.evolve(known, next_lookup=now + _MISS_INTERVAL)


@attrs.define
class LookupResult:
    """Calls that lookups found, and errors that they met."""

    calls: list[Call] = attrs.field(factory=list)
    errors: list[AgoraError] = attrs.field(factory=list)


class OpenCallRefresher:
    """Looks up the open calls of a tracker."""

    def __init__(self, reader: CallListReader, every: int) -> None:
        self._reader = reader
        self._every = every

    async def refresh(self, tracker: CallTracker, start: int, seen: Sequence[Call], density: float) -> LookupResult:
        """Look up open calls that began before `start` and are not among those just `seen`."""
        now, seen_ids = self._reader.utc(), {call.call_id for call in seen}
        # Shown without a lookup, so the next one is not due for a while.
        for call_id in seen_ids & tracker.open.keys():
            tracker.open[call_id] = after_hit(tracker.open[call_id], now=now, every=self._every)
        older = [known for known in tracker.opened_before(start) if known.call.call_id not in seen_ids]
        await self._prove_oldest(tracker, older)
        queryable = self._reader.queryable()
        lookups = plan_lookups(
            # After a clock was set back, some calls seem to begin in the future, where nothing is queryable.
            [known for known in older if queryable.start <= known.began < queryable.end],
            start,
            now=now,
            density=density,
            longest=self._reader.bounds.limits.longest_query,
            most=_MAX_SINGLE * (1 + len(seen) // validation.PAGE_SIZE),
        )
        result = LookupResult()
        if lookups.span is not None:
            await self._lookup(tracker, result, lookups.together(older), lookups.span)
        for known in lookups.single:
            # Read again: the lookups before it may have waited for quota.
            span = search_span(known, max(self._reader.queryable().end, 2))
            await self._lookup(tracker, result, [known], span, known.call.cname)
        return result

    async def _prove_oldest(self, tracker: CallTracker, older: Collection[OpenCall]) -> None:
        """If calls expired by the clock alone, read the oldest second: the service proves the bound by accepting it."""
        oldest = self._reader.queryable().start
        if any(self._reader.bounds.oldest_accepted <= known.began < oldest for known in older):
            await self._lookup(tracker, LookupResult(), [], Span(oldest, oldest + 1))

    async def _lookup(
        self,
        tracker: CallTracker,
        result: LookupResult,
        wanted: Sequence[OpenCall],
        span: Span,
        cname: str | None = None,
    ) -> None:
        """Search a span for calls and record which were found; a refused search counts as a miss."""
        incomplete: list[IncompleteList] = []
        try:
            found = {call.call_id: call for call in await self._reader.search(span, cname, incomplete=incomplete)}
        except NothingToFetchError:
            now = self._reader.utc()
            tracker.open.update({known.call.call_id: postponed(known, now=now) for known in wanted})
            return
        except AgoraError as error:
            if not isinstance(error, ResponseError) or isinstance(error, ServerError | RateLimited):
                result.errors.append(error)
                return
            log.info("follow: the lookup of %s was refused: %s", span, error)
            found = {}
        now = self._reader.utc()
        for known in wanted:
            call_id = known.call.call_id
            if call_id in found:
                result.calls.append(found[call_id])
                tracker.open[call_id] = after_hit(known, now=now, every=self._every)
            else:
                tracker.open[call_id] = (postponed if incomplete else after_miss)(known, now=now)
