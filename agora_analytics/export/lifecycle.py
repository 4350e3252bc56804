"""How an export begins and ends: its place, its state, its settings; what only those load who export."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import Session
from agora_analytics._core.files import not_linked, own_folder
from agora_analytics.endpoints.base import Scope
from agora_analytics.errors import ExportError
from agora_analytics.export import formats
from agora_analytics.export.estimate import Estimator, ExportEstimate
from agora_analytics.export.fetch.run import ExportRun, RunOptions
from agora_analytics.export.fetch.sources import EndpointSet
from agora_analytics.export.report import ExportReport
from agora_analytics.export.report_builder import build_manifest, build_report
from agora_analytics.export.selection import Selection
from agora_analytics.export.sinks import LocalSink, Sink, error_text, open_sink
from agora_analytics.export.state.copies import FOLDER
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.preflight import Preflight
from agora_analytics.export.state.remote_copy import LocalSync, RemoteSync
from agora_analytics.export.state.sqlite_store import is_damage
from agora_analytics.export.state.state_folder import check_state_folder
from agora_analytics.export.state.state_thread import StateThread, translate_errors
from agora_analytics.export.write.part_writer import PartWriter
from agora_analytics.export.write.target import SCRATCH_FOLDER, Target, open_target
from agora_analytics.export.write.writer import LOCK_FILE, RESTORE_HINT, error_kind
from agora_analytics.models import BadRow
from agora_analytics.plans import Endpoint


async def estimate(
    session: Session, scope: Scope, selection: Selection, *, worst: bool, max_requests: int | None
) -> ExportEstimate:
    """Return what an export will take; see `Exports.plan`."""
    validation.instance("selection", selection, Selection)
    estimator = Estimator(session, selection, order_worst=worst, max_requests=max_requests)
    return await estimator.estimate(_endpoints(session, scope, selection))


async def run_export(
    session: Session,
    scope: Scope,
    selection: Selection,
    to: str | Path,
    *,
    name: str,
    options: RunOptions,
    state: Path | None,
    sink_options: Mapping[str, Any],
    rebuild: bool,
) -> ExportReport:
    """Fetch a selection into files of the format `name`; see `Exports.run`."""
    validation.instance("selection", selection, Selection)
    name = formats.check(name)
    sink = await asyncio.to_thread(open_sink, to, sink_options)  # some stores connect at once
    _endpoints(session, scope, selection)  # what is wrong with them is told before anything is opened
    settings = _settings(selection, name, sink)
    beside = _beside(sink, state)
    if state is not None:
        await asyncio.to_thread(check_state_folder, state)
    async with _opened(settings, sink, beside, rebuild=rebuild) as (disk, parts):
        run = ExportRun(session, selection, options, disk, parts, endpoints=_endpoints(session, scope, selection, disk))
        await run.finish()
        await parts.flush_all()
        await parts.publish_database()
        report = await disk.change(lambda found: build_report(found, run, str(sink)))
        manifest = await disk.change(lambda found: build_manifest(found, parts.target.name, report))
        if options.on_progress is not None:
            options.on_progress(await run.progress())
        await parts.write_manifest(manifest)
    return report


def _endpoints(
    session: Session, scope: Scope, selection: Selection, disk: StateThread | None = None
) -> dict[str, EndpointSet]:
    """Return the endpoints for each App ID; raises `ValueError` where there is none, or the plan lacks one.

    Rows that do not fit are noted on the disk.
    """
    apps = selection.apps or ((scope.app_id,) if scope.app_id else ())
    if not apps:
        raise ValueError("apps=(): give App IDs, or make the client with one")
    return {
        app: EndpointSet.of(session, scope, app, partial(_note_skipped, disk, app) if disk else None) for app in apps
    }


def _note_skipped(disk: StateThread, app: str, endpoint: Endpoint, rows: Sequence[BadRow]) -> None:
    first = f"{rows[0].reason} at {rows[0].path}"
    disk.change_soon(lambda state: state.add_misfits(app, endpoint.name, len(rows), first))


@asynccontextmanager
async def _opened(
    settings: dict[str, Any], sink: Sink, folder: Path, *, rebuild: bool
) -> AsyncIterator[tuple[StateThread, PartWriter]]:
    """Open the state and the target of an export; in the end the state is closed, whatever happened."""
    async with StateThread() as disk:
        await disk.run_io(lambda: _check(sink, folder))
        await disk.open(lambda: _state(folder / "state.db", str(sink), rebuild=rebuild))
        standing = Preflight(disk, sink, settings["format"], rebuild)
        beside = (
            None if isinstance(sink, LocalSink) else RemoteSync(disk, sink, folder / "state.db", settings["format"])
        )
        made: list[PartWriter] = []  # who is cancelled while it opens has to let go of it too
        try:
            if beside:
                await _claim(beside, standing, settings, rebuild=rebuild)
            else:
                await standing.check_files(settings)
            await disk.run_io(
                lambda: made.append(
                    PartWriter(disk, _target(settings["format"], sink, folder), sink, beside or LocalSync(disk))
                ),
            )
            target = made[0].target
            await translate_errors(disk.run_io(target.ready, abort=target.abort), partial(_not_opened, sink))
            await standing.check_parts(target.writer)
            if beside:
                await standing.guard(beside.begin_run())
            await made[0].prepare()
            yield disk, made[0]
        finally:
            try:
                for parts in made:
                    if await parts.abort() and beside:
                        await beside.sync_after_failure(parts.paused)
            finally:
                if beside:
                    await beside.release_claim()


async def _claim(beside: RemoteSync, standing: Preflight, settings: dict[str, Any], *, rebuild: bool) -> None:
    """Claim a run into a URL: only one that may go on ends another, and it goes on with all that this one kept."""
    await standing.guard(beside.fetch(settings["place"], rebuild=rebuild))
    await standing.check_files(settings)
    await standing.guard(beside.claim())
    if await standing.guard(beside.fetch(settings["place"], rebuild=rebuild)):
        await standing.check_files(settings)
    await standing.guard(beside.fetch_database())


def _state(path: Path, place: str, *, rebuild: bool) -> ExportState:
    """Open the state; a damaged one is put aside where another is to be made of the manifest."""
    try:
        return ExportState(path, place)
    except ExportError as error:
        if not (rebuild and is_damage(error.__cause__)):
            raise
    return ExportState.replace_damaged(path, place)


def _target(name: str, sink: Sink, folder: Path) -> Target:
    try:
        return open_target(name, sink, folder)
    except Exception as error:  # noqa: BLE001 - whatever a format's library raises
        told = _not_opened(sink, error)
    raise told


def _not_opened(sink: Sink, error: Exception) -> ExportError:
    wrong, kind = sink.scrub(error_text(error)), error_kind(error)
    return ExportError(
        f"the export into {str(sink)!r} cannot be opened: {wrong}",
        hint=RESTORE_HINT if kind == "state" else "Close what else has it open.",
        fault="host",
        kind=kind,
    )


def _check(sink: Sink, folder: Path) -> None:
    try:
        sink.check()
        own_folder(folder)
        own_folder(folder / SCRATCH_FOLDER)
        not_linked(folder / LOCK_FILE)
    except Exception as error:  # noqa: BLE001 - whatever a store's library raises
        wrong = sink.scrub(error_text(error))
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
    return base / "agora-analytics" / "exports" / _fingerprint(sink)


def _fingerprint(sink: Sink) -> str:
    return sha256(sink.identity.encode()).hexdigest()[:16]


def _settings(selection: Selection, name: str, sink: Sink) -> dict[str, Any]:
    """Return what may not change from one run to the next; a local folder may be moved."""
    place = {} if isinstance(sink, LocalSink) else {"place": _fingerprint(sink)}
    return {"format": name, **place, **selection.identity()}
