"""Sink in a store by its URL. The only file that imports fsspec."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final

import fsspec

from agora_analytics._core.extras import MissingExtraError
from agora_analytics._core.files import digest, not_linked
from agora_analytics.errors import ExportError
from agora_analytics.export.sinks import urls
from agora_analytics.export.sinks.base import FileStat, ReplacedError, error_text
from agora_analytics.export.sinks.local import LocalSink

_MARKS: Final = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "modify", "created")
"""Keys under which stores report what changes with a file, the most exact first."""

_BLOCK_SIZE: Final = 2**20

_ATOMIC_STORES: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "r2", "memory"})
"""Stores in which an upload is atomic; in all others a file is uploaded under another name, and renamed."""

_CONDITIONAL_STORES: Final = frozenset({"s3", "s3a"})
"""Stores in which an upload may be made conditional on the file that it replaces (`If-Match`, `If-None-Match`)."""

_REFUSED: Final = frozenset({409, 412})
"""HTTP statuses of an upload whose condition is not met, or may not be."""

_LOCAL_SCHEMES: Final = frozenset({"file", "local"})
"""Schemes of local folders."""


def check_installed(url: str) -> None:
    """Raise `ValueError` if fsspec does not know the store, or needs another library for it (`MissingExtraError`)."""
    try:
        fsspec.get_filesystem_class(urls.scheme(url))
    except (ImportError, ValueError) as error:
        kind = MissingExtraError if isinstance(error, ImportError) else ValueError
        raise kind(f"to={urls.shown(url)!r}: {error}") from None


class RemoteSink:
    """A folder in a store. `options` go to fsspec, and are never shown."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._shown = urls.shown(url)
        self._secrets = urls.secrets(url, options)
        self._whole = urls.scheme(url) in _ATOMIC_STORES
        self._conditional = urls.scheme(url) in _CONDITIONAL_STORES
        self._expected: dict[str, str] = {}
        self._identity = urls.identity(url, options)
        if "\0" in url:
            raise ValueError(f"to={self._shown!r}: it has a null character in it")
        self._store, path = self._opened(url, options)
        self._folder = str(path).rstrip("/")

    def _opened(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Open the store; errors are raised without secrets, and without a context that has them."""
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
        """URL, endpoint and user, without the password."""
        return self._identity

    def check(self) -> None:
        """Raise `OSError` if nothing can be written."""
        name = self._path(".agora-export-check")  # one name, so that a killed process leaves at most one file
        self._store.makedirs(posixpath.dirname(name), exist_ok=True)
        self._store.pipe_file(name, b"")
        with suppress(FileNotFoundError):  # another process checks, too
            self._store.rm_file(name)

    def expect(self, name: str) -> None:
        """Let the next `put` of a name raise `ReplacedError` if the file changes from now on: in S3 and the like."""
        if self._conditional:
            seen = self.stat(name)
            self._expected[name] = seen.mark if seen else ""

    def put(self, file: Path, name: str) -> None:
        """Upload a finished file, and delete it here."""
        target = self._path(name)
        self._store.makedirs(posixpath.dirname(target), exist_ok=True)
        if name in self._expected:
            self._put_if_unchanged(file, name, self._expected.pop(name))
        elif self._whole:
            self._store.put_file(str(file), target)
        else:
            beside = self._beside(target, "part")
            self._store.put_file(str(file), beside)
            self._rename(beside, target)
        file.unlink()

    def _put_if_unchanged(self, file: Path, name: str, mark: str) -> None:
        """Upload a file over the one with a mark, or where none is; raises `ReplacedError` if that has changed."""
        condition = {"IfMatch": mark} if mark else {"mode": "create"}
        try:
            self._store.put_file(str(file), self._path(name), **condition)
        except OSError as error:
            if error.errno == errno.ENOSYS:  # a store that is called like S3 and has no conditions
                self._conditional = False
                self._store.put_file(str(file), self._path(name))
            elif not _is_refused(error):
                raise
            # An upload that was repeated because its answer was lost is refused, and has succeeded.
            elif not self._has_content_of(file, name):
                raise ReplacedError(f"{name} was written or removed by another process") from error

    def _has_content_of(self, file: Path, name: str) -> bool:
        try:
            return self.digest(name) == digest(file)
        except FileNotFoundError:
            return False

    def move(self, name: str, to: str) -> None:
        """Rename a file; object stores copy it on their side."""
        source, target = self._path(name), self._path(to)
        if self._whole:
            self._store.cp_file(source, target)
            self._store.rm_file(source)
        else:
            self._rename(source, target)

    def _beside(self, target: str, end: str) -> str:
        """Return the path of a hidden file beside another one."""
        return posixpath.join(posixpath.dirname(target), f".{posixpath.basename(target)}.{end}")

    def _rename(self, source: str, target: str) -> None:
        """Rename a file. If the store refuses to replace one, with an error or silently, move that one away first."""
        try:
            self._store.mv(source, target)
        # Whatever a store raises for a name that is taken: then both files are there.
        except Exception:
            if not (self._is_there(source) and self._is_there(target)):
                raise
        if self._is_there(source):
            self._replace(source, target)

    def _replace(self, source: str, target: str) -> None:
        """Rename a file to the name of another, which is put back if that fails."""
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
        """Remove a file, if it exists."""
        if self._store.exists(self._path(name)):
            self._store.rm_file(self._path(name))

    def stat(self, name: str) -> FileStat | None:
        """Return size and mark of a file; None if there is none."""
        try:
            # fsspec answers from its cache of listings, and other machines write here, too.
            self._store.invalidate_cache(self._path(name))
            return _file_stat(self._store.info(self._path(name)))
        except FileNotFoundError:
            return None

    def files(self, folder: str) -> dict[str, FileStat]:
        """Return all files below a folder, by name."""
        top = self._path(folder)
        try:
            self._store.invalidate_cache(top)
            found: Mapping[str, Any] = self._store.find(top, detail=True)
        except FileNotFoundError:
            return {}
        inner = top.strip("/")  # some stores list paths without the leading slash
        names = {folder + path[path.index(inner) + len(inner) :]: info for path, info in found.items()}
        return {name: _file_stat(info) for name, info in names.items() if not _is_skipped(name[len(folder) :])}

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        try:
            return bytes(self._store.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def get(self, name: str, file: Path) -> None:
        """Download a file."""
        self._store.get_file(self._path(name), str(file))

    def create(self, name: str, content: bytes) -> None:
        """Create a file; raises `FileExistsError` if there is one. Some stores let two processes create it at once."""
        path = self._path(name)
        self._store.makedirs(posixpath.dirname(path), exist_ok=True)
        if self._store.exists(path):
            raise FileExistsError(path)
        try:
            self._store.pipe_file(path, content, mode="create")
        except OSError as error:
            if not _is_refused(error):
                raise
            raise FileExistsError(path) from error
        except (NotImplementedError, TypeError, ValueError):  # the store can only overwrite
            self._store.pipe_file(path, content)

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file."""
        found = sha256()
        with self._store.open(self._path(name), "rb") as file:
            while some := file.read(_BLOCK_SIZE):
                found.update(some)
        return found.hexdigest()

    def scrub(self, text: str) -> str:
        """Replace the secrets of the URL and of the options in a text."""
        return urls.scrubbed(text, self._secrets)

    def __str__(self) -> str:
        return self._shown

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


class DiskSink(RemoteSink):
    """A local folder by its URL; as in `LocalSink`, no symbolic link in it is followed."""

    def check(self) -> None:
        """Raise `OSError` if nothing can be written."""
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


def _is_refused(error: OSError) -> bool:
    """Whether a store refused an upload because its condition is not met."""
    answer: Any = getattr(error.__cause__, "response", None) or {}
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return isinstance(error, (FileExistsError, FileNotFoundError)) or status in _REFUSED


def _file_stat(info: Mapping[str, Any]) -> FileStat:
    """Return size and mark from what a store reports: a checksum, or a time of modification."""
    mark = next((info[key] for key in _MARKS if info.get(key)), "")
    if isinstance(mark, datetime):  # the same time is a number in some listings
        mark = mark.timestamp()
    return FileStat(int(info.get("size") or 0), str(mark))


def _is_skipped(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))
