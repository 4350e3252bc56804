"""The transaction log that makes the Parquet files of an export a Delta table: one commit for each part.

A commit is a file with the next number below `_delta_log`, which only one process can create. It is written here and
not by a library, so that it goes through the sink: with its credentials, into every place that an export may have.

A part is committed again only if the log does not have its file with the same checksum: so a run that was killed
between a commit and its own state leaves each row once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import attrs

from agora_analytics._core.decoding import json
from agora_analytics.errors import AgoraError
from agora_analytics.export.schema import DATASETS, Dataset
from agora_analytics.export.sinks import ReplacedError, Sink

_TYPES: Final[Mapping[str, str]] = {
    "text": "string",
    "integer": "long",
    "number": "double",
    "boolean": "boolean",
    "time": "timestamp",
}
_ENGINE: Final = "agora-analytics"
_PROTOCOL: Final = {"minReaderVersion": 1, "minWriterVersion": 2}


class DamagedLogError(OSError):
    """Entries of the log are gone, or cannot be read."""


@attrs.frozen(kw_only=True)
class DataFile:
    """A Parquet file of a table: size in bytes, number of rows, SHA-256, and when it was written, in milliseconds."""

    size: int
    rows: int
    sha256: str
    written_ms: int


class DeltaLog:
    """The log of the table of one dataset, in the folder of that dataset. Used by one thread."""

    def __init__(self, sink: Sink, dataset: str) -> None:
        self._sink = sink
        self._dataset = DATASETS[dataset]
        self._next = 0
        self._files: dict[str, str] = {}
        self._removed_by_others: set[str] = set()
        self._schema: str | None = None

    def withdraw(self, name: str, sha256: str | None = None) -> None:
        """Take a file out of the table, before it is removed or replaced: no reader may meet another content.

        A file with the checksum `sha256` stays.
        """
        self._refresh()
        path = self._path(name)
        if path in self._files and self._files[path] != sha256:
            self._commit(path, {"remove": {"path": path, "dataChange": True}})

    def add(self, name: str, file: DataFile) -> None:
        """Add a file to the table, unless it is there; raises `ReplacedError` if another process has changed it."""
        path = self._path(name)
        if self._files.get(path) == file.sha256:
            return
        add = {
            "path": path,
            "size": file.size,
            "partitionValues": {},
            "modificationTime": file.written_ms,
            "dataChange": True,
            "stats": _text({"numRecords": file.rows}),
            "tags": {"sha256": file.sha256},
        }
        self._commit(path, *self._table(file.written_ms), {"add": add})

    def agree(self, files: Mapping[str, DataFile]) -> None:
        """Make the table agree with the files of an export, whatever became of its log.

        Files that are gone, which a run has accepted, leave it: no reader could read the table. Those of `files` that
        it lacks are added, unless another program has taken them out, and has their rows in a file of its own. Raises
        `DamagedLogError` for a log with a gap.
        """
        log = f"{self._dataset.name}/_delta_log/"
        numbers = [name.removeprefix(log).removesuffix(".json") for name in self._sink.files(log.rstrip("/"))]
        last = max((int(number) for number in numbers if number.isdecimal()), default=-1)
        self._refresh()
        if self._next <= last:
            raise DamagedLogError(f"{self._entry()} is gone, and later ones are there")
        there = {self._path(name) for name in self._sink.files(self._dataset.name)} if self._files else set()
        for path in sorted(self._files.keys() - there):
            self._commit(path, {"remove": {"path": path, "dataChange": True}})
        for name, file in files.items():
            if self._path(name) not in self._removed_by_others:
                self.withdraw(name, file.sha256)
                self.add(name, file)

    def _path(self, name: str) -> str:
        """Return the path of a file relative to the table, as URLs encode it: an App ID in it is encoded already."""
        return quote(name.removeprefix(f"{self._dataset.name}/"), safe="/=")

    def _table(self, created_ms: int) -> list[dict[str, Any]]:
        """Return what describes the table, if the log does not have it yet, or another version of it."""
        schema = _schema(self._dataset)
        if self._schema == schema:
            return []
        description = {
            "id": str(uuid4()),
            "name": self._dataset.name,
            "description": f"A row is {self._dataset.row}.",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema,
            "partitionColumns": [],
            # This class reads the log from its first entry.
            "configuration": {"delta.enableExpiredLogCleanup": "false"},
            "createdTime": created_ms,
        }
        return [{"protocol": _PROTOCOL}, {"metaData": description}]

    def _commit(self, path: str, *actions: Mapping[str, Any]) -> None:
        commit_id = str(uuid4())
        info = {"operation": "WRITE", "engineInfo": _ENGINE, "txnId": commit_id}
        content = "".join(f"{_text(action)}\n" for action in ({"commitInfo": info}, *actions)).encode()
        while True:
            try:
                self._sink.create(self._entry(), content)
            except FileExistsError:
                before = self._files.get(path)
                if commit_id in self._refresh():
                    return  # it was our own: only the answer of the store was lost
                if self._files.get(path) != before:
                    raise ReplacedError(f"another process has changed {path} in the Delta table") from None
            else:
                self._read_entry(content)
                return

    def _refresh(self) -> set[str]:
        """Read the entries that were added since, and return the ids of their commits."""
        commits: set[str] = set()
        while (content := self._sink.read(self._entry())) is not None:
            commits.add(self._read_entry(content))
        # Only a log that another program has shortened has a checkpoint and no beginning.
        if not self._next and self._sink.stat(f"{self._dataset.name}/_delta_log/_last_checkpoint"):
            raise DamagedLogError(f"the first entries of {self._dataset.name}/_delta_log are gone")
        return commits

    def _read_entry(self, content: bytes) -> str:
        """Apply an entry, and return the id of its commit."""
        try:
            actions: list[dict[str, Any]] = [json.loads(line) for line in content.splitlines()]
        except AgoraError as error:
            raise DamagedLogError(f"{self._entry()} is damaged: {error}") from None
        info: dict[str, Any] = next((one["commitInfo"] for one in actions if "commitInfo" in one), {})
        for action in actions:
            self._apply(action, is_own=info.get("engineInfo") == _ENGINE)
        self._next += 1
        return str(info.get("txnId", ""))

    def _apply(self, action: Mapping[str, Any], *, is_own: bool) -> None:
        if "add" in action:
            self._files[action["add"]["path"]] = (action["add"].get("tags") or {}).get("sha256", "")
            self._removed_by_others.discard(action["add"]["path"])
        elif "remove" in action:
            self._files.pop(action["remove"]["path"], None)
            if not is_own:
                self._removed_by_others.add(action["remove"]["path"])
        elif "metaData" in action:
            self._schema = action["metaData"]["schemaString"]

    def _entry(self) -> str:
        return f"{self._dataset.name}/_delta_log/{self._next:020}.json"


def _schema(dataset: Dataset) -> str:
    fields = [
        {
            "name": column.name,
            "type": _TYPES[column.kind],
            "nullable": True,
            "metadata": {"comment": column.comment},
        }
        for column in dataset.columns
    ]
    return _text({"type": "struct", "fields": fields})


def _text(document: object) -> str:
    return json.encode(document).decode()
