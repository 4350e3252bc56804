"""A real Prometheus that scrapes one address, and a VictoriaMetrics, where Debian's packages are installed."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from helpers.paths import ROOT

from agora_analytics.ops import Collector

PROMETHEUS = shutil.which("prometheus")
MISSING = "prometheus is not installed (Debian's package prometheus)"

VICTORIA_METRICS = shutil.which("victoria-metrics")
VICTORIA_MISSING = "victoria-metrics is not installed (Debian's package victoria-metrics)"

GUIDE = (ROOT / "docs/guides/metrics.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
"""The program of the guide, and the route for an application."""


class Prometheus:
    """The query API of a Prometheus, or of a VictoriaMetrics."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self.address = address
        self._session = session

    async def query(self, expression: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series of an instant query, now or at a time."""
        params = {"query": expression} | ({} if at is None else {"time": str(at)})
        async with self._session.get(f"{self.address}/api/v1/query", params=params) as response:
            answer = json.loads(await response.read())
        assert answer["status"] == "success", answer
        return [(found["metric"], float(found["value"][1])) for found in answer["data"]["result"]]

    async def samples(self, selector: str) -> list[tuple[dict[str, str], list[tuple[int, float]]]]:
        """Return labels, and all samples in whole seconds, of each series of a range selector."""
        async with self._session.get(f"{self.address}/api/v1/query", params={"query": selector}) as response:
            answer = json.loads(await response.read())
        assert answer["status"] == "success", answer
        return [
            (found["metric"], [(int(ts), float(value)) for ts, value in found["values"]])
            for found in answer["data"]["result"]
        ]

    async def flush(self) -> None:
        """Let a VictoriaMetrics show what it has got, which takes it a second; for a Prometheus this does nothing."""
        async with self._session.get(f"{self.address}/internal/force_flush"):
            pass

    async def get(self, path: str) -> Any:
        """Return the data of an answer of the API."""
        async with self._session.get(f"{self.address}/api/v1/{path}") as response:
            return json.loads(await response.read())["data"]

    async def until(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return what a query finds, as soon as that is anything."""
        async with asyncio.timeout(30):
            while True:
                if found := await self.query(expression):
                    return found
                await asyncio.sleep(0.1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@asynccontextmanager
async def exporter(collector: Collector) -> AsyncIterator[str]:
    """Serve a collector with the route of the guide, and return host and port."""
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[1], "guide", "exec"), names)  # noqa: S102 - our own documentation
    application = web.Application()
    application.add_routes([names["metrics_route"](collector)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def prometheus(
    target: str,
    folder: Path,
    *,
    options: tuple[str, ...] = (),
    job: dict[str, Any] | None = None,
    storage: dict[str, Any] | None = None,
) -> AsyncIterator[Prometheus]:
    """Run a Prometheus that scrapes `target`, a host and port, every half second; `job` adds settings of the scrape."""
    config = folder / "prometheus.yml"
    job = {"job_name": "agora", "static_configs": [{"targets": [target]}], **(job or {})}
    intervals = {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
    settings = {"global": intervals, "scrape_configs": [job]} | ({"storage": storage} if storage else {})
    config.write_text(json.dumps(settings))  # JSON is YAML
    port = free_port()
    assert PROMETHEUS is not None
    command = (
        PROMETHEUS,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *options,
    )
    async with _running(command, f"http://127.0.0.1:{port}", "/-/ready") as server:
        yield server


@asynccontextmanager
async def victoria_metrics(folder: Path) -> AsyncIterator[Prometheus]:
    """Run a VictoriaMetrics that shows one value for a time, as the guide has it."""
    port = free_port()
    assert VICTORIA_METRICS is not None
    command = (
        VICTORIA_METRICS,
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-dedup.minScrapeInterval=1ms",
    )
    async with _running(command, f"http://127.0.0.1:{port}", "/health") as server:
        yield server


@asynccontextmanager
async def _running(command: tuple[str, ...], address: str, probe: str) -> AsyncIterator[Prometheus]:
    """Run a server, and wait until its probe says that it is ready."""
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=null, stderr=null)
    try:
        async with aiohttp.ClientSession() as session:
            await _ready(f"{address}{probe}", session)
            yield Prometheus(address, session)
    finally:
        process.terminate()
        await process.wait()


async def _ready(url: str, session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(aiohttp.ClientConnectionError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)
