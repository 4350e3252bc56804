"""What a report must say about its data: what is missing from the export behind it, or from live requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agora_analytics._core.decoding import json
from agora_analytics.errors import AgoraError
from agora_analytics.ops.report.markup import Html, joined, listed, tag, text
from agora_analytics.spans import Span, iso

_MAX_NOTES: Final = 40


def notes_of_export(folder: Path, span: Span | None = None) -> list[str]:
    """Return what is missing from the export in a folder, by its manifest; of a span, also what it does not cover."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
    except (OSError, AgoraError):
        return ["the export has no readable manifest: it was interrupted, and rows may be missing"]
    if not isinstance(manifest, Mapping):
        return ["the export's manifest is damaged: rows may be missing"]
    return list(_notes(manifest, span))


def _notes(manifest: Mapping[str, Any], span: Span | None) -> Iterator[str]:
    skipped = [one for one in _listed(manifest, "skipped") if isinstance(one, Mapping)]
    if manifest.get("complete") is not True:
        more = "" if skipped else ": calls or spans are pending, or a run is under way; run the export again"
        yield f"the export is incomplete{more}"
    for one in skipped:
        counts = [f"{one[what]} {what}" for what in ("calls", "rows") if one.get(what) is not None]
        when = [f"in {one['span']}"] if one.get("span") else []
        yield " ".join([f"skipped: {one.get('what')}:", *counts, *when, f"({one.get('reason')})"])
    for shard in _listed(manifest, "shards"):
        if isinstance(shard, Mapping) and shard.get("complete") is not True:
            yield f"shard {shard.get('name')} is incomplete"
    provisional = sum(1 for part in _listed(manifest, "parts") if isinstance(part, Mapping) and part.get("provisional"))
    if provisional:
        yield "some rows are provisional: the service may still change them, and the next run fetches them again"
    if manifest.get("unmeasured"):
        yield f"{manifest['unmeasured']} sessions have no metrics: the service had none"
    settings = manifest.get("settings")
    yield from _filters(settings if isinstance(settings, Mapping) else {})
    selection = manifest.get("selection")
    if span is not None and isinstance(selection, Mapping):
        start, end = selection.get("start"), selection.get("end")
        if isinstance(start, int) and isinstance(end, int) and (start > span.start or end < span.end):
            yield f"the export covers {iso(start)} to {iso(end)}, and not the whole span of the report"


def _filters(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the export left out by its filters: rates of bad calls alone are no rates of all."""
    if settings.get("min_freeze_rate") is not None:
        yield f"only calls with a freeze rate above {settings['min_freeze_rate']} were exported: all rates are of these"
    if settings.get("channels"):
        yield "only some channels were exported"
    if settings.get("finished"):
        yield "only finished calls were exported"


def _listed(manifest: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = manifest.get(name)
    return found if isinstance(found, list) else []


def completeness(notes: Sequence[str]) -> Html:
    """Return the section that says what is missing, or that nothing is known to be."""
    if not notes:
        return tag("section", tag("p", text("Complete: nothing is known to be missing.")), class_="complete")
    more = [text(f"and {len(notes) - _MAX_NOTES} more")] if len(notes) > _MAX_NOTES else []
    lines = [*map(text, notes[:_MAX_NOTES]), *more]
    return tag("section", joined([tag("h2", text("Incomplete data")), listed(lines)]), class_="incomplete", role="note")
