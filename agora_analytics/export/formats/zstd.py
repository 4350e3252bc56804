"""zstd compression: the only file that imports zstandard."""

from __future__ import annotations

from typing import IO, cast

import zstandard


def compressed(file: IO[bytes]) -> IO[bytes]:
    """Return a stream that compresses what is written to it into `file`."""
    # Not closed with the stream: the writer closes it even if flushing fails.
    return cast("IO[bytes]", zstandard.ZstdCompressor().stream_writer(file, closefd=False))
