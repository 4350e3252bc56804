"""How an export begins and ends: arguments, place, state, settings, manifest. Loaded only by those who export.

See `docs/concepts/exports.md` for the data flow, and for what a crash leaves at each step.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
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
from agora_analytics.export.estimate import ExportEstimate
from agora_analytics.export.estimator import Estimator
from agora_analytics.export.fetch.drain import Drain
from agora_analytics.export.fetch.run import ExportRun, RunOptions
from agora_analytics.export.fetch.sources import EndpointSet
from agora_analytics.export.report import ExportReport, ShardsReport
from agora_analytics.export.report_builder import build_manifest, build_report
from agora_analytics.export.selection import Selection, Shard
from agora_analytics.export.shards import merge
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
    dispatcher: Dispatcher, scope: Scope, selection: Selection, *, worst: bool, max_requests: int | None
) -> ExportEstimate:
    """Return what an export will take; see `Exporter.estimate`."""
    validation.instance("selection", selection, Selection)
    estimator = Estimator(dispatcher, selection, order_worst=worst, max_requests=max_requests)
    return await estimator.estimate(_endpoints(dispatcher, scope, selection))


async def run_export(
    dispatcher: Dispatcher,
    scope: Scope,
    selection: Selection,
    to: str | Path,
    *,
    name: str,
    options: RunOptions,
    state: Path | None,
    sink_options: Mapping[str, Any],
    rebuild: bool,
    process: bool,
) -> ExportReport:
    """Fetch a selection into files of the format `name`; see `Exporter.run`."""
    # In the order in which things become durable: longer than 25 lines for that.
    validation.instance("selection", selection, Selection)
    name = formats.check(name)
    sink = await asyncio.to_thread(open_sink, to, sink_options)  # some stores connect at once
    _endpoints(dispatcher, scope, selection)  # bad arguments are reported before anything is opened
    settings = _settings(selection, name, sink)
    folder = _state_folder(sink, state)
    if state is not None:
        await asyncio.to_thread(check_state_folder, state)
    async with (
        options.drain.watched(),  # first: an event of another loop must not end the run that has the place
        _opened(settings, sink, folder, rebuild=rebuild, process=process) as (state_thread, parts),
    ):
        endpoints = _endpoints(dispatcher, scope, selection, state_thread, options.drain)
        run = ExportRun(dispatcher, selection, options, state_thread, parts, endpoints=endpoints)
        await run.finish()
        await parts.flush_all()
        await parts.publish_database()
        # After publishing, since it counts what is in files.
        report = await state_thread.change(lambda state: build_report(state, run, str(sink)))
        selected = {"apps": list(endpoints), "start": selection.span.start, "end": selection.span.end}
        manifest = await state_thread.change(lambda state: build_manifest(state, parts.target.name, report, selected))
        if options.on_progress is not None:
            # Once more, so that the last progress is that of the end.
            await run.reporter.report(options.on_progress)
        # Last: where it says `complete`, every file that it lists is there.
        await parts.write_manifest(manifest)
    return report


async def merge_shards(
    scope: Scope, shards: Iterable[Shard], to: str | Path, *, sink_options: Mapping[str, Any]
) -> ShardsReport:
    """Merge the manifests of shards; see `Exporter.merge`."""
    checked = validation.instances("shards", shards, Shard)
    sink = await asyncio.to_thread(open_sink, to, sink_options)
    return await asyncio.to_thread(merge, sink, checked, scope.app_id)


def _endpoints(
    dispatcher: Dispatcher,
    scope: Scope,
    selection: Selection,
    state_thread: StateThread | None = None,
    drain: Drain | None = None,
) -> dict[str, EndpointSet]:
    """Return the endpoints of each App ID; raises `ValueError` if there is none, or the plan lacks one.

    With `state_thread`, rows that do not fit the API reference are counted in the state; with `drain`, a request is not
    sent once a run drains.
    """
    apps = selection.apps or ((scope.app_id,) if scope.app_id else ())
    if not apps:
        raise ValueError("apps=(): give App IDs, or make the client with one")
    return {
        app: EndpointSet.of(
            dispatcher,
            scope,
            app,
            on_skipped=partial(_count_bad_rows, state_thread, app) if state_thread else None,
            on_sending=drain.sending if drain else None,
        )
        for app in apps
    }


def _count_bad_rows(state_thread: StateThread, app: str, endpoint: Endpoint, rows: Sequence[BadRow]) -> None:
    first = f"{rows[0].reason} at {rows[0].path}"
    # Called while an answer is decoded, which cannot wait; the transaction that saves the answer comes after it.
    state_thread.change_soon(lambda state: state.add_misfits(app, endpoint.name, len(rows), first))


@asynccontextmanager
async def _opened(
    settings: dict[str, Any], sink: Sink, folder: Path, *, rebuild: bool, process: bool
) -> AsyncIterator[tuple[StateThread, PartWriter]]:
    """Open the state and the target of an export, and close both whatever happens."""
    # Opening and closing mirror each other, and belong side by side: longer than 25 lines for that.
    form = settings["format"]
    async with StateThread() as state_thread:
        await state_thread.run_io(lambda: _check_place(sink, folder))
        # The state comes first, because its lock keeps a second run out of everything below.
        await state_thread.open(lambda: _open_state(folder / "state.db", str(sink), rebuild=rebuild))
        preflight = Preflight(state_thread, sink, form, rebuild)
        remote = None if isinstance(sink, LocalSink) else RemoteSync(state_thread, sink, folder / "state.db", form)
        opened: list[PartWriter] = []  # if opening is cancelled, the writer must be closed all the same
        try:
            if remote:
                await _claim(remote, preflight, settings, rebuild=rebuild)
            else:
                await preflight.check_files(settings)

            def open_parts() -> None:
                target = _open_target(form, sink, folder, process=process)
                opened.append(PartWriter(state_thread, target, sink, remote or LocalSync(state_thread)))

            await state_thread.run_io(open_parts)
            (parts,) = opened
            target = parts.target
            ready = partial(target.ready, await state_thread.change(ExportState.known_parts))
            await translate_errors(state_thread.run_io(ready, abort=target.abort), partial(_not_opened, sink))
            await preflight.check_parts(target.writer)
            if remote:
                await preflight.guard(remote.begin_run())
            await parts.prepare()
            yield state_thread, parts
        finally:
            await _close(opened, remote)


async def _close(opened: list[PartWriter], remote: RemoteSync | None) -> None:
    """Abort a writer that has not finished, copy the state of its run to the URL, and release the claim."""
    try:
        for parts in opened:
            # Not after a failure to close: the database may be half written, and its last copy is whole.
            if await parts.abort() and remote:
                await remote.sync_after_failure(parts.paused)
    finally:
        if remote:
            await remote.release_claim()


async def _claim(remote: RemoteSync, preflight: Preflight, settings: dict[str, Any], *, rebuild: bool) -> None:
    """Claim a URL for this run.

    The files are checked first, since the claim ends the run that holds it; and again after the claim, if that run has
    saved more meanwhile.
    """
    await preflight.guard(remote.fetch(settings["place"], rebuild=rebuild))
    await preflight.check_files(settings)
    await preflight.guard(remote.claim())
    if await preflight.guard(remote.fetch(settings["place"], rebuild=rebuild)):
        await preflight.check_files(settings)
    await preflight.guard(remote.fetch_database())


def _open_state(path: Path, place: str, *, rebuild: bool) -> ExportState:
    """Open the state; with `rebuild`, a damaged one is moved aside and an empty one takes its place."""
    try:
        return ExportState(path, place)
    except ExportError as error:
        if not (rebuild and is_damage(error.__cause__)):
            raise
    return ExportState.replace_damaged(path, place)


def _open_target(name: str, sink: Sink, folder: Path, *, process: bool) -> Target:
    try:
        return open_target(name, sink, folder, process=process)
    except Exception as error:  # noqa: BLE001 - whatever a format's library raises
        translated = _not_opened(sink, error)
    # Not inside of `except`, where the context would keep the original message, which may quote a credential.
    raise translated


def _not_opened(sink: Sink, error: Exception) -> ExportError:
    kind = error_kind(error)
    return ExportError(
        f"the export into {str(sink)!r} cannot be opened: {sink.scrub(error_text(error))}",
        hint=RESTORE_HINT if kind == "state" else "Close what else has it open.",
        fault="host",
        kind=kind,
    )


def _check_place(sink: Sink, folder: Path) -> None:
    """Check that files can be written and the state's folder is the user's own; raises `ExportError`."""
    try:
        sink.check()
        own_folder(folder)
        own_folder(folder / SCRATCH_FOLDER)
        not_linked(folder / LOCK_FILE)
    except Exception as error:  # noqa: BLE001 - whatever a store's library raises
        reason = sink.scrub(error_text(error))
    else:
        return
    raise ExportError(
        f"nothing can be written to {str(sink)!r}: {reason}",
        hint="Nothing was sent. Check the place and its permissions.",
        fault="host",
    )


def _state_folder(sink: Sink, state: Path | None) -> Path:
    """Return the folder of the state: beside local files; for a URL `state`, or one in the user's home."""
    if isinstance(sink, LocalSink):
        if state is not None:
            raise ValueError(f"state={str(state)!r} goes with a URL: a local export keeps its state in its folder")
        return sink.folder / FOLDER
    if state is not None:
        return state
    base = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    # Hashed, because the identity may hold secrets and need not be a file name.
    return base / "agora-analytics" / "exports" / fingerprint(sink.identity)


def _settings(selection: Selection, name: str, sink: Sink) -> dict[str, Any]:
    """Return the settings that must be the same in every run into a place. A local folder may be moved."""
    place = {} if isinstance(sink, LocalSink) else {"place": fingerprint(sink.identity)}
    return {"format": name, **place, **selection.identity()}
