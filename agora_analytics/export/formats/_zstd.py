"""The only file that imports zstandard."""

from __future__ import annotations

from pathlib import Path
from typing import IO, cast

import zstandard


def opened(path: Path) -> IO[bytes]:
    """Open a compressed file for writing."""
    return cast("IO[bytes]", zstandard.open(path, "wb"))
