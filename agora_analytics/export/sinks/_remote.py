"""Files wherever fsspec reaches: the only file that imports it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import fsspec

_SECRET: Final = 4
"""Characters from which on a text of the options is kept from what is shown."""

_WHOLE: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "r2", "memory"})
"""Stores in which a file appears when it is complete; elsewhere it gets its name last."""


class RemoteSink:
    """A folder of a store, by its URL; `options` go to fsspec, and are never shown."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._shown = _shown(url)
        self._secrets = _secrets(url, options)
        self._whole = urlsplit(url).scheme in _WHOLE
        try:
            self._store, path = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise ValueError(f"to={self._shown!r}: {self.scrub(str(error))}") from None
        self._folder = str(path).rstrip("/")

    def check(self) -> None:
        """Raise `OSError` where nothing can be written."""
        name = self._path(".agora-export-check")
        self._store.makedirs(posixpath.dirname(name), exist_ok=True)
        self._store.pipe_file(name, b"")
        self._store.rm_file(name)

    def put(self, file: Path, name: str) -> None:
        """Copy a finished file there, and remove it here."""
        target = self._path(name)
        self._store.makedirs(posixpath.dirname(target), exist_ok=True)
        if self._whole:
            self._store.put_file(str(file), target)
        else:
            beside = f"{target}.part"
            self._store.put_file(str(file), beside)
            self._store.mv(beside, target)
        file.unlink()

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self._store.exists(self._path(name)):
            self._store.rm_file(self._path(name))

    def scrub(self, text: str) -> str:
        """Return a text without what the options and the URL keep secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def __str__(self) -> str:
        return self._shown

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _secrets(url: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return every text that may not be shown: user and password of the URL, and the values of the options."""
    parts = urlsplit(url)
    inner = [value for more in options.values() if isinstance(more, Mapping) for value in more.values()]
    texts = [parts.netloc.rpartition("@")[0], parts.password, parts.query, *options.values(), *inner]
    return tuple(text for text in texts if isinstance(text, str) and len(text) >= _SECRET)


def _shown(url: str) -> str:
    """Return a URL without a user, a password and options."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
