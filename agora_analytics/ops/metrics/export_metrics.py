"""Exports as metrics, from what `on_progress` reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from agora_analytics.export.report import ExportProgress
from agora_analytics.ops.metrics.families import Family, Value

ROWS = Family("agora_export_rows", "Rows fetched so far, by dataset.")
WRITTEN = Family("agora_export_written_rows", "Rows of them that are in files.")
REQUESTS = Family("agora_export_requests", "Requests of this run that were answered, or failed.")
PENDING = Family("agora_export_pending", "Slices of time, and calls whose details, are still to be fetched.")
SKIPPED = Family("agora_export_skipped", "Calls and spans that were selected and are not in the export.")
EXPIRES = Family("agora_export_expires_in_seconds", "Seconds until the service drops the oldest data still pending.")
DONE = Family("agora_export_done_timestamp_seconds", "When the run will be done, as far as known.")
UPDATED = Family("agora_export_updated_timestamp_seconds", "When the export last reported its progress.")

FAMILIES: Final = (ROWS, WRITTEN, REQUESTS, PENDING, SKIPPED, EXPIRES, DONE, UPDATED)


class ExportObserver:
    """Keeps the newest progress of an export: `client.export.run(…, on_progress=observer)`."""

    def __init__(self, name: str, utc: Callable[[], float]) -> None:
        self._labels = {"export": name}
        self._utc = utc
        self._progress: ExportProgress | None = None
        self._updated = 0.0

    def __call__(self, progress: ExportProgress) -> None:
        """Keep the progress."""
        self._progress, self._updated = progress, self._utc()

    def values(self) -> Iterator[Value]:
        """Yield the samples."""
        progress, labels = self._progress, self._labels
        if progress is None:
            return
        for dataset, rows in progress.rows.items():
            yield Value(ROWS, labels | {"dataset": dataset}, rows)
        yield Value(WRITTEN, labels, progress.written)
        yield Value(REQUESTS, labels, progress.requests)
        yield Value(PENDING, labels | {"kind": "slices"}, progress.slices)
        yield Value(PENDING, labels | {"kind": "calls"}, progress.calls)
        yield Value(SKIPPED, labels, progress.skipped)
        if progress.expires_at is not None:
            # Relative, as alerts compare it with a number: it falls although no progress is reported.
            yield Value(EXPIRES, labels, progress.expires_at.timestamp() - self._utc())
        if progress.done_at is not None:
            yield Value(DONE, labels, progress.done_at.timestamp())
        yield Value(UPDATED, labels, self._updated)
