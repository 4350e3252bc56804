"""The rate limiter of one counter of the plan: a wait queue in this process over a bucket in the ledger.

Every change of the bucket is one function of the ledger's state, which may run in another thread or wait for other
processes. docs/concepts/quota.md explains the rule by which a permit is given.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from agora_analytics.errors import QuotaExhausted, RateLimited
from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.quota.bucket import WindowCounter
from agora_analytics.quota.budget import Budget, Demand
from agora_analytics.quota.claims import Asker, CounterWindow, Turn, share
from agora_analytics.quota.clock_reading import ClockReading, possible_days, seconds_until_next_day
from agora_analytics.quota.ledger_account import LedgerAccount
from agora_analytics.quota.ledger_state import LedgerState
from agora_analytics.quota.permit import Permit, Rejection, Reservation
from agora_analytics.quota.priority import Priority, interactive_reserve
from agora_analytics.quota.service_clock import DRIFT, TICK_TOLERANCE, ServiceClock
from agora_analytics.quota.settlement import Settlement
from agora_analytics.quota.spare_permits import Issue, SparePermits
from agora_analytics.quota.wait_queue import WaitQueue

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

    from agora_analytics.quota.snapshot import Forecast, QuotaState


T = TypeVar("T")


class Limiter:
    """Rate limiter of one counter: gives a permit to each request once the plan allows it."""

    def __init__(self, name: str, rates: dict[Unit, int], account: LedgerAccount) -> None:
        self.name = name
        self.queue = WaitQueue(self)
        self._rates = rates
        self._interactive_reserve = interactive_reserve(rates["day"])
        self._account = account
        self._time = account.time
        self._spare = SparePermits()
        self._round_trip = 0.0
        self._export_pacer: AsyncLimiter | None = None
        self._pacing = 0

    def acquire(self, priority: Priority, max_wait: float | None) -> Coroutine[Any, Any, Permit]:
        """Wait for a permit, at most `max_wait` seconds (None: without limit); raises `QuotaExhausted`."""
        return self._acquire_paced(max_wait) if priority is Priority.EXPORT else self.queue.acquire(priority, max_wait)

    async def try_acquire(self, priority: Priority, waiting: int) -> Permit | Rejection:
        """Return a permit, or how long to wait; `waiting` requests of this process wait for one."""
        if self._account.state is not None:
            return self._try_acquire(priority, waiting, self._account.state)
        now = self._time.monotonic()
        if spare := self._spare.take(priority, now) or self._spare.rejection(priority, now):
            return spare
        self.return_spare(now)
        return await self._acquire_from_ledger(priority, waiting)

    def withdraw(self, priority: Priority) -> None:
        """Tell other processes, with the next change, that nobody waits at this priority any more."""
        if self._account.state is None:
            self._account.defer(partial(self._withdraw, priority), self._on_settled)

    async def min_wait(self, ahead: int) -> Rejection:
        """Return how long a request with `ahead` others before it must wait at least, and for which unit."""
        return await self._account.change(partial(self._min_wait, ahead))

    async def release(self, permit: Permit) -> None:
        """Return a permit whose request was not sent."""
        await self._account.record(partial(self._release, [permit]), self._on_settled)

    def return_spare(self, now: float = math.inf) -> None:
        """Release, with the next change, spare permits that nobody took in time; without `now`, all of them."""
        if expired := self._spare.expired(now):
            self._account.defer(partial(self._release, expired), self._on_settled)

    async def settle(self, permit: Permit, settlement: Settlement) -> None:
        """Record how a request ended."""
        if self._account.state is not None:
            self._on_settled(self._settle(permit, settlement, self._account.state))
            return
        self.return_spare(self._time.monotonic())
        settle = partial(self._settle, permit, settlement)
        # Other processes must know of an error at once, and the caller may need the time, which this answer may be the
        # first to show.
        if settlement.error is not None or not self._time.confirmed:
            await self._account.record(settle, self._on_settled)
        else:
            self._account.defer(settle, self._on_settled)

    async def update_reservation(self, number: int | None, demand: Demand) -> tuple[int, Budget]:
        """Store what a stream needs, under its number (None: a new one); return the number and the stream's budget."""
        stored: list[tuple[int, Reservation]] = []
        try:
            return await self._account.change(partial(self._update_reservation, stored, number, demand))
        except BaseException:
            # As a permit's, the number of a new one is lost with its caller, and the change may have been made.
            if number is None and stored:
                self._account.defer(partial(self._drop_reservation, *stored[-1]), self._on_settled)
            raise

    async def drop_reservation(self, number: int) -> None:
        """Delete a stream's reservation."""
        await self._account.change(lambda state: state.counter(self.name).reservations.pop(number, None))

    async def forecast(self, requests: int, priority: Priority) -> Forecast:
        """Return when so many more requests of a priority will have been accepted."""
        return await self._account.change(partial(self._forecast, requests, priority))

    def quota_exhausted(self, rejection: Rejection, max_wait: float) -> QuotaExhausted:
        """Return the error for a wait that would take longer than `max_wait` seconds."""
        limit = rejection.limit
        spent = f"the plan's {limit} requests per {rejection.unit} of {self.name!r} are spent or reserved"
        # A gateway may count in a unit of its own, of which the plan knows no limit.
        if rejection.unit not in self._rates:
            spent = f"the service refuses more requests per {rejection.unit} of {self.name!r}"
        return QuotaExhausted(
            f"{spent}; the next is possible in {rejection.wait:.1f} s or later, which is more than"
            f" max_wait={max_wait:g} s allows",
            hint="Wait, make fewer requests, or raise max_wait; client.quota.snapshot() shows what is left.",
            group=self.name,
            unit=rejection.unit,
            limit=limit,
            resets_in=rejection.wait,
        )

    def states(self, state: LedgerState, reading: ClockReading) -> list[QuotaState]:
        """Return the public state of each unit, shortest unit first."""
        from agora_analytics.quota.snapshot import QuotaState  # noqa: PLC0415 - loaded by those who look

        counter, waiting = state.counter(self.name), self._waiting()
        total = sum(waiting.values())
        return [
            QuotaState(
                counter=self.name,
                unit=unit,
                limit=(limit := counter.limit(unit, planned, reading)),
                used=limit - (left := max(0, counter.remaining(unit, limit, reading))),
                left=left,
                waiting=total,
                resets_in=0.0 if left else counter.time_until(unit, limit, reading),
                priorities=waiting,
                refusals=counter.refusals,
                expected=counter.reserved_by_streams(reading) if unit == "day" else 0,
                others=counter.used_by_others(reading) if unit == "day" else 0,
                planned=planned,
                learned=counter.learned_limits.age(unit, planned, reading.utc),
            )
            for unit, planned in self._rates.items()
        ]

    async def _acquire_paced(self, max_wait: float | None) -> Permit:
        """Wait for the export pacer, then in the queue: exports start evenly, without bursts."""
        if self._export_pacer is None:
            from aiolimiter import AsyncLimiter  # noqa: PLC0415 - most programs export nothing

            unit, rate = next(iter(self._rates.items()))
            # Capacity 1: an idle time saves up nothing, so there is never a burst of exports.
            self._export_pacer = AsyncLimiter(1, WINDOWS[unit] / rate)
        self._pacing += 1
        try:
            await self._export_pacer.acquire()
        finally:
            self._pacing -= 1
        return await self.queue.acquire(Priority.EXPORT, max_wait)

    async def _acquire_from_ledger(self, priority: Priority, waiting: int) -> Permit | Rejection:
        issued: list[Permit] = []
        wanted = self.queue.waiting_before_next(priority)
        change = partial(self._acquire_several, issued, priority, waiting, wanted)
        issue = await self._change_or_release(change, issued)
        now = self._time.monotonic()
        self._spare.add(priority, issued[1:], now)
        if issued:  # a rejection may not have been stored, and was known at once
            latest = now - issue.at
            self._round_trip = (3 * self._round_trip + latest) / 4 if self._round_trip else latest
        if issue.behind is not None:
            self._spare.reject_behind(priority, _as_of(now, issue.behind, issue.at), now)
        return issue.first if isinstance(issue.first, Permit) else _as_of(now, issue.first, issue.at)

    async def _change_or_release(self, change: Callable[[LedgerState], T], issued: list[Permit]) -> T:
        """Apply a change that issues permits; release them if its caller does not get them."""
        try:
            return await self._account.change(change)
        except asyncio.CancelledError:
            # The ledger finishes a change that was submitted, and then there are permits that nobody will use.
            if issued:
                await self._account.record(partial(self._release, issued), self._on_settled)
            raise
        except Exception:
            # A store may have made the change and lost the answer. To release what was not stored changes nothing.
            if issued:
                self._account.defer(partial(self._release, issued), self._on_settled)
            raise

    # Waiters sleep until a time that was computed without what was released or unblocked.
    def _on_settled(self, unblocked: bool) -> None:  # noqa: FBT001 - the result of `_settle`
        if unblocked:
            self.queue.notify()

    def _release(self, permits: list[Permit], state: LedgerState) -> bool:
        for permit in permits:
            state.counter(self.name).release(permit)
        return True

    def _withdraw(self, priority: Priority, state: LedgerState) -> bool:
        if not self.queue.waiting[priority]:
            state.claims_of(self.name).on_issued(Asker(priority, state.process_slot), 0, 0.0)
        return False

    def _waiting(self) -> dict[Priority, int]:
        """Return how many requests wait, by priority; those of exports for their pacer, too."""
        return self.queue.waiting | {Priority.EXPORT: self.queue.waiting[Priority.EXPORT] + self._pacing}

    def _acquire_several(
        self, issued: list[Permit], priority: Priority, waiting: int, wanted: int, state: LedgerState
    ) -> Issue:
        """Take permits for the first waiter and for others, and put all into `issued`.

        Its caller may have been cancelled by the time it returns.
        """
        ran_at = self._time.monotonic()
        issued.clear()  # what an earlier run of this change took was not stored
        claims, asker, window = state.claims_of(self.name), Asker(priority, state.process_slot), self._window(state)
        most, now, left = share(window.limit, state.processes, self._round_trip), window.reading.monotonic, wanted
        first = result = self._try_acquire(priority, waiting, state)
        while isinstance(result, Permit):
            issued.append(result)
            left = wanted - len(issued)
            if left <= 0 or len(issued) == most:
                claims.on_issued(asker, min(left, most), now)
            # Now it is behind the others. Where they take no turns it must ask again, so that they get theirs.
            turn = self._turn(priority, state)
            if left <= 0 or (len(issued) >= most and not (turn and turn.takes_turns)):
                return Issue(first, ran_at)
            result = self._try_acquire(priority, waiting, state)
        # Nobody is counted where it is one alone, who may not want to wait.
        if left > 0 and state.processes > 1 and result.unit != "day":
            claims.renew(asker, min(left, most), result.wait, now)
        return Issue(first, ran_at, result if issued else None)

    def _window(self, state: LedgerState) -> CounterWindow:
        reading, (unit, planned) = self._time.reading(state), next(iter(self._rates.items()))
        return CounterWindow(unit, state.counter(self.name).limit(unit, planned, reading), reading)

    def _turn(self, priority: Priority, state: LedgerState) -> Turn | None:
        """Return how this process takes turns with others, None if no other waits."""
        if not state.claims:
            return None
        window, asker = self._window(state), Asker(priority, state.process_slot)
        left = state.counter(self.name).remaining(window.unit, window.limit, window.reading)
        return Turn.of(state.claims_of(self.name), asker, window, left)

    def _try_acquire(self, priority: Priority, waiting: int, state: LedgerState) -> Permit | Rejection:
        reading, counter = self._time.reading(state), state.counter(self.name)
        turn = self._turn(priority, state)
        # A single request is no burst, and must not wait for a tick.
        held = self._hold_for_sync(counter, state.clock, reading, waiting) if waiting > 1 else None
        reserved = self._reserved_from(priority, counter, reading)
        result = held or counter.acquire(state.upcoming_id, self._rates, reading, reserved, turn.claimed if turn else 0)
        # A rejection draws no number: a state that did not change need not be stored.
        if isinstance(result, Permit):
            state.next_permit_id()
        elif turn is not None:
            result = turn.rejection(result, held=held is not None)
        return result

    def _reserved_from(
        self, priority: Priority, counter: WindowCounter, reading: ClockReading, *, later: bool = False
    ) -> int:
        """Return how many requests of the day, or of each `later` one, a priority leaves to others."""
        if priority is not Priority.EXPORT:
            return 0
        streams = counter.reserved_by_streams(reading, later=later)
        return streams + counter.used_by_others(reading) + self._interactive_reserve

    def _hold_for_sync(
        self, counter: WindowCounter, clock: ServiceClock, reading: ClockReading, waiting: int
    ) -> Rejection | None:
        """Hold back a burst of at least a second's limit until a second of the service begins."""
        limit = counter.limit("second", self._rates.get("second", 0), reading)
        # Fewer than a second's limit cannot exceed it, in whichever seconds they are counted.
        if not limit or waiting < limit or not clock.known:
            return None
        if clock.calibrating or clock.needs_calibration(reading.monotonic):
            return self._wait_for_tick(counter, clock, reading, limit)
        # A request in mid-second is charged to the next second too, and so would be the one after it.
        if reading.calibrated and not reading.early_in_second and not counter.is_idle(reading.monotonic):
            return Rejection(reading.next_second_start - reading.monotonic, "second", limit)
        return None

    def _wait_for_tick(
        self, counter: WindowCounter, clock: ServiceClock, reading: ClockReading, limit: int
    ) -> Rejection | None:
        """Hold requests back for the service's next tick, whose answer shows its clock best.

        All of a burst while the clock is first calibrated; later only the last one of a window.
        """
        now = reading.monotonic
        # Looking back by the tolerance: a request just after the tick is still a probe.
        at_tick = clock.next_tick(now - TICK_TOLERANCE) <= now
        if at_tick or (not clock.calibrating and counter.remaining("second", limit, reading) > 1):
            return None
        return Rejection(clock.next_tick(now) - now, "second", limit)

    def _update_reservation(
        self, stored: list[tuple[int, Reservation]], number: int | None, demand: Demand, state: LedgerState
    ) -> tuple[int, Budget]:
        """Store a reservation, also into `stored`: its caller may have been cancelled by the time this returns."""
        reading, counter = self._time.reading(state), state.counter(self.name)
        number = state.next_permit_id() if number is None else number
        limit = counter.limit("day", self._rates["day"], reading)
        # Without its own: a stream that renews its reservation does not compete with itself.
        others = sum(reservation.weight for key, reservation in counter.reservations.items() if key != number)
        share = demand.weight / (demand.weight + others)
        # Rounded down, so that the shares of all streams never add up to more than is left.
        left = int(counter.plannable_today(self._rates["day"], reading) * share)
        rest, daily = min(demand.rest, left), min(demand.daily, int(limit * share))
        counter.reservations[number] = Reservation(possible_days(reading)[-1], rest, daily, demand.weight)
        stored[:] = [(number, counter.reservations[number])]
        return number, Budget(left, seconds_until_next_day(reading), int(counter.used_by_others(reading) * share))

    def _drop_reservation(self, number: int, reservation: Reservation, state: LedgerState) -> bool:
        reservations = state.counter(self.name).reservations
        # If it was not stored, another stream may have drawn its number since.
        if reservations.get(number) == reservation:
            del reservations[number]
        return False

    def _forecast(self, requests: int, priority: Priority, state: LedgerState) -> Forecast:
        from agora_analytics.quota.snapshot import Forecast  # noqa: PLC0415 - as above

        reading, counter = self._time.reading(state), state.counter(self.name)
        ahead = sum(self._waiting().values())
        today, daily = (self._reserved_from(priority, counter, reading, later=later) for later in (False, True))
        seconds = counter.forecast(ahead + requests, self._rates, reading, (today, daily))
        return Forecast.of(self.name, requests, seconds, reading)

    def _min_wait(self, ahead: int, state: LedgerState) -> Rejection:
        reading, counter = self._time.reading(state), state.counter(self.name)
        waits: list[Rejection] = []
        for unit, planned in self._rates.items():
            limit = counter.limit(unit, planned, reading)
            waits.append(Rejection(counter.time_until(unit, limit, reading, ahead), unit, limit))
        if blocked := counter.longest_block(self._rates, reading):
            waits.append(blocked)
        return max(waits, key=lambda rejection: rejection.wait)

    def _settle(self, permit: Permit, settlement: Settlement, state: LedgerState) -> bool:
        """Record how a request ended; return whether others may be sent sooner than they expect."""
        error = settlement.error
        received = None if settlement.received is None else self._time.by_ledger(settlement.received)
        # The time first: which day a rate-limit error is about depends on it.
        if (sample := settlement.sample_by(received)) is not None:
            self._time.learn(settlement.host, sample, state)
        reading, counter = self._time.reading(state), state.counter(self.name)
        is_settled = permit.number not in counter.in_flight
        counter.settle(permit, received, reading)
        if error is not None:
            # A ledger may store an error and lose its answer: then this runs again, and the error is not newer than
            # itself. That of a permit which has expired is.
            if not is_settled or permit.at > counter.rate_limited_at.get(error.unit, -math.inf):
                self._on_rate_limited(permit, error, state, reading)
            return False
        if not counter.blocked:
            return False
        if received is None:
            return counter.on_unanswered(permit)
        unblocked = counter.on_accepted(permit)
        # The first one accepted after midnight's refusals shows how late the counting host's day began.
        if "day" in unblocked:
            state.clock.on_day_start(permit.at)
        return bool(unblocked)

    def _on_rate_limited(self, permit: Permit, error: RateLimited, state: LedgerState, reading: ClockReading) -> None:
        counter, planned = state.counter(self.name), self._rates.get(error.unit, 0)
        is_news = counter.on_rate_limited(error, permit.at, planned, reading)
        # Bursts are aimed at seconds alone, and only where the plan limits them.
        if is_news and error.unit == "second" and planned:
            limit = counter.limit("second", planned, reading)
            state.clock.on_rate_limited(reading, aim_suspected=counter.burst_may_exceed(permit.at, limit))


def _as_of(now: float, rejection: Rejection, at: float) -> Rejection:
    """Return a rejection as it is now, which was computed at a time."""
    # The way from the ledger is a part of the wait. And the start of a window recedes by the drift meanwhile: a try
    # just before it needs another round trip, and is late.
    return rejection._replace(wait=rejection.wait * (1 + 2 * DRIFT) - (now - at))
