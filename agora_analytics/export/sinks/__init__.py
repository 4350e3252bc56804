"""Sinks: where an export goes, a local folder or any URL that fsspec knows."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from agora_analytics._core import validation
from agora_analytics._core.extras import MissingExtraError, install_command
from agora_analytics.export.sinks.base import FileStat, ReplacedError, Sink, error_text
from agora_analytics.export.sinks.local import LocalSink

__all__ = ["FileStat", "LocalSink", "ReplacedError", "Sink", "check_place", "error_text", "open_sink"]


def check_place(to: str) -> None:
    """Raise `ValueError` for a URL that needs a library that is not installed; connects to nothing."""
    if "://" in to:
        _remote_module().check_installed(to)


def open_sink(to: str | Path, options: Mapping[str, Any]) -> Sink:
    """Return the sink of a folder or a URL; raises `ValueError` if fsspec is missing or does not know the URL."""
    if isinstance(to, str) and "://" in to:  # before all other checks, whose messages quote the value
        sink: Sink = _remote_module().open_remote(to, options)
        return sink
    folder = validation.path("to", to)
    if options:
        raise ValueError(f"sink_options go with a URL, and to={str(folder)!r} is a local folder")
    return LocalSink(folder.absolute())


def _remote_module() -> ModuleType:
    try:
        return import_module("agora_analytics.export.sinks.remote")  # an extra
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"to: a URL needs {error.name}: {install_command('remote')}") from None
