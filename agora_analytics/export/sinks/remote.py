"""Files wherever fsspec reaches: the only file that imports it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final

import fsspec

from agora_analytics._core.files import not_linked
from agora_analytics.errors import ExportError
from agora_analytics.export.sinks import urls
from agora_analytics.export.sinks.base import FileStat, error_text
from agora_analytics.export.sinks.local import LocalSink

_MARKS: Final = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "modify", "created")
"""Under which name a store tells what changes with a file, the most telling first."""

_BLOCK_SIZE: Final = 2**20

_ATOMIC_STORES: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "r2", "memory"})
"""Stores in which a file appears when it is complete; elsewhere it gets its name last."""

_LOCAL_SCHEMES: Final = frozenset({"file", "local"})
"""What fsspec calls this machine's folders."""


def check_installed(url: str) -> None:
    """Raise `ValueError` where fsspec does not know the store, or needs another library for it."""
    try:
        fsspec.get_filesystem_class(urls.scheme(url))
    except (ImportError, ValueError) as error:
        raise ValueError(f"to={urls.shown(url)!r}: {error}") from None


class RemoteSink:
    """A folder of a store, by its URL; `options` go to fsspec, and are never shown."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._shown = urls.shown(url)
        self._secrets = urls.secrets(url, options)
        self._whole = urls.scheme(url) in _ATOMIC_STORES
        self._identity = urls.identity(url, options)
        if "\0" in url:
            raise ValueError(f"to={self._shown!r}: it has a null character in it")
        self._store, path = self._opened(url, options)
        self._folder = str(path).rstrip("/")

    def _opened(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Open the store; what goes wrong is told without what is secret."""
        try:
            store, path = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            misuse, wrong = True, self.scrub(str(error))
        except Exception as error:  # noqa: BLE001 - some stores connect at once
            misuse, wrong = False, self.scrub(error_text(error))
        else:
            return store, str(path)
        if misuse:
            raise ValueError(f"to={self._shown!r}: {wrong}")
        raise ExportError(f"{self._shown!r} cannot be reached: {wrong}", hint="Nothing was sent. Check the place.")

    @property
    def identity(self) -> str:
        """What tells this place from all others: who, where, without the password."""
        return self._identity

    def check(self) -> None:
        """Raise `OSError` where nothing can be written."""
        name = self._path(".agora-export-check")  # one name: who is killed here leaves it to the next
        self._store.makedirs(posixpath.dirname(name), exist_ok=True)
        self._store.pipe_file(name, b"")
        with suppress(FileNotFoundError):  # others look too
            self._store.rm_file(name)

    def put(self, file: Path, name: str) -> None:
        """Copy a finished file there, and remove it here."""
        target = self._path(name)
        self._store.makedirs(posixpath.dirname(target), exist_ok=True)
        if self._whole:
            self._store.put_file(str(file), target)
        else:
            beside = self._beside(target, "part")
            self._store.put_file(str(file), beside)
            self._rename(beside, target)
        file.unlink()

    def move(self, name: str, to: str) -> None:
        """Give a file another name; a store copies it without sending it anew."""
        source, target = self._path(name), self._path(to)
        if self._whole:
            self._store.cp_file(source, target)
            self._store.rm_file(source)
        else:
            self._rename(source, target)

    def _beside(self, target: str, end: str) -> str:
        """Return the path of a file that is not in its place yet, or no more."""
        return posixpath.join(posixpath.dirname(target), f".{posixpath.basename(target)}.{end}")

    def _rename(self, source: str, target: str) -> None:
        """Rename a file; where a store replaces none, and says so or does nothing, the one that is there goes first."""
        try:
            self._store.mv(source, target)
        except Exception:
            if not (self._is_there(source) and self._is_there(target)):
                raise
        if self._is_there(source):
            self._replace(source, target)

    def _replace(self, source: str, target: str) -> None:
        """Rename a file where another is, which is put back if that fails."""
        aside = self._beside(target, "old")
        if self._is_there(aside):
            self._store.rm_file(aside)
        self._store.mv(target, aside)
        try:
            self._store.mv(source, target)
        except BaseException:
            self._store.mv(aside, target)
            raise
        self._store.rm_file(aside)

    def _is_there(self, path: str) -> bool:
        self._store.invalidate_cache(path)
        return bool(self._store.exists(path))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self._store.exists(self._path(name)):
            self._store.rm_file(self._path(name))

    def stat(self, name: str) -> FileStat | None:
        """Return what a file looks like; None where there is none."""
        try:
            self._store.invalidate_cache(self._path(name))
            return _file_stat(self._store.info(self._path(name)))
        except FileNotFoundError:
            return None

    def files(self, folder: str) -> dict[str, FileStat]:
        """Return the files in a folder and below, by name."""
        top = self._path(folder)
        try:
            self._store.invalidate_cache(top)
            found: Mapping[str, Any] = self._store.find(top, detail=True)
        except FileNotFoundError:
            return {}
        inner = top.strip("/")  # some stores list names without the first slash
        names = {folder + path[path.index(inner) + len(inner) :]: info for path, info in found.items()}
        return {name: _file_stat(info) for name, info in names.items() if not _is_skipped(name[len(folder) :])}

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes; None where there is none."""
        try:
            return bytes(self._store.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def get(self, name: str, file: Path) -> None:
        """Copy a file from there."""
        self._store.get_file(self._path(name), str(file))

    def create(self, name: str, held: bytes) -> None:
        """Make a file; raises `FileExistsError` where there is one. At the same moment, some stores let two make it."""
        path = self._path(name)
        self._store.makedirs(posixpath.dirname(path), exist_ok=True)
        if self._store.exists(path):
            raise FileExistsError(path)
        try:
            self._store.pipe_file(path, held, mode="create")
        except (NotImplementedError, TypeError, ValueError):  # it only knows how to overwrite
            self._store.pipe_file(path, held)

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file's bytes."""
        found = sha256()
        with self._store.open(self._path(name), "rb") as file:
            while some := file.read(_BLOCK_SIZE):
                found.update(some)
        return found.hexdigest()

    def scrub(self, text: str) -> str:
        """Return a text without what the options and the URL keep secret."""
        return urls.scrubbed(text, self._secrets)

    def __str__(self) -> str:
        return self._shown

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


class DiskSink(RemoteSink):
    """A folder of this machine by its URL; as in `LocalSink`, no link in it is followed."""

    def check(self) -> None:
        """Raise `OSError` where nothing can be written."""
        LocalSink(Path(self._folder)).check()

    def _beside(self, target: str, end: str) -> str:
        beside = super()._beside(target, end)
        not_linked(Path(beside))
        return beside

    def _path(self, name: str) -> str:
        path = Path(self._folder)
        for inner in PurePosixPath(name).parts:
            path = not_linked(path / inner)
        return super()._path(name)


def open_remote(url: str, options: Mapping[str, Any]) -> RemoteSink:
    """Return the sink of a URL."""
    return (DiskSink if urls.scheme(url) in _LOCAL_SCHEMES else RemoteSink)(url, options)


def _file_stat(info: Mapping[str, Any]) -> FileStat:
    """Return what a store says of a file: its own checksum, or when it was written, whichever it tells."""
    told = next((info[key] for key in _MARKS if info.get(key)), "")
    if isinstance(told, datetime):  # the same moment is a number where a store lists its files
        told = told.timestamp()
    return FileStat(int(info.get("size") or 0), str(told))


def _is_skipped(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))
