"""An export as it runs: lists, details and series, each behind its counter of the plan, and files behind them all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import attrs

from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.errors import AgoraError
from agora_analytics.export.fetch.call_details import Details
from agora_analytics.export.fetch.fetcher import Asking, OutOfBudgetError, log
from agora_analytics.export.fetch.refusals import Refusals
from agora_analytics.export.fetch.retention import Expiry
from agora_analytics.export.fetch.skip_reasons import DETAILS, FUTURE, is_asked_again, may_be_own
from agora_analytics.export.fetch.slices import Lists, by_name
from agora_analytics.export.fetch.sources import CallSource, Groups, Source, sources
from agora_analytics.export.report import ExportProgress, ProgressCallback
from agora_analytics.export.selection import Selection
from agora_analytics.export.state.progress import Due, PendingCall, PendingSlice, State
from agora_analytics.export.state.state_thread import Disk
from agora_analytics.export.write.part_writer import Parts
from agora_analytics.plans import CALL_LISTS, CALL_SESSIONS
from agora_analytics.spans import DAY, moment

_LOOK: Final = 1.0
"""Seconds between two looks at how far it is, or at what time it is."""

_LOOKS: Final = 3
"""Looks at what time it is, before an export begins by a clock that may be wrong."""

_LONGEST: Final = 60
"""Seconds after which who waits for a moment looks at the clock again."""

_SOON: Final = 300
"""Seconds from now in which a call may end by the service's word and still be waited for."""

_NEVER: Final = 2**62


@attrs.frozen(kw_only=True)
class Order:
    """In what order details are asked for, and how much at most."""

    worst: bool = False
    min_users: int = 0
    max_requests: int | None = None
    concurrency: int = 16
    on_progress: ProgressCallback | None = None


class Run:
    """One run of an export, over an open state and target."""

    def __init__(
        self,
        session: Dispatcher,
        selection: Selection,
        order: Order,
        disk: Disk,
        parts: Parts,
        *,
        groups: Mapping[str, Groups],
    ) -> None:
        self.asking = Asking(order.max_requests)
        self._session = session
        self.selection = selection
        self.order = order
        self._disk = disk
        self._parts = parts
        self._groups = groups
        self._sources = by_name(sources(selection))
        self.refusals = Refusals(session, disk, self.asking, groups, self._sources)
        expiry = Expiry(session, self.asking)
        self._lists = Lists(session, selection, disk, self.asking, expiry)
        self._details = Details(session, selection, disk, self.asking, expiry) if selection.details else None
        self._slices: dict[str, deque[PendingSlice]] = {}
        self._listing = 0
        self._ready: deque[PendingCall] = deque()
        self._taken: set[int] = set()
        self._refill = asyncio.Lock()
        self._news = asyncio.Event()

    async def finish(self) -> None:
        """Ask for all that is missing, and write what comes."""
        await self._disk.change(self._resume)
        await self._learn_the_time()
        await self._disk.change(self._prepare)
        await self._parts.resume()
        await self._parts.publish()
        try:
            async with asyncio.TaskGroup() as work:
                watching = work.create_task(self._watch()) if self.order.on_progress else None
                await self._work()
                await self.refusals.settle()
                if watching:
                    watching.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as work:
            for queue in self._slices.values():
                for _ in range(min(self.order.concurrency, len(queue))):
                    work.create_task(self._ask_slices(queue))
            if self._details is not None:
                for _ in range(self.order.concurrency):
                    work.create_task(self._ask_details(self._details))

    async def _learn_the_time(self) -> None:
        """Ask for something that is due, until the service's clock is confirmed: all else is planned by it."""
        self.asking.patient = False
        try:
            for _ in range(_LOOKS):
                due = None if self._session.confirmed else await self._disk.change(self._first)
                if due is None:
                    return
                await self._try_first(due)
                if self._session.confirmed or (await self._session.quota.snapshot()).clock is None:
                    return
                await asyncio.sleep(_LOOK)  # another answer tells something new once it has another date
        except OutOfBudgetError:
            return
        finally:
            self.asking.patient = True

    async def _try_first(self, due: PendingSlice) -> None:
        try:
            await self._lists.try_first(self._groups[due.app], self._sources[due.source], due)
        except AgoraError as error:
            await self._refused(due, error)

    async def _refused(self, one: PendingSlice, error: AgoraError) -> None:
        """Leave out what the refusal of a slice is about; raises it where it is about everything."""
        if not may_be_own(error):
            raise error
        await self.refusals.of_slice(one, error)

    def _first(self, state: State) -> PendingSlice | None:
        found = (
            self._lists.first(state, app, source)
            for app in self._groups
            for name, source in self._sources.items()
            if not self.refusals.has(app, name)
        )
        return next((one for one in found if one is not None), None)

    def _resume(self, state: State) -> None:
        """Note what earlier runs left to be asked for again, before this one leaves anything."""
        state.try_again({reason for _, reason, *_ in state.left() if is_asked_again(reason)})
        for app in self._groups:
            for source in self._sources.values():
                if isinstance(source, CallSource):
                    self._lists.look_again(state, app, source)

    def _prepare(self, state: State) -> None:
        if self.selection.of_calls and self._session.confirmed:
            # A day later than by the clock: what is forgotten too early comes twice.
            state.forget_calls(self._session.plan.of_endpoint(CALL_LISTS).oldest(self._session.passed()) - DAY)
        for app in self._groups:
            for source in self._sources.values():
                self._lists.prepare(state, app, source)
        for one in state.slices():
            if one.app in self._groups and one.source in self._sources:
                source = self._sources[one.source]
                counter = self._session.plan.counter(source.endpoint)
                self._slices.setdefault(counter, deque()).append(one)
                self._listing += isinstance(source, CallSource)

    async def _ask_slices(self, queue: deque[PendingSlice]) -> None:
        while queue:
            one = queue.popleft()
            source = self._sources[one.source]
            try:
                if not self.refusals.has_slice(one):
                    await self._fetch(source, one)
            except OutOfBudgetError:
                return
            finally:
                self._listing -= isinstance(source, CallSource)
                self._tell()
            await self._parts.publish()

    async def _fetch(self, source: Source, one: PendingSlice) -> None:
        try:
            await self._lists.fetch(self._groups[one.app], source, one)
        except AgoraError as error:
            await self._refused(one, error)

    async def _ask_details(self, details: Details) -> None:
        while (call := await self._next_call()) is not None:
            made = self.asking.made
            try:
                answered = await details.fetch(self._groups[call.app], call)
            except OutOfBudgetError:
                self._tell()
                return
            except AgoraError as error:
                if not may_be_own(error):
                    raise
                self._taken.discard(call.id)  # it is suspected instead, until it is left out
                await self.refusals.of_call(call, error)
                continue
            if answered:
                await self.refusals.heard(call.app, made)
            self._taken.discard(call.id)
            await self._parts.publish()

    async def _next_call(self) -> PendingCall | None:
        """Return the call that is due next; waits while more may be listed, and None when there will be none."""
        while not self.asking.spent:
            if self._ready:
                call = self._ready.popleft()
                if not self.refusals.has(call.app, DETAILS):
                    return call
                continue
            news = self._news
            listed = self._listing == 0
            if listed or not self.order.worst:
                soonest = await self._fill()
                if self._ready:
                    continue
                if listed and soonest is None:
                    return None
                if listed:
                    await self._until(soonest or 0, news)
                    continue
            await news.wait()
        return None

    async def _fill(self) -> int | None:
        """Take more calls that are due, and return when the first of the others will be."""
        async with self._refill:
            if self._ready:
                return None
            newest = self._session.plan.of_endpoint(CALL_SESSIONS).newest(self._session.now())
            if not self._session.confirmed:
                newest = _NEVER
            apps = self.refusals.with_details()
            due = Due(worst=self.order.worst, min_users=self.order.min_users, before=newest)
            but = self._not_again()
            found = await self._disk.change(lambda state: state.pending(due, apps, but))
            self._taken.update(call.id for call in found)
            self._ready.extend(found)
            if found:
                return None
            but = self._not_again()
            return await self._disk.change(lambda state: self._soonest(state, due, apps, but))

    def _not_again(self) -> tuple[int, ...]:
        """Return the calls that wait in the state and are not to be asked about now, as they are at this moment."""
        return (*self._taken, *self.refusals.suspected)

    def _soonest(self, state: State, due: Due, apps: Sequence[str], but: tuple[int, ...]) -> int | None:
        """Return when the first of the calls that are not due yet ends; None where all end so late that none waits.

        These are left to the next run: a single wrong end would hold back all that has come.
        """
        soonest = state.soonest(due, apps, but)
        if soonest is None or soonest <= self._session.now() + _SOON:
            return soonest
        later = attrs.evolve(due, before=_NEVER)
        while found := state.pending(later, apps, but):
            for call in found:
                log.warning("export: call %s is left out: %s", call.call_id, FUTURE)
                state.leave_out(call.id, FUTURE)
        return None

    def _tell(self) -> None:
        """Wake those who wait for news."""
        self._news.set()
        self._news = asyncio.Event()  # who looks from now on waits for the next

    async def _until(self, end: int, news: asyncio.Event) -> None:
        """Wait until a call that ended then can be asked about, or there is news."""
        limits = self._session.plan.of_endpoint(CALL_SESSIONS)
        wait = min(max(1, end - limits.newest(self._session.now())), _LONGEST)
        try:
            async with asyncio.timeout(wait):
                await news.wait()
        except TimeoutError:
            return

    async def _watch(self) -> None:
        while self.order.on_progress:
            self.order.on_progress(await self.progress())
            await asyncio.sleep(_LOOK)

    async def progress(self) -> ExportProgress:
        """Return how far it is."""
        slices, calls, rows = await self._disk.change(State.counts)
        early, askable_at = await self._early() if calls else (0, 0)
        snapshot = await self._session.quota.snapshot()
        return ExportProgress(
            rows=rows,
            written=self._parts.written,
            requests=self.asking.done,
            slices=slices,
            calls=calls,
            left={one.counter: one.left for one in snapshot if one.unit == "day"},
            waiting=sum(one.waiting for one in snapshot if one.unit == "day"),
            early=early,
            done_at=await self._done_at(slices, calls, askable_at),
        )

    async def _early(self) -> tuple[int, int]:
        """Return how many calls the service has no details of yet, and from when on it has those of all."""
        limits = self._session.plan.of_endpoint(CALL_SESSIONS)
        count, last = await self._disk.change(lambda state: state.later(limits.newest(self._session.now())))
        return count, limits.askable_at(last) if count else 0

    async def _done_at(self, slices: int, calls: int, askable_at: int) -> datetime | None:
        """Return when the details that are known of will be done, which cannot be asked for before, or the lists."""
        if not self._session.quota.enforced:
            return None
        each = sum((self.selection.sessions, self.selection.metrics, len(self.selection.breakdowns)))
        found = []
        if calls and each:
            found.append(await self._session.quota.forecast(calls * each, CALL_SESSIONS))
        if slices and self.selection.of_calls:
            found.append(await self._session.quota.forecast(slices, CALL_LISTS))
        return max(filter(None, (moment(askable_at), *(one.at for one in found))), default=None)


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    """Return the first error itself: tasks fail together, and one tells it."""
    inner: Iterable[BaseException] = errors.exceptions
    for error in inner:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    return errors
