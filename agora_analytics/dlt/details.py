"""Fetches the details of one call: its sessions, their metrics, or its statistics, as rows."""

from __future__ import annotations

from contextlib import aclosing
from typing import TypeVar

import attrs

from agora_analytics.client import AnalyticsClient
from agora_analytics.dlt.run_budget import RunBudget
from agora_analytics.endpoints.results import Results
from agora_analytics.errors import (
    DecodeError,
    IncompleteList,
    NotFound,
    PlanRefused,
    RateLimited,
    ResponseError,
    ServerError,
    TooEarly,
    Unauthorized,
)
from agora_analytics.export.selection import Selection
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import ColumnBatch
from agora_analytics.models import Call, SessionMetrics
from agora_analytics.plans import CALL_STATISTICS
from agora_analytics.spans import Span

T = TypeVar("T")


@attrs.frozen
class FetchedDetails:
    """The details of a call: its rows, what of them is lost, and why. Without rows and a reason, they are too young.

    `refused` is the error of a request that may be wrong for every call.
    """

    rows: ColumnBatch | None = None
    lost: tuple[Span, ...] = ()
    reason: str = ""
    refused: ResponseError | None = None


@attrs.frozen
class DetailsFetcher:
    """Fetches one dataset of details of the calls of an App ID."""

    dataset: str
    app_id: str
    client: AnalyticsClient
    selection: Selection
    budget: RunBudget

    async def fetch(self, call: Call) -> FetchedDetails:
        """Fetch the details of a call that is over; raises what concerns more than this call."""
        try:
            if self.dataset == "sessions":
                return await self._sessions(call)
            return await (self._metrics(call) if self.dataset == "metrics" else self._statistics(call))
        except TooEarly:
            return FetchedDetails()
        except (DecodeError, NotFound) as error:  # such as a call that was deleted
            return FetchedDetails(reason=str(error))
        except ResponseError as error:
            if isinstance(error, (RateLimited, ServerError, Unauthorized)) or getattr(error, "kind", "") == "access":
                raise
            return FetchedDetails(reason=str(error), refused=None if isinstance(error, PlanRefused) else error)

    async def _sessions(self, call: Call) -> FetchedDetails:
        rows, lost = await self._read(self.client.calls.sessions(call))
        return _fetched(column_batch.sessions(self.app_id, call.call_id, rows), lost)

    async def _metrics(self, call: Call) -> FetchedDetails:
        rows, lost = await self._read(self.client.calls.metrics(call))
        wanted = map(self._of_wanted_mids, rows)
        return _fetched(column_batch.metrics(self.app_id, call.call_id, wanted), lost)

    async def _statistics(self, call: Call) -> FetchedDetails:
        longest = self.client.plan.of_endpoint(CALL_STATISTICS).longest_query
        batches: list[ColumnBatch] = []
        # Averages of parts cannot be merged, so a long call has rows for each part, as in an export.
        for part in call.span.slices(longest) if call.span else ():
            for one in self.selection.breakdowns:
                self.budget.used += 1
                rows = await self.client.calls.statistics(call.call_id, one.metric, one.dimension, *part)
                query, span = (one.metric, one.dimension), (part.start, part.end)
                batches.append(column_batch.statistics(self.app_id, call.call_id, query, span, rows))
        return FetchedDetails(column_batch.concat(batches))

    async def _read(self, results: Results[T]) -> tuple[list[T], tuple[Span, ...]]:
        """Return all items, and the spans in which some are missing."""
        items: list[T] = []
        lost: tuple[Span, ...] = ()
        try:
            async with aclosing(results):
                async for item in results:
                    items.append(item)  # noqa: PERF401 - those before an error are kept
        except IncompleteList as error:
            lost = (error.span,) if error.span else ()
        finally:
            self.budget.used += results.requests
        return items, (*lost, *results.missing)

    def _of_wanted_mids(self, metrics: SessionMetrics) -> SessionMetrics:
        mids = self.selection.mids
        return attrs.evolve(metrics, data=tuple(track for track in metrics.data if not mids or track.mid in mids))


def _fetched(rows: ColumnBatch, lost: tuple[Span, ...]) -> FetchedDetails:
    return FetchedDetails(rows, lost, "parts of its details are expired or incomplete" if lost else "")
