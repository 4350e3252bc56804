"""What a report must say about its data: what is missing from the export behind it, or from live requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import attrs

from agora_analytics._core.decoding import json
from agora_analytics.errors import AgoraError
from agora_analytics.export.queries.running import data_files
from agora_analytics.export.write.target import MANIFEST
from agora_analytics.ops.report.markup import Html, joined, listed, tag, text
from agora_analytics.spans import Span, is_moment, iso

_MAX_NOTES: Final = 40


@attrs.frozen
class Manifest:
    """The manifest of the export in a folder, as it was before its rows were read."""

    folder: Path
    content: bytes
    """Empty if it cannot be read."""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read the manifest of the export in a folder."""
        try:
            return cls(folder, (folder / MANIFEST).read_bytes())
        except OSError:
            return cls(folder, b"")

    @property
    def document(self) -> Mapping[str, Any] | None:
        """The manifest; None if it is damaged or not there."""
        with suppress(AgoraError):
            found = json.loads(self.content)
            return found if isinstance(found, Mapping) else None
        return None

    @property
    def end(self) -> int | None:
        """The end of the newest span that was fetched; None if the manifest does not say it."""
        ends = [span.get("end") for span in _listed(self.document or {}, "spans") if isinstance(span, Mapping)]
        return max((end for end in ends if isinstance(end, int) and is_moment(end)), default=None)

    def notes(self, span: Span | None = None) -> list[str]:
        """Return what is missing from the export, once its rows were read; of a span, also what it does not cover."""
        document = self.document
        changed = Manifest.of(self.folder) != self
        return [
            # A run marks a manifest before it replaces a file: if it did not change, no file did.
            *(["a run changed the export while this report was made: make it again"] if changed else []),
            *([_UNREADABLE] if document is None else _notes(document, span)),
            *([] if document is None else _notes_of_files(document, self.folder)),
        ]


_UNREADABLE: Final = (
    "the export has no readable manifest: it was interrupted, its first run is under way, or its shards are not merged;"
    " rows may be missing"
)


def _notes_of_files(manifest: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Yield the files that are gone or were altered since they were written, and those that no run lists."""
    parts = [one for one in _listed(manifest, "parts") if isinstance(one, Mapping)]
    # Of a database a part is `file#table`; the path of a file has no such character.
    listed = {str(one.get("path")).partition("#")[0]: one.get("bytes") for one in parts}
    found = data_files(folder)
    sizes = {path: (folder / path).stat().st_size for path in found & listed.keys()}
    altered = sorted(path for path, size in sizes.items() if listed[path] not in {None, size})
    for what, paths in (
        ("gone: their rows are missing", sorted(listed.keys() - found)),
        ("altered since they were written", altered),
        ("unknown to the export: rows may be counted twice", sorted(found - listed.keys()) if parts else []),
    ):
        if paths:
            yield f"files that are {what}: {len(paths)}, such as {paths[0]}"


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
