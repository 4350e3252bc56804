"""What the plan allows, spent request by request: per second and minute in a line, per UTC day in a ledger."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Self

import attrs

from agora_analytics.errors import QuotaExhausted, RateLimited, TransportError
from agora_analytics.plans import Endpoint, Plan, Unit
from agora_analytics.protocols import DayKey, Ledger, WallClock
from agora_analytics.quota._day import Day
from agora_analytics.quota._line import Line


@attrs.frozen(kw_only=True)
class QuotaState:
    """How much of one counter's allowance per unit is used.

    `used` counts requests under way and tokens that are not back yet, `left` those that could go now, `waiting` those
    in line for the counter, `resets_in` seconds until more are left (0 where some are).
    """

    counter: str
    unit: Unit
    limit: int
    used: int
    left: int
    waiting: int
    resets_in: float


@attrs.frozen
class _Allowance:
    """One counter: its line and its day."""

    name: str
    line: Line
    day: Day

    def exhausted(self, unit: Unit, wait: float, max_wait: float | None) -> QuotaExhausted:
        """Say that waiting would take too long."""
        limit = self.day.limit if unit == "day" else self.line.buckets[unit].limit
        return QuotaExhausted(
            f"the plan's {limit} requests per {unit} of {self.name!r} are spent; the next is possible in {wait:.1f} s"
            f" or later, which is more than max_wait={max_wait:g} s allows",
            advice="Wait, ask for less, or raise max_wait; client.quota.snapshot() shows what is left.",
            group=self.name,
            unit=unit,
            limit=limit,
            resets_in=wait,
        )

    async def state(self, now: float) -> list[QuotaState]:
        """Tell the state of each unit, shortest first."""
        rows: list[tuple[Unit, int, int, float]] = [
            (unit, bucket.limit, max(0, bucket.free(now)), bucket.wait(now))
            for unit, bucket in self.line.buckets.items()
        ]
        left = max(0, self.day.limit - await self.day.used())
        rows.append(("day", self.day.limit, left, 0.0 if left else self.day.until_tomorrow()))
        return [
            QuotaState(
                counter=self.name,
                unit=unit,
                limit=limit,
                used=limit - left,
                left=left,
                waiting=self.line.waiting,
                resets_in=wait,
            )
            for unit, limit, left, wait in rows
        ]


class Quota:
    """Keeps every request inside the plan, unless told not to `enforce` it.

    `account` is a fingerprint of the credentials, by which the ledger counts.
    """

    def __init__(self, plan: Plan, ledger: Ledger, *, account: str, clock: WallClock, enforce: bool = True) -> None:
        self.plan = plan
        self.ledger = ledger
        self._allowances: dict[str, _Allowance] = {}
        for name in plan.all_counters() if enforce else ():
            rates = plan.rates(name)
            day = Day(DayKey(account, name, 0), rates["day"], ledger, clock)
            self._allowances[name] = _Allowance(name, Line(rates), day)

    def token(self, endpoint: Endpoint, max_wait: float | None = None) -> AbstractAsyncContextManager[object]:
        """Return the right to send one request to this endpoint: `async with quota.token(endpoint): …`.

        Entering it waits until the plan allows the request, at most `max_wait` seconds (None: as long as it takes), and
        raises `QuotaExhausted` as soon as it is known that this will not do.
        """
        allowance = self._allowances.get(self.plan.counter(endpoint))
        return nullcontext() if allowance is None else _Token(allowance, max_wait)

    def refused(self, endpoint: Endpoint, error: RateLimited) -> None:
        """Learn from a refusal: hold the counter until its window is over, and adopt the limit that was named."""
        allowance = self._allowances.get(self.plan.counter(endpoint))
        if allowance is None:
            return
        if error.unit == "day":
            allowance.day.close(error.limit)
        else:
            allowance.line.refuse(error.unit, error.limit)

    async def snapshot(self) -> tuple[QuotaState, ...]:
        """Return the state of every counter and unit, in the plan's order, shortest unit first."""
        now = asyncio.get_running_loop().time()
        states = [await allowance.state(now) for allowance in self._allowances.values()]
        return tuple(state for rows in states for state in rows)


class _Token:
    """The right to send one request; leaving it settles what it cost: an answer came, or none, or nothing was sent."""

    def __init__(self, allowance: _Allowance, max_wait: float | None) -> None:
        self._allowance = allowance
        self._max_wait = max_wait
        self._days: tuple[int, ...] = ()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while not self._days:
            patience = None if self._max_wait is None else self._max_wait - (loop.time() - begun)
            await self._try(patience, loop.time())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, TransportError) and not error.sent:
            self._allowance.line.put_back()
            await self._allowance.day.release(self._days)
            return
        self._allowance.line.settle(answered=error is None)
        await self._allowance.day.settle(self._days)

    async def _try(self, patience: float | None, now: float) -> None:
        """Get a token of each unit, or wait for tomorrow, or say that there is no patience for either."""
        wait, unit = self._allowance.line.bound(now)
        if wait and await self._allowance.day.used() >= self._allowance.day.limit:
            # No use waiting in line for a day that is spent.
            await self._tomorrow(patience)
            return
        if patience is not None and wait > patience:
            raise self._allowance.exhausted(unit, wait, self._max_wait)
        await self._take(patience if wait else None)
        try:
            self._days = await self._allowance.day.reserve()
        finally:
            if not self._days:
                self._allowance.line.put_back()
        if not self._days:
            await self._tomorrow(patience)

    async def _take(self, patience: float | None) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._allowance.line.take()
        except TimeoutError:
            wait, unit = self._allowance.line.bound(asyncio.get_running_loop().time())
            raise self._allowance.exhausted(unit, wait, self._max_wait) from None

    async def _tomorrow(self, patience: float | None) -> None:
        wait = self._allowance.day.until_tomorrow()
        if patience is not None and wait > patience:
            raise self._allowance.exhausted("day", wait, self._max_wait)
        await asyncio.sleep(wait)
