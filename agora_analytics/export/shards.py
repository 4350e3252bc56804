"""A selection divided among workers: the report and manifest of all its shards, from the manifests of each.

What a worker does with a shard is an ordinary export, see `Selection.shards`. Nothing here asks who runs one.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from agora_analytics._core import validation
from agora_analytics._core.decoding import json
from agora_analytics.errors import AgoraError, ExportError, ExportTrouble
from agora_analytics.export.report import ShardsReport, Skipped
from agora_analytics.export.schema import DATASETS
from agora_analytics.export.selection import Selection, Shard
from agora_analytics.export.sinks import LocalSink, ReplacedError, Sink, error_text
from agora_analytics.export.write.target import MANIFEST, write_manifest
from agora_analytics.spans import Span

_TRIES: Final = 10
"""How often a manifest is written that other workers, or the shards that they complete, change meanwhile."""


def merge(sink: Sink, shards: Sequence[Shard], own_app: str | None) -> ShardsReport:
    """Read the manifests of shards, and write one of all; see `Exporter.merge`."""
    shards = _disjoint(shards, own_app)
    try:
        sink.check()
        return _merged(sink, shards, own_app, _TRIES)
    except ExportError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a store's library raises
        kind: ExportTrouble = "superseded" if isinstance(error, ReplacedError) else "disk"
        wrong = sink.scrub(error_text(error))
    raise ExportError(
        f"the shards in {str(sink)!r} cannot be merged: {wrong}",
        hint="Nothing was sent. Check the place, and merge again.",
        fault="host",
        kind=kind,
    )


def _disjoint(shards: Iterable[Shard], own_app: str | None) -> tuple[Shard, ...]:
    """Return shards, each once; raises `ValueError` for two of one name, or with a common span of an App ID."""
    found = tuple(dict.fromkeys(shards))
    if twice := validation.repeated(shard.name for shard in found):
        raise ValueError(f"shards: two of them are {twice!r}: give those of one selection")
    spans: defaultdict[str | None, list[tuple[int, int, str]]] = defaultdict(list)
    for shard in found:
        for app in shard.selection.apps or (own_app,):
            spans[app].append((shard.selection.span.start, shard.selection.span.end, shard.name))
    for of_app in spans.values():
        for (_, end, before), (start, _, after) in pairwise(sorted(of_app)):
            if start < end:
                raise ValueError(f"shards: {before} and {after} overlap, so rows would be counted twice")
    return found


def _listed(sink: Sink) -> set[str]:
    """Return the names of the shards in the place, as its manifest lists them.

    Raises `ExportError` if the manifest is not one of shards: an export of its own would lose it.
    """
    content = sink.read(MANIFEST)
    if content is None:
        return set()
    try:
        return {shard["name"] for shard in json.loads(content)["shards"]}
    except (AgoraError, LookupError, TypeError):
        raise ExportError(
            f"the shards in {str(sink)!r} cannot be merged: its {MANIFEST} is of something else, such as an export",
            hint="Nothing was written. Export shards below a place of their own.",
            kind="settings",
        ) from None


def _check_division(sink: Sink, shards: Sequence[Shard], own_app: str | None) -> None:
    """Raise `ExportError` if the place has rows of these shards in others, too, such as in those of other days."""
    for name in sorted(_listed(sink) - {shard.name for shard in shards}):
        content = sink.read(f"{name}/{MANIFEST}")
        try:
            covered = None if content is None else json.loads(content)["selection"]
            again = covered is not None and any(_overlaps(covered, shard.selection, own_app) for shard in shards)
        except (AgoraError, LookupError, TypeError):
            again = False
        if again:
            raise ExportError(
                f"the shards in {str(sink)!r} cannot be merged: the shard {name}, which was merged before, has the "
                "same rows: the selection was divided in another way",
                hint="Nothing was written. Divide it as before, or remove the folders of the shards of before.",
                kind="settings",
            )


def _merged(sink: Sink, shards: Sequence[Shard], own_app: str | None, tries: int) -> ShardsReport:
    """Write a manifest that has all that shards have by then, also where several workers merge at once."""
    try:
        report, is_newest = _written(sink, shards, own_app)
    except ReplacedError:
        if tries == 1:
            raise
        return _merged(sink, shards, own_app, tries - 1)
    return report if is_newest or tries == 1 else _merged(sink, shards, own_app, tries - 1)


def _written(sink: Sink, shards: Sequence[Shard], own_app: str | None) -> tuple[ShardsReport, bool]:
    """Write a manifest; return its report, and whether no shard was completed meanwhile."""
    sink.expect(MANIFEST)
    _check_division(sink, shards, own_app)
    found = {shard: _read(sink, shard, own_app) for shard in shards}
    report = _report(str(sink), found)
    with tempfile.TemporaryDirectory(dir=sink.folder if isinstance(sink, LocalSink) else None, prefix=".") as scratch:
        write_manifest(sink, Path(scratch), _manifest(report, found))
    # Another worker may have merged a shard that it completed, and this manifest, which lacks it, replaced that one.
    unfinished = [shard for shard, document in found.items() if not (document and document["complete"])]
    return report, all(_read(sink, shard, own_app) == found[shard] for shard in unfinished)


def _read(sink: Sink, shard: Shard, own_app: str | None) -> dict[str, Any] | None:
    """Return the manifest of a shard, None if no run of all of it has ended; raises `ExportError` for another's."""
    content = sink.read(f"{shard.name}/{MANIFEST}")
    if content is None:
        return None
    try:
        document = json.loads(content)
        covered, settings = document.get("selection"), document["settings"]
        different = [key for key, value in shard.selection.identity().items() if settings.get(key) != value]
        others = {part["app_id"] for part in document["parts"]} - {*(shard.selection.apps or (own_app,))}
    except (AgoraError, LookupError, TypeError, AttributeError):
        raise _wrong(sink, shard, f"its {MANIFEST} is not what an export wrote", "state") from None
    if different:
        raise _wrong(sink, shard, f"it has other settings: {', '.join(different)}", "settings")
    if others:  # the selection's App IDs were reordered: their rows would be counted in two shards
        raise _wrong(sink, shard, "it has App IDs of another shard", "settings")
    return document if covered and _covers(covered, shard.selection, own_app) else None


def _wrong(sink: Sink, shard: Shard, wrong: str, kind: ExportTrouble) -> ExportError:
    return ExportError(
        f"the shard {shard.name} in {str(sink)!r} cannot be merged: {wrong}",
        hint="Nothing was sent. Merge the shards of the selection that was exported.",
        kind=kind,
    )


def _covers(covered: Mapping[str, Any], selection: Selection, own_app: str | None) -> bool:
    """Whether a run covered a selection: a shard that grew since is missing until it was run again."""
    span = selection.span
    apps = selection.apps or (own_app,)
    return covered["start"] <= span.start and covered["end"] >= span.end and set(apps) <= set(covered["apps"])


def _overlaps(covered: Mapping[str, Any], selection: Selection, own_app: str | None) -> bool:
    """Whether a run may have exported rows of a selection."""
    apart = set(covered["apps"]).isdisjoint(selection.apps or (own_app,))
    return covered["start"] < selection.span.end and selection.span.start < covered["end"] and not apart


def _report(place: str, found: Mapping[Shard, dict[str, Any] | None]) -> ShardsReport:
    rows: Counter[str] = Counter()
    for document in found.values():
        rows.update(document["rows"] if document else {})
    return ShardsReport(
        to=place,
        rows={name: rows[name] for name in DATASETS if name in rows},
        parts=sum(len(document["parts"]) for document in found.values() if document),
        missing=tuple(shard.name for shard, document in found.items() if document is None),
        incomplete=tuple(shard.name for shard, document in found.items() if document and not document["complete"]),
        skipped=tuple(_skipped(found)),
    )


def _skipped(found: Mapping[Shard, dict[str, Any] | None]) -> Iterator[Skipped]:
    for document in found.values():
        for one in document["skipped"] if document else ():
            span = Span(one["start"], one["end"]) if one["span"] is not None else None
            about = {name: one[name] for name in ("app_id", "what", "reason", "calls", "rows", "again")}
            yield Skipped(**about, span=span, call_ids=tuple(one["call_ids"]))


def _manifest(report: ShardsReport, found: Mapping[Shard, dict[str, Any] | None]) -> dict[str, Any]:
    """Return a manifest with the keys that readers need, and the paths of all shards; a run resumes from none of it."""
    documents = [document for document in found.values() if document]
    return {
        "tool": "agora-analytics",
        "version": version("agora-analytics"),
        "complete": report.complete,
        "rows": report.rows,
        "columns": documents[0]["columns"] if documents else {},
        "skipped": [one for document in documents for one in document["skipped"]],
        "shards": [
            {
                "name": shard.name,
                "manifest": f"{shard.name}/{MANIFEST}",
                "span": str(shard.selection.span),
                "apps": list(shard.selection.apps),
                "complete": bool(document and document["complete"]),
            }
            for shard, document in found.items()
        ],
        "parts": [
            part | {"path": f"{shard.name}/{part['path']}"}
            for shard, document in found.items()
            for part in (document["parts"] if document else ())
        ],
    }
