"""What a refusal concerns: one call, one span, one source, one App ID, or the credentials, which ends the run.

A refusal is an item's own only if other requests are answered after it. For spans, sources and App IDs, probes find
out: of the same source, of other sources of the App ID, of other App IDs. A probe that fails for a reason of its own
(an overloaded service, a broken connection) proves nothing about the item. The refusal of a call waits for the answer
about another call; after several in a row, a probe of the list of calls stands in for it.

```text
slice refused ── source answers a probe? ── yes ─> skip the slice
                        │ no
                 another source answers? ── yes ─> skip the source
                        │ no
                 another App ID answers? ── yes ─> skip the App ID
                        │ no
                 the run fails with the error
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.errors import AgoraError, PlanRefused, RateLimited, Unauthorized
from agora_analytics.export.fetch.drain import RequestsEnded
from agora_analytics.export.fetch.fetcher import RetentionExpired, RetryingFetcher, log
from agora_analytics.export.fetch.skip_reasons import APP, DETAILS, is_access, may_be_own, reason_in_full, reason_of
from agora_analytics.export.fetch.sources import CallSource, EndpointSet, Source
from agora_analytics.export.report import Skipped
from agora_analytics.export.state.calls import PendingCall
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.slices import PendingSlice
from agora_analytics.export.state.state_thread import StateThread
from agora_analytics.spans import Span, merged

# A probe costs a request: one after each refusal would double what refused calls cost.
_PROBE_AFTER: Final = 8
"""Calls refused in a row after which the service is probed."""

_PROBED_SOURCES: Final = 3
"""Other sources of an App ID that are probed before the App ID itself counts as refused."""

_ACCESS_IMPLIED: Final = frozenset({"latency", "length", "range"})
"""Refusals of a span: they prove that the caller has access to the endpoint."""


@attrs.frozen
class _Suspect:
    """A call whose details were refused, and how many requests the run had made by then."""

    call: PendingCall
    error: AgoraError
    requests_made: int


class RefusalClassifier:
    """Finds out, for one run, what each refusal concerns, and remembers what the run skips for it.

    Skipped slices and sources stay pending in the state, so that the next run requests them again. Skipped calls are
    marked there, with the reason.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        state_thread: StateThread,
        fetcher: RetryingFetcher,
        endpoints: Mapping[str, EndpointSet],
        sources: Mapping[str, Source],
    ) -> None:
        self._dispatcher = dispatcher
        self._state_thread = state_thread
        self._fetcher = fetcher
        self._endpoints = endpoints
        self._sources = sources
        self._skipped: dict[tuple[str, str], str] = {}  # by App ID and source, `DETAILS` or `APP`: the reason
        self._skipped_slices: dict[int, tuple[PendingSlice, str]] = {}
        self._suspects: list[_Suspect] = []
        self._answered_apps: set[str] = set()
        self._lock = asyncio.Lock()
        self._probe_failure: AgoraError | None = None

    def is_skipped(self, app: str, what: str) -> bool:
        """Whether a source, or the details of calls, of an App ID are skipped."""
        return (app, APP) in self._skipped or (app, what) in self._skipped

    def is_slice_skipped(self, pending: PendingSlice) -> bool:
        """Whether a slice, or its source, is skipped."""
        return pending.id in self._skipped_slices or self.is_skipped(pending.app, pending.source)

    def apps_with_details(self) -> list[str]:
        """Return the App IDs whose call details are not skipped."""
        return [app for app in self._endpoints if not self.is_skipped(app, DETAILS)]

    async def slice_refused(self, pending: PendingSlice, error: AgoraError) -> None:
        """Skip what the refusal of a slice concerns; raises it if that is everything.

        A slice that is too long is refused by the plan, and so are all others.
        """
        if isinstance(error, PlanRefused) and error.kind == "length":
            raise error
        app, source = pending.app, pending.source
        async with self._lock:
            self._probe_failure = None
            # Decided while this one waited for the lock: workers are refused at the same time.
            if self.is_skipped(app, source):
                return
            if await self._answers(app, source):
                self._skipped_slices[pending.id] = (pending, reason_in_full(error))
                log.warning("export: skipping %s of %s: %s", source, pending.slice.span, error)
            elif await self._any_source_answers(app, source) or self._nothing_left_to_probe(app, source, error):
                self._skip(app, source, error)
            else:
                await self._skip_app(app, error)

    @property
    def unresolved(self) -> list[int]:
        """The ids of refused calls, as long as it is unknown what their refusals concern."""
        return [suspect.call.id for suspect in self._suspects]

    async def call_refused(self, call: PendingCall, error: AgoraError) -> None:
        """Record that a call was refused; raises the refusal if everything is refused."""
        self._suspects.append(_Suspect(call, error, self._fetcher.requests_made))
        if len(self._suspects) >= _PROBE_AFTER:
            await self.resolve()

    async def call_answered(self, app: str, requests_made: int) -> None:
        """Record that a call was answered, and skip those that were refused before it was requested.

        `requests_made` is how many requests the run had made by then.
        """
        self._answered_apps.add(app)
        await self._skip_calls(
            [one for one in self._suspects if one.call.app == app and one.requests_made <= requests_made]
        )

    async def resolve(self) -> None:
        """Find out what the refusals of calls concern that no answer followed."""
        async with self._lock:
            for app in dict.fromkeys(suspect.call.app for suspect in self._suspects):
                try:
                    await self._resolve(app)
                except RequestsEnded:
                    return  # the next run requests them again

    async def _resolve(self, app: str) -> None:
        self._probe_failure = None
        suspects = [one for one in self._suspects if one.call.app == app]
        if not suspects:
            return
        error = suspects[0].error
        if not self.is_skipped(app, DETAILS):
            if not (await self._any_source_answers(app, "") or self._nothing_left_to_probe(app, "", error)):
                await self._skip_app(app, error)
            elif app not in self._answered_apps and all(is_access(one.error) for one in suspects):
                self._skip(app, DETAILS, error)
            else:
                await self._skip_calls(suspects)
        self._suspects = [one for one in self._suspects if one not in suspects]

    async def _skip_calls(self, suspects: list[_Suspect]) -> None:
        """Skip calls whose refusals are their own, unless that has happened meanwhile."""
        # Filtered again: while a probe was under way, an answer may have decided about some.
        skipped = [one for one in self._suspects if one in suspects]
        self._suspects = [one for one in self._suspects if one not in skipped]
        for suspect in skipped:
            log.warning("export: skipping call %s: %s", suspect.call.call_id, suspect.error)

        def save(state: ExportState) -> None:
            for suspect in skipped:
                state.skip_call(suspect.call.id, reason_of(suspect.error))

        if skipped:
            await self._state_thread.change(save)

    async def _skip_app(self, app: str, error: AgoraError) -> None:
        """Skip an App ID if another one is answered; raises the error if none is."""
        for other in self._endpoints:
            if other != app and not self.is_skipped(other, APP) and await self._any_source_answers(other, ""):
                self._skip(app, APP, error)
                return
        # A probe that failed for a reason of its own proves nothing about the App ID: that reason ends the run.
        raise self._probe_failure or error

    def _skip(self, app: str, what: str, error: AgoraError) -> None:
        self._skipped[app, what] = reason_in_full(error)
        log.warning("export: skipping %s of the App ID %s: %s", "all" if what == APP else what, app, error)

    async def _any_source_answers(self, app: str, but: str) -> bool:
        """Whether the service answers a probe of any source of an App ID except one; the list of calls first."""
        names = [name for name in self._sources if name != but and not self.is_skipped(app, name)]
        # Its quota is the largest by far; that of Data Insights is 40 requests a day.
        calls_first = sorted(names, key=lambda name: not isinstance(self._sources[name], CallSource))
        for name in calls_first[:_PROBED_SOURCES]:
            if await self._answers(app, name):
                return True
        return False

    def _nothing_left_to_probe(self, app: str, but: str, error: AgoraError) -> bool:
        """Whether all other sources of an App ID are skipped, so that only `Unauthorized` counts against the App ID."""
        others = [name for name in self._sources if name != but]
        all_skipped = bool(others) and all(self.is_skipped(app, name) for name in others)
        return all_skipped and not isinstance(error, Unauthorized)

    async def _answers(self, app: str, name: str) -> bool:
        """Whether the service answers a probe of a source; raises errors that concern neither source nor App ID."""
        source = self._sources[name]
        limits, now = self._dispatcher.plan.of_endpoint(source.endpoint), self._dispatcher.time.utc_second()
        # Away from both edges, where an error of the clock would decide.
        middle = (limits.oldest(now) + limits.newest(now)) // 2
        try:
            await self._fetcher.probe(source.probe(self._endpoints[app], app, middle).send)
        except RetentionExpired:
            return True
        except AgoraError as error:
            if not may_be_own(error):
                raise
            # It says nothing about the item: kept, to be the run's error if no probe is answered.
            if error.retryable or isinstance(error, RateLimited):
                self._probe_failure = error
            return isinstance(error, PlanRefused) and error.kind in _ACCESS_IMPLIED
        return True

    # For the report

    def count_skipped(self, state: ExportState, min_users: int) -> int:
        """Return how many of the pending slices and calls in the state this run skips."""
        slices = sum(map(self.is_slice_skipped, state.slices()))
        apps = [app for app in self._endpoints if self.is_skipped(app, DETAILS)]
        return slices + sum(state.count_pending(app, min_users) for app in apps)

    def skipped(self, span: Span) -> Iterator[Skipped]:
        """Yield what this run skips of a requested span, except calls."""
        for (app, what), reason in self._skipped.items():
            yield Skipped(app_id=app, what=what, reason=reason, span=span, again=True)
        spans_by_reason: dict[tuple[str, str, str], list[Span]] = {}
        for pending, reason in self._skipped_slices.values():
            if not self.is_skipped(pending.app, pending.source):
                skipped = Span(pending.slice.span.start, pending.slice.owned_until)
                spans_by_reason.setdefault((pending.app, pending.source, reason), []).append(skipped)
        for (app, source, reason), spans in spans_by_reason.items():
            for each in merged(spans):
                yield Skipped(app_id=app, what=source, reason=reason, span=each, again=True)
