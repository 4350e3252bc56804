"""One job done by one contestant in this process: `python -m benchmarks.stalls.jobs JSON` prints its stalls."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import aiohttp
import attrs
import msgspec

from agora_analytics import AnalyticsClient
from agora_analytics.models import Call, CallPage, MetricsAnswer
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET
from agora_analytics.simulator.service.service import basic_auth
from benchmarks import _answers, _contestants
from benchmarks._canned import plan
from benchmarks.stalls.meter import measured
from benchmarks.stalls.watching import watch, watch_bare

_PAGES: Final = 1_000
_CALLS: Final = 100_000
_PATH: Final = "/beta/analytics/call"


def _client(url: str) -> AnalyticsClient:
    return AnalyticsClient(CUSTOMER_ID, CUSTOMER_SECRET, app_id=APP_ID, plan=plan(), base_url=url, quotas=False)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"Authorization": basic_auth(CUSTOMER_ID, CUSTOMER_SECRET)})


async def pages(job: dict[str, Any]) -> None:
    """Request pages of 100 calls, one after the other."""
    async with _client(job["url"]) as client:
        span = client.calls.recent(600)
        for _ in range(_PAGES):
            await client.calls.page(*span)


async def pages_bare(job: dict[str, Any]) -> None:
    """Do the same with aiohttp and msgspec."""
    decode = msgspec.json.Decoder(_answers.wire_class(CallPage)).decode
    async with _session() as session:
        for _ in range(_PAGES):
            async with session.get(f"{job['url']}{_PATH}/lists?page_no=1&page_size=100") as answer:
                decode(await answer.read())


async def metrics(job: dict[str, Any]) -> None:
    """Request the metrics of 1 or 20 sessions."""
    now = int(time.time())
    async with _client(job["url"]) as client:
        found = client.calls.metrics(job["size"], [f"S{at}" for at in range(20)], now - 3_600, now - 600)
        async for _ in found:
            pass


async def metrics_bare(job: dict[str, Any]) -> None:
    """Do the same with aiohttp and msgspec."""
    decode = msgspec.json.Decoder(_answers.wire_class(MetricsAnswer)).decode
    async with (
        _session() as session,
        session.get(f"{job['url']}{_PATH}/metrics?call_id={job['size']}&sids=S") as answer,
    ):
        decode(await answer.read())


async def export(job: dict[str, Any]) -> None:
    """Export with this library."""
    await _contestants.ours(job)


async def export_bare(job: dict[str, Any]) -> None:
    """Do what a script written in an afternoon does."""
    await _contestants.bare(job)


async def frame(job: dict[str, Any]) -> None:
    """Make a pandas frame of calls."""
    from agora_analytics import to_pandas  # noqa: PLC0415 - loaded by those who use it

    await to_pandas(job["calls"])


async def frame_bare(job: dict[str, Any]) -> None:
    """Do the same in the obvious way."""
    import pandas as pd  # noqa: PLC0415 - loaded by those who use it

    pd.DataFrame.from_records([attrs.asdict(one) for one in job["calls"]])


_JOBS: Final[dict[str, Callable[[dict[str, Any]], Awaitable[None]]]] = {
    "page": pages,
    "page bare": pages_bare,
    "metrics": metrics,
    "metrics bare": metrics_bare,
    "watch": watch,
    "watch bare": watch_bare,
    "export": export,
    "export bare": export_bare,
    "frame": frame,
    "frame bare": frame_bare,
}


def main() -> None:
    """Do the job."""
    job = json.loads(sys.argv[1])
    if job["what"] == "frame":
        one = Call(call_id="a", cname="b", created_ts=1_795_521_600, finished=True, call_acu=1.5)
        job["calls"] = [attrs.evolve(one, call_id=f"{at:032X}") for at in range(_CALLS)]
    name = job["what"] + (" bare" if job["who"] == "bare" else "")
    stalls = measured(partial(_JOBS[name], job), fast=job["what"] == "watch")
    print(json.dumps(stalls))


if __name__ == "__main__":
    main()
