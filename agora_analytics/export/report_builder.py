"""Builds the report and `manifest.json` of an export from its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

import attrs

from agora_analytics.export.fetch.run import ExportRun
from agora_analytics.export.fetch.skip_reasons import DETAILS, UNMEASURED, is_retried
from agora_analytics.export.report import ExportReport, Skipped
from agora_analytics.export.schema import DATASETS, Column
from agora_analytics.export.state.calls import CallStatus
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.manifest import iso_day
from agora_analytics.export.state.slices import SPAN_STATUS_NAMES, SpanStatus
from agora_analytics.export.state.staging import Part
from agora_analytics.spans import DAY, Span

_LISTED_IDS: Final = 10
"""Ids of skipped calls that are listed for each reason."""


def build_report(state: ExportState, run: ExportRun, place: str) -> ExportReport:
    """Return the report of a run."""
    slices, calls, rows = state.counts()
    min_users = run.options.min_users
    below_min_users = state.below_min_users(min_users) if min_users else 0
    return ExportReport(
        to=place,
        rows={name: rows.get(name, 0) for name in DATASETS if name in state.settings().get("datasets", ())},
        parts=sum(1 for _ in state.parts()),
        requests=run.fetcher.requests_made,
        narrowed=run.fetcher.narrowed,
        unfinished=state.calls_by_status().get(CallStatus.OPEN, 0),
        provisional=state.provisional_rows(),
        # What this run skips stays pending in the state, for the next one; the report has it in `skipped` alone.
        pending=slices + calls - below_min_users - run.refusals.count_skipped(state, min_users),
        skipped=(*run.refusals.skipped(run.selection.span), *_skipped(state)),
        below_min_users=below_min_users,
        unmeasured=sum(count for _, source, count, _ in state.misfits() if source == UNMEASURED),
    )


def build_manifest(
    state: ExportState, name: Callable[[Part], str], report: ExportReport, selected: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of `manifest.json`; `name` returns the path of a part, `selected` are App IDs and span."""
    settings = state.settings()
    return {
        "tool": "agora-analytics",
        "version": version("agora-analytics"),
        "settings": settings,
        "selection": selected,
        "complete": report.complete,
        "rows": report.rows,
        "unmeasured": report.unmeasured,
        "columns": {dataset: list(map(_column, DATASETS[dataset].columns)) for dataset in settings["datasets"]},
        "spans": list(_spans(state)),
        "skipped": list(map(_skipped_entry, report.skipped)),
        "parts": list(_parts(state, name)),
        "database": _database(state),
        "resume": {
            "calls": state.calls_for_manifest(),
            "skipped": state.misfits(),
            "lost": state.permanently_lost(),
            "originals": [one.row for one in state.originals()],
        },
    }


def _skipped(state: ExportState) -> Iterator[Skipped]:
    yield from _skipped_calls(state)
    for app, source, first, last, status in state.all_spans():
        if status in {SpanStatus.EXPIRED, SpanStatus.TRUNCATED}:
            reason, again = SPAN_STATUS_NAMES[status], status == SpanStatus.TRUNCATED
            yield Skipped(app_id=app, what=source, reason=reason, span=Span(first, last), again=again)
    for app, source, count, reason in state.misfits():
        if source != UNMEASURED:
            yield Skipped(app_id=app, what=source, reason=f"does not fit the reference: {reason}", rows=count)
    for one in state.lost():
        day = Span(one.day * DAY, (one.day + 1) * DAY) if one.day > 0 else None
        yield Skipped(app_id=one.app, what=one.dataset, reason=one.reason, span=day, rows=one.rows or None)


def _skipped_calls(state: ExportState) -> Iterator[Skipped]:
    for app, reason, count, first, last in state.skipped_calls():
        yield Skipped(
            app_id=app,
            what=DETAILS,
            reason=reason,
            span=Span(first, max(last, first + 1)),
            calls=count,
            call_ids=state.skipped_call_ids(app, reason, _LISTED_IDS),
            again=is_retried(reason),
        )


def _skipped_entry(one: Skipped) -> dict[str, Any]:
    bounds = {"start": one.span.start, "end": one.span.end} if one.span else {}
    return attrs.asdict(one, recurse=False) | {"span": one.span and str(one.span)} | bounds


def _column(column: Column) -> dict[str, Any]:
    return {key: value for key, value in attrs.asdict(column).items() if value != ""}


def _spans(state: ExportState) -> Iterator[dict[str, Any]]:
    for app, source, first, last, status in state.all_spans():
        yield {
            "app_id": app,
            "source": source,
            "span": str(Span(first, last)),
            "state": SPAN_STATUS_NAMES[status],
            "start": first,
            "end": last,
        }


def _database(state: ExportState) -> dict[str, Any] | None:
    """Return size and checksum of the database file, or None if each part is a file."""
    facts = state.database()
    return None if facts is None else {"bytes": facts.bytes, "sha256": facts.sha256}


def _parts(state: ExportState, name: Callable[[Part], str]) -> Iterator[dict[str, Any]]:
    # Nobody counted the rows of a file that was changed after it was published.
    altered = {one.part.id for one in state.originals()}
    for part, facts in state.parts():
        about = {"path": name(part), "dataset": part.dataset, "app_id": part.app, "day": iso_day(part.day)}
        held = {"rows": None if part.id in altered else facts.rows, "bytes": facts.bytes, "sha256": facts.sha256}
        yield about | {"id": part.id, "number": part.number, "provisional": part.number == 0} | held
