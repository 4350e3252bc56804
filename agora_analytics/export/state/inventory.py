"""Compares what is in the place of an export with what its state lists, before anything is fetched.

Once they are published, rows are in files and nowhere else. So with a missing state, or one older than its files, an
export would fetch rows again and have them twice; and with missing files it would call itself complete. A file whose
mark is unchanged is not read; any other is compared by its checksum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from agora_analytics.errors import ExportError
from agora_analytics.export.formats import DATABASE_FORMATS
from agora_analytics.export.schema import DATASETS
from agora_analytics.export.sinks import FileStat, Sink
from agora_analytics.export.state.staging import Part, PartInfo
from agora_analytics.export.write.target import MANIFEST

_MAX_NAMES: Final = 3
"""Most names in an error."""

_ACCEPT_HINT: Final = (
    "rebuild=True (--rebuild) continues with what is there, as far as it can be read, and reports what is gone"
)
_MANIFEST_HINT: Final = f"rebuild=True (--rebuild) rebuilds the state from {MANIFEST}, if that lists every file"

Expected = Mapping[str, PartInfo | None]
"""Files by name. Without info a file may exist or not; without its size it exists, with any content."""


@attrs.frozen(kw_only=True)
class Differences:
    """Differences between files and state; falsy if there are none.

    Attributes:
        lost: files that are gone.
        altered: files with another content.
        unknown: files that the state does not list.
        marks: new marks of files with the same content.
        restored: marks of files that were gone or altered, and are as they were published again.

    """

    lost: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    marks: Mapping[str, str] = attrs.field(factory=dict)
    restored: Mapping[str, str] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.lost or self.altered or self.unknown)

    def __str__(self) -> str:
        groups = (("gone", self.lost), ("altered", self.altered), ("unknown", self.unknown))
        return "; ".join(f"{what}: {_names(names)}" for what, names in groups if names)


def compare(expected: Expected, found: Mapping[str, FileStat], digest: Callable[[str], str]) -> Differences:
    """Compare files with what is expected; `digest` reads a file."""
    known = {name: info for name, info in expected.items() if info is not None}
    altered, marks = [], {}
    for name, info in known.items():
        stat = found.get(name)
        if stat is None or info.bytes is None or _is_unchanged(stat, info):
            continue
        # The size first: it costs nothing, and reading a file of a store is a download.
        if stat.size == info.bytes and digest(name) == info.sha256:
            marks[name] = stat.mark
        else:
            altered.append(name)
    return Differences(
        lost=tuple(name for name in known if name not in found),
        altered=tuple(altered),
        unknown=tuple(name for name in found if name not in expected),
        marks=marks,
    )


def _is_unchanged(stat: FileStat, info: PartInfo) -> bool:
    """Whether size and mark are unchanged; without marks, a store does not show that."""
    return stat.size == info.bytes and stat.mark == info.mark != ""


def without_restored(
    wrong: Differences, originals: Expected, found: Mapping[str, FileStat], digest: Callable[[str], str]
) -> Differences:
    """Move files that are as they were published again, by `originals`, to `restored`."""
    restored = {
        name: found[name].mark
        for name in (*wrong.altered, *wrong.unknown)
        if (info := originals.get(name)) and found[name].size == info.bytes and digest(name) == info.sha256
    }
    return attrs.evolve(
        wrong,
        altered=tuple(name for name in wrong.altered if name not in restored),
        unknown=tuple(name for name in wrong.unknown if name not in restored),
        restored=restored,
    )


def export_files(sink: Sink) -> dict[str, FileStat]:
    """Return the files with names that exports use, except for the manifest."""
    found: dict[str, FileStat] = {}
    for dataset in DATASETS:
        found |= sink.files(dataset)
    for one in DATABASE_FORMATS.values():
        if (stat := sink.stat(one.file)) is not None:
            found[one.file] = stat
    return found


def existing_files(sink: Sink) -> tuple[str, ...]:
    """Return the files that an export without a state would overwrite, or duplicate."""
    manifest = (MANIFEST,) if sink.stat(MANIFEST) else ()
    return (*manifest, *export_files(sink))


def compare_parts(
    expected: Sequence[tuple[Part, PartInfo | None]], found: Mapping[tuple[str, int], int]
) -> Differences:
    """Compare the parts in a database with what is expected; `found` has rows by dataset and part id."""
    known = {(part.dataset, part.id): info for part, info in expected}
    wrong = [key for key, info in known.items() if info is not None and found.get(key, 0) != info.rows]
    return Differences(
        lost=tuple(_part_name(key) for key in wrong if not found.get(key)),
        altered=tuple(_part_name(key) for key in wrong if found.get(key)),
        unknown=tuple(_part_name(key) for key in found if key not in known),
    )


def mismatch_error(place: str, wrong: Differences) -> ExportError:
    """Return the error for files or parts that differ from the state."""
    fix = "Move the unknown files away" if wrong.unknown else "Put the files back"
    alternative = _MANIFEST_HINT if wrong.unknown else _ACCEPT_HINT
    return ExportError(
        f"the files in {place!r} do not match the state of the export: {wrong}",
        hint=f"Nothing was sent. {fix}, or export into another place; {alternative}.",
        kind="state",
    )


def missing_state_error(place: str, names: Sequence[str]) -> ExportError:
    """Return the error for files without a state."""
    return ExportError(
        f"{place!r} has {_names(names)}, but the state of the export that wrote it is gone or empty",
        hint="Nothing was sent: all rows would be duplicated. Put the state back, or export into another place;"
        f" {_MANIFEST_HINT}.",
        kind="state",
    )


def unlisted_files_error(place: str, names: Sequence[str]) -> ExportError:
    """Return the error for files that the manifest does not list."""
    return ExportError(
        f"the export in {place!r} cannot be rebuilt: its {MANIFEST} does not list {_names(names)}",
        hint="Nothing was sent: their rows would be duplicated. Move them away, or export into another place.",
        kind="state",
    )


def unlisted_parts_error(place: str, names: Sequence[str]) -> ExportError:
    """Return the error for parts in a database that the manifest does not list."""
    return ExportError(
        f"the export in {place!r} cannot be rebuilt: its {MANIFEST} does not list {_names(names)}",
        hint="Nothing was sent: their rows would be duplicated. Export into another place.",
        kind="state",
    )


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _part_name(key: tuple[str, int]) -> str:
    return f"part {key[1]} of {key[0]}"
