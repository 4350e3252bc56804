"""One counter of the plan: its line in this process, and its part of the ledger's book."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from agora_analytics.errors import QuotaExhausted, RateLimited
from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.protocols import Ledger, WallClock
from agora_analytics.quota.bucket import Counter, Denied, Expected, Granted
from agora_analytics.quota.clock_reading import Moment, possible_days, until_tomorrow
from agora_analytics.quota.date_trust import Dated, Trust
from agora_analytics.quota.export_pacer import Pace
from agora_analytics.quota.host_clock import HostClock
from agora_analytics.quota.ledger_state import Book
from agora_analytics.quota.memory_ledger import MemoryLedger
from agora_analytics.quota.service_clock import NEAR, ServerClock
from agora_analytics.quota.wait_queue import Line, Priority

if TYPE_CHECKING:
    from agora_analytics.quota.snapshot import Forecast, QuotaState

__all__ = ["Budget"]

T = TypeVar("T")

_PEOPLE: Final = 0.05
"""Part of the day that exports leave to people."""


class Outcome(NamedTuple):
    """What became of a request: when its answer was received, what that tells of the time, whether it refused.

    `dated` is None where nothing is to be learned of the time; `host` is the number of the host that answered.
    """

    received: float | None = None
    dated: Dated | None = None
    refusal: RateLimited | None = None
    host: int = 0


class Need(NamedTuple):
    """Requests that a stream would like to make in the rest of the day and on others; its weight among streams."""

    rest: int
    daily: int
    weight: float = 1.0


class Budget(NamedTuple):
    """Requests that are a stream's part of what the day has left, and the seconds until the next day has others.

    `others` is how many of them other programs may take before it asks.
    """

    requests: int
    seconds: float
    others: int = 0

    def leaving(self, needed: float) -> int:
        """Return how many it should plan with: others are left what they take, but not of what it needs itself."""
        return max(self.requests - self.others, min(self.requests, math.ceil(needed)))


class Account:
    """An account's book in a ledger, and the clocks to read it by."""

    def __init__(self, ledger: Ledger, account: str, wall: WallClock) -> None:
        self._ledger = ledger
        self._account = account
        self._wall = wall
        self._time: Callable[[], float] | None = None
        self._clock = ServerClock()
        self._trust = Trust()
        self._host = HostClock()
        # A book in memory needs no waiting for, and no coroutine.
        self.book = ledger.book(account) if isinstance(ledger, MemoryLedger) else None

    def now(self) -> float:
        """Return the time of the loop that first asked: finding the loop costs a system call, which is slow."""
        if self._time is None:
            self._time = asyncio.get_running_loop().time
        return self._time()

    def utc(self) -> float:
        """Return UTC seconds: by the service's clock, at least, or by the host's until that is known."""
        wall = self._wall()
        if self._time is None:  # nothing was sent yet, and there may be no loop
            return wall
        now = self._time()
        self._host.look(now, wall)
        if not self._clock.known:
            return self._trust.utc(now, wall)
        return now + self._clock.low(now)

    def passed(self) -> float:
        """Return UTC seconds that have passed by every account: until the clock is confirmed, by the host's too."""
        return self.utc() if self.confirmed else min(self.utc(), self._wall())

    @property
    def confirmed(self) -> bool:
        """Whether the service's clock is known for certain."""
        return self._time is not None and self._trust.sure(self._time(), self._wall())

    def slept(self, since: float) -> float:
        """Return the seconds by which the host's clock gained on the loop's since a moment of that."""
        return self._host.slept(since, self.now())

    def sleeps(self, since: float, seconds: float) -> list[tuple[float, float]]:
        """Return when sleeps were over that took so many seconds in all, and how long each was."""
        return self._host.sleeps(since, self.now(), seconds)

    def host_ahead(self) -> float | None:
        """Return by how many seconds the host's clock is ahead of the service's, None until that is known."""
        return self._wall() - self.utc() if self._time is not None and self._clock.known else None

    async def learn(self, host: int, dated: Dated) -> None:
        """Learn the time from an answer that no counter counts."""
        await self.change(partial(self._learn, host, dated))

    def ahead(self) -> float:
        """Return how far the host's wall clock is ahead of the loop's."""
        return self._wall() - self.now()

    def _learn(self, host: int, dated: Dated, book: Book) -> bool:
        self._clock, self._trust = book.clock, book.trust
        return book.trust.learn(book.clock, host, dated, self.ahead())

    async def change(self, change: Callable[[Book], T]) -> T:
        """Change the book; `change` may be called in another thread."""
        if self.book is not None:
            return change(self.book)
        self.now()  # there is no loop to be found in another thread
        return await self._ledger.change(self._account, change)

    def moment(self, book: Book) -> Moment:
        """Return the moment as a change sees it."""
        now, wall = self.now(), self._wall()
        self._clock, self._trust = clock, trust = book.clock, book.trust
        if trust.believed is None or trust.steady(now, wall):
            return clock.moment(now, wall if clock.known else trust.utc(now, wall))
        # Until the clock is confirmed it may be any of two days, and no second is known to have begun.
        reading = trust.utc(now, wall) + trust.slept(now, wall)
        return Moment(now, reading, clock.low(now), math.inf, math.inf, wall)


class Group:
    """Requests of one counter; what a `Line` takes its tokens from."""

    def __init__(self, name: str, rates: dict[Unit, int], account: Account) -> None:
        self.name = name
        self.line = Line(self)
        self._rates = rates
        self._people = math.ceil(_PEOPLE * rates["day"])
        self._account = account
        unit, rate = next(iter(rates.items()))
        self._pace = Pace(WINDOWS[unit] / max(rate, 1))
        self._paces = 0

    def take(self, priority: Priority, patience: float | None) -> Coroutine[Any, Any, Granted]:
        """Wait for a token."""
        return self._paced(patience) if priority is Priority.EXPORT else self.line.take(priority, patience)

    async def reserve(self, priority: Priority, waiting: int) -> Granted | Denied:
        """Take a token of every unit."""
        taken: list[Granted | Denied] = []
        if self._account.book is not None:
            return self._reserve(taken, priority, waiting, self._account.book)
        try:
            return await self._account.change(partial(self._reserve, taken, priority, waiting))
        except asyncio.CancelledError:
            for got in taken:
                if isinstance(got, Granted):
                    await self.put_back(got)
            raise

    async def bound(self, ahead: int) -> Denied:
        """Tell how long one with `ahead` others before him waits at least, and for which unit."""
        return await self._account.change(partial(self._bound, ahead))

    async def put_back(self, granted: Granted) -> None:
        """Return a token whose request was not sent."""
        await self._account.change(lambda book: book.counter(self.name).put_back(granted))
        self.line.wake()

    async def settle(self, granted: Granted, outcome: Outcome) -> None:
        """Note what became of a request."""
        if self._account.book is not None:
            opened = self._settle(granted, outcome, self._account.book)
        else:
            opened = await self._account.change(partial(self._settle, granted, outcome))
        if opened:
            self.line.wake()

    async def expect(self, number: int | None, need: Need) -> tuple[int, Budget]:
        """Note what a stream would like, and return the number it is kept by and what it can count on."""
        return await self._account.change(partial(self._expect, number, need))

    async def expect_no_more(self, number: int) -> None:
        """Forget what a stream needed."""
        await self._account.change(lambda book: book.counter(self.name).expected.pop(number, None))

    async def forecast(self, requests: int) -> Forecast:
        """Tell when so many more will have been accepted."""
        return await self._account.change(partial(self._forecast, requests))

    async def _paced(self, patience: float | None) -> Granted:
        self._paces += 1
        try:
            await self._pace.step()
        finally:
            self._paces -= 1
        return await self.line.take(Priority.EXPORT, patience)

    def _priorities(self) -> dict[Priority, int]:
        """Return how many wait, by priority: those of exports for their pace, too."""
        return self.line.waiting | {Priority.EXPORT: self.line.waiting[Priority.EXPORT] + self._paces}

    def exhausted(self, denied: Denied, patience: float) -> QuotaExhausted:
        """Return the error that says that waiting takes too long."""
        limit = denied.limit
        spent = f"the plan's {limit} requests per {denied.unit} of {self.name!r} are spent"
        if denied.unit not in self._rates:
            spent = f"the service refuses more requests per {denied.unit} of {self.name!r}"
        return QuotaExhausted(
            f"{spent}; the next is possible in {denied.wait:.1f} s or later, which is more than max_wait={patience:g} s"
            " allows",
            hint="Wait, ask for less, or raise max_wait; client.quota.snapshot() shows what is left.",
            group=self.name,
            unit=denied.unit,
            limit=limit,
            resets_in=denied.wait,
        )

    def states(self, book: Book, moment: Moment) -> list[QuotaState]:
        """Tell the state of each unit, shortest first."""
        from agora_analytics.quota.snapshot import QuotaState  # noqa: PLC0415 - loaded by those who look

        counter = book.counter(self.name)
        return [
            QuotaState(
                counter=self.name,
                unit=unit,
                limit=(limit := counter.limit(unit, planned, moment)),
                used=limit - (left := max(0, counter.left(unit, limit, moment))),
                left=left,
                waiting=sum(self._priorities().values()),
                resets_in=0.0 if left else counter.wait(unit, limit, moment),
                priorities=self._priorities(),
                refusals=counter.refusals,
                expected=counter.awaited(moment) if unit == "day" else 0,
                others=counter.others.of(possible_days(moment)[-1]) if unit == "day" else 0,
                planned=planned,
                learned=counter.named.age(unit, planned, moment.utc),
            )
            for unit, planned in self._rates.items()
        ]

    def _reserve(self, taken: list[Granted | Denied], priority: Priority, waiting: int, book: Book) -> Granted | Denied:
        """Take a token, and note it in `taken`: whoever asked may be gone by the time it is there."""
        moment, counter = self._account.moment(book), book.counter(self.name)
        held = self._held(counter, book.clock, moment, waiting) if waiting > 1 else None
        kept = 0
        if priority is Priority.EXPORT:
            kept = counter.awaited(moment) + counter.others.of(possible_days(moment)[-1]) + self._people
        got = held or counter.reserve(book.number(), self._rates, moment, kept)
        taken.append(got)
        return got

    def _held(self, counter: Counter, clock: ServerClock, moment: Moment, waiting: int) -> Denied | None:
        """Hold tokens back, from so many who wait that they take all of a second's, for a better moment."""
        limit = counter.limit("second", self._rates.get("second", 0), moment)
        if not limit or waiting < limit or not clock.known:
            return None
        if clock.searching or clock.ageing(moment.now):
            return self._untelling(counter, clock, moment, limit)
        # A token that goes in the midst of a second is charged to the next one too, and so is the one after it.
        if moment.sure and not moment.early and not counter.idle(moment.now):
            return Denied(moment.following - moment.now, "second", limit)
        return None

    def _untelling(self, counter: Counter, clock: ServerClock, moment: Moment, limit: int) -> Denied | None:
        """Wait for a moment that tells the service's clock.

        All of a burst while the clock is unknown, and the last of a window when it has not been looked at for long.
        """
        now = moment.now
        if clock.telling(now - NEAR) <= now or (not clock.searching and counter.left("second", limit, moment) > 1):
            return None
        return Denied(clock.telling(now) - now, "second", limit)

    def _expect(self, number: int | None, need: Need, book: Book) -> tuple[int, Budget]:
        moment, counter = self._account.moment(book), book.counter(self.name)
        number = book.number() if number is None else number
        limit = counter.limit("day", self._rates["day"], moment)
        weights = need.weight + sum(one.weight for key, one in counter.expected.items() if key != number)
        part = need.weight / weights
        day = possible_days(moment)[-1]
        left = int(counter.plan_of_day(self._rates["day"], moment) * part)
        counter.expected[number] = Expected(day, min(need.rest, left), min(need.daily, int(limit * part)), need.weight)
        return number, Budget(left, until_tomorrow(moment), int(counter.others.of(day) * part))

    def _forecast(self, requests: int, book: Book) -> Forecast:
        from agora_analytics.quota.snapshot import Forecast  # noqa: PLC0415 - as above

        moment = self._account.moment(book)
        ahead = sum(self._priorities().values())
        seconds = book.counter(self.name).forecast(ahead + requests, self._rates, moment)
        return Forecast.of(self.name, requests, seconds, moment)

    def _bound(self, ahead: int, book: Book) -> Denied:
        moment, counter = self._account.moment(book), book.counter(self.name)
        limits = {unit: counter.limit(unit, planned, moment) for unit, planned in self._rates.items()}
        bounds = [Denied(counter.wait(unit, limit, moment, ahead), unit, limit) for unit, limit in limits.items()]
        if barred := counter.barred(self._rates, moment):
            bounds.append(barred)
        return max(bounds, key=lambda bound: bound.wait)

    def _settle(self, granted: Granted, outcome: Outcome, book: Book) -> bool:
        """Note what became of a request, and say whether others may go sooner than they were told."""
        counter, clock = book.counter(self.name), book.clock
        moment = self._account.moment(book)
        received, dated, refusal, host = outcome
        # The time first: which day a refusal closes depends on it.
        if dated is not None and book.trust.learn(clock, host, dated, self._account.ahead()):
            moment = self._account.moment(book)
        counter.settle(granted, received, moment)
        if refusal is not None:
            self._refused(granted, refusal, book, moment)
        elif received is not None and counter.shut:
            opened = counter.accept(granted)
            if "day" in opened:
                clock.dawned(granted.at)
            return bool(opened)
        elif received is None and counter.shut:
            return counter.lose(granted)
        return False

    def _refused(self, granted: Granted, refusal: RateLimited, book: Book, moment: Moment) -> None:
        counter, planned = book.counter(self.name), self._rates.get(refusal.unit, 0)
        news = counter.refuse(refusal, granted.at, planned, moment)
        if not news or refusal.unit != "second" or not planned:
            return
        limit = counter.limit("second", planned, moment)
        book.clock.refused(moment, crowded=counter.crowded(granted.at, limit))
