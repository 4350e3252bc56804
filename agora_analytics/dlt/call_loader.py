"""Loads calls, or details of calls, of one App ID: what is new since the last run, and what may have changed.

```text
calls that were open ──────────> listed again ─┐
spans that are not final yet ──> listed ───────┴─> calls: yielded
                                                   details: pending until over and queryable ─> fetched ─> yielded
```
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

import attrs

from agora_analytics.client import AnalyticsClient, service_time
from agora_analytics.dlt.details import DetailsFetcher, FetchedDetails
from agora_analytics.dlt.progress import LoadProgress
from agora_analytics.dlt.run_budget import RunBudget
from agora_analytics.errors import IncompleteList, PlanRefused
from agora_analytics.export.selection import Selection, wants
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import ColumnBatch
from agora_analytics.models import Call
from agora_analytics.plans import CALL_LISTS, Limits
from agora_analytics.quota.service_time import ServiceTime
from agora_analytics.spans import HOUR, HostSecond, Span, sliced

_SLICE: Final = 6 * HOUR
"""Seconds of calls that are listed at once: a run that ends keeps what was listed, and memory holds one list."""

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
    _answered: bool = attrs.field(default=False, init=False)

    async def batches(self) -> AsyncGenerator[ColumnBatch]:
        """Yield rows; what they are of is noted as loaded when the next ones are asked for.

        Raises `RunCutShortError`, and the client's errors that concern more than a call.
        """
        for span in self.progress.open_spans():
            if (left := self._queryable(span)) is not None:
                async for batch in self._refresh(left):
                    yield batch
        async for batch in self._details():
            yield batch
        for span in self.progress.unread(self.selection.span):
            for part in sliced(span, min(_SLICE, self._limits.longest_query)):
                if (left := self._queryable(part)) is None:
                    continue
                async for batch in self._slice(left):
                    yield batch
                async for batch in self._details():
                    yield batch

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
        listed = await self._list(span)
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

        None if the service does not have the span yet, or no longer.
        """
        self.budget.check()
        calls: dict[str, Call] = {}
        is_whole = True
        for channel in self.selection.channels or (None,):
            results = self.client.calls.search(*span, cname=channel)
            try:
                async with aclosing(results):
                    async for call in results:
                        calls[call.call_id] = call
            except IncompleteList as error:
                is_whole = False
                self.progress.lose("the service cuts off the list", [error.span or span])
            except PlanRefused as error:
                if error.kind == "range":
                    self._give_up(span)
                elif error.kind != "latency":
                    raise
                return None
            finally:
                self.budget.used += results.requests
            self.progress.lose("expired", results.missing)
        return list(calls.values()), is_whole

    async def _take(self, calls: Sequence[Call]) -> AsyncGenerator[ColumnBatch]:
        """Yield calls, unless details are wanted, and note what is to come of them."""
        wanted = [call for call in calls if wants(self.selection, call)]
        if wanted and self.details_fetcher is None:
            yield column_batch.calls(self.app_id, wanted)
        for call in calls:
            self._note(call)

    def _note(self, call: Call) -> None:
        if not call.is_over:
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
        calls = [call for call in self.progress.ended_calls() if self.client.calls.is_queryable(call)]
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
            for failed in answers:
                if isinstance(failed, BaseException):
                    raise failed

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
