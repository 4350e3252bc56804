"""Where parts of an export become visible: files of a sink, or the tables of a database."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from shutil import copyfile
from typing import ClassVar, Final, Protocol
from urllib.parse import quote

import attrs

from agora_analytics._core import files
from agora_analytics._core.decoding import json
from agora_analytics.errors import AgoraError
from agora_analytics.export.formats import DATABASE_FORMATS, FILE_FORMATS
from agora_analytics.export.sinks import LocalSink, Sink
from agora_analytics.export.state.staging import Part, PartInfo
from agora_analytics.export.write.subprocess_writer import open_writer
from agora_analytics.export.write.writer import RowWriter
from agora_analytics.spans import DAY, moment

MANIFEST: Final = "manifest.json"
SCRATCH_FOLDER: Final = "writing"
"""The folder beside the state for files that are not complete."""

_MAX_APP_LENGTH: Final = 100
"""Characters of an App ID that a file's path has room for."""


def part_path(part: Part, suffix: str) -> str:
    """Return the name of a part's file: partitioned by App ID and UTC day, as `key=value` folders."""
    app = quote(part.app, safe="")
    app = app if len(app) <= _MAX_APP_LENGTH else sha256(part.app.encode()).hexdigest()
    day = moment(part.day * DAY + 1)
    name = f"part-{part.number:05d}" if part.number else "provisional"
    return f"{part.dataset}/app={app}/day={day:%Y-%m-%d}/{name}{suffix}" if day else f"{part.dataset}/{name}{suffix}"


def part_file(form: str, part: Part) -> str:
    """Return the name of the file that a part is in, in an export of a format."""
    return part_path(part, FILE_FORMATS[form].suffix) if form in FILE_FORMATS else DATABASE_FORMATS[form].file


class Target(Protocol):
    """Where parts become visible, each whole or not at all, in the place of what the same part was before."""

    @property
    def part_size(self) -> int:
        """Bytes of waiting rows that make a part."""

    @property
    def writer(self) -> RowWriter:
        """What takes the rows of a part."""

    def ready(self) -> None:
        """Wait until it is open, where somebody else may have it."""

    def publish(self, part: Part) -> PartInfo:
        """Make the part visible that was written."""

    def remove(self, part: Part) -> None:
        """Take a part away."""

    def name(self, part: Part) -> str:
        """Return where a part is, relative to the whole."""

    def copy(self, *, closed: bool) -> Path:
        """Copy what is one file for all parts, between two of them or once the writer is `closed`; return the copy."""

    def publish_database(self) -> PartInfo | None:
        """Bring to its place what is one file for all parts, once the writer is closed; return what it holds."""

    def mark_incomplete(self) -> None:
        """Have the manifest say that not all is there, before what it lists is replaced."""

    def write_manifest(self, manifest: object) -> None:
        """Write the manifest."""

    def abort(self) -> None:
        """Make a wait for others end, who read a database; the writer is of no more use then."""


@attrs.frozen
class _TargetBase:
    """What all targets have: a writer, and a manifest beside what it writes."""

    writer: RowWriter
    _sink: Sink
    _scratch: Path

    def mark_incomplete(self) -> None:
        """Have the manifest say that not all is there."""
        self.writer.ready()  # it begins by removing what is left in the folder that a manifest is written in
        mark_incomplete(self._sink, self._scratch)

    def write_manifest(self, manifest: object) -> None:
        """Write the manifest."""
        write_manifest(self._sink, self._scratch, manifest)


@attrs.frozen
class FileTarget(_TargetBase):
    """Parts are files of their own."""

    part_size: ClassVar[int] = 16 * 2**20

    _suffix: str

    def ready(self) -> None:
        """Do nothing: the writer may still begin while the first rows are fetched."""

    def publish(self, part: Part) -> PartInfo:
        """Put the file in its place, and return its rows, size and checksum."""
        rows = self.writer.end()
        beside = self._scratch / f"{part.id}{self._suffix}"
        digest = files.digest(beside)
        size = beside.stat().st_size
        self._sink.put(beside, self.name(part))
        return PartInfo(rows=rows, bytes=size, sha256=digest, mark=_mark(self._sink, self.name(part)))

    def remove(self, part: Part) -> None:
        """Remove the file."""
        self._sink.remove(self.name(part))

    def name(self, part: Part) -> str:
        """Return the file's name."""
        return part_path(part, self._suffix)

    def copy(self, *, closed: bool) -> Path:  # noqa: ARG002 - a database has one
        """Return nothing that is there: each file is by itself."""
        return self._scratch / "none"

    def publish_database(self) -> PartInfo | None:
        """Do nothing: each file is in its place."""
        return None

    def abort(self) -> None:
        """Do nothing: nobody else has the files."""


@attrs.frozen
class DatabaseTarget(_TargetBase):
    """Parts are rows of a database: in a local folder the file itself, elsewhere a copy of it in the end."""

    part_size: ClassVar[int] = 2**20  # a transaction's rows cost memory, and nobody sees how many there were

    _path: Path

    def ready(self) -> None:
        """Wait until the database is open."""
        self.writer.ready()

    def publish(self, part: Part) -> PartInfo:  # noqa: ARG002 - a file has more to do
        """Commit it."""
        return PartInfo(rows=self.writer.end())

    def remove(self, part: Part) -> None:
        """Delete its rows."""
        self.writer.begin(part.dataset, part.id)
        self.writer.end()

    def name(self, part: Part) -> str:
        """Return the database's file and the table."""
        return f"{self._path.name}#{part.dataset}"

    def copy(self, *, closed: bool) -> Path:
        """Copy the database, and return the copy."""
        copy = self._scratch / self._path.name
        if closed:
            copyfile(self._path, copy)
        else:
            self.writer.copy(copy)
        return copy

    def abort(self) -> None:
        """Make a wait for who reads the database end; elsewhere than in a folder nobody else has it."""
        if isinstance(self._sink, LocalSink):
            self.writer.abort()

    def publish_database(self) -> PartInfo | None:
        """Return the size and the checksum of the closed database; elsewhere its keeper moves it to its place."""
        if not isinstance(self._sink, LocalSink):
            return None
        digest = files.digest(self._path)
        size = self._path.stat().st_size
        return PartInfo(rows=0, bytes=size, sha256=digest, mark=_mark(self._sink, self._path.name))


def _mark(sink: Sink, name: str) -> str:
    """Return what a file looks like that was just written."""
    seen = sink.stat(name)
    return seen.mark if seen else ""


def write_manifest(sink: Sink, scratch: Path, document: object) -> None:
    """Write a JSON document as the manifest."""
    file = scratch / MANIFEST
    with files.opened(file, "wb") as written:
        written.write(json.encode(document) + b"\n")
    sink.put(file, MANIFEST)


def mark_incomplete(sink: Sink, scratch: Path) -> None:
    """Have a manifest that says that all is there say so no more; what is no manifest is left as it is."""
    held = sink.read(MANIFEST)
    try:
        document = None if held is None else json.document(held)
    except AgoraError:
        return
    if isinstance(document, dict) and document.get("complete"):
        write_manifest(sink, scratch, document | {"complete": False})


def open_target(name: str, sink: Sink, beside: Path) -> Target:
    """Return where parts of a format go; `beside` is a folder of this machine for what is not to be seen."""
    folder, scratch = sink.folder if isinstance(sink, LocalSink) else beside, beside / SCRATCH_FOLDER
    writer = open_writer(name, folder, scratch)
    if name in FILE_FORMATS:
        return FileTarget(writer, sink, scratch, FILE_FORMATS[name].suffix)
    return DatabaseTarget(writer, sink, scratch, folder / DATABASE_FORMATS[name].file)
