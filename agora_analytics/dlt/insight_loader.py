"""Loads one series of Data Insights of an App ID; the last days, which the service recomputes, in every run again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import attrs

from agora_analytics.client import AnalyticsClient, service_time
from agora_analytics.dlt.progress import LoadProgress
from agora_analytics.dlt.run_budget import FailureStreak, RunBudget, cut_reason
from agora_analytics.errors import AgoraError
from agora_analytics.export.fetch.sources import EndpointSet, InsightSource
from agora_analytics.export.selection import Insight, Selection
from agora_analytics.export.write.column_batch import ColumnBatch
from agora_analytics.spans import DAY, HOUR, Span

_RETENTION_MARGIN: Final = HOUR
"""Seconds that a request stays away from what expires; the shortest bucket of usage is an hour."""


@attrs.frozen
class InsightLoader:
    """Loads a series of Data Insights."""

    app_id: str
    client: AnalyticsClient
    selection: Selection
    insight: Insight
    progress: LoadProgress
    budget: RunBudget

    async def batches(self) -> AsyncGenerator[ColumnBatch]:
        """Yield rows; what they are of is noted as loaded when the next ones are asked for.

        Raises `RunCutShortError`, and the client's errors that concern more than a request.
        """
        source, failures = InsightSource(self.insight), FailureStreak()
        limits = self.client.plan.of_endpoint(source.endpoint)
        endpoints = EndpointSet(self.client.calls, self.client.insights, self.client.realtime)
        now = service_time(self.client).passed_second()
        wanted = source.expand(self.selection.span)
        oldest, newest = source.earliest(limits.oldest(now) + _RETENTION_MARGIN), limits.newest(now)
        for span in self.progress.unread(wanted):
            start, end = max(span.start, oldest), min(span.end, newest)
            for part in source.split(Span(start, end), limits.longest_query) if start < end else ():
                # A day that is not over has no totals yet.
                if self.insight.dimension is not None and part.span.duration < DAY:
                    continue
                self.budget.check()
                self.budget.used += 1
                try:
                    batch = await source.fetch(endpoints, self.app_id, part)
                except AgoraError as error:
                    failures.failed([error])
                    continue
                failures.answered()
                yield _marked(batch, source.final_before(now))
                self.progress.mark_done(Span(part.span.start, part.owned_until), source.final_before(now))
        self._give_up(wanted, oldest)
        if (failure := failures.finish()) is not None:
            self.progress.cut(cut_reason(failure))

    def _give_up(self, wanted: Span, oldest: int) -> None:
        """Note what has expired; last, since only an answer confirms the clock, and only that is a reason to."""
        if service_time(self.client).confirmed and wanted.start < oldest:
            for gone in self.progress.unread(Span(wanted.start, min(oldest, wanted.end))):
                self.progress.lose("expired", [gone])
                self.progress.mark_done(gone, gone.end)


def _marked(batch: ColumnBatch, final_before: int) -> ColumnBatch:
    """Return rows with `provisional` set where the service may still change the value."""
    flags = [ts >= final_before for ts in batch.column("ts")]
    at = batch.dataset.names.index("provisional")
    columns = (*batch.columns[:at], flags, *batch.columns[at + 1 :])
    return ColumnBatch(batch.dataset, batch.rows, columns, batch.invalid_times)
