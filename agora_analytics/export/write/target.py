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
from agora_analytics.export.formats import DATABASES, FILES
from agora_analytics.export.sinks import LocalSink, Sink
from agora_analytics.export.state.staging import Facts, Part
from agora_analytics.export.write.subprocess_writer import writer_of
from agora_analytics.export.write.writer import Writer
from agora_analytics.spans import DAY, moment

MANIFEST: Final = "manifest.json"
SCRATCH: Final = "writing"
"""The folder beside the state for files that are not complete."""

_LONGEST: Final = 100
"""Characters of an App ID that a file's path has room for."""


def path_of(part: Part, suffix: str) -> str:
    """Return the name of a part's file: partitioned by App ID and UTC day, as `key=value` folders."""
    app = quote(part.app, safe="")
    app = app if len(app) <= _LONGEST else sha256(part.app.encode()).hexdigest()
    day = moment(part.day * DAY + 1)
    name = f"part-{part.number:05d}" if part.number else "provisional"
    return f"{part.dataset}/app={app}/day={day:%Y-%m-%d}/{name}{suffix}" if day else f"{part.dataset}/{name}{suffix}"


def name_of(form: str, part: Part) -> str:
    """Return the name of the file that a part is in, in an export of a format."""
    return path_of(part, FILES[form].suffix) if form in FILES else DATABASES[form].file


class Target(Protocol):
    """Where parts become visible, each whole or not at all, in the place of what the same part was before."""

    @property
    def full(self) -> int:
        """Bytes of waiting rows that make a part."""

    @property
    def writer(self) -> Writer:
        """What takes the rows of a part."""

    def ready(self) -> None:
        """Wait until it is open, where somebody else may have it."""

    def finish(self, part: Part) -> Facts:
        """Make the part visible that was written."""

    def remove(self, part: Part) -> None:
        """Take a part away."""

    def name(self, part: Part) -> str:
        """Return where a part is, relative to the whole."""

    def copy(self, *, closed: bool) -> Path:
        """Copy what is one file for all parts, between two of them or once the writer is `closed`; return the copy."""

    def seal(self) -> Facts | None:
        """Bring to its place what is one file for all parts, once the writer is closed; return what it holds."""

    def reopen(self) -> None:
        """Have the manifest say that not all is there, before what it lists is replaced."""

    def complete(self, manifest: object) -> None:
        """Write the manifest."""

    def abort(self) -> None:
        """Make a wait for others end, who read a database; the writer is of no more use then."""


@attrs.frozen
class _Documented:
    """What all targets have: a writer, and a manifest beside what it writes."""

    writer: Writer
    _sink: Sink
    _scratch: Path

    def reopen(self) -> None:
        """Have the manifest say that not all is there."""
        self.writer.ready()  # it begins by removing what is left in the folder that a manifest is written in
        mark_incomplete(self._sink, self._scratch)

    def complete(self, manifest: object) -> None:
        """Write the manifest."""
        put_document(self._sink, self._scratch, manifest)


@attrs.frozen
class Files(_Documented):
    """Parts are files of their own."""

    full: ClassVar[int] = 16 * 2**20

    _suffix: str

    def ready(self) -> None:
        """Do nothing: the writer may still begin while the first rows are fetched."""

    def finish(self, part: Part) -> Facts:
        """Put the file in its place, and return its rows, size and checksum."""
        rows = self.writer.end()
        beside = self._scratch / f"{part.id}{self._suffix}"
        digest = files.digest(beside)
        size = beside.stat().st_size
        self._sink.put(beside, self.name(part))
        return Facts(rows=rows, bytes=size, sha256=digest, mark=_mark(self._sink, self.name(part)))

    def remove(self, part: Part) -> None:
        """Remove the file."""
        self._sink.remove(self.name(part))

    def name(self, part: Part) -> str:
        """Return the file's name."""
        return path_of(part, self._suffix)

    def copy(self, *, closed: bool) -> Path:  # noqa: ARG002 - a database has one
        """Return nothing that is there: each file is by itself."""
        return self._scratch / "none"

    def seal(self) -> Facts | None:
        """Do nothing: each file is in its place."""
        return None

    def abort(self) -> None:
        """Do nothing: nobody else has the files."""


@attrs.frozen
class DatabaseFile(_Documented):
    """Parts are rows of a database: in a local folder the file itself, elsewhere a copy of it in the end."""

    full: ClassVar[int] = 2**20  # a transaction's rows cost memory, and nobody sees how many there were

    _path: Path

    def ready(self) -> None:
        """Wait until the database is open."""
        self.writer.ready()

    def finish(self, part: Part) -> Facts:  # noqa: ARG002 - a file has more to do
        """Commit it."""
        return Facts(rows=self.writer.end())

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
            self.writer.copy(copy.name)
        return copy

    def abort(self) -> None:
        """Make a wait for who reads the database end; elsewhere than in a folder nobody else has it."""
        if isinstance(self._sink, LocalSink):
            self.writer.abort()

    def seal(self) -> Facts | None:
        """Return the size and the checksum of the closed database; elsewhere its keeper moves it to its place."""
        if not isinstance(self._sink, LocalSink):
            return None
        digest = files.digest(self._path)
        size = self._path.stat().st_size
        return Facts(rows=0, bytes=size, sha256=digest, mark=_mark(self._sink, self._path.name))


def _mark(sink: Sink, name: str) -> str:
    """Return what a file looks like that was just written."""
    seen = sink.look(name)
    return seen.mark if seen else ""


def put_document(sink: Sink, scratch: Path, document: object) -> None:
    """Write a JSON document as the manifest."""
    file = scratch / MANIFEST
    with files.opened(file, "wb") as written:
        written.write(json.encode(document) + b"\n")
    sink.put(file, MANIFEST)


def mark_incomplete(sink: Sink, scratch: Path) -> None:
    """Have a manifest that says that all is there say so no more; what is no manifest is left as it is."""
    held = sink.read(MANIFEST)
    try:
        document = None if held is None else json.loads(held)
    except AgoraError:
        return
    if isinstance(document, dict) and document.get("complete"):
        put_document(sink, scratch, document | {"complete": False})


def target_of(name: str, sink: Sink, beside: Path) -> Target:
    """Return where parts of a format go; `beside` is a folder of this machine for what is not to be seen."""
    folder, scratch = sink.folder if isinstance(sink, LocalSink) else beside, beside / SCRATCH
    writer = writer_of(name, folder, scratch)
    if name in FILES:
        return Files(writer, sink, scratch, FILES[name].suffix)
    return DatabaseFile(writer, sink, scratch, folder / DATABASES[name].file)
