"""The dlt source: a resource for each dataset, over one client. The only file that imports dlt, when it is called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from agora_analytics._core import validation
from agora_analytics._core.decoding import json
from agora_analytics._core.extras import install_command
from agora_analytics._core.redaction import fingerprint
from agora_analytics.client import AnalyticsClient, scope_of, service_time, with_options
from agora_analytics.dlt.call_loader import CallLoader
from agora_analytics.dlt.details import DetailsFetcher
from agora_analytics.dlt.insight_loader import InsightLoader
from agora_analytics.dlt.progress import LoadProgress
from agora_analytics.dlt.run_budget import RunBudget, RunCutShortError, RunOutcome, cut_reason
from agora_analytics.errors import AgoraError
from agora_analytics.export.selection import Selection
from agora_analytics.quota.ledger_state import MemoryLedger
from agora_analytics.quota.priority import Priority

if TYPE_CHECKING:
    from dlt.extract.source import DltSource

__all__ = ["agora_source", "agora_sources"]

_ALLOWED_LATENESS: Final = 300
"""Seconds for which calls may still appear in lists."""

_MAX_WAIT: Final = 120.0
"""Seconds that one request may wait for quota."""

_MIN_REQUESTS: Final = 10
"""Least requests of a piece: with fewer, hardly any list would be complete."""

# What decides about the rows of a dataset: with other settings, it is read from the start.
_SETTINGS: Final = {
    "calls": ("channels", "min_freeze_rate", "finished"),
    "sessions": ("channels", "min_freeze_rate"),
    "metrics": ("channels", "min_freeze_rate", "mids"),
    "statistics": ("channels", "min_freeze_rate", "statistics"),
    "insights": (),
}


def agora_source(
    selection: Selection,
    *,
    client: Callable[[], AnalyticsClient] | None = None,
    max_requests: int | None = None,
    max_wait: float = _MAX_WAIT,
    allowed_lateness: int = _ALLOWED_LATENESS,
    name: str = "agora",
) -> DltSource:
    """Return a dlt source with a resource for each dataset of a selection; needs the extra `dlt`.

    ```python
    def load() -> None:
        import time

        import dlt

        from agora_analytics.dlt import agora_source, load_reports

        now = int(time.time())
        selection = Selection(now - 7 * 86_400, now, datasets=("calls", "sessions"))
        pipeline = dlt.pipeline("agora", destination="duckdb", dataset_name="agora_data")
        pipeline.run(agora_source(selection))
        for report in load_reports(pipeline):
            print(report.resource, report.cut_short or "complete", report.missing)
    ```

    Resources yield Arrow tables, have primary keys, and are merged. In keys, null text is "". Each notes in dlt's state
    what it has read, so that the next run with a later `end` asks only for what is new or may have changed: calls that
    began within `allowed_lateness` seconds before now or were open, details that were not queryable yet, and the last
    days of insights, which the service recomputes. Details of a call are loaded when it is over. Other filters are
    read from the start.

    A run that the quota, `max_requests` or an outage cuts short loads what it has, logs a warning and is continued by
    the next one; see `load_reports`. So does one whose credentials or App ID are refused after other requests were
    answered. If nothing is answered, the refusal fails the run, and dlt then keeps neither its rows nor its state. The
    same happens if the process ends while it requests: `agora_sources` loads a long history in pieces.

    Args:
        selection: what to load; all datasets but `realtime`.
        client: makes the client, in the event loop of dlt; by default `AnalyticsClient.from_env`. Give it a
            `FileLedger` to share the quota with other programs and runs.
        max_requests: requests after which this source begins no more; those under way are finished.
        max_wait: seconds that one request may wait for quota before the run is cut short.
        allowed_lateness: seconds for which calls may still appear in lists.
        name: name of the source: of its schema and its state.

    Raises `ModuleNotFoundError` without dlt, and `ValueError` or `TypeError` for bad arguments.

    """
    budget = RunBudget(validation.none_or(validation.int_in_range, "max_requests", max_requests, 1))
    return _sources(selection, client, max_wait, allowed_lateness, name)(budget)


def agora_sources(
    selection: Selection,
    *,
    requests: int = 200,
    client: Callable[[], AnalyticsClient] | None = None,
    max_wait: float = _MAX_WAIT,
    allowed_lateness: int = _ALLOWED_LATENESS,
    name: str = "agora",
) -> Iterator[DltSource]:
    """Yield sources, each of which continues where the one before ended, until everything is loaded.

    dlt keeps the rows and the progress of a run once it has ended. So a run that dies loses its requests, and a long
    history is loaded in pieces:

    ```python
    def load(pipeline, selection):
        from agora_analytics.dlt import agora_sources

        for source in agora_sources(selection, requests=500):
            pipeline.run(source)
    ```

    It ends when a source was not cut short by `requests`: everything was requested, the quota is spent, or the service
    does not answer; see `load_reports`.

    Args:
        selection: as for `agora_source`.
        requests: requests of a piece, 10 or more.
        client: as for `agora_source`.
        max_wait: as for `agora_source`.
        allowed_lateness: as for `agora_source`.
        name: as for `agora_source`.

    Raises as `agora_source` does.

    """
    requests = validation.int_in_range("requests", requests, _MIN_REQUESTS)
    return _pieces(_sources(selection, client, max_wait, allowed_lateness, name), requests)


def _pieces(source: Callable[[RunBudget], DltSource], requests: int) -> Iterator[DltSource]:
    unread = 0
    # Packages that a run before left on disk are loaded in place of the first source. One that was left unread for
    # another reason would never be read.
    while unread < 2:  # noqa: PLR2004 - as above
        budget = RunBudget(requests)
        yield source(budget)
        if budget.begun and not budget.exceeded:
            return
        unread = 0 if budget.begun else unread + 1


def _sources(
    selection: Selection,
    client: Callable[[], AnalyticsClient] | None,
    max_wait: float,
    allowed_lateness: int,
    name: str,
) -> Callable[[RunBudget], DltSource]:
    """Return what makes a source that spends a budget."""
    title = validation.non_empty_str("name", name)
    selection = _loadable(selection)
    make_run = partial(
        _SourceRun,
        selection=selection,
        clients=_SharedClient(_from_env() if client is None else validation.function("client", client, "a function")),
        max_wait=validation.number_in_range("max_wait", max_wait),
        allowed_lateness=validation.int_in_range("allowed_lateness", allowed_lateness, 0),
        listed_open=defaultdict(set),
    )

    try:
        import dlt  # noqa: PLC0415 - an extra
        import pyarrow as _  # noqa: F401, ICN001, PLC0415 - as above
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"this needs {error.name}: {install_command('dlt')}", name=error.name) from None

    def source(budget: RunBudget) -> DltSource:
        # Made here and not by decorators, so that this module can be imported without dlt.
        run = make_run(budget=budget)
        resources = [_resource(dlt, run, dataset) for dataset in selection.datasets]
        return dlt.source(lambda: resources, name=title, section=title)()

    return source


def _resource(dlt: Any, run: _SourceRun, dataset: str) -> Any:
    from agora_analytics.dlt import tables  # noqa: PLC0415 - loads pyarrow

    async def rows() -> AsyncGenerator[Any]:
        async for table in run.tables(dataset, dlt.current.resource_state()):
            yield table

    return dlt.resource(
        rows,
        name=dataset,
        write_disposition="merge",
        primary_key=list(tables.KEYS[dataset]),
        columns=tables.hints(dataset),
    )


class _SharedClient:
    """One client for all resources, which dlt runs in one event loop: open while any of them is read."""

    def __init__(self, make: Callable[[], AnalyticsClient]) -> None:
        self._make = make
        self._users = 0
        self._client: AnalyticsClient | None = None

    @asynccontextmanager
    async def use(self) -> AsyncIterator[AnalyticsClient]:
        """Open the client, or use the one that another resource has opened."""
        client = self._client = self._client or self._make()
        self._users += 1
        try:
            yield client
        finally:
            self._users -= 1
            if not self._users:
                self._client = None
                await client.close()


@attrs.frozen(kw_only=True)
class _SourceRun:
    """What the resources of a source share."""

    selection: Selection
    clients: _SharedClient
    budget: RunBudget
    max_wait: float
    allowed_lateness: int
    listed_open: MutableMapping[str, set[str]]

    async def tables(self, dataset: str, states: MutableMapping[str, Any]) -> AsyncGenerator[Any]:
        """Yield the rows of a dataset; `states` are those of its resource."""
        from agora_analytics.dlt import tables  # noqa: PLC0415 - loads pyarrow

        yield tables.empty(dataset)  # so that there is a table with all columns, also before the first row
        outcome = RunOutcome(dataset)
        async with self.clients.use() as shared:
            self.budget.begun = True
            # As exports wait for quota, but not for hours: the next run continues.
            client = with_options(shared, priority=Priority.EXPORT, max_wait=self.max_wait)
            for progress, loader in self._loaders(dataset, states, client):
                if outcome.cut is not None:
                    progress.cut(outcome.cut)
                    continue
                try:
                    async for batch in loader.batches():
                        table, dropped = tables.table(batch)
                        yield table
                        outcome.answered = True
                        progress.lose_rows(dropped, "without a valid time")
                except (RunCutShortError, AgoraError) as error:
                    progress.cut(cut_reason(error))
                    outcome.failed(error)
                else:
                    outcome.completed()
        outcome.finish()

    def _loaders(
        self, dataset: str, states: MutableMapping[str, Any], client: AnalyticsClient
    ) -> Iterator[tuple[LoadProgress, CallLoader | InsightLoader]]:
        now = service_time(client).utc_second()
        for app in self.selection.apps or _own_app(client):
            scoped = client.with_app(app)
            common = (app, scoped, self.selection)
            for insight in self.selection.insights if dataset == "insights" else ():
                progress = LoadProgress(states, _key(app, attrs.asdict(insight)), now)
                yield progress, InsightLoader(*common, insight, progress, self.budget)
            if dataset == "insights":
                continue
            progress = LoadProgress(states, key := _key(app, self._settings(dataset)), now)
            fetcher = None if dataset == "calls" else DetailsFetcher(dataset, *common, self.budget)
            listed_open = self.listed_open[f"{dataset}-{key}"]
            yield progress, CallLoader(*common, progress, self.budget, self.allowed_lateness, fetcher, listed_open)

    def _settings(self, dataset: str) -> dict[str, Any]:
        identity = self.selection.identity()
        return {name: identity[name] for name in _SETTINGS[dataset]}


def _from_env() -> Callable[[], AnalyticsClient]:
    """Return a function that makes clients which share the count of requests."""
    ledger = MemoryLedger()
    return lambda: AnalyticsClient.from_env(ledger=ledger)


def _own_app(client: AnalyticsClient) -> tuple[str]:
    app = scope_of(client).app_id
    if app is None:
        raise ValueError("apps=(): give App IDs, or make the client with one")
    return (app,)


def _loadable(selection: Selection) -> Selection:
    validation.instance("selection", selection, Selection)
    if "realtime" in selection.datasets:
        raise ValueError("datasets: 'realtime' is kept for minutes only: use client.realtime.watch, or an export")
    return selection


def _key(app: str, settings: dict[str, Any]) -> str:
    # dlt stores its state at the destination, where the App ID itself is not needed.
    return f"{fingerprint(app)}-{fingerprint(json.encode(settings).decode())}"
