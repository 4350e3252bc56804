"""A state from a manifest, where the state itself is lost: what the manifest has is taken as given.

It has the parts, the spans that were read, and of the calls those that are not done or that a list may show again. What
it does not have is what was provisional, which is asked for again, and how far a call was that was being fetched.
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
from agora_analytics.export.state.found_parts import LostRows, OriginalPart, original_part
from agora_analytics.export.state.manifest import check_manifest, day_of
from agora_analytics.export.state.slices import SPAN_STATUS_NAMES, SpanStatus
from agora_analytics.export.state.staging import Part, PartInfo
from agora_analytics.export.write.target import MANIFEST
from agora_analytics.spans import Span

_SPAN_STATUSES: Final = {name: kind for kind, name in SPAN_STATUS_NAMES.items()}

PARTIALLY_FETCHED: Final = "half fetched when the state was lost"


@attrs.frozen
class ManifestState:
    """What a manifest tells of an export."""

    settings: Mapping[str, Any]
    parts: tuple[tuple[Part, PartInfo | None], ...]
    database: PartInfo | None
    originals: tuple[OriginalPart, ...]
    _spans: tuple[tuple[str, str, Span, int], ...]
    _calls: tuple[tuple[Any, ...], ...]
    _skipped: tuple[tuple[str, str, int, str], ...]
    _lost: tuple[LostRows, ...]

    def restore_into(self, state: ExportState, settings: Mapping[str, Any]) -> None:
        """Make it the state, in the place of what that was."""
        state.clear()
        state.save_settings(settings)
        for part, facts in self.parts:
            state.adopt_part(part, facts)
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
    """Return what a manifest tells; raises `ExportError` where there is none, or one of something else."""
    if document is None:
        wrong = f"there is no {MANIFEST}"
    else:
        try:
            check_manifest(document)
            return _manifest_state(json.document(document))
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
        settings=dict(found["settings"]),
        parts=tuple(map(_part_and_info, found["parts"])),
        database=None if database is None else PartInfo(rows=0, **database, mark=""),
        originals=tuple(original_part(*one) for one in resume.get("originals", ())),
        spans=tuple(
            (one["app_id"], one["source"], Span(one["start"], one["end"]), kind)
            for one in found["spans"]
            if (kind := _SPAN_STATUSES[one["state"]]) != SpanStatus.UNSETTLED  # that is asked for again
        ),
        calls=tuple(map(tuple, resume["calls"])),
        skipped=tuple((app, source, count, first) for app, source, count, first in resume["skipped"]),
        lost=tuple(LostRows(*one) for one in resume["lost"]),
    )


def _part_and_info(one: Mapping[str, Any]) -> tuple[Part, PartInfo | None]:
    dataset = DATASETS[one["dataset"]].name
    part = Part(one["id"], dataset, one["app_id"], day_of(one["day"]), one["number"])
    facts = PartInfo(rows=one["rows"] or 0, bytes=one["bytes"], sha256=one["sha256"], mark="")
    return part, None if one["provisional"] else facts


def _call_row(*call: Any) -> tuple[Any, ...]:
    """Return a call as the state keeps it; of one that was being fetched, nobody knows which rows there are."""
    *about, status, reason, begun = call
    return (*about, CallStatus.SKIPPED, PARTIALLY_FETCHED) if begun else (*about, status, reason)
