"""Which call's details are fetched next: a queue over the pending calls in the state, shared by a run's workers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

import attrs

from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.export.fetch.fetcher import RetryingFetcher, log
from agora_analytics.export.fetch.refusals import RefusalClassifier
from agora_analytics.export.fetch.skip_reasons import DETAILS, FUTURE
from agora_analytics.export.state.calls import DueFilter, PendingCall
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.state_thread import StateThread
from agora_analytics.plans import CALL_SESSIONS

_CLOCK_CHECK: Final = 60
"""Seconds after which a worker that waits for a time reads the clock again."""

_WAIT_AT_MOST: Final = 300
"""Seconds from now within which the reported end of a call may lie for a run to wait for it."""

# Later than any end, and below the largest integer of SQLite.
_NEVER: Final = 2**62


class CallQueue:
    """Hands out pending calls, oldest or worst first, while the lists of calls may still add more.

    Attributes:
        lists_in_progress: slices of call lists that are not finished.

    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        state_thread: StateThread,
        fetcher: RetryingFetcher,
        refusals: RefusalClassifier,
        *,
        worst: bool,
        min_users: int,
    ) -> None:
        self.lists_in_progress = 0
        self._dispatcher = dispatcher
        self._state_thread = state_thread
        self._fetcher = fetcher
        self._refusals = refusals
        self._worst = worst
        self._min_users = min_users
        self._queue: deque[PendingCall] = deque()
        self._claimed: set[int] = set()
        self._refill_lock = asyncio.Lock()
        self._wakeup = asyncio.Event()

    async def next(self) -> PendingCall | None:
        """Return the next call; waits while lists may add more.

        Returns None once there will be none, or the run is to send no further request. With the worst first, it waits
        for all lists, since any of them may have a worse call.
        """
        while not self._fetcher.has_ended:
            if self._queue:
                call = self._queue.popleft()
                # Asked again, since the App ID may have been refused after the call was claimed.
                if not self._refusals.is_skipped(call.app, DETAILS):
                    return call
                continue
            # Taken before the state is read, so that a `notify` meanwhile is not missed.
            wakeup = self._wakeup
            listed = self.lists_in_progress == 0
            if listed or not self._worst:
                soonest = await self._refill()
                if self._queue:
                    continue
                if listed and soonest is None:
                    return None
                if listed:
                    await self._wait_until(soonest or 0, wakeup)
                    continue
            await wakeup.wait()
        return None

    def release(self, call: PendingCall) -> None:
        """Give back a call whose outcome is recorded: done, skipped, or refused."""
        self._claimed.discard(call.id)

    def notify(self) -> None:
        """Wake the workers that wait for a call."""
        self._wakeup.set()
        self._wakeup = asyncio.Event()  # for those that wait from now on

    async def _refill(self) -> int | None:
        """Claim more calls that are due; if there are none, return when the first will be, None if none will."""
        async with self._refill_lock:
            if self._queue:
                return None
            newest = self._dispatcher.plan.of_endpoint(CALL_SESSIONS).newest(self._dispatcher.time.utc_second())
            # An unconfirmed clock may be wrong: no call may wait, or be skipped as too new, because of it.
            if not self._dispatcher.time.confirmed:
                newest = _NEVER
            apps = self._refusals.apps_with_details()
            due = DueFilter(worst=self._worst, min_users=self._min_users, before=newest)
            excluded = self._excluded()
            calls = await self._state_thread.change(lambda state: state.pending(due, apps, excluded))
            self._claimed.update(call.id for call in calls)
            self._queue.extend(calls)
            if calls:
                return None
            excluded = self._excluded()
            return await self._state_thread.change(lambda state: self._soonest(state, due, apps, excluded))

    def _excluded(self) -> tuple[int, ...]:
        """Return the pending calls that must not be claimed now: claimed already, or refused for unknown reasons."""
        return (*self._claimed, *self._refusals.unresolved)

    def _soonest(
        self, state: ExportState, due: DueFilter, apps: Sequence[str], excluded: tuple[int, ...]
    ) -> int | None:
        """Return when the first of the calls that are not due yet ends; None if all end too late to wait for.

        Those are skipped until the next run: a single wrong end would otherwise hold back the whole export.
        """
        soonest = state.first_end(due, apps, excluded)
        if soonest is None or soonest <= self._dispatcher.time.utc_second() + _WAIT_AT_MOST:
            return soonest
        later = attrs.evolve(due, before=_NEVER)
        while calls := state.pending(later, apps, excluded):
            for call in calls:
                log.warning("export: skipping call %s: %s", call.call_id, FUTURE)
                state.skip_call(call.id, FUTURE)
        return None

    async def _wait_until(self, end: int, wakeup: asyncio.Event) -> None:
        """Wait until the details of a call that ended at `end` are queryable, for `notify`, or for a minute."""
        limits = self._dispatcher.plan.of_endpoint(CALL_SESSIONS)
        wait = min(max(1, end - limits.newest(self._dispatcher.time.utc_second())), _CLOCK_CHECK)
        try:
            async with asyncio.timeout(wait):
                await wakeup.wait()
        except TimeoutError:
            return
