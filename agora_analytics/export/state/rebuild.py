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
from agora_analytics.export.state.found_parts import Lost, Original, original
from agora_analytics.export.state.manifest import check, day_of
from agora_analytics.export.state.progress import LEFT, NAMES_OF_KINDS, UNSETTLED, State
from agora_analytics.export.state.staging import Facts, Part
from agora_analytics.export.write.target import MANIFEST
from agora_analytics.spans import Span

_KINDS: Final = {name: kind for kind, name in NAMES_OF_KINDS.items()}

HALF: Final = "half fetched when the state was lost"


@attrs.frozen
class Recall:
    """What a manifest tells of an export."""

    settings: Mapping[str, Any]
    parts: tuple[tuple[Part, Facts | None], ...]
    database: Facts | None
    originals: tuple[Original, ...]
    _spans: tuple[tuple[str, str, Span, int], ...]
    _calls: tuple[tuple[Any, ...], ...]
    _skipped: tuple[tuple[str, str, int, str], ...]
    _lost: tuple[Lost, ...]

    def into(self, state: State, settings: Mapping[str, Any]) -> None:
        """Make it the state, in the place of what that was."""
        state.clear()
        state.keep_settings(settings)
        for part, facts in self.parts:
            state.adopt(part, facts)
        state.keep_database(self.database)
        for app, source, span, kind in self._spans:
            state.mark(app, source, span, kind)
        state.recall_calls([_known(*call) for call in self._calls])
        for skipped in self._skipped:
            state.skip(*skipped)
        state.keep_lost(list(self._lost))
        for one in self.originals:
            state.keep_original(one)


def recalled(document: bytes | None, place: str) -> Recall:
    """Return what a manifest tells; raises `ExportError` where there is none, or one of something else."""
    if document is None:
        wrong = f"there is no {MANIFEST}"
    else:
        try:
            check(document)
            return _of(json.loads(document))
        except (AgoraError, ValueError, TypeError, KeyError) as error:
            wrong = f"{MANIFEST} is not what an export of this version wrote ({error})"
    raise ExportError(
        f"the export in {place!r} cannot be rebuilt: {wrong}",
        hint="Nothing was sent. Export into another place.",
        kind="state",
    )


def _of(found: Mapping[str, Any]) -> Recall:
    resume, database = found["resume"], found["database"]
    return Recall(
        settings=dict(found["settings"]),
        parts=tuple(map(_part, found["parts"])),
        database=None if database is None else Facts(rows=0, **database, mark=""),
        originals=tuple(original(*one) for one in resume.get("originals", ())),
        spans=tuple(
            (one["app_id"], one["source"], Span(one["start"], one["end"]), kind)
            for one in found["spans"]
            if (kind := _KINDS[one["state"]]) != UNSETTLED  # that is asked for again
        ),
        calls=tuple(map(tuple, resume["calls"])),
        skipped=tuple((app, source, count, first) for app, source, count, first in resume["skipped"]),
        lost=tuple(Lost(*one) for one in resume["lost"]),
    )


def _part(one: Mapping[str, Any]) -> tuple[Part, Facts | None]:
    dataset = DATASETS[one["dataset"]].name
    part = Part(one["id"], dataset, one["app_id"], day_of(one["day"]), one["number"])
    facts = Facts(rows=one["rows"] or 0, bytes=one["bytes"], sha256=one["sha256"], mark="")
    return part, None if one["provisional"] else facts


def _known(*call: Any) -> tuple[Any, ...]:
    """Return a call as the state keeps it; of one that was being fetched, nobody knows which rows there are."""
    *about, status, reason, begun = call
    return (*about, LEFT, HALF) if begun else (*about, status, reason)
