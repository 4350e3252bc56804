"""What an export holds, read from its state: for the caller, and for `manifest.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, Final

import attrs

from agora_analytics.export.fetch.run import Run
from agora_analytics.export.fetch.skip_reasons import DETAILS, UNMEASURED, is_asked_again
from agora_analytics.export.report import ExportReport, Skipped
from agora_analytics.export.schema import DATASETS, Column
from agora_analytics.export.state.manifest import iso_day
from agora_analytics.export.state.progress import CUT, EXPIRED, NAMES_OF_KINDS, OPEN, State
from agora_analytics.export.state.staging import Part
from agora_analytics.spans import DAY, Span

_NAMED: Final = 10
"""Calls that are left out for one reason, and told by their ids."""


def report_of(state: State, run: Run, place: str) -> ExportReport:
    """Return what a run did, and what the export holds now."""
    slices, calls, rows = state.counts()
    min_users = run.order.min_users
    too_small = state.too_small(min_users) if min_users else 0
    return ExportReport(
        to=place,
        rows={name: rows.get(name, 0) for name in DATASETS if name in state.settings().get("datasets", ())},
        parts=sum(1 for _ in state.parts()),
        requests=run.asking.made,
        narrowed=run.asking.narrowed,
        unfinished=state.calls_by_status().get(OPEN, 0),
        provisional=state.provisional_rows(),
        pending=slices + calls - too_small - run.refusals.pending(state, min_users),
        skipped=(*run.refusals.skipped(run.selection.span), *_skipped(state)),
        too_small=too_small,
        unmeasured=sum(count for _, source, count, _ in state.skipped() if source == UNMEASURED),
    )


def manifest_of(state: State, name: Callable[[Part], str], report: ExportReport) -> dict[str, Any]:
    """Return what stands in the manifest; `name` tells where a part is."""
    settings = state.settings()
    return {
        "tool": "agora-analytics",
        "version": version("agora-analytics"),
        "settings": settings,
        "complete": report.complete,
        "rows": report.rows,
        "unmeasured": report.unmeasured,
        "columns": {dataset: list(map(_column, DATASETS[dataset].columns)) for dataset in settings["datasets"]},
        "spans": list(_spans(state)),
        "skipped": [attrs.asdict(one, recurse=False) | {"span": one.span and str(one.span)} for one in report.skipped],
        "parts": list(_parts(state, name)),
        "database": _database(state),
        "resume": {
            "calls": state.kept_calls(),
            "skipped": state.skipped(),
            "lost": state.lost_for_good(),
            "originals": [one.row for one in state.originals()],
        },
    }


def _skipped(state: State) -> Iterator[Skipped]:
    for app, reason, count, first, last in state.left():
        span = Span(first, max(last, first + 1))
        yield Skipped(
            app_id=app,
            what=DETAILS,
            reason=reason,
            span=span,
            calls=count,
            call_ids=state.left_calls(app, reason, _NAMED),
            again=is_asked_again(reason),
        )
    for app, source, first, last, kind in state.all_spans():
        if kind in {EXPIRED, CUT}:
            yield Skipped(
                app_id=app, what=source, reason=NAMES_OF_KINDS[kind], span=Span(first, last), again=kind == CUT
            )
    for app, source, count, reason in (one for one in state.skipped() if one[1] != UNMEASURED):
        yield Skipped(app_id=app, what=source, reason=f"does not fit the reference: {reason}", rows=count)
    for one in state.lost():
        day = Span(one.day * DAY, (one.day + 1) * DAY) if one.day > 0 else None
        yield Skipped(app_id=one.app, what=one.dataset, reason=one.reason, span=day, rows=one.rows or None)


def _column(column: Column) -> dict[str, Any]:
    return {key: value for key, value in attrs.asdict(column).items() if value != ""}


def _spans(state: State) -> Iterator[dict[str, Any]]:
    for app, source, first, last, kind in state.all_spans():
        yield {
            "app_id": app,
            "source": source,
            "span": str(Span(first, last)),
            "state": NAMES_OF_KINDS[kind],
            "start": first,
            "end": last,
        }


def _database(state: State) -> dict[str, Any] | None:
    """Return size and checksum of the file that holds all parts, where there is one."""
    facts = state.database()
    return None if facts is None else {"bytes": facts.bytes, "sha256": facts.sha256}


def _parts(state: State, name: Callable[[Part], str]) -> Iterator[dict[str, Any]]:
    altered = {one.part.id for one in state.originals()}
    for part, facts in state.parts():
        about = {"path": name(part), "dataset": part.dataset, "app_id": part.app, "day": iso_day(part.day)}
        held = {"rows": None if part.id in altered else facts.rows, "bytes": facts.bytes, "sha256": facts.sha256}
        yield about | {"id": part.id, "number": part.number, "provisional": part.number == 0} | held
