"""The files of the page, from the package, in memory: only their exact names are served."""

from __future__ import annotations

import gzip
import hashlib
from importlib.resources import files
from typing import Final

import attrs
from aiohttp import web

_TYPES: Final = {
    "html": "text/html",
    "js": "text/javascript",
    "css": "text/css",
    "svg": "image/svg+xml",
    "txt": "text/plain",
}

_MIN_COMPRESSED: Final = 1_024


@attrs.frozen(kw_only=True)
class Asset:
    """A file: its content, the same compressed, and its tag."""

    body: bytes
    packed: bytes
    kind: str
    tag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> Asset:
        """Return the file of a name."""
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        # Once, at the start, and without a time, so that the same file has the same bytes.
        packed = gzip.compress(body, mtime=0) if len(body) >= _MIN_COMPRESSED else b""
        return cls(body=body, packed=packed, kind=_TYPES[name.rpartition(".")[2]], tag=tag)

    def response(self, request: web.Request, status: int = 200) -> web.Response:
        """Return the file, or 304 if the browser has it."""
        # Revalidated each time, at the price of a 304: a page and a script of two versions would not fit.
        headers = {"Cache-Control": "no-cache", "ETag": self.tag, "Vary": "Accept-Encoding"}
        if status == 200 and self.tag in request.headers.get("If-None-Match", ""):  # noqa: PLR2004 - HTTP
            return web.Response(status=304, headers=headers)
        packed = self.packed and "gzip" in request.headers.get("Accept-Encoding", "")
        if packed:
            headers["Content-Encoding"] = "gzip"
        body = self.packed if packed else self.body
        return web.Response(status=status, body=body, headers=headers, content_type=self.kind, charset="utf-8")


def load_assets() -> dict[str, Asset]:
    """Return the files by name."""
    folder = files("agora_analytics.ops.web") / "static"
    return {
        file.name: Asset.of(file.name, file.read_bytes())
        for file in folder.iterdir()
        if file.is_file() and file.name.rpartition(".")[2] in _TYPES
    }
