"""Loads calls, or details of calls, of one App ID: what is new since the last run, and what may have changed.

```text
spans that are not final yet ──> listed ───────┬─> calls: yielded
calls that were open ──────────> listed again ─┘   details: pending until over and queryable ─> fetched ─> yielded
```

A list or a call that fails is left to the next run, unless the next one fails, too: then the run ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Final

import attrs

from agora_analytics.client import AnalyticsClient, service_time
from agora_analytics.dlt.details import DetailsFetcher, FetchedDetails
from agora_analytics.dlt.progress import LoadProgress
from agora_analytics.dlt.run_budget import SPENT, FailureStreak, RunBudget, cut_reason
from agora_analytics.errors import AgoraError, IncompleteList, PlanRefused
from agora_analytics.export.selection import Selection, wants
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import ColumnBatch
from agora_analytics.models import Call
from agora_analytics.plans import CALL_LISTS, Limits
from agora_analytics.quota.service_time import ServiceTime
from agora_analytics.spans import HostSecond, Span

_AT_ONCE: Final = 8
"""Calls whose details are requested at a time; those of a chunk are yielded together."""

_RETENTION_MARGIN: Final = 60
"""Seconds that a request stays away from what expires: it may be answered later than it was planned."""


@attrs.define
class CallLoader:
    """Loads one dataset of calls: the calls themselves, or with a `details_fetcher` their details."""

    app_id: str
    client: AnalyticsClient
    selection: Selection
    progress: LoadProgress
    budget: RunBudget
    allowed_lateness: int
    details_fetcher: DetailsFetcher | None
    listed_open: set[str]
    """Ids of calls that were open when this run listed them: a later run looks at them again."""
    _answered: bool = attrs.field(default=False, init=False)
    _lists: FailureStreak = attrs.field(factory=FailureStreak, init=False)
    _chunks: FailureStreak = attrs.field(factory=FailureStreak, init=False)
    _failed: set[str] = attrs.field(factory=set, init=False)

    async def batches(self) -> AsyncGenerator[ColumnBatch]:
        """Yield rows; what they are of is noted as loaded when the next ones are asked for.

        Raises `RunCutShortError`, and the client's errors that concern more than a call.
        """
        for step in self._steps():
            async for batch in step:
                yield batch
        for streak in (self._lists, self._chunks):
            if (error := streak.finish()) is not None:
                self.progress.cut(cut_reason(error))

    def _steps(self) -> Iterator[AsyncGenerator[ColumnBatch]]:
        yield self._details()
        # The new spans first: they expire, and a run of few requests would otherwise never come to them.
        for span in self.progress.unread(self.selection.span):
            for part in self._parts(span):
                yield self._slice(part)
                yield self._details()
        for span in self.progress.open_spans(self.listed_open):
            for part in self._parts(span):
                yield self._refresh(part)
        yield self._details()

    def _parts(self, span: Span) -> Iterator[Span]:
        """Yield what can be listed now of a span, in parts of as many seconds as few requests can list."""
        start = span.start
        while start < span.end and (left := self._queryable(Span(start, span.end))) is not None:
            longest = min(self.progress.slice_length, self._limits.longest_query)
            part = Span(left.start, min(left.end, left.start + longest))
            # What becomes queryable meanwhile is for the next run: it would be a request for each second.
            start = span.end if part.end == left.end else part.end
            yield part

    def _queryable(self, span: Span) -> Span | None:
        """Return what of a span can be listed now. What has expired is noted as lost, and costs no request."""
        time, limits = self._time, self._limits
        now = time.passed_second()
        oldest, newest = limits.oldest(now) + _RETENTION_MARGIN, limits.newest(now)
        # Only a confirmed clock is a reason to give up; otherwise the service decides.
        if time.confirmed and span.start < oldest:
            gone = Span(span.start, min(span.end, oldest))
            self._give_up(gone)
            if gone.end == span.end:
                return None
            span = Span(gone.end, span.end)
        if span.end <= newest:
            return span
        # Marked as the host's, so that the search corrects it if that clock is wrong.
        end = newest if time.confirmed else HostSecond(newest)
        return Span(span.start, end) if span.start < end else None

    def _give_up(self, span: Span) -> None:
        """Note a span that has expired, and the open calls that began in it."""
        for call_id in self.progress.open_in(span):
            self.progress.lose("expired before it ended", [span], call_id)
            self.progress.mark_loaded(call_id, span.start)
        if self.progress.unread(span):
            self.progress.lose("expired", self.progress.unread(span))
            self.progress.mark_done(span, span.end)

    async def _refresh(self, span: Span) -> AsyncGenerator[ColumnBatch]:
        """List calls again that were open."""
        before = self.progress.open_in(span)
        listed = await self._list(span) if before else None
        if listed is None:
            return
        calls, is_whole = listed
        async for batch in self._take([call for call in calls if call.call_id in before]):
            yield batch
        # Deleted at the service: its end will never be listed.
        for call_id in before - {call.call_id for call in calls} if is_whole else ():
            self.progress.lose("no longer listed", [span], call_id)
            self.progress.mark_loaded(call_id, span.start)

    async def _slice(self, span: Span) -> AsyncGenerator[ColumnBatch]:
        listed = await self._list(span)
        if listed is None:
            return
        # By the clock as the answer corrected it; before the yield, in which time passes.
        final_before = self._time.passed_second() - self.allowed_lateness
        async for batch in self._take([call for call in listed[0] if not self.progress.is_seen(call)]):
            yield batch
        self.progress.mark_done(span, final_before)

    async def _list(self, span: Span) -> tuple[list[Call], bool] | None:
        """Return the calls that began in a span, and whether these are all.

        None if the service does not have the span yet, or no longer, or if the list failed.
        """
        calls: dict[str, Call] = {}
        is_whole = True
        try:
            for channel in self.selection.channels or (None,):
                is_whole &= await self._search(span, channel, calls)
        except PlanRefused as error:
            if error.kind == "range":
                self._give_up(span)
            elif error.kind != "latency":
                self._lists.failed([error])
            return None
        except AgoraError as error:
            self._lists.failed([error])
            return None
        self._lists.answered()
        return list(calls.values()), is_whole

    async def _search(self, span: Span, channel: str | None, calls: dict[str, Call]) -> bool:
        """Add the calls of a span to `calls`; return whether these are all."""
        self.budget.check()
        results = self.client.calls.search(*span, cname=channel, max_requests=self.budget.left)
        try:
            async with aclosing(results):
                async for call in results:
                    calls[call.call_id] = call
        except IncompleteList as error:
            self.progress.lose("the service cuts off the list", [error.span or span])
            return False
        except SPENT:
            # It has to fit into what a run may request, or no run would get past it.
            self.progress.resize_slice(span, results.requests, is_whole=False)
            raise
        finally:
            self.budget.used += results.requests
            self.progress.lose("expired", results.missing)
        self.progress.resize_slice(span, results.requests, is_whole=not results.exhausted)
        if results.exhausted:
            raise self.budget.cut()
        return True

    async def _take(self, calls: Sequence[Call]) -> AsyncGenerator[ColumnBatch]:
        """Yield calls, unless details are wanted, and note what is to come of them."""
        wanted = [call for call in calls if wants(self.selection, call)]
        if wanted and self.details_fetcher is None:
            yield column_batch.calls(self.app_id, wanted)
        for call in calls:
            self._note(call)

    def _note(self, call: Call) -> None:
        if not call.is_over:
            self.listed_open.add(call.call_id)
            # Without a start it cannot be looked up again: its row stays as it is.
            if call.created_ts and call.started_at:
                self.progress.add(call)
        elif self.details_fetcher is None or not wants(self.selection, call):
            self.progress.mark_loaded(call.call_id, call.created_ts or 0)
        elif call.span is None:
            self.progress.lose("without a start or an end", call_id=call.call_id)
            self.progress.mark_loaded(call.call_id, call.created_ts or 0)
        else:
            self.progress.add(call)

    async def _details(self) -> AsyncGenerator[ColumnBatch]:
        """Yield the details of pending calls that are over and queryable, oldest first."""
        fetcher = self.details_fetcher
        if fetcher is None:
            return
        ended = (call for call in self.progress.ended_calls() if call.call_id not in self._failed)
        calls = [call for call in ended if self.client.calls.is_queryable(call)]
        while calls:
            count = self.budget.at_most(_AT_ONCE)
            chunk, calls = calls[:count], calls[count:]
            answers = await asyncio.gather(*map(fetcher.fetch, chunk), return_exceptions=True)
            fetched = [
                (call, answer)
                for call, answer in zip(chunk, answers, strict=True)
                if isinstance(answer, FetchedDetails)
            ]
            self._check_refusals([answer for _, answer in fetched])
            rows = [answer.rows for _, answer in fetched if answer.rows is not None]
            if rows:
                yield column_batch.concat(rows)
            for call, answer in fetched:
                self._note_details(call, answer)
            # After the rows of those that were answered: they are paid for.
            self._check_failures(chunk, answers)

    def _check_failures(self, chunk: Sequence[Call], answers: Sequence[FetchedDetails | BaseException]) -> None:
        """Leave calls whose details failed to the next run; raises what concerns more than these."""
        failed = [
            (call.call_id, error)
            for call, error in zip(chunk, answers, strict=True)
            if isinstance(error, BaseException)
        ]
        self._failed.update(call_id for call_id, _ in failed)
        for _, error in failed:
            if not isinstance(error, AgoraError):
                raise error
            self._chunks.check(error)
        if len(failed) < len(chunk):
            self._chunks.answered()
        else:
            self._chunks.failed([error for _, error in failed if isinstance(error, AgoraError)])

    def _check_refusals(self, answers: Sequence[FetchedDetails]) -> None:
        """Raise a refusal if several calls were refused and none was answered: then the settings are wrong."""
        self._answered = self._answered or any(answer.rows is not None for answer in answers)
        refusals = [answer.refused for answer in answers if answer.refused is not None]
        if len(refusals) > 1 and not self._answered:
            raise refusals[0]

    def _note_details(self, call: Call, answer: FetchedDetails) -> None:
        if answer.refused is not None and not self._answered:
            return  # what is wrong, the call or the settings, turns out with the next calls
        if answer.reason:
            self.progress.lose(answer.reason, answer.lost, call.call_id)
        if answer.rows is not None or answer.reason:
            self.progress.mark_loaded(call.call_id, call.created_ts or 0)

    @property
    def _limits(self) -> Limits:
        return self.client.plan.of_endpoint(CALL_LISTS)

    @property
    def _time(self) -> ServiceTime:
        return service_time(self.client)
