"""The rate limiters of a client: one for each counter of the plan, over one account of a ledger.

The dispatcher, streams and exports spend from these: a request costs one permit (`PermitRequest`). A stream reserves
requests of the day (`Reserve`). `Quota` is the public view.
"""

from __future__ import annotations

import asyncio
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from agora_analytics._core import validation
from agora_analytics._core.futures import uncancellable
from agora_analytics.errors import PlanRefused, RateLimited, ResponseError, TransportError
from agora_analytics.plans import Endpoint, Plan
from agora_analytics.protocols import Ledger, WallClock
from agora_analytics.quota.budget import Budget, Demand
from agora_analytics.quota.clock_reading import DAY
from agora_analytics.quota.date_trust import DateSample
from agora_analytics.quota.ledger_account import LedgerAccount
from agora_analytics.quota.ledger_state import LedgerState, MemoryLedger
from agora_analytics.quota.limiter import Limiter
from agora_analytics.quota.permit import Permit
from agora_analytics.quota.priority import Priority
from agora_analytics.quota.service_time import ServiceTime
from agora_analytics.quota.settlement import Settlement

if TYPE_CHECKING:
    from agora_analytics.quota.snapshot import ClockState, Forecast, QuotaSnapshot

__all__ = ["Reserve"]

_UNLIMITED: Final = 2**31
"""Requests per day where none are counted."""

_NOT_IN_PLAN_TTL: Final = 1_200.0
"""Seconds for which an endpoint outside the plan is refused without a request; then the plan may have changed."""


class Limiters:
    """Keeps every request inside the plan, unless `enforce` is false.

    `account` is a fingerprint of the credentials, under which the ledger keeps its state.
    """

    def __init__(self, plan: Plan, ledger: Ledger, *, account: str, clock: WallClock, enforce: bool = True) -> None:
        self.plan = plan
        self.enforced = enforce
        self.closed = False
        """Whether the client is closed, for loops that wait without a request."""
        self.account = account
        # Where nothing is counted only the time could be shared, which is not worth opening a ledger.
        used = ledger if enforce else MemoryLedger()
        self.time = ServiceTime(clock, getattr(used, "time", None))
        self._account = LedgerAccount(used, account, self.time)
        names = plan.all_counters() if enforce else ()
        self._limiters = {name: Limiter(name, plan.rates(name), self._account) for name in names}
        self._by_endpoint: dict[str, Limiter | None] = {}
        # Endpoints that the service said are not in the plan, by App ID and name, and until when that is believed.
        self._not_in_plan: dict[tuple[str, str], tuple[float, PlanRefused]] = {}

    def permit(
        self,
        endpoint: Endpoint,
        max_wait: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        app: str = "",
    ) -> PermitRequest:
        """Return a context in which one request may be sent: `async with limiters.permit(endpoint) as permit: …`.

        Entering it waits until the plan allows the request, at most `max_wait` seconds (None: without limit). Raises
        `QuotaExhausted` as soon as it is known that this is too short, and `PlanRefused` where the service said in the
        last 20 minutes that the plan of the App ID `app` does not include the endpoint. Inside, report the answer with
        `permit.answered`; errors raised inside are recorded too.
        """
        return PermitRequest(self, endpoint, max_wait, priority, app)

    def limiter(self, endpoint: Endpoint, app: str = "") -> Limiter | None:
        """Return an endpoint's limiter, None where nothing is counted; raises `PlanRefused` (see `permit`)."""
        if self._not_in_plan and (known := self._not_in_plan.get((app, endpoint.name))) is not None:
            until, error = known
            if self.time.monotonic() < until:
                # A copy: each raise adds a traceback, and callers in other tasks may hold the same error.
                raise copy(error)
            del self._not_in_plan[app, endpoint.name]
        return self._of(endpoint)

    def _of(self, endpoint: Endpoint) -> Limiter | None:
        if endpoint.name not in self._by_endpoint:
            self._by_endpoint[endpoint.name] = self._limiters.get(self.plan.counter(endpoint))
        return self._by_endpoint[endpoint.name]

    def remember_not_in_plan(self, endpoint: Endpoint, error: PlanRefused, app: str = "") -> None:
        """Remember that an App ID's plan does not include an endpoint; other App IDs may be on another plan."""
        self._not_in_plan[app, endpoint.name] = (self.time.monotonic() + _NOT_IN_PLAN_TTL, error)

    async def learn_time(self, host: int, sample: DateSample) -> None:
        """Learn the time from an answer that no counter counts."""
        await self._account.change(lambda state: self.time.learn(host, sample, state))

    async def close(self) -> None:
        """Give back permits that were not used, and store how the last requests ended."""
        self.closed = True
        for limiter in self._limiters.values():
            limiter.return_spare()
        try:
            # Requests that failed with the closed transport settle first.
            await asyncio.sleep(0)
        finally:
            await uncancellable(self._account.close())

    async def snapshot(self) -> QuotaSnapshot:
        """See `Quota.snapshot`."""
        return await self._account.change(self._snapshot)

    def snapshot_now(self) -> QuotaSnapshot | None:
        """Return the snapshot of a ledger in memory; None for any other, which must be awaited."""
        return None if self._account.state is None else self._snapshot(self._account.state)

    async def forecast(
        self, requests: int, counter: str | Endpoint, priority: Priority | str = Priority.INTERACTIVE
    ) -> Forecast:
        """See `Quota.forecast`."""
        if isinstance(counter, Endpoint):
            name = self.plan.counter(counter)
        else:
            name = validation.non_empty_str("counter", counter)
        if name not in self.plan.all_counters():
            known = ", ".join(self.plan.all_counters())
            raise ValueError(f"counter={validation.short_repr(name)}: plan {self.plan.name!r} has {known}")
        count = validation.int_in_range("requests", requests, 1)
        chosen = Priority(validation.one_of("priority", priority, Priority))
        limiter = self._limiters.get(name)
        if limiter is not None:
            return await limiter.forecast(count, chosen)
        from agora_analytics.quota.snapshot import Forecast  # noqa: PLC0415 - most programs never look

        return await self._account.change(lambda state: Forecast.of(name, count, 0.0, self.time.reading(state)))

    def reserve(self, endpoint: Endpoint) -> Reserve:
        """See `Quota.reserve`."""
        validation.instance("endpoint", endpoint, Endpoint)
        # Not `limiter`, which may refuse: a reservation sends nothing, and the stream's first request will show it.
        return Reserve(self._of(endpoint), self.time)

    def _snapshot(self, state: LedgerState) -> QuotaSnapshot:
        from agora_analytics.quota.snapshot import QuotaSnapshot  # noqa: PLC0415 - as above

        reading = self.time.reading(state)
        return QuotaSnapshot(
            states=tuple(unit for limiter in self._limiters.values() for unit in limiter.states(state, reading)),
            clock=self._clock_state(state) if state.clock.known else None,
        )

    def _clock_state(self, state: LedgerState) -> ClockState:
        from agora_analytics.quota.snapshot import ClockState  # noqa: PLC0415 - as above

        offset, uncertainty, confirmed = self.time.clock_state(state)
        return ClockState(offset=offset, uncertainty=uncertainty, confirmed=confirmed)


class Reserve:
    """A stream's reservation: requests of a counter and day that exports leave to it; `Quota.reserve` returns it."""

    def __init__(self, limiter: Limiter | None, time: ServiceTime) -> None:
        self._limiter = limiter
        self._time = time
        self._number: int | None = None

    async def keep(self, rest: int, daily: int, weight: float = 1.0) -> Budget:
        """Reserve requests for the rest of the service's UTC day, and for every day after; replaces what was reserved.

        Streams of one counter share what is left of the day by `weight`; the budget is this stream's share.
        """
        if self._limiter is None:
            return Budget(_UNLIMITED, DAY - self._time.utc() % DAY)
        self._number, budget = await self._limiter.update_reservation(self._number, Demand(rest, daily, weight))
        return budget

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._limiter is not None and self._number is not None:
            await self._limiter.drop_reservation(self._number)
            self._number = None


class PermitRequest:
    """Waits for the permit of one request, and settles it on exit: releases it if `sent` is false."""

    def __init__(
        self, limiters: Limiters, endpoint: Endpoint, max_wait: float | None, priority: Priority, app: str
    ) -> None:
        self._limiters = limiters
        self._time = limiters.time
        self._endpoint = endpoint
        self._app = app
        self._max_wait = max_wait
        self._priority = priority
        self._limiter: Limiter | None = None
        self._permit: Permit | None = None
        self._sent_at = 0.0
        self._received: float | None = None
        self._date: int | None = None
        self._host = 0
        self.sent = True

    def answered(self, date: int | None, host: int = 0) -> None:
        """Record that an answer has just been received from a host, and its `Date` header in UTC seconds."""
        self._received = self._time.monotonic()
        self._date, self._host = date, host

    def too_late(self) -> bool:
        """Whether the permit is too old to be used: the process was paused since it was issued.

        To be asked immediately before sending. If so, leave with `sent` false, and wait for another permit.
        """
        return self._permit is not None and self._permit.too_old(self._time.ledger_now())

    async def __aenter__(self) -> Self:
        self._limiter = self._limiters.limiter(self._endpoint, self._app)
        if self._limiter is not None:
            self._permit = await self._limiter.acquire(self._priority, self._max_wait)
        # The permit's moment is not later than the sending, so the bounds that follow from it are safe.
        self._sent_at = self._permit.at if self._permit is not None else self._time.ledger_now()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Only `no auth` is about the endpoint; latency, range and length are about one request's span.
        if isinstance(error, PlanRefused) and error.kind == "access":
            self._limiters.remember_not_in_plan(self._endpoint, error, self._app)
        sample = self._date_sample(error)
        if self._limiter is None or self._permit is None:
            if sample is not None:
                await self._limiters.learn_time(self._host, sample)
        # Without a connection the service cannot have counted the request.
        elif not self.sent or (isinstance(error, TransportError) and not error.sent):
            await self._limiter.release(self._permit)
        else:
            rate_limited = error if isinstance(error, RateLimited) else None
            await self._limiter.settle(self._permit, Settlement(self._received, sample, rate_limited, self._host))

    def _date_sample(self, error: BaseException | None) -> DateSample | None:
        """Return the `Date` of the answer if the API itself answered, be it with a refusal.

        A gateway's error page has the gateway's date, and an answer that cannot be read may have anybody's.
        """
        if self._received is None or self._date is None:
            return None
        by_api = error is None or (isinstance(error, ResponseError) and _is_from_api(error))
        return DateSample(self._sent_at, self._time.by_ledger(self._received), self._date) if by_api else None


def _is_from_api(error: ResponseError) -> bool:
    """Whether the API itself refused: a gateway's refusal has a message, but no code."""
    return error.status < 300 or (error.status < 500 and error.code is not None)  # noqa: PLR2004 - HTTP's own numbers
