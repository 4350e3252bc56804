"""Machines that share nothing but the place to which they export."""

from __future__ import annotations

import asyncio
from pathlib import Path

import fsspec
from helpers.export_files import check_manifest, rows
from helpers.export_runs import export, last

from agora_analytics.simulator import Simulation

SELECTION = last(2, "calls", "sessions")
NAMES = ("calls", "sessions")


class There:
    """A place, and the machines that export to it; each has a folder of its own."""

    def __init__(self, to: str, options: dict[str, object], tmp_path: Path) -> None:
        self.to, self.options, self._path = to, options, tmp_path

    async def run(self, simulation: Simulation, machine: str, **options):
        return await export(
            simulation,
            options.pop("selection", SELECTION),
            self.to,
            state=self._path / machine,
            sink_options=self.options,
            **options,
        )

    def rows(self) -> dict[str, object]:
        folder = self.fetched()
        check_manifest(folder)
        return {name: rows(folder, name) for name in NAMES}

    def fetched(self) -> Path:
        folder = self._path / f"fetched {len(list(self._path.iterdir()))}"
        for name, path in self.names().items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            self.store.get_file(path, str(folder / name))
        return folder

    def contents(self) -> dict[str, bytes]:
        """What is in every file of the place, the state and the claims of runs with them."""
        return {name: self.store.cat_file(path) for name, path in self.names().items()}

    def names(self) -> dict[str, str]:
        store, path = fsspec.core.url_to_fs(self.to, **self.options)
        self.store = store
        top = path.strip("/")
        return {one[one.index(top) + len(top) + 1 :]: one for one in store.find(path)}


class Held:
    """A transport whose answers take so many seconds, and later ones until they are let go."""

    def __init__(self, inner, after: int, seconds: float = 0.0) -> None:
        self._inner, self._left, self._seconds = inner, after, seconds
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    async def send(self, request, host):
        response = await self._inner.send(request, host)
        await asyncio.sleep(self._seconds)
        self._left -= 1
        if self._left < 0:
            self.reached.set()
            await self.go.wait()
        return response
