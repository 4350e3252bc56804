"""`client.export`: a selection of rows, planned or fetched into files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.endpoints.base import Scope

if TYPE_CHECKING:
    from types import ModuleType

    from agora_analytics.export.estimate import ExportEstimate
    from agora_analytics.export.report import ExportReport, ProgressCallback
    from agora_analytics.export.selection import Selection

__all__ = ["Exports"]


class Exports:
    """`client.export`: everything the plan keeps, as files that a data team loads at once."""

    def __init__(self, session: Dispatcher, scope: Scope) -> None:
        self._session = session
        self._scope = scope

    async def estimate(
        self, selection: Selection, *, order: Literal["oldest", "worst"] = "oldest", max_requests: int | None = None
    ) -> ExportEstimate:
        """Return what an export will take: requests, rows, bytes, when it will be done, and what will have expired.

        That costs a handful of requests: up to 6 for each App ID's list of calls, up to 6 for the size of calls.
        What filters let through is reckoned from a page of each list (`counted` is false then). Raises `ValueError` for
        what the plan does not offer, and the errors of `agora_analytics.errors`.
        """
        opening = await _loaded()
        plan: ExportEstimate = await opening.planned(
            self._session, self._scope, selection, worst=_worst(order), max_requests=_most(max_requests)
        )
        return plan

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
        state: str | Path | None = None,
        sink_options: Mapping[str, Any] | None = None,
        rebuild: bool = False,
    ) -> ExportReport:
        """Fetch a selection into files, and return what there is and what is left out.

        `to` is a local folder, or a URL that fsspec knows (`s3://bucket/folder`), with `sink_options` for it. `format`
        is `parquet`, `jsonl`, `jsonl.gz`, `jsonl.zst`, `csv`, `sqlite` or `duckdb`. Files are partitioned by App ID and
        UTC day (a call's rows by the day at which it began) and appear whole; a `manifest.json` tells what there is.

        Details are asked for oldest first, since they expire first; by `order="worst"`, once all calls are listed,
        those of the greatest freeze rate times users times length first, of calls with `min_users` at once. At most
        `max_requests` are made, `concurrency` at a time. It waits for quota as long as it takes, days if need be.

        Whatever ends it, run it again: it goes on where it stopped. A finished one asks only for what is new, for calls
        that went on, and for what was provisional. Its state is kept in the folder, for a URL beside the files too: any
        machine goes on, with `state` as the folder for the copy it works with (default: one of the user's). Of two runs
        into a URL at once the earlier one ends with an `ExportError`, of two into a folder the later one, at once, as
        do two with the same `state` folder. `on_progress` is told how far it is.

        Before anything is asked, files are compared with the state: one that is gone, altered or unknown to it, or a
        state that is lost, is an `ExportError`. With `rebuild` it goes on with what is there: a lost state is made anew
        from `manifest.json`, and rows that are gone are told in `skipped`; they are not asked for again.

        A call, a span, a series or an App ID that the service refuses is left out with the reason, and the rest comes;
        the next run asks for it again. A refusal is an item's own only if others are answered.

        Raises `ValueError` or `TypeError` for bad arguments, `ExportError` for files that cannot be written, an export
        that runs already, or one of other settings in that place, and the errors of `agora_analytics.errors`: at once
        where the credentials are refused, after a quarter of an hour in an outage.
        """
        opening = await _loaded()
        wanted = opening.Order(
            worst=_worst(order),
            min_users=validation.int_in_range("min_users", min_users, 0),
            max_requests=_most(max_requests),
            concurrency=validation.int_in_range("concurrency", concurrency, 1, 1_000),
            on_progress=validation.none_or(
                validation.function, "on_progress", on_progress, "a function that takes an ExportProgress"
            ),
        )
        report: ExportReport = await opening.exported(
            self._session,
            self._scope,
            selection,
            to,
            name=format,
            order=wanted,
            state=validation.none_or(validation.path, "state", state),
            sink_options=validation.none_or(validation.mapping, "sink_options", sink_options, object) or {},
            rebuild=validation.boolean("rebuild", rebuild),
        )
        return report


async def _loaded() -> ModuleType:
    """Return what makes exports, loaded on another thread: that takes a tenth of a second."""
    return await asyncio.to_thread(import_module, "agora_analytics.export.opening")


def _worst(order: str) -> bool:
    return validation.one_of("order", order, ("oldest", "worst")) == "worst"


def _most(max_requests: int | None) -> int | None:
    return None if max_requests is None else validation.int_in_range("max_requests", max_requests, 1)
