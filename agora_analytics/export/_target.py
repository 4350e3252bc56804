"""Where parts of an export become visible: files of a sink, or the tables of a database."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import file_digest, sha256
from pathlib import Path
from shutil import copyfile
from typing import Final, Protocol
from urllib.parse import quote

from agora_analytics import _json
from agora_analytics.export._batches import Batch
from agora_analytics.export._columns import DATASETS
from agora_analytics.export._sources import DAY
from agora_analytics.export._staged import Facts, Part
from agora_analytics.export.formats import DATABASES, FILES, Database, Format, Writer
from agora_analytics.export.sinks import LocalSink, Sink
from agora_analytics.spans import moment

MANIFEST: Final = "manifest.json"
_LONGEST: Final = 100
"""Characters of an App ID that a file's path has room for."""


def path_of(part: Part, suffix: str) -> str:
    """Return the name of a part's file: partitioned by App ID and UTC day, as `key=value` folders."""
    app = quote(part.app, safe="")
    app = app if len(app) <= _LONGEST else sha256(part.app.encode()).hexdigest()
    day = moment(part.day * DAY + 1)
    name = f"part-{part.number:05d}" if part.number else "provisional"
    return f"{part.dataset}/app={app}/day={day:%Y-%m-%d}/{name}{suffix}" if day else f"{part.dataset}/{name}{suffix}"


class Target(Protocol):
    """Where parts become visible, each whole or not at all, in the place of what the same part was before."""

    @property
    def full(self) -> int:
        """Bytes of waiting rows that make a part."""

    def begin(self, part: Part) -> Callable[[Batch], None]:
        """Begin a part, and return what takes its rows."""

    def finish(self, part: Part, rows: int) -> Facts:
        """Complete a part; it need not be visible before `deliver`."""

    def deliver(self, part: Part) -> None:
        """Make a part visible; this may take long, and may be done on another thread."""

    def remove(self, part: Part) -> None:
        """Take a part away."""

    def name(self, part: Part) -> str:
        """Return where a part is, relative to the whole."""

    def close(self) -> None:
        """Let go of what is open; a part that was begun is not kept."""

    def complete(self, manifest: object) -> None:
        """Make all of it visible, the manifest last."""


class Files:
    """Parts are files of their own."""

    full = 16 * 2**20

    def __init__(self, form: Format, sink: Sink, scratch: Path) -> None:
        self._format = form
        self._sink = sink
        self._scratch = scratch
        self._writer: Writer | None = None

    def begin(self, part: Part) -> Callable[[Batch], None]:
        """Begin a file, out of sight."""
        self._writer = self._format.writer(self._beside(part), DATASETS[part.dataset])
        return self._writer.write

    def finish(self, part: Part, rows: int) -> Facts:
        """Close the file, and return its size and checksum."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        with self._beside(part).open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        return Facts(rows=rows, bytes=self._beside(part).stat().st_size, sha256=digest)

    def deliver(self, part: Part) -> None:
        """Put the file in its place."""
        self._sink.put(self._beside(part), self.name(part))

    def remove(self, part: Part) -> None:
        """Remove the file."""
        self._sink.remove(self.name(part))

    def name(self, part: Part) -> str:
        """Return the file's name."""
        return path_of(part, self._format.suffix)

    def close(self) -> None:
        """Close a file that was begun."""
        if self._writer is not None:
            self._writer.close()

    def complete(self, manifest: object) -> None:
        """Write the manifest."""
        put_document(self._sink, self._scratch, manifest)

    def _beside(self, part: Part) -> Path:
        return self._scratch / f"{part.id}{self._format.suffix}"


class DatabaseFile:
    """Parts are rows of a database: in a local folder the file itself, elsewhere a copy of it in the end."""

    full = 2**20  # a transaction's rows cost memory, and nobody sees how many there were

    def __init__(self, form: Database, sink: Sink, scratch: Path) -> None:
        self._sink = sink
        self._scratch = scratch
        self._local = isinstance(sink, LocalSink)
        self._path = (sink.folder if isinstance(sink, LocalSink) else scratch.parent) / form.file
        self._name = form.file
        self._tables = form.open(self._path)

    def begin(self, part: Part) -> Callable[[Batch], None]:
        """Begin a transaction."""
        self._tables.undo()
        self._tables.begin(DATASETS[part.dataset], part.id)
        return self._tables.add

    def finish(self, part: Part, rows: int) -> Facts:  # noqa: ARG002 - a file has more to do
        """Commit it."""
        self._tables.end()
        return Facts(rows=rows)

    def deliver(self, part: Part) -> None:
        """It is visible already."""

    def remove(self, part: Part) -> None:
        """Delete its rows."""
        self._tables.begin(DATASETS[part.dataset], part.id)
        self._tables.end()

    def name(self, part: Part) -> str:
        """Return the database's file and the table."""
        return f"{self._name}#{part.dataset}"

    def close(self) -> None:
        """Close the database."""
        self._tables.undo()
        self._tables.close()

    def complete(self, manifest: object) -> None:
        """Copy the closed database to where it belongs, then the manifest."""
        if not self._local:
            copy = self._scratch / self._name
            copyfile(self._path, copy)
            self._sink.put(copy, self._name)
        put_document(self._sink, self._scratch, manifest)


def put_document(sink: Sink, scratch: Path, document: object) -> None:
    """Write a JSON document as the manifest."""
    file = scratch / MANIFEST
    file.write_bytes(_json.encode(document) + b"\n")
    sink.put(file, MANIFEST)


def target_of(name: str, sink: Sink, scratch: Path) -> Target:
    """Return where parts of a format go, with a scratch folder beside it that holds nothing yet."""
    scratch.mkdir(parents=True, exist_ok=True)
    for left in scratch.iterdir():
        left.unlink()
    return Files(FILES[name], sink, scratch) if name in FILES else DatabaseFile(DATABASES[name], sink, scratch)
