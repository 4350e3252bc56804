"""`client.export`: a selection of rows, planned or fetched into files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

from agora_analytics import _checks
from agora_analytics._session import Session
from agora_analytics.endpoints import Scope
from agora_analytics.errors import ExportError
from agora_analytics.export import formats
from agora_analytics.export._disk import Disk
from agora_analytics.export._parts import Parts
from agora_analytics.export._plan import ExportPlan, Planner
from agora_analytics.export._report import ExportReport, Watcher
from agora_analytics.export._run import Order, Run
from agora_analytics.export._selection import Selection
from agora_analytics.export._sources import Groups
from agora_analytics.export._state import VERSION, State
from agora_analytics.export._summary import manifest_of, report_of
from agora_analytics.export._target import Target, target_of
from agora_analytics.export.sinks import LocalSink, Sink, said, sink_of

_BESIDE: Final = ".agora-export"
"""The folder in a local export that keeps its state."""


class Exports:
    """`client.export`: everything the plan keeps, as files that a data team loads at once."""

    def __init__(self, session: Session, scope: Scope) -> None:
        self._session = session
        self._scope = scope

    async def plan(
        self, selection: Selection, *, order: Literal["oldest", "worst"] = "oldest", max_requests: int | None = None
    ) -> ExportPlan:
        """Return what an export will take: requests, rows, bytes, when it will be done, and what will have expired.

        That costs a handful of requests: up to 6 for each App ID's list of calls, up to 6 for the size of calls.
        Estimates of rows and bytes are as if no filter applied. Raises `ValueError` for what the plan does not offer,
        and the errors of `agora_analytics.errors`.
        """
        planner = Planner(self._session, selection, order_worst=_worst(order), max_requests=_most(max_requests))
        return await planner.plan(self._groups(selection))

    async def run(
        self,
        selection: Selection,
        to: str | Path,
        *,
        format: str = "parquet",  # noqa: A002 - the word for it
        order: Literal["oldest", "worst"] = "oldest",
        least_users: int = 0,
        max_requests: int | None = None,
        concurrency: int = 16,
        watcher: Watcher | None = None,
        state: str | Path | None = None,
        sink_options: Mapping[str, Any] | None = None,
    ) -> ExportReport:
        """Fetch a selection into files, and return what there is and what is left out.

        `to` is a local folder, or a URL that fsspec knows (`s3://bucket/folder`), with `sink_options` for it. `format`
        is `parquet`, `jsonl`, `jsonl.gz`, `jsonl.zst`, `csv`, `sqlite` or `duckdb`. Files are partitioned by App ID and
        UTC day (a call's rows by the day at which it began) and appear whole; a `manifest.json` tells what there is.

        Details are asked for oldest first, since they expire first; by `order="worst"`, once all calls are listed,
        those of the greatest freeze rate times users times length first, of calls with `least_users` at once. At most
        `max_requests` are made, `concurrency` at a time. It waits for quota as long as it takes, days if need be.

        Whatever ends it, run it again: it goes on where it stopped. A finished one asks only for what is new, for calls
        that went on, and for what was provisional. Its state is kept in the folder, or for a URL in the folder `state`
        (default: one of the user's). `watcher` is told how far it is.

        Raises `ValueError` or `TypeError` for bad arguments, `ExportError` for files that cannot be written, an export
        that runs already, or one of other settings in that place, and the errors of `agora_analytics.errors`.
        """
        order_of = Order(
            worst=_worst(order),
            least_users=_checks.number("least_users", least_users, 0),
            max_requests=_most(max_requests),
            concurrency=_checks.number("concurrency", concurrency, 1, 1_000),
            watcher=watcher,
        )
        formats.check(format)
        sink = await asyncio.to_thread(sink_of, to, sink_options or {})  # some stores connect at once
        groups = self._groups(selection)
        settings = _settings(selection, format, sink)
        async with _opened(settings, sink, _beside(sink, state)) as (disk, parts):
            run = Run(self._session, selection, order_of, disk, parts)
            await run.finish(groups)
            await parts.publish_all()
            report = await disk.change(lambda found: report_of(found, run.asking, order_of, str(sink)))
            manifest = await disk.change(lambda found: manifest_of(found, parts.target.name, report))
            if watcher is not None:
                watcher(await run.progress())
            await parts.complete(manifest)
        return report

    def _groups(self, selection: Selection) -> dict[str, Groups]:
        """Return the endpoints for each App ID; raises `ValueError` where there is none, or the plan lacks one."""
        apps = selection.apps or ((self._scope.app_id,) if self._scope.app_id else ())
        if not apps:
            raise ValueError("apps=(): give App IDs, or make the client with one")
        return {app: Groups.of(self._session, self._scope, app) for app in apps}


@asynccontextmanager
async def _opened(settings: dict[str, Any], sink: Sink, folder: Path) -> AsyncIterator[tuple[Disk, Parts]]:
    """Open the state and the target of an export; in the end the state is closed, whatever happened."""
    async with Disk() as disk:
        await disk.run(lambda: _check(sink), aside=True)
        await disk.open(lambda: State(folder / "state.db", str(sink)))
        await disk.change(lambda state: _same_as_begun(state, settings, sink))
        made: list[Parts] = []  # who is cancelled while it opens has to let go of it too
        try:
            await disk.run(
                lambda: made.append(Parts(disk, _target(settings["format"], sink, folder), sink)), aside=True
            )
            yield disk, made[0]
        finally:
            for parts in made:
                await parts.abandon()


def _target(name: str, sink: Sink, folder: Path) -> Target:
    try:
        return target_of(name, sink, folder)
    except Exception as error:  # noqa: BLE001 - whatever a format's library raises
        wrong = sink.scrub(said(error))
    raise ExportError(f"the export into {str(sink)!r} cannot be opened: {wrong}", advice="Close what else has it open.")


def _check(sink: Sink) -> None:
    try:
        sink.check()
    except Exception as error:  # noqa: BLE001 - whatever a store's library raises
        wrong = sink.scrub(said(error))
    else:
        return
    raise ExportError(
        f"nothing can be written to {str(sink)!r}: {wrong}", advice="Nothing was sent. Check the place and its rights."
    )


def _beside(sink: Sink, state: str | Path | None) -> Path:
    """Return the folder of an export's state."""
    if isinstance(sink, LocalSink):
        if state is not None:
            raise ValueError(f"state={str(state)!r} goes with a URL: a local export keeps its state in its folder")
        return sink.folder / _BESIDE
    if state is not None:
        return Path(state).expanduser()
    base = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return base / "agora-analytics" / "exports" / _fingerprint(sink)


def _fingerprint(sink: Sink) -> str:
    return sha256(sink.identity.encode()).hexdigest()[:16]


def _settings(selection: Selection, name: str, sink: Sink) -> dict[str, Any]:
    """Return what may not change from one run to the next; a local folder may be moved."""
    place = {} if isinstance(sink, LocalSink) else {"place": _fingerprint(sink)}
    return {"version": VERSION, "format": formats.check(name), **place, **selection.identity()}


def _same_as_begun(state: State, wanted: dict[str, Any], sink: Sink) -> None:
    """Insist on the settings that the export was begun with."""
    begun = state.settings()
    if not begun:
        state.keep_settings(wanted)
        return
    different = [key for key in wanted if begun.get(key) != wanted[key]]
    if different:
        told = ", ".join(f"{key} {begun.get(key)!r}, now {wanted[key]!r}" for key in different)
        raise ExportError(
            f"{str(sink)!r} holds an export of other settings: {told}",
            advice="Nothing was sent. Run it with the settings it was begun with, or export into another place.",
        )


def _worst(order: str) -> bool:
    if order not in {"oldest", "worst"}:
        raise ValueError(f"order={order!r}: allowed are 'oldest', 'worst'")
    return order == "worst"


def _most(max_requests: int | None) -> int | None:
    return None if max_requests is None else _checks.number("max_requests", max_requests, 1)
