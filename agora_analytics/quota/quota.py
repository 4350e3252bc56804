"""What the plan allows, spent request by request."""

from __future__ import annotations

from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from agora_analytics._core import validation
from agora_analytics._core.redaction import fingerprint
from agora_analytics.errors import PlanRefused, RateLimited, ResponseError, TransportError
from agora_analytics.plans import Endpoint, Plan
from agora_analytics.protocols import Ledger, WallClock
from agora_analytics.quota.bucket import Granted
from agora_analytics.quota.date_trust import Dated
from agora_analytics.quota.ledger_state import Book
from agora_analytics.quota.limiter import Account, Budget, Group, Need, Outcome
from agora_analytics.quota.memory_ledger import MemoryLedger
from agora_analytics.quota.wait_queue import Priority
from agora_analytics.spans import DAY

if TYPE_CHECKING:
    from agora_analytics.quota.snapshot import ClockState, Forecast, QuotaSnapshot

__all__ = ["Quota", "Reserve", "fingerprint"]

_PLENTY: Final = 2**31
"""Requests a day, where none are counted."""

_REMEMBERED: Final = 1_200.0
"""Seconds for which an endpoint that the plan does not include is not asked again: it may be upgraded."""


class Quota:
    """Keeps every request inside the plan, unless told not to `enforce` it.

    `account` is a fingerprint of the credentials, by which the ledger keeps books.
    """

    def __init__(self, plan: Plan, ledger: Ledger, *, account: str, clock: WallClock, enforce: bool = True) -> None:
        self.plan = plan
        self.ledger = ledger
        self.enforced = enforce
        self.closed = False
        """Whether its client is closed, for those who wait without asking for a token."""
        # Where nothing is counted there is nothing to share but the time, which is not worth a ledger's while.
        self._account = Account(ledger if enforce else MemoryLedger(), account, clock)
        names = plan.all_counters() if enforce else ()
        self._groups = {name: Group(name, plan.rates(name), self._account) for name in names}
        # What the service said that the plan does not include, by App ID and endpoint, and until when that is believed.
        self._absent: dict[tuple[str, str], tuple[float, PlanRefused]] = {}

    def token(
        self,
        endpoint: Endpoint,
        max_wait: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        app: str = "",
    ) -> Token:
        """Return the right to send one request to this endpoint: `async with quota.token(endpoint) as token: …`.

        Entering it waits until the plan allows the request, at most `max_wait` seconds (None: as long as it takes), and
        raises `QuotaExhausted` as soon as it is known that this will not do, or `PlanRefused` where the service said
        in the last 20 minutes that the plan does not include the endpoint for the App ID `app`. Inside, tell it of the
        answer with `token.answered`; what is raised inside tells it the rest.
        """
        return Token(self, endpoint, max_wait, priority, app)

    async def snapshot(self) -> QuotaSnapshot:
        """Return the state of every counter and unit, in the plan's order, shortest unit first, and of the clock."""
        return await self._account.change(self._snapshot)

    async def forecast(self, requests: int, counter: str | Endpoint) -> Forecast:
        """Tell when so many more requests will have been accepted, after those that wait in this process.

        `counter` is one of the plan's, as `snapshot` names them, or an endpoint. Raises `ValueError` for another, and
        for less than one request.
        """
        name = (
            self.plan.counter(counter)
            if isinstance(counter, Endpoint)
            else validation.non_empty_str("counter", counter)
        )
        if name not in self.plan.all_counters():
            raise ValueError(
                f"counter={validation.short_repr(name)}: plan {self.plan.name!r} has"
                f" {', '.join(self.plan.all_counters())}"
            )
        count = validation.int_in_range("requests", requests, 1)
        group = self._groups.get(name)
        if group is not None:
            return await group.forecast(count)
        from agora_analytics.quota.snapshot import Forecast  # noqa: PLC0415 - loaded by those who look

        return await self._account.change(lambda book: Forecast.of(name, count, 0.0, self._account.moment(book)))

    def reserve(self, endpoint: Endpoint) -> Reserve:
        """Return what keeps exports off the requests that a stream will make: `async with quota.reserve(…) as kept: …`.

        It keeps nothing until told how many with `kept.keep`, and nothing any more once left.
        """
        return Reserve(self._group(endpoint), self._account)

    def utc(self) -> float:
        """Return UTC seconds: by the service's clock, at least, or by the host's until that is known."""
        return self._account.utc()

    def host_ahead(self) -> float | None:
        """Return by how many seconds the host's clock is ahead of the service's, None until that is known."""
        return self._account.host_ahead()

    def passed(self) -> float:
        """Return UTC seconds that have passed by every account: by the host's too until the clock is confirmed."""
        return self._account.passed()

    def slept(self, since: float) -> float:
        """Return the seconds by which the host's clock gained on `now()` since a moment of that: sleep, mostly."""
        return self._account.slept(since)

    def sleeps(self, since: float, seconds: float) -> list[tuple[float, float]]:
        """Return the sleeps of this machine since a moment of `now()`, where they took so many seconds in all.

        For each the moment of `now()` when it was over, and its seconds, in order; by the host's clock, whose changes
        are noted whenever the time is asked for.
        """
        return self._account.sleeps(since, seconds)

    @property
    def confirmed(self) -> bool:
        """Whether two witnesses agree on the service's clock: two answers, or an answer and the host's clock.

        Until then, and whenever something contradicts it, nothing may be given up because the clock says so: only the
        service knows. False before the first answer.
        """
        return self._account.confirmed

    def group(self, endpoint: Endpoint, app: str = "") -> Group | None:
        """Return what an endpoint spends from, None where nothing is counted; raises `PlanRefused` (see `token`)."""
        known = self._absent.get((app, endpoint.name))
        if known is not None:
            until, error = known
            if self.now() < until:
                raise copy(error)
            del self._absent[app, endpoint.name]
        return self._group(endpoint)

    def _group(self, endpoint: Endpoint) -> Group | None:
        return self._groups.get(self.plan.counter(endpoint))

    def now(self) -> float:
        """Return the time of the loop that the quota is used in, by which all is counted."""
        return self._account.now()

    def absent(self, endpoint: Endpoint, error: PlanRefused, app: str = "") -> None:
        """Remember that the plan does not include an endpoint for an App ID: others may be on another plan."""
        self._absent[app, endpoint.name] = (self.now() + _REMEMBERED, error)

    async def learn(self, host: int, dated: Dated) -> None:
        """Learn the time from an answer that no counter counts."""
        await self._account.learn(host, dated)

    def _snapshot(self, book: Book) -> QuotaSnapshot:
        from agora_analytics.quota.snapshot import QuotaSnapshot  # noqa: PLC0415 - as above

        moment = self._account.moment(book)
        return QuotaSnapshot(
            states=tuple(state for group in self._groups.values() for state in group.states(book, moment)),
            clock=self._clock_state(book) if book.clock.known else None,
        )

    def _clock_state(self, book: Book) -> ClockState:
        from agora_analytics.quota.snapshot import ClockState  # noqa: PLC0415 - as above

        now, ahead = self.now(), self._account.ahead()
        low, slack, _ = book.clock.bounds(now)
        return ClockState(offset=low - ahead, uncertainty=slack, confirmed=book.trust.sure(now, now + ahead))


class Reserve:
    """Requests of a counter that exports leave to a stream."""

    def __init__(self, group: Group | None, account: Account) -> None:
        self._group = group
        self._account = account
        self._number: int | None = None

    async def keep(self, rest: int, daily: int, weight: float = 1.0) -> Budget:
        """Keep so many requests for the rest of the service's UTC day, and so many on every day after.

        Streams of one counter share what is left of the day by `weight`; returned is what this one can count on.
        """
        if self._group is None:
            return Budget(_PLENTY, DAY - self._account.utc() % DAY)
        self._number, budget = await self._group.expect(self._number, Need(rest, daily, weight))
        return budget

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._group is not None and self._number is not None:
            await self._group.expect_no_more(self._number)
            self._number = None


class Token:
    """The right to send one request; leaving it settles what that cost: nothing while `sent` is false."""

    def __init__(self, quota: Quota, endpoint: Endpoint, patience: float | None, priority: Priority, app: str) -> None:
        self._quota = quota
        self._endpoint = endpoint
        self._app = app
        self._patience = patience
        self._priority = priority
        self._group: Group | None = None
        self._granted: Granted | None = None
        self._sent = 0.0
        self._received: float | None = None
        self._date: int | None = None
        self._host = 0
        self.sent = True

    def answered(self, date: int | None, host: int = 0) -> None:
        """Note that a host's answer has been received, and how its `Date` header dates it in UTC seconds."""
        self._received = self._quota.now()
        self._date, self._host = date, host

    async def __aenter__(self) -> Self:
        self._group = self._quota.group(self._endpoint, self._app)
        if self._group is not None:
            self._granted = await self._group.take(self._priority, self._patience)
        self._sent = self._granted.at if self._granted is not None else self._quota.now()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, PlanRefused) and error.kind == "access":
            self._quota.absent(self._endpoint, error, self._app)
        dated = self._dated(error)
        if self._group is None or self._granted is None:
            if dated is not None:
                await self._quota.learn(self._host, dated)
        elif not self.sent or (isinstance(error, TransportError) and not error.sent):
            await self._group.put_back(self._granted)
        else:
            refusal = error if isinstance(error, RateLimited) else None
            await self._group.settle(self._granted, Outcome(self._received, dated, refusal, self._host))

    def _dated(self, error: BaseException | None) -> Dated | None:
        """Return what the answer tells of the time: nothing, unless the API itself has answered, were it to refuse.

        A gateway's answer is dated by the gateway, an answer that cannot be read by anyone.
        """
        if self._received is None or self._date is None:
            return None
        taught = error is None or (isinstance(error, ResponseError) and _of_api(error))
        return Dated(self._sent, self._received, self._date) if taught else None


def _of_api(error: ResponseError) -> bool:
    """Whether the API itself refused: a gateway's refusal has a message, and no code of its own."""
    return error.status < 300 or (error.status < 500 and error.code is not None)  # noqa: PLR2004 - HTTP's own numbers
