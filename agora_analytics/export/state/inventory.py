"""What is there, against what the state says is there: looked at before anything is asked for.

Rows are in files and in no other place once they are written, so a state that is gone, or older than its files, would
ask for them again and have them twice; and an export whose files are gone would be called complete. A file that looks
as it did when it was written is not read; one that does not is compared by its checksum.
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
"""Names that an error lists."""

_ACCEPT_HINT: Final = (
    "rebuild=True (--rebuild) goes on with what is there, as far as it can be read, and tells what is gone"
)
_MANIFEST_HINT: Final = f"rebuild=True (--rebuild) makes a state of {MANIFEST}, if that lists all that is there"

Expected = Mapping[str, PartInfo | None]
"""Files by name; without facts one that may be there or not, without its bytes one that is there, whatever it holds."""


@attrs.frozen(kw_only=True)
class Differences:
    """Where files are others than the state says: gone, altered, or not known to it; `marks` is new, all else equal.

    `back` has the marks of those that are again what they were before they were gone or altered.
    """

    lost: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    marks: Mapping[str, str] = attrs.field(factory=dict)
    restored: Mapping[str, str] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.lost or self.altered or self.unknown)

    def __str__(self) -> str:
        told = (("gone", self.lost), ("altered", self.altered), ("unknown to it", self.unknown))
        return "; ".join(f"{what}: {_names(names)}" for what, names in told if names)


def compare(expected: Expected, found: Mapping[str, FileStat], digest: Callable[[str], str]) -> Differences:
    """Return how files differ from what is expected; `digest` reads one."""
    known = {name: facts for name, facts in expected.items() if facts is not None}
    altered, marks = [], {}
    for name, facts in known.items():
        seen = found.get(name)
        if seen is None or facts.bytes is None or _is_unchanged(seen, facts):
            continue
        if seen.size == facts.bytes and digest(name) == facts.sha256:
            marks[name] = seen.mark
        else:
            altered.append(name)
    return Differences(
        lost=tuple(name for name in known if name not in found),
        altered=tuple(altered),
        unknown=tuple(name for name in found if name not in expected),
        marks=marks,
    )


def _is_unchanged(seen: FileStat, facts: PartInfo) -> bool:
    """Whether a file is as it was put there; a store that gives files no marks tells nothing of that."""
    return seen.size == facts.bytes and seen.mark == facts.mark != ""


def without_restored(
    wrong: Differences, was: Expected, found: Mapping[str, FileStat], digest: Callable[[str], str]
) -> Differences:
    """Return differences without the files that are again what they were before they were gone or altered."""
    restored = {
        name: found[name].mark
        for name in (*wrong.altered, *wrong.unknown)
        if (facts := was.get(name)) and found[name].size == facts.bytes and digest(name) == facts.sha256
    }
    return attrs.evolve(
        wrong,
        altered=tuple(name for name in wrong.altered if name not in restored),
        unknown=tuple(name for name in wrong.unknown if name not in restored),
        restored=restored,
    )


def export_files(sink: Sink) -> dict[str, FileStat]:
    """Return the files under the names that exports give, whoever made them; the manifest is none of these."""
    found: dict[str, FileStat] = {}
    for dataset in DATASETS:
        found |= sink.files(dataset)
    for one in DATABASE_FORMATS.values():
        if (seen := sink.stat(one.file)) is not None:
            found[one.file] = seen
    return found


def existing_files(sink: Sink) -> tuple[str, ...]:
    """Return what an export without a state would write over, or beside."""
    manifest = (MANIFEST,) if sink.stat(MANIFEST) else ()
    return (*manifest, *export_files(sink))


def compare_parts(expected: Sequence[tuple[Part, PartInfo | None]], held: Mapping[tuple[str, int], int]) -> Differences:
    """Return how the parts in a database differ from what is expected; `held` is rows by dataset and part."""
    known = {(part.dataset, part.id): facts for part, facts in expected}
    wrong = [key for key, facts in known.items() if facts is not None and held.get(key, 0) != facts.rows]
    return Differences(
        lost=tuple(_part_name(key) for key in wrong if not held.get(key)),
        altered=tuple(_part_name(key) for key in wrong if held.get(key)),
        unknown=tuple(_part_name(key) for key in held if key not in known),
    )


def mismatch_error(place: str, wrong: Differences) -> ExportError:
    """Return what tells that an export is not what its state says, and what to do."""
    mend = "Take away what is unknown to it" if wrong.unknown else "Put back what was there"
    way = _MANIFEST_HINT if wrong.unknown else _ACCEPT_HINT
    return ExportError(
        f"what {place!r} holds is not what its state says: {wrong}",
        hint=f"Nothing was sent. {mend}, or export into another place; {way}.",
        kind="state",
    )


def missing_state_error(place: str, names: Sequence[str]) -> ExportError:
    """Return what tells that there are files and no state, and what to do."""
    return ExportError(
        f"{place!r} holds {_names(names)}, but the state of the export that wrote it is gone or empty",
        hint="Nothing was sent: all of it would come twice. Put the state back, or export into another place;"
        f" {_MANIFEST_HINT}.",
        kind="state",
    )


def unlisted_files_error(place: str, names: Sequence[str]) -> ExportError:
    """Return what tells that there are files that the manifest does not list, and what to do."""
    return ExportError(
        f"the export in {place!r} cannot be rebuilt: its {MANIFEST} does not list {_names(names)}",
        hint="Nothing was sent: their rows would come twice. Take them away, or export into another place.",
        kind="state",
    )


def unlisted_parts_error(place: str, names: Sequence[str]) -> ExportError:
    """Return what tells that a database has rows that no state tells of, and what to do."""
    return ExportError(
        f"the export in {place!r} cannot be rebuilt: its {MANIFEST} does not list {_names(names)}",
        hint="Nothing was sent: their rows would come twice. Export into another place.",
        kind="state",
    )


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _part_name(key: tuple[str, int]) -> str:
    return f"part {key[1]} of {key[0]}"
