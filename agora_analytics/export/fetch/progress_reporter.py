"""How far a run is, and when it will be done: what `on_progress` gets about once a second."""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from typing import Final

from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.errors import LedgerError
from agora_analytics.export.fetch.fetcher import RetryingFetcher, log
from agora_analytics.export.fetch.slices import by_name
from agora_analytics.export.fetch.sources import sources
from agora_analytics.export.report import ExportProgress, ProgressCallback
from agora_analytics.export.selection import Selection
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.state_thread import StateThread
from agora_analytics.export.write.part_writer import PartWriter
from agora_analytics.plans import CALL_LISTS, CALL_SESSIONS
from agora_analytics.quota.priority import Priority
from agora_analytics.spans import moment

_INTERVAL: Final = 1.0


class ProgressReporter:
    """Reads the progress of a run from its state, its parts and the quota."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        selection: Selection,
        state_thread: StateThread,
        parts: PartWriter,
        fetcher: RetryingFetcher,
        *,
        min_users: int,
    ) -> None:
        self._dispatcher = dispatcher
        self._selection = selection
        self._state_thread = state_thread
        self._parts = parts
        self._fetcher = fetcher
        self._min_users = min_users
        self._sources = by_name(sources(selection))

    async def watch(self, on_progress: ProgressCallback) -> None:
        """Call back with the progress about once a second, until cancelled; not while the ledger cannot be read."""
        while True:
            await self.report(on_progress)
            await asyncio.sleep(_INTERVAL)

    async def report(self, on_progress: ProgressCallback) -> None:
        """Call back with the progress, unless the ledger cannot be read."""
        try:
            progress = await self._progress()
        except LedgerError as error:
            # Requests wait for the ledger, and end the run if it stays away.
            log.debug("export: no progress is reported: %s", error)
        else:
            on_progress(progress)

    async def _progress(self) -> ExportProgress:
        """Return how far the run is."""
        slices, calls, rows = await self._state_thread.change(ExportState.counts)
        early, queryable_at = await self._early() if calls else (0, 0)
        snapshot = await self._dispatcher.quota.snapshot()
        daily = [counter for counter in snapshot if counter.unit == "day"]
        return ExportProgress(
            rows=rows,
            written=self._parts.rows_written,
            requests=self._fetcher.requests_done,
            slices=slices,
            calls=calls,
            left={counter.counter: counter.left for counter in daily},
            waiting=sum(counter.waiting for counter in daily),
            early=early,
            done_at=await self._done_at(slices, calls, queryable_at),
            skipped=await self._state_thread.change(ExportState.skipped_count),
            expires_at=await self._state_thread.change(self._expires_at),
        )

    def _expires_at(self, state: ExportState) -> datetime | None:
        """Return when the oldest pending slice or call is older than the plan keeps."""
        starts, calls = state.oldest_pending(self._min_users)
        plan = self._dispatcher.plan
        ends = [start + plan.of_endpoint(self._sources[name].endpoint).retention for name, start in starts.items()]
        ends += [calls + plan.of_endpoint(CALL_SESSIONS).retention] if calls is not None else []
        return moment(min(ends)) if ends else None

    async def _early(self) -> tuple[int, int]:
        """Return how many calls have no details at the service yet, and from when on all have."""
        limits = self._dispatcher.plan.of_endpoint(CALL_SESSIONS)
        count, last = await self._state_thread.change(
            lambda state: state.not_yet_queryable(limits.newest(self._dispatcher.time.utc_second()))
        )
        return count, limits.queryable_at(last) if count else 0

    async def _done_at(self, slices: int, calls: int, queryable_at: int) -> datetime | None:
        """Return when the pending lists, and the details of calls listed so far, will be done; None without quota."""
        if not self._dispatcher.quota.enforced:
            return None
        selection, forecast = self._selection, partial(self._dispatcher.quota.forecast, priority=Priority.EXPORT)
        # One request of each kind at least; that a call has many sessions is known only once they are listed.
        per_call = sum((selection.sessions, selection.metrics, len(selection.breakdowns)))
        forecasts = []
        if calls and per_call:
            forecasts.append(await forecast(calls * per_call, CALL_SESSIONS))
        if slices and selection.of_calls:
            forecasts.append(await forecast(slices, CALL_LISTS))
        # Counters are spent side by side: the slowest decides.
        return max(filter(None, (moment(queryable_at), *(one.at for one in forecasts))), default=None)
