"""One export job by one contestant in this process, as the JSON document on the command line says.

Prints the seconds from the first request to the last row on disk, the rows, and the peak memory: the sum of the peaks
of this process and of those that it started.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import aiohttp

from agora_analytics import AnalyticsClient, Selection
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET
from agora_analytics.simulator.service.service import basic_auth
from benchmarks._canned import plan
from benchmarks._scripts import opened

_ROOT = "/beta/analytics/call"
_AT_ONCE = 16


async def ours(job: dict[str, Any]) -> int:
    """Export with this library."""
    selection = Selection(job["start"], job["end"], datasets=job["datasets"])
    settings: dict[str, Any] = {"app_id": APP_ID, "plan": plan(), "base_url": job["url"], "quotas": False}
    async with AnalyticsClient(CUSTOMER_ID, CUSTOMER_SECRET, **settings) as client:
        report = await client.export.run(selection, job["folder"], format=job["format"], concurrency=_AT_ONCE)
    return report.rows[job["datasets"][-1]]


async def bare(job: dict[str, Any]) -> int:  # noqa: C901 - as such a script is
    """Do what a script written in an afternoon does: get, json.loads, write; without checks, and not resumable."""
    metrics = "metrics" in job["datasets"]
    folder = Path(job["folder"])
    folder.mkdir(parents=True)  # noqa: ASYNC240 - as such a script does
    headers = {"Authorization": basic_auth(CUSTOMER_ID, CUSTOMER_SECRET)}
    files = {name: opened(job["format"], folder, name) for name in job["datasets"]}
    write = {name: file[0] for name, file in files.items()}
    gate = asyncio.Semaphore(_AT_ONCE)
    rows = 0

    async with aiohttp.ClientSession(headers=headers) as session:

        async def get(path: str, **params: Any) -> Any:
            async with session.get(f"{job['url']}{_ROOT}{path}", params={"appid": APP_ID, **params}) as answer:
                return json.loads(await answer.text())

        async def pages(path: str, key: str, **params: Any) -> Any:
            number, more = 1, True
            while more:
                page = await get(path, page_no=number, page_size=100, **params)
                yield page[key]
                number, more = number + 1, page["has_more"]

        async def details(call: dict[str, Any]) -> None:
            nonlocal rows
            span = {"call_id": call["call_id"], "start_ts": call["created_ts"], "end_ts": call["destroyed_ts"] + 1}
            async with gate:
                async for sessions in pages("/sessions", "call_info", exclude_server_user="true", **span):
                    write["sessions"]([{"call_id": call["call_id"], **one} for one in sessions])
                    rows += 0 if metrics else len(sessions)
                    for at in range(0, len(sessions) if metrics else 0, 20):
                        sids = ",".join(one["sid"] for one in sessions[at : at + 20])
                        answer = await get("/metrics", sids=sids, **span)
                        for one in answer["metrics"]:
                            for track in one["data"]:
                                row = {"call_id": call["call_id"], "sid": one["sid"], "mid": track["mid"]}
                                row["peer_uid"] = track["peer_uid"]
                                write["metrics"]([{**row, "ts": ts, "value": value} for ts, value in track["kvs"]])
                                rows += len(track["kvs"])

        work = []
        async for calls in pages("/lists", "call_lists", start_ts=job["start"], end_ts=job["end"]):
            write["calls"](calls)
            work += [asyncio.create_task(details(call)) for call in calls]
        await asyncio.gather(*work)
    for _, close in files.values():
        close()
    return rows


async def dlt(job: dict[str, Any]) -> int:
    """Use dlt's REST API source, with its filesystem destination."""
    return await asyncio.to_thread(_dlt, job)


def _dlt(job: dict[str, Any]) -> int:
    import dlt as library  # noqa: PLC0415 - only this contestant needs it
    from dlt.sources.rest_api import rest_api_source  # noqa: PLC0415

    metrics = "metrics" in job["datasets"]
    about = {
        "call_id": "{resources.calls.call_id}",
        "start_ts": "{resources.calls.created_ts}",
        "end_ts": "{resources.calls.destroyed_ts}",
        "appid": APP_ID,
    }
    paged = {"type": "page_number", "base_page": 1, "page_param": "page_no", "total_path": None}
    resources: list[Any] = [
        {
            "name": "calls",
            "endpoint": {
                "path": "lists",
                "params": {"appid": APP_ID, "start_ts": job["start"], "end_ts": job["end"], "page_size": 100},
                "data_selector": "call_lists",
                "paginator": {**paged, "stop_after_empty_page": True},
            },
        },
        {
            "name": "sessions",
            "endpoint": {
                "path": "sessions",
                "params": {**about, "page_size": 100, "exclude_server_user": "true"},
                "data_selector": "call_info",
                "paginator": {**paged, "stop_after_empty_page": False, "has_more_path": "has_more"},
            },
            "include_from_parent": ["call_id", "created_ts", "destroyed_ts"],
        },
    ]
    if metrics:
        of_session = {name: text.replace("calls.", "sessions._calls_") for name, text in about.items()}
        resources.append(
            {
                "name": "metrics",
                "endpoint": {
                    "path": "metrics",
                    "params": {**of_session, "sids": "{resources.sessions.sid}"},
                    "data_selector": "metrics",
                    "paginator": "single_page",
                },
                "processing_steps": [{"yield_map": _points}],
            }
        )
    source = rest_api_source(
        {
            "client": {
                "base_url": f"{job['url']}{_ROOT}/",
                "auth": {"type": "http_basic", "username": CUSTOMER_ID, "password": CUSTOMER_SECRET},
            },
            "resource_defaults": {"write_disposition": "replace", "parallelized": True},
            "resources": resources,
        }
    )
    pipeline = library.pipeline(
        "benchmark",
        pipelines_dir=f"{job['folder']}/pipelines",
        destination=library.destinations.filesystem(bucket_url=f"file://{job['folder']}/data"),
        dataset_name="export",
    )
    form = {"jsonl.gz": "jsonl"}.get(job["format"], job["format"])
    pipeline.run(source, loader_file_format=form)
    return int(pipeline.last_trace.last_normalize_info.row_counts[job["datasets"][-1]])


def _points(session: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for track in session["data"]:
        row = {"sid": session["sid"], "mid": track["mid"], "peer_uid": track["peer_uid"]}
        for ts, value in track["kvs"]:
            yield {**row, "ts": ts, "value": float(value)}


_NEEDS = {
    "ours": ("agora_analytics.export.exporter",),
    "bare": (),
    "bare jsonl.zst": ("zstandard",),
    "bare parquet": ("pyarrow.parquet",),
    "bare duckdb": ("duckdb", "pyarrow"),
    "dlt": ("dlt", "dlt.sources.rest_api", "dlt.destinations", "pyarrow.parquet"),
}
"""What a contestant loads before its time begins."""

_CONTESTANTS: dict[str, Callable[[dict[str, Any]], Awaitable[int]]] = {"ours": ours, "bare": bare, "dlt": dlt}


_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
_LOOK = 0.01


class _Peaks:
    """Peak memory of this process and its children; that of a child is read until it has ended."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._ended = threading.Event()
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()

    def total(self) -> int:
        """Stop reading, and return the sum in bytes."""
        self._ended.set()
        self._watching.join()
        return sum(self._of.values())

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK):
            self._look()
        self._look()

    def _look(self) -> None:
        children = (file.read_text().split() for file in Path("/proc/self/task").glob("*/children"))
        for process in ("self", *chain.from_iterable(children)):
            with suppress(OSError):  # it has ended
                found = _PEAK.search(Path(f"/proc/{process}/status").read_text())
                if found:
                    self._of[process] = int(found[1]) * 1_024


def main() -> None:
    """Do the job."""
    job = json.loads(sys.argv[1])
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    for module in (*_NEEDS[job["who"]], *_NEEDS.get(f"{job['who']} {job['format']}", ())):
        import_module(module)

    peaks = _Peaks()
    begun = time.perf_counter()
    rows = asyncio.run(_as_coroutine(_CONTESTANTS[job["who"]](job)))
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "rows": rows, "peak": peaks.total()}))


async def _as_coroutine(work: Awaitable[int]) -> int:
    return await work


if __name__ == "__main__":
    main()
