"""Exports into a bucket of an S3-compatible server: machines with homes of their own take turns."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import fsspec

_CODE: Final = (
    "from moto.server import ThreadedMotoServer as S; s = S(ip_address='127.0.0.1', port=0, verbose=False);"
    " s.start(); print(s.get_host_and_port()[1], flush=True); import threading; threading.Event().wait()"
)


@attrs.define
class Bucket:
    """A folder of a bucket, and a local folder to check its files in."""

    store: Any
    to: str
    options: dict[str, Any]
    beside: Path
    homes: tuple[Path, ...]
    local: bool = False

    def fetched(self) -> Path:
        """Copy the files into the local folder, and return it."""
        shutil.rmtree(self.beside, ignore_errors=True)
        self.store.invalidate_cache()
        top = self.to.removeprefix("s3://")
        for name in self.store.find(top):
            target = self.beside / name.removeprefix(f"{top}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            self.store.get_file(name, str(target))
        self.beside.mkdir(exist_ok=True)
        return self.beside

    def clear(self) -> None:
        """Remove the files, and the state that machines have of them."""
        self.store.invalidate_cache()
        if self.store.exists(self.to):
            self.store.rm(self.to, recursive=True)
        for home in self.homes:
            shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def bucket() -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """Serve S3 in a process of its own; yields the store, and the options to connect with."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CODE), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        port = int(await process.stdout.readline()) if process.stdout else 0
        options = {
            "key": "access",
            "secret": "not-to-be-seen",
            "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "eu-west-1"},
        }
        store = fsspec.filesystem("s3", **options)
        await asyncio.to_thread(store.mkdir, "crashes")
        yield store, options
    finally:
        process.kill()
        await process.wait()
