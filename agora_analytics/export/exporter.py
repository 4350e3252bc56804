"""`client.export`: estimates an export, or fetches it into files.

What happens between a request and a published file, and after a crash: `docs/concepts/exports.md`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.endpoints.base import Scope

if TYPE_CHECKING:
    from types import ModuleType

    from agora_analytics.export.estimate import ExportEstimate
    from agora_analytics.export.report import ExportReport, ProgressCallback, ShardsReport
    from agora_analytics.export.selection import Selection, Shard

__all__ = ["Exporter"]


class Exporter:
    """`client.export`: everything the plan keeps, as files that data tools load directly."""

    def __init__(self, dispatcher: Dispatcher, scope: Scope) -> None:
        self._dispatcher = dispatcher
        self._scope = scope

    async def estimate(
        self, selection: Selection, *, order: Literal["oldest", "worst"] = "oldest", max_requests: int | None = None
    ) -> ExportEstimate:
        """Return what an export will take: requests, rows, bytes, when it will be done, and what will have expired.

        ```python
        async with AnalyticsClient.from_env() as client:
            last_hours = Selection(*client.calls.recent(timedelta(hours=6)), datasets=("calls", "sessions", "metrics"))
            estimate = await client.export.estimate(last_hours)
            print(estimate.calls, sum(estimate.requests.values()), estimate.done_at)
            for dataset in estimate.estimates:
                print(dataset.dataset, dataset.rows, dataset.bytes)
        ```

        Costs up to 6 requests for the list of calls of each App ID, and up to 6 for the size of calls. With filters,
        the number of calls is extrapolated from one page of each list (`counted` is false then). Raises `ValueError`
        for what the plan does not offer, and the errors of `agora_analytics.errors`.
        """
        lifecycle = await _lifecycle()
        estimate: ExportEstimate = await lifecycle.estimate(
            self._dispatcher, self._scope, selection, worst=_worst(order), max_requests=_max_requests(max_requests)
        )
        return estimate

    async def run(
        self,
        selection: Selection,
        to: str | Path,
        *,
        format: str = "parquet",  # noqa: A002 - the word for it
        order: Literal["oldest", "worst"] = "oldest",
        min_users: int = 0,
        max_requests: int | None = None,
        concurrency: int = 16,
        on_progress: ProgressCallback | None = None,
        drain: asyncio.Event | None = None,
        state: str | Path | None = None,
        sink_options: Mapping[str, Any] | None = None,
        rebuild: bool = False,
        process: bool = True,
    ) -> ExportReport:
        """Fetch a selection into files, and return what the export holds and what it skipped.

        ```python
        async with AnalyticsClient.from_env() as client:
            last_hours = Selection(*client.calls.recent(timedelta(hours=6)), datasets=("calls", "sessions"))
            report = await client.export.run(last_hours, "data", format="jsonl")
            print(report.rows, report.parts, report.complete)
            for skipped in report.skipped:
                print(skipped.what, skipped.reason, skipped.span)
        ```

        Run it again after whatever ended it: it resumes where it stopped, and no row is lost or written twice. After it
        has finished, another run fetches what is new, calls that were open, and rows that were provisional.

        Files are partitioned by App ID and UTC day (for rows of a call, the day on which it began). Each appears when
        it is complete; `manifest.json` lists them. Details of the oldest calls are fetched first, since they expire
        first. An export waits for quota as long as it takes, for days if need be.

        The state is in the folder; for a URL a copy is beside the files, so that any machine can resume. Of two runs
        into one URL the earlier one ends with an `ExportError`; of two into one folder, or with one `state` folder,
        the later one.

        Before anything is sent, the files are compared with the state. A missing, altered or unknown file, or a lost
        state, raises an `ExportError`.

        A call, a span, a series or an App ID that the service refuses is skipped with the reason, and the next run
        tries it again. A refusal counts as an item's own only if other requests are answered.

        Args:
            selection: the rows to export.
            to: a local folder, or a URL that fsspec knows (`s3://bucket/folder`).
            format: `parquet`, `delta`, `jsonl`, `jsonl.gz`, `jsonl.zst`, `csv`, `sqlite` or `duckdb`.
            order: `oldest`, or `worst` to fetch details, once all calls are listed, by descending freeze rate times
                users times length.
            min_users: fetch details only of calls with that many users at once.
            max_requests: end the run after this many requests; 0 only writes what earlier runs have fetched.
            concurrency: requests in flight, from 1 to 1000.
            on_progress: called with an `ExportProgress` about once a second; an exception from it ends the export.
            drain: ends the run in good order once it is set, as at `SIGTERM`: nothing more is sent, and what is under
                way is saved and written. The report has the rest in `pending`. Set it in the event loop of the client
                (from a thread by `loop.call_soon_threadsafe(drain.set)`); several runs may have the same event.
            state: for a URL, the local folder of the state (default: one below `~/.local/state`).
            sink_options: options of the URL's file system, for fsspec.
            rebuild: accept the files as they are: rebuild a lost state from `manifest.json`, and report rows that are
                gone in `skipped` without fetching them again.
            process: write files in a separate process, which all exports of this program share. If false, a thread
                writes them: that saves the memory of a second Python, and may make your event loop late by tens of
                milliseconds.

        Raises:
            ValueError, TypeError: for a bad argument; nothing was sent.
            ExportError: the files cannot be written or do not fit the state, another run is active, or the place holds
                an export of other settings.
            RuntimeError: `drain` belongs to another event loop; nothing was sent.
            AgoraError: any other error of `agora_analytics.errors`: at once if the credentials are refused, after a
                quarter of an hour of an outage.

        """
        lifecycle = await _lifecycle()
        options = lifecycle.RunOptions(
            worst=_worst(order),
            min_users=validation.int_in_range("min_users", min_users, 0),
            max_requests=_max_requests(max_requests),
            concurrency=validation.int_in_range("concurrency", concurrency, 1, 1_000),
            on_progress=validation.none_or(
                validation.function, "on_progress", on_progress, "a function that takes an ExportProgress"
            ),
            drain=lifecycle.Drain(_event(drain)),
        )
        report: ExportReport = await lifecycle.run_export(
            self._dispatcher,
            self._scope,
            selection,
            to,
            name=format,
            options=options,
            state=validation.none_or(validation.path, "state", state),
            sink_options=validation.none_or(validation.mapping, "sink_options", sink_options, object) or {},
            rebuild=validation.boolean("rebuild", rebuild),
            process=validation.boolean("process", process),
        )
        return report

    async def merge(
        self, shards: Iterable[Shard], to: str | Path, *, sink_options: Mapping[str, Any] | None = None
    ) -> ShardsReport:
        """Write `manifest.json` of all shards of a selection, and return their report.

        It is made from the manifests of the shards, on whichever host they ran, and sends no request. `complete` is
        true once every shard is. Call it after each shard, or once at the end; several workers may call it at the same
        time. See `Selection.shards`.

        Args:
            shards: all shards of the selection.
            to: the folder or URL that they were exported below.
            sink_options: options of the URL's file system, for fsspec.

        Raises:
            ValueError, TypeError: for a bad argument, and for shards that overlap.
            ExportError: the place cannot be read or written, a shard there has other settings, the place itself has an
                export, or the selection was divided in another way before.

        """
        lifecycle = await _lifecycle()
        options = validation.none_or(validation.mapping, "sink_options", sink_options, object) or {}
        report: ShardsReport = await lifecycle.merge_shards(self._scope, shards, to, sink_options=options)
        return report


async def _lifecycle() -> ModuleType:
    """Return the code of exports, loaded on another thread: that takes a tenth of a second."""
    return await asyncio.to_thread(import_module, "agora_analytics.export.lifecycle")


def _event(drain: asyncio.Event | None) -> asyncio.Event:
    return validation.none_or(validation.instance, "drain", drain, asyncio.Event) or asyncio.Event()


def _worst(order: str) -> bool:
    return validation.one_of("order", order, ("oldest", "worst")) == "worst"


def _max_requests(value: int | None) -> int | None:
    return None if value is None else validation.int_in_range("max_requests", value, 0)
