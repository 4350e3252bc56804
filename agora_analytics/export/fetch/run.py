"""A run of an export: workers that fetch slices and details of calls, each within the quota of its endpoint.

```text
slices ── one queue per quota counter ──> SliceFetcher ───────┐
   │ calls                                                     ├─> staged rows ─> files
   └───── CallQueue ─────────────────> CallDetailsFetcher ────┘
```
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.errors import AgoraError
from agora_analytics.export.fetch.call_details import CallDetailsFetcher
from agora_analytics.export.fetch.call_queue import CallQueue
from agora_analytics.export.fetch.drain import Drain, RequestsEnded
from agora_analytics.export.fetch.fetcher import RetryingFetcher
from agora_analytics.export.fetch.progress_reporter import ProgressReporter
from agora_analytics.export.fetch.refusals import RefusalClassifier
from agora_analytics.export.fetch.retention import RetentionTracker
from agora_analytics.export.fetch.skip_reasons import is_retried, may_be_own
from agora_analytics.export.fetch.slice_planner import SlicePlanner
from agora_analytics.export.fetch.slices import SliceFetcher, by_name
from agora_analytics.export.fetch.sources import CallSource, EndpointSet, Source, sources
from agora_analytics.export.report import ProgressCallback
from agora_analytics.export.selection import Selection
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.slices import PendingSlice
from agora_analytics.export.state.state_thread import StateThread
from agora_analytics.export.write.part_writer import PartWriter
from agora_analytics.plans import CALL_LISTS
from agora_analytics.spans import DAY

_CLOCK_PROBES: Final = 3
"""Requests to confirm the service's clock with, before slices are planned by it."""

_CLOCK_INTERVAL: Final = 1.0
"""Seconds between them: another answer helps only if its date, in whole seconds, is another."""


@attrs.frozen(kw_only=True)
class RunOptions:
    """How a run fetches: the order of call details, the request budget, the number of workers, when it drains."""

    worst: bool = False
    min_users: int = 0
    max_requests: int | None = None
    concurrency: int = 16
    on_progress: ProgressCallback | None = None
    drain: Drain = attrs.field(factory=Drain)


class ExportRun:
    """One run of an export, over an open state and an open target."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        selection: Selection,
        options: RunOptions,
        state_thread: StateThread,
        parts: PartWriter,
        *,
        endpoints: Mapping[str, EndpointSet],
    ) -> None:
        # Wires the parts of a run together: long, without a decision in it.
        self.selection = selection
        self.options = options
        self.fetcher = fetcher = RetryingFetcher(options.max_requests, options.drain)
        self._dispatcher = dispatcher
        self._state_thread = state_thread
        self._parts = parts
        self._endpoints = endpoints
        self._sources = by_name(sources(selection))
        self.refusals = RefusalClassifier(dispatcher, state_thread, fetcher, endpoints, self._sources)
        self.reporter = ProgressReporter(
            dispatcher, selection, state_thread, parts, fetcher, min_users=options.min_users
        )
        retention = RetentionTracker(dispatcher, fetcher)
        self._planner = SlicePlanner(dispatcher, selection)
        self._slice_fetcher = SliceFetcher(
            dispatcher, selection, state_thread, fetcher, retention, planner=self._planner
        )
        self._details = (
            CallDetailsFetcher(dispatcher, selection, state_thread, fetcher, retention) if selection.details else None
        )
        self._slices: dict[str, deque[PendingSlice]] = {}
        self._calls = CallQueue(
            dispatcher, state_thread, fetcher, self.refusals, worst=options.worst, min_users=options.min_users
        )
        options.drain.on_begin = self._calls.notify

    async def finish(self) -> None:
        """Fetch all that is pending, or what is under way when the run drains, and write it."""
        await self._state_thread.change(self._resume)
        await self._confirm_clock()
        await self._state_thread.change(self._plan)
        # Before any part is begun: it drops those that an earlier run began and did not seal.
        await self._parts.resume()
        await self._parts.flush_ready()
        on_progress = self.options.on_progress
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self.reporter.watch(on_progress)) if on_progress else None
                await self._work()
                # No answer will follow any more, so what is still suspected is probed.
                await self.refusals.resolve()
                if watching:
                    watching.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _work(self) -> None:
        # A group of their own, because the one around them has to outlive them for the reporter.
        async with asyncio.TaskGroup() as workers:
            for queue in self._slices.values():
                # As many as there are slices: what a slice is split into stays with its worker.
                for _ in range(min(self.options.concurrency, len(queue))):
                    workers.create_task(self._fetch_slices(queue))
            if self._details is not None:
                for _ in range(self.options.concurrency):
                    workers.create_task(self._fetch_details(self._details))

    async def _confirm_clock(self) -> None:
        """Fetch a slice that is due until the service's clock is confirmed: all else is planned by it."""
        # A refusal is dated like any answer, and sets the clock just as well.
        self.fetcher.wait_if_too_new = False
        try:
            for _ in range(_CLOCK_PROBES):
                due = None if self._dispatcher.time.confirmed else await self._state_thread.change(self._first_due)
                if due is None:
                    return
                await self._probe_clock(due)
                # Still unknown: the answer had no date, and another would have none either.
                if self._dispatcher.time.confirmed or not await self._has_date():
                    return
                await asyncio.sleep(_CLOCK_INTERVAL)
        except RequestsEnded:
            return
        finally:
            self.fetcher.wait_if_too_new = True

    async def _has_date(self) -> bool:
        """Whether any answer had a date."""
        snapshot = await self.fetcher.with_ledger(self._dispatcher.quota.snapshot)
        return snapshot.clock is not None

    async def _probe_clock(self, due: PendingSlice) -> None:
        try:
            await self._slice_fetcher.probe_clock(self._endpoints[due.app], self._sources[due.source], due)
        except AgoraError as error:
            await self._slice_refused(due, error)

    async def _slice_refused(self, pending: PendingSlice, error: AgoraError) -> None:
        """Skip what the refusal of a slice concerns; raises it if that is everything."""
        if not may_be_own(error):
            raise error
        await self.refusals.slice_refused(pending, error)

    def _first_due(self, state: ExportState) -> PendingSlice | None:
        due = (
            self._planner.first_due(state, app, source)
            for app in self._endpoints
            for name, source in self._sources.items()
            if not self.refusals.is_skipped(app, name)
        )
        return next((pending for pending in due if pending is not None), None)

    def _resume(self, state: ExportState) -> None:
        """Make pending what earlier runs skipped for a reason that is retried, and the calls that were open."""
        state.requeue_skipped({reason for _, reason, *_ in state.skipped_calls() if is_retried(reason)})
        for app in self._endpoints:
            for source in self._sources.values():
                if isinstance(source, CallSource):
                    self._planner.add_open_calls(state, app, source)

    def _plan(self, state: ExportState) -> None:
        """Plan all pending slices, and queue them by the quota counter of their endpoint."""
        if self.selection.of_calls and self._dispatcher.time.confirmed:
            # A day late by the clock: a call that is forgotten too early would be exported twice.
            oldest = self._dispatcher.plan.of_endpoint(CALL_LISTS).oldest(self._dispatcher.time.passed_second())
            state.delete_done_calls(oldest - DAY)
        for app in self._endpoints:
            for source in self._sources.values():
                self._planner.plan(state, app, source)
        for pending in state.slices():
            if pending.app in self._endpoints and pending.source in self._sources:
                source = self._sources[pending.source]
                counter = self._dispatcher.plan.counter(source.endpoint)
                self._slices.setdefault(counter, deque()).append(pending)
                # Counted before any worker starts: one that fetches details would find an empty queue, and end.
                self._calls.lists_in_progress += isinstance(source, CallSource)

    async def _fetch_slices(self, queue: deque[PendingSlice]) -> None:
        while queue:
            pending = queue.popleft()
            source = self._sources[pending.source]
            try:
                if not self.refusals.is_slice_skipped(pending):
                    await self._fetch_slice(source, pending)
            except RequestsEnded:
                return
            finally:
                # Whatever the outcome: who waits for the last list must not wait for ever.
                self._calls.lists_in_progress -= isinstance(source, CallSource)
                self._calls.notify()
            await self._parts.flush_ready()

    async def _fetch_slice(self, source: Source, pending: PendingSlice) -> None:
        try:
            await self._slice_fetcher.fetch(self._endpoints[pending.app], source, pending)
        except AgoraError as error:
            await self._slice_refused(pending, error)

    async def _fetch_details(self, details: CallDetailsFetcher) -> None:
        while (call := await self._calls.next()) is not None:
            # Taken first: an answer decides only about calls that were refused before it was requested.
            requests_made = self.fetcher.requests_made
            try:
                answered = await details.fetch(self._endpoints[call.app], call)
            except RequestsEnded:
                self._calls.notify()
                return
            except AgoraError as error:
                if not may_be_own(error):
                    raise
                self._calls.release(call)  # `refusals.unresolved` has it from now on
                await self.refusals.call_refused(call, error)
                continue
            if answered:
                await self.refusals.call_answered(call.app, requests_made)
            self._calls.release(call)
            await self._parts.flush_ready()


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    """Return the first error of a group: workers fail together, and one of their errors is enough."""
    inner: Iterable[BaseException] = errors.exceptions
    for error in inner:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    return errors
