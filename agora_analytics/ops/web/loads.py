"""Loads that cost requests: each has its price beforehand, runs once for all viewers, and is kept for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Literal

import attrs

from agora_analytics._core.futures import cancel_and_wait
from agora_analytics.errors import AgoraError
from agora_analytics.ops.web.budget import CounterView, QuotaView
from agora_analytics.ops.web.replies import RefusalError
from agora_analytics.ops.web.usage import METER, Meter
from agora_analytics.plans import Endpoint, Plan

_MAX_ENTRIES: Final = 256
_MAX_BYTES: Final = 32 * 2**20
"""Results that are kept, and their bytes: the oldest are dropped."""

_MAX_RUNNING: Final = 16
"""Loads that may be running, those that wait for a slot included; a further one is refused."""

_AT_ONCE: Final = 4
"""Loads that send requests at the same time; the others wait for a slot."""

LoadState = Literal["available", "loading", "loaded", "unavailable"]


@attrs.frozen(kw_only=True)
class PriceView:
    """What a load costs, as JSON: requests of a counter, and what is left of the counter's day; null if unknown."""

    requests: int
    counter: str
    left: int | None
    limit: int | None
    text: str


@attrs.frozen(kw_only=True)
class Load:
    """What one load fetches: `fetch` returns JSON, in at most `requests` requests; it is kept for `lasts` seconds.

    `params` identify it. A load that cannot be made now has a `reason`, and the time at which it can
    be made, if that is known.
    """

    params: dict[str, object]
    title: str
    endpoint: Endpoint
    requests: int = 0
    fetch: Callable[[], Awaitable[bytes]] | None = None
    lasts: float = 3_600.0
    reason: str = ""
    available_at: int | None = None

    @property
    def key(self) -> Hashable:
        """What equal loads have in common."""
        return self.endpoint.name, tuple((name, repr(value)) for name, value in self.params.items())


@attrs.frozen(kw_only=True)
class QuoteView:
    """A load as JSON: what it would cost, and whether it is there already."""

    params: dict[str, object]
    title: str
    state: LoadState
    price: PriceView
    reason: str = ""
    available_at: int | None = None


@attrs.frozen(kw_only=True)
class LoadedView:
    """The result of a load as JSON, but for its data.

    `spent` are the requests of the load, 0 if it was there already (`cached`); `shared` if another viewer started it.
    """

    params: dict[str, object]
    spent: int
    cached: bool
    shared: bool


@attrs.frozen
class _Kept:
    data: bytes
    until: float


@attrs.frozen
class _Running:
    load: Load
    task: asyncio.Task[tuple[bytes, int]]
    meter: Meter


class LoadError(Exception):
    """A load that failed: the error, and the requests that it spent all the same."""

    def __init__(self, error: AgoraError, spent: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.spent = spent


class Loader:
    """Makes loads, four at a time, and keeps their results: 256 of them, 32 MiB at most."""

    def __init__(
        self,
        plan: Plan,
        quota: Callable[[], QuotaView | None],
        now: Callable[[], float],
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._plan = plan
        self._quota = quota
        self._now = now
        self._refresh = refresh
        self._kept: dict[Hashable, _Kept] = {}
        self._size = 0
        self._running: dict[Hashable, _Running] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def quote(self, load: Load) -> QuoteView:
        """Return what a load would cost now: nothing if it is there."""
        state: LoadState = "unavailable" if load.reason else "available"
        if load.key in self._running:
            state = "loading"
        if self.cached(load) is not None:
            state = "loaded"
        price = self._price(load, 0 if state in {"loaded", "unavailable"} else load.requests)
        return QuoteView(
            params=load.params,
            title=load.title,
            state=state,
            price=price,
            reason=load.reason if state == "unavailable" else "",
            available_at=load.available_at if state == "unavailable" else None,
        )

    def cached(self, load: Load) -> bytes | None:
        """Return the result of a load if it is there."""
        kept = self._kept.get(load.key)
        return kept.data if kept is not None and self._now() < kept.until else None

    async def load(self, load: Load, price: object) -> tuple[LoadedView, bytes]:
        """Return a result; `price` is the number of requests that the caller expects.

        Raises `RefusalError` if that is not the price, and for a load that cannot be made now; `LoadError` if it fails.
        """
        kept = self.cached(load)
        if kept is not None:
            return LoadedView(params=load.params, spent=0, cached=True, shared=False), kept
        if load.reason:
            raise RefusalError(409, "unavailable", load.reason, available_at=load.available_at)
        # The price may have changed since the viewer saw it: nobody pays more than was shown. (`True` equals 1.)
        if price != load.requests or isinstance(price, bool):
            quote = self.quote(load)
            raise RefusalError(409, "price", f"price={price!r}: this costs {quote.price.text}", price=quote.price)
        if load.key not in self._running:
            # What is left of the day may be a minute old, and other programs spend from it too.
            await self._refresh()
        # Only now: while the quota was read another viewer may have started the same load.
        running = self._running.get(load.key)
        shared = running is not None
        if running is None:
            self._check_day(load)
            running = self._start(load)
        # A viewer that leaves does not cancel it: its requests are spent, and others may wait for the result.
        data, spent = await asyncio.shield(running.task)
        return LoadedView(params=load.params, spent=spent, cached=False, shared=shared), data

    async def close(self) -> None:
        """Cancel what is running."""
        await cancel_and_wait(*(one.task for one in self._running.values()))

    def _check_day(self, load: Load) -> None:
        """Raise `RefusalError` if the day has too few requests left: half a load would be wasted."""
        day, counter = self._day(load), self._plan.counter(load.endpoint)
        same = (one for one in self._running.values() if self._plan.counter(one.load.endpoint) == counter)
        # Running loads have not spent all of their price yet.
        promised = sum(one.load.requests - one.meter.requests for one in same)
        if day is not None and day.left - promised < load.requests:
            left = max(0, day.left - promised)
            text = f"{load.requests:,} requests are more than the {left:,} that are left of today"
            after = max(1.0, (day.resets_at or 0) - self._now())
            raise RefusalError(503, "quota", text, retry_after=after, available_at=day.resets_at)

    def _start(self, load: Load) -> _Running:
        if len(self._running) >= _MAX_RUNNING:
            raise RefusalError(503, "busy", f"{_MAX_RUNNING} loads are running: wait for one to end")
        meter = Meter()
        running = _Running(load, asyncio.create_task(self._run(load, meter)), meter)
        self._running[load.key] = running
        running.task.add_done_callback(lambda done: self._ended(load.key, done))
        return running

    async def _run(self, load: Load, meter: Meter) -> tuple[bytes, int]:
        assert load.fetch is not None  # noqa: S101 - or it has a reason
        METER.set(meter)  # in the context of this task
        async with self._slots:
            try:
                data = await load.fetch()
            except AgoraError as error:
                raise LoadError(error, meter.requests) from None
            except ValueError as error:  # an id or a name that cannot be sent
                raise RefusalError(400, "value", str(error)) from None
        self._keep(load, data)
        return data, meter.requests

    def _ended(self, key: Hashable, task: asyncio.Task[tuple[bytes, int]]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # mark it as retrieved: the viewer may have left

    def _keep(self, load: Load, data: bytes) -> None:
        self._drop(load.key)
        self._kept[load.key] = _Kept(data, self._now() + load.lasts)
        self._size += len(data)
        # The result that was just paid for stays, however large.
        while len(self._kept) > _MAX_ENTRIES or (self._size > _MAX_BYTES and len(self._kept) > 1):
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        if key in self._kept:
            self._size -= len(self._kept.pop(key).data)

    def _price(self, load: Load, requests: int) -> PriceView:
        day = self._day(load)
        of = "" if day is None else f" of {day.left:,}"
        noun = "request" if requests == 1 and not of else "requests"
        return PriceView(
            requests=requests,
            counter=self._plan.counter(load.endpoint),
            left=None if day is None else day.left,
            limit=None if day is None else day.limit,
            text=f"{requests:,}{of} {noun} of today",
        )

    def _day(self, load: Load) -> CounterView | None:
        """Return the day of a load's counter, None before the quota was read."""
        quota, counter = self._quota(), self._plan.counter(load.endpoint)
        days = (one for one in (quota.counters if quota else ()) if (one.counter, one.unit) == (counter, "day"))
        return next(days, None)
