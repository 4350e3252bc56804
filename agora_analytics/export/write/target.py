"""Where parts are published: files in a folder or a store, or rows of a database; with the manifest beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from agora_analytics.export.schema import DATASETS
from agora_analytics.export.sinks import LocalSink, Sink
from agora_analytics.export.state.staging import Part, PartInfo
from agora_analytics.export.write.delta_log import DataFile, DeltaLog
from agora_analytics.export.write.subprocess_writer import open_writer
from agora_analytics.export.write.writer import RowWriter, open_in_process
from agora_analytics.spans import DAY, moment

MANIFEST: Final = "manifest.json"
SCRATCH_FOLDER: Final = "writing"
"""The folder beside the state for incomplete files."""

_MAX_APP_LENGTH: Final = 100
"""Most characters of an App ID in a path; a longer one is replaced by its SHA-256."""


def part_path(part: Part, suffix: str) -> str:
    """Return the path of a part's file: partitioned by App ID and UTC day, as `key=value` folders."""
    # An App ID may have any characters, and a slash would make a folder.
    app = quote(part.app, safe="")
    app = app if len(app) <= _MAX_APP_LENGTH else sha256(part.app.encode()).hexdigest()
    # A second later, because 0 counts as no time.
    day = moment(part.day * DAY + 1)
    name = f"part-{part.number:05d}" if part.number else "provisional"
    return f"{part.dataset}/app={app}/day={day:%Y-%m-%d}/{name}{suffix}" if day else f"{part.dataset}/{name}{suffix}"


def part_file(name: str, part: Part) -> str:
    """Return the path of the file that has a part, in an export of a format."""
    return part_path(part, FILE_FORMATS[name].suffix) if name in FILE_FORMATS else DATABASE_FORMATS[name].file


class Target(Protocol):
    """Publishes parts: each becomes visible whole or not at all, and replaces an earlier version of itself."""

    @property
    def part_size(self) -> int:
        """Bytes of staged rows that make a full part."""

    @property
    def writer(self) -> RowWriter:
        """The writer of the rows of a part."""

    def ready(self, parts: Sequence[tuple[Part, PartInfo | None]]) -> None:
        """Wait until the target is open, if another program may have it locked. `parts` are those of the state."""

    def expect(self, part: Part) -> None:
        """Let `publish` raise `ReplacedError` if another process changes the part from now on."""

    def publish(self, part: Part) -> PartInfo:
        """End the part that was written, and make it visible."""

    def remove(self, part: Part) -> None:
        """Remove a part."""

    def name(self, part: Part) -> str:
        """Return the place of a part, relative to the export."""

    def copy(self, *, closed: bool) -> Path:
        """Copy the database, between two parts or once the writer is `closed`; return the copy."""

    def publish_database(self) -> PartInfo | None:
        """Publish the database, once the writer is closed; return its size and checksum."""

    def mark_incomplete(self) -> None:
        """Mark the manifest as incomplete, before what it lists is replaced."""

    def write_manifest(self, manifest: object) -> None:
        """Write the manifest."""

    def abort(self) -> None:
        """End a wait for readers of a database, from another thread; the writer cannot be used any more."""


@attrs.frozen
class _TargetBase:
    """The writer, and the manifest."""

    writer: RowWriter
    _sink: Sink
    _scratch: Path

    def mark_incomplete(self) -> None:
        """Mark the manifest as incomplete."""
        self.writer.ready()  # first, since opening it clears the scratch folder
        mark_incomplete(self._sink, self._scratch)

    def write_manifest(self, manifest: object) -> None:
        """Write the manifest."""
        write_manifest(self._sink, self._scratch, manifest)


@attrs.frozen
class FileTarget(_TargetBase):
    """Each part is a file of its own."""

    part_size: ClassVar[int] = 16 * 2**20

    _suffix: str
    _logs: Mapping[str, DeltaLog] = attrs.field(factory=dict)
    """Of a format that is a table: the transaction log by dataset."""

    def ready(self, parts: Sequence[tuple[Part, PartInfo | None]]) -> None:
        """Make the tables of the export agree with its files. The writer may still start meanwhile."""
        for dataset, log in self._logs.items():
            files = {self.name(part): _data_file(part, info) for part, info in parts if part.dataset == dataset}
            log.agree({name: file for name, file in files.items() if file is not None})

    def expect(self, part: Part) -> None:
        """Expect the file as it is now."""
        self._sink.expect(self.name(part))

    def publish(self, part: Part) -> PartInfo:
        """Move the file to its place, and return its rows, size and checksum."""
        rows = self.writer.end()
        file = self._scratch / f"{part.id}{self._suffix}"
        # Of the file here: reading it back from a store would take as long as the upload.
        digest = files.digest(file)
        stat = file.stat()
        log, name = self._logs.get(part.dataset), self.name(part)
        if log:
            log.withdraw(name, digest)
        self._sink.put(file, name)
        if log:
            log.add(name, DataFile(size=stat.st_size, rows=rows, sha256=digest, written_ms=int(stat.st_mtime * 1_000)))
        return PartInfo(rows=rows, bytes=stat.st_size, sha256=digest, mark=_mark(self._sink, name))

    def remove(self, part: Part) -> None:
        """Remove the file."""
        if log := self._logs.get(part.dataset):
            log.withdraw(self.name(part))
        self._sink.remove(self.name(part))

    def name(self, part: Part) -> str:
        """Return the path of the file."""
        return part_path(part, self._suffix)

    def copy(self, *, closed: bool) -> Path:  # noqa: ARG002 - of a database
        """Return a path without a file: there is no database."""
        return self._scratch / "none"

    def publish_database(self) -> PartInfo | None:
        """Do nothing: there is no database."""
        return None

    def abort(self) -> None:
        """Do nothing: no other program locks the files."""


@attrs.frozen
class DatabaseTarget(_TargetBase):
    """Parts are rows of a database: in a local folder the file itself, in a store a copy of it at the end."""

    part_size: ClassVar[int] = 2**20  # rows of a transaction take memory, and readers do not see the parts

    _path: Path

    def ready(self, parts: Sequence[tuple[Part, PartInfo | None]]) -> None:  # noqa: ARG002 - of files
        """Wait until the database is open."""
        self.writer.ready()

    def expect(self, part: Part) -> None:
        """Do nothing: the part is a transaction of a file on this machine."""

    def publish(self, part: Part) -> PartInfo:  # noqa: ARG002 - of a file
        """Commit the part."""
        return PartInfo(rows=self.writer.end())

    def remove(self, part: Part) -> None:
        """Delete the rows of a part."""
        self.writer.begin(part.dataset, part.id)
        self.writer.end()

    def name(self, part: Part) -> str:
        """Return the file of the database and the table."""
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
        """End a wait for readers of the database; only a local folder has any."""
        if isinstance(self._sink, LocalSink):
            self.writer.abort()

    def publish_database(self) -> PartInfo | None:
        """Return size and checksum of the closed database. In a store, `RemoteSync` publishes it."""
        if not isinstance(self._sink, LocalSink):
            return None
        digest = files.digest(self._path)
        size = self._path.stat().st_size
        return PartInfo(rows=0, bytes=size, sha256=digest, mark=_mark(self._sink, self._path.name))


def _data_file(part: Part, info: PartInfo | None) -> DataFile | None:
    """Return what the state knows of a file; the time at which it was written is then that of its rows."""
    if info is None or info.bytes is None or info.sha256 is None:
        return None
    return DataFile(size=info.bytes, rows=info.rows, sha256=info.sha256, written_ms=max(0, part.day) * DAY * 1_000)


def _mark(sink: Sink, name: str) -> str:
    """Return the mark of a file that was just written."""
    stat = sink.stat(name)
    return stat.mark if stat else ""


def write_manifest(sink: Sink, scratch: Path, document: object) -> None:
    """Write a JSON document as the manifest."""
    file = scratch / MANIFEST
    with files.opened(file, "wb") as opened:
        opened.write(json.encode(document) + b"\n")
    sink.put(file, MANIFEST)


def mark_incomplete(sink: Sink, scratch: Path) -> None:
    """Set `complete` of a manifest to false. A file that is no manifest is left as it is."""
    content = sink.read(MANIFEST)
    try:
        document = None if content is None else json.loads(content)
    except AgoraError:
        return
    if isinstance(document, dict) and document.get("complete"):
        write_manifest(sink, scratch, document | {"complete": False})


def open_target(name: str, sink: Sink, state_folder: Path, *, process: bool) -> Target:
    """Open the target of a format. Incomplete files are in `state_folder`, which is on this machine.

    With `process`, the writer process writes them, else a thread of this one.
    """
    folder, scratch = sink.folder if isinstance(sink, LocalSink) else state_folder, state_folder / SCRATCH_FOLDER
    writer = (open_writer if process else open_in_process)(name, folder, scratch)
    if name in FILE_FORMATS:
        logs = {dataset: DeltaLog(sink, dataset) for dataset in DATASETS} if FILE_FORMATS[name].is_table else {}
        return FileTarget(writer, sink, scratch, FILE_FORMATS[name].suffix, logs)
    return DatabaseTarget(writer, sink, scratch, folder / DATABASE_FORMATS[name].file)
