"""Rebuilds a lost state from `manifest.json`, once that was checked (`manifest.py`) and compared with the files.

Kept are the settings, the parts, the spans that were read or have expired, and the calls that are not done or may be
listed again. Provisional rows are fetched again. The manifest does not say how far the details of a call were: a call
whose details were half fetched is skipped for good, because some of its rows may be in files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from agora_analytics._core.decoding import json
from agora_analytics.errors import AgoraError, ExportError
from agora_analytics.export.schema import DATASETS
from agora_analytics.export.state.calls import CallStatus
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.manifest import check_manifest, day_of
from agora_analytics.export.state.recovery_tables import LostRows, OriginalPart, original_part
from agora_analytics.export.state.slices import SPAN_STATUS_NAMES, SpanStatus
from agora_analytics.export.state.staging import Part, PartInfo
from agora_analytics.export.write.target import MANIFEST
from agora_analytics.spans import Span

_SPAN_STATUSES: Final = {name: kind for kind, name in SPAN_STATUS_NAMES.items()}

PARTIALLY_FETCHED: Final = "half fetched when the state was lost"


@attrs.frozen
class ManifestState:
    """The state of an export as its manifest has it."""

    settings: Mapping[str, Any]
    parts: tuple[tuple[Part, PartInfo | None], ...]
    database: PartInfo | None
    originals: tuple[OriginalPart, ...]
    _spans: tuple[tuple[str, str, Span, int], ...]
    _calls: tuple[tuple[Any, ...], ...]
    _skipped: tuple[tuple[str, str, int, str], ...]
    _lost: tuple[LostRows, ...]

    def restore_into(self, state: ExportState, settings: Mapping[str, Any]) -> None:
        """Replace the content of a state."""
        state.clear()
        state.save_settings(settings)
        for part, info in self.parts:
            state.adopt_part(part, info)
        state.set_database(self.database)
        for app, source, span, kind in self._spans:
            state.mark_span(app, source, span, kind)
        state.insert_calls([_call_row(*call) for call in self._calls])
        for skipped in self._skipped:
            state.add_misfits(*skipped)
        state.add_lost_rows(list(self._lost))
        for one in self.originals:
            state.add_original(one)


def read_manifest(document: bytes | None, place: str) -> ManifestState:
    """Read a manifest; raises `ExportError` if there is none, or if no export wrote it."""
    if document is None:
        wrong = f"there is no {MANIFEST}"
    else:
        try:
            check_manifest(document)
            return _manifest_state(json.loads(document))
        except (AgoraError, ValueError, TypeError, KeyError) as error:
            wrong = f"{MANIFEST} is not what an export of this version wrote ({error})"
    raise ExportError(
        f"the export in {place!r} cannot be rebuilt: {wrong}",
        hint="Nothing was sent. Export into another place.",
        kind="state",
    )


def _manifest_state(found: Mapping[str, Any]) -> ManifestState:
    resume, database = found["resume"], found["database"]
    return ManifestState(
        settings=found["settings"],
        parts=tuple(map(_part_and_info, found["parts"])),
        database=None if database is None else PartInfo(rows=0, **database, mark=""),
        originals=tuple(original_part(*one) for one in resume.get("originals", ())),
        spans=tuple(
            (one["app_id"], one["source"], Span(one["start"], one["end"]), kind)
            for one in found["spans"]
            if (kind := _SPAN_STATUSES[one["state"]]) != SpanStatus.UNSETTLED  # those are fetched again
        ),
        calls=tuple(map(tuple, resume["calls"])),
        skipped=tuple((app, source, count, first) for app, source, count, first in resume["skipped"]),
        lost=tuple(LostRows(*one) for one in resume["lost"]),
    )


def _part_and_info(one: Mapping[str, Any]) -> tuple[Part, PartInfo | None]:
    dataset = DATASETS[one["dataset"]].name
    part = Part(one["id"], dataset, one["app_id"], day_of(one["day"]), one["number"])
    # Without a mark, so that its file is compared by checksum.
    info = PartInfo(rows=one["rows"] or 0, bytes=one["bytes"], sha256=one["sha256"], mark="")
    return part, None if one["provisional"] else info


def _call_row(*call: Any) -> tuple[Any, ...]:
    """Return a call as a row of the state. One whose details were half fetched is skipped."""
    *columns, status, reason, is_started = call
    return (*columns, CallStatus.SKIPPED, PARTIALLY_FETCHED) if is_started else (*columns, status, reason)
