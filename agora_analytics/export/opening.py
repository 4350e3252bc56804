"""How an export begins and ends: its place, its state, its settings; what only those load who export."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics._core.files import not_linked, own_folder
from agora_analytics._core.redaction import fingerprint
from agora_analytics.endpoints.base import Scope
from agora_analytics.errors import ExportError
from agora_analytics.export import formats
from agora_analytics.export.estimate import ExportEstimate, Planner
from agora_analytics.export.fetch.run import Order, Run
from agora_analytics.export.fetch.sources import Groups
from agora_analytics.export.report import ExportReport
from agora_analytics.export.selection import Selection
from agora_analytics.export.sinks import LocalSink, Sink, said, sink_of
from agora_analytics.export.state.copies import FOLDER
from agora_analytics.export.state.preflight import Standing
from agora_analytics.export.state.progress import State
from agora_analytics.export.state.remote_copy import Beside, OnDisk
from agora_analytics.export.state.sqlite_store import is_damage
from agora_analytics.export.state.state_folder import check_given
from agora_analytics.export.state.state_thread import Disk, translated
from agora_analytics.export.summary import manifest_of, report_of
from agora_analytics.export.write.part_writer import Parts
from agora_analytics.export.write.target import SCRATCH, Target, target_of
from agora_analytics.export.write.writer import LOCK, PUT_BACK, trouble_of
from agora_analytics.models import BadRow
from agora_analytics.plans import Endpoint


async def planned(
    session: Dispatcher, scope: Scope, selection: Selection, *, worst: bool, max_requests: int | None
) -> ExportEstimate:
    """Return what an export will take; see `Exports.plan`."""
    validation.instance("selection", selection, Selection)
    planner = Planner(session, selection, order_worst=worst, max_requests=max_requests)
    return await planner.plan(_groups(session, scope, selection))


async def exported(
    session: Dispatcher,
    scope: Scope,
    selection: Selection,
    to: str | Path,
    *,
    name: str,
    order: Order,
    state: Path | None,
    sink_options: Mapping[str, Any],
    rebuild: bool,
) -> ExportReport:
    """Fetch a selection into files of the format `name`; see `Exports.run`."""
    validation.instance("selection", selection, Selection)
    name = formats.check(name)
    sink = await asyncio.to_thread(sink_of, to, sink_options)  # some stores connect at once
    _groups(session, scope, selection)  # what is wrong with them is told before anything is opened
    settings = _settings(selection, name, sink)
    beside = _beside(sink, state)
    if state is not None:
        await asyncio.to_thread(check_given, state)
    async with _opened(settings, sink, beside, rebuild=rebuild) as (disk, parts):
        run = Run(session, selection, order, disk, parts, groups=_groups(session, scope, selection, disk))
        await run.finish()
        await parts.publish_all()
        await parts.seal()
        report = await disk.change(lambda found: report_of(found, run, str(sink)))
        manifest = await disk.change(lambda found: manifest_of(found, parts.target.name, report))
        if order.on_progress is not None:
            order.on_progress(await run.progress())
        await parts.complete(manifest)
    return report


def _groups(session: Dispatcher, scope: Scope, selection: Selection, disk: Disk | None = None) -> dict[str, Groups]:
    """Return the endpoints for each App ID; raises `ValueError` where there is none, or the plan lacks one.

    Rows that do not fit are noted on the disk.
    """
    apps = selection.apps or ((scope.app_id,) if scope.app_id else ())
    if not apps:
        raise ValueError("apps=(): give App IDs, or make the client with one")
    return {app: Groups.of(session, scope, app, partial(_note_skipped, disk, app) if disk else None) for app in apps}


def _note_skipped(disk: Disk, app: str, endpoint: Endpoint, rows: Sequence[BadRow]) -> None:
    first = f"{rows[0].reason} at {rows[0].path}"
    disk.note(lambda state: state.skip(app, endpoint.name, len(rows), first))


@asynccontextmanager
async def _opened(
    settings: dict[str, Any], sink: Sink, folder: Path, *, rebuild: bool
) -> AsyncIterator[tuple[Disk, Parts]]:
    """Open the state and the target of an export; in the end the state is closed, whatever happened."""
    async with Disk() as disk:
        await disk.run(lambda: _check(sink, folder), aside=True)
        await disk.open(lambda: _state(folder / "state.db", str(sink), rebuild=rebuild))
        standing = Standing(disk, sink, settings["format"], rebuild)
        beside = None if isinstance(sink, LocalSink) else Beside(disk, sink, folder / "state.db", settings["format"])
        made: list[Parts] = []  # who is cancelled while it opens has to let go of it too
        try:
            if beside:
                await _claim(beside, standing, settings, rebuild=rebuild)
            else:
                await standing.check_files(settings)
            await disk.run(
                lambda: made.append(
                    Parts(disk, _target(settings["format"], sink, folder), sink, beside or OnDisk(disk))
                ),
                aside=True,
            )
            target = made[0].target
            await translated(disk.run(target.ready, aside=True, abort=target.abort), partial(_not_opened, sink))
            await standing.check_parts(target.writer)
            if beside:
                await standing.reading(beside.begin())
            await made[0].begin()
            yield disk, made[0]
        finally:
            try:
                for parts in made:
                    if await parts.abandon() and beside:
                        await beside.leave(parts.still)
            finally:
                if beside:
                    await beside.withdraw()


async def _claim(beside: Beside, standing: Standing, settings: dict[str, Any], *, rebuild: bool) -> None:
    """Claim a run into a URL: only one that may go on ends another, and it goes on with all that this one kept."""
    await standing.reading(beside.fetch(settings["place"], rebuild=rebuild))
    await standing.check_files(settings)
    await standing.reading(beside.claim())
    if await standing.reading(beside.fetch(settings["place"], rebuild=rebuild)):
        await standing.check_files(settings)
    await standing.reading(beside.fetch_closed())


def _state(path: Path, place: str, *, rebuild: bool) -> State:
    """Open the state; a damaged one is put aside where another is to be made of the manifest."""
    try:
        return State(path, place)
    except ExportError as error:
        if not (rebuild and is_damage(error.__cause__)):
            raise
    return State.renewed(path, place)


def _target(name: str, sink: Sink, folder: Path) -> Target:
    try:
        return target_of(name, sink, folder)
    except Exception as error:  # noqa: BLE001 - whatever a format's library raises
        told = _not_opened(sink, error)
    raise told


def _not_opened(sink: Sink, error: Exception) -> ExportError:
    wrong, kind = sink.scrub(said(error)), trouble_of(error)
    return ExportError(
        f"the export into {str(sink)!r} cannot be opened: {wrong}",
        hint=PUT_BACK if kind == "state" else "Close what else has it open.",
        fault="host",
        kind=kind,
    )


def _check(sink: Sink, folder: Path) -> None:
    try:
        sink.check()
        own_folder(folder)
        own_folder(folder / SCRATCH)
        not_linked(folder / LOCK)
    except Exception as error:  # noqa: BLE001 - whatever a store's library raises
        wrong = sink.scrub(said(error))
    else:
        return
    raise ExportError(
        f"nothing can be written to {str(sink)!r}: {wrong}",
        hint="Nothing was sent. Check the place and its rights.",
        fault="host",
    )


def _beside(sink: Sink, state: Path | None) -> Path:
    """Return the folder of an export's state."""
    if isinstance(sink, LocalSink):
        if state is not None:
            raise ValueError(f"state={str(state)!r} goes with a URL: a local export keeps its state in its folder")
        return sink.folder / FOLDER
    if state is not None:
        return state
    base = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return base / "agora-analytics" / "exports" / fingerprint(sink.identity)


def _settings(selection: Selection, name: str, sink: Sink) -> dict[str, Any]:
    """Return what may not change from one run to the next; a local folder may be moved."""
    place = {} if isinstance(sink, LocalSink) else {"place": fingerprint(sink.identity)}
    return {"format": name, **place, **selection.identity()}
