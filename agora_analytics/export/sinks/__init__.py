"""Where an export goes: a local folder, or any URL that fsspec knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agora_analytics import _checks
from agora_analytics.export.sinks._local import LocalSink
from agora_analytics.export.sinks._sink import Sink, said

__all__ = ["LocalSink", "Sink", "said", "sink_of"]


def sink_of(to: str | Path, options: Mapping[str, Any]) -> Sink:
    """Return the sink of a folder or a URL; raises `ValueError` where fsspec is missing or does not know it."""
    folder = _checks.path("to", to)
    if not isinstance(to, str) or "://" not in to:
        if options:
            raise ValueError("sink_options go with a URL, not with a local folder")
        return LocalSink(folder.absolute())
    try:
        from agora_analytics.export.sinks._remote import RemoteSink  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ValueError(f'to: a URL needs {error.name}: pip install "agora-analytics[remote]"') from None
    return RemoteSink(to, options)
