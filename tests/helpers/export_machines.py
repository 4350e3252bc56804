"""Exports of several machines to one URL: each machine has its own state folder, and they share only the store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import fsspec
from helpers.export_files import check_manifest, rows
from helpers.export_runs import export, last_hours

from agora_analytics.simulator import Simulation

SELECTION = last_hours(2, "calls", "sessions")
DATASETS = ("calls", "sessions")


class RemotePlace:
    """A URL to export to, with the local folders of the machines that do."""

    def __init__(self, to: str, options: dict[str, object], tmp_path: Path) -> None:
        self.to, self.options, self._path = to, options, tmp_path

    async def run(self, simulation: Simulation, machine: str, **options):
        """Run the export on a machine, which keeps its state in a folder of that name."""
        return await export(
            simulation,
            options.pop("selection", SELECTION),
            self.to,
            state=self._path / machine,
            sink_options=self.options,
            **options,
        )

    def rows(self) -> dict[str, object]:
        """Return all rows by dataset, once the manifest was found to match the files."""
        folder = self.download()
        check_manifest(folder)
        return {dataset: rows(folder, dataset) for dataset in DATASETS}

    def download(self) -> Path:
        folder = self._path / f"download {len(list(self._path.iterdir()))}"
        for name, path in self.files().items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            self.store.get_file(path, str(folder / name))
        return folder

    def contents(self) -> dict[str, bytes]:
        """Return the content of every file by its name, those of the state and the claims of runs included."""
        return {name: self.store.cat_file(path) for name, path in self.files().items()}

    def files(self) -> dict[str, str]:
        """Open a new `store`, and return the path in it of every file by its name below the URL."""
        self.store, folder = fsspec.core.url_to_fs(self.to, **self.options)
        top = folder.strip("/")
        return {path[path.index(top) + len(top) + 1 :]: path for path in self.store.find(folder)}


class SlowTransport:
    """A transport that delays each answer by `seconds`, and all after the first `count` until `released` is set.

    `reached` is set once an answer waits for `released`.
    """

    def __init__(self, inner, count: int, seconds: float = 0.0) -> None:
        self._inner, self._remaining, self._seconds = inner, count, seconds
        self.reached, self.released = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    async def send(self, request, host):
        response = await self._inner.send(request, host)
        await asyncio.sleep(self._seconds)
        self._remaining -= 1
        if self._remaining < 0:
            self.reached.set()
            await self.released.wait()
        return response
