"""The processes of `benchmarks.fleet_failures`: the service of many accounts, and workers that share a sink."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import attrs

from agora_analytics import Selection, Window
from agora_analytics.fleet import Account, ExportJob, Fleet
from agora_analytics.simulator.server import _listening
from agora_analytics.spans import DAY
from benchmarks.fleet import WORDS, Accounts, app_id, described, lines

TURN: Final = 60.0
_HELD: Final = 0.5
"""Seconds for which a worker's event loop may be held without a line about it."""


@attrs.frozen
class Shape:
    """How large the fleet is; `until` (UTC seconds) is the end of what is exported, and `folder` has all files."""

    accounts: int
    exports: int
    days: int
    until: int
    folder: Path

    @property
    def place(self) -> str:
        """The folder of the export of an account, by its number."""
        return f"{self.folder}/exports/{{}}"

    def selection(self, *apps: str) -> Selection:
        """Return what is exported of an App ID."""
        start = self.until - self.days * DAY
        return Selection(start, self.until, datasets=("calls", "sessions"), apps=apps)

    def fleet(self, url: str, store: str, sink: str) -> Fleet:
        """Return the fleet."""
        accounts = [self._with_export(one, number) for number, one in enumerate(described(self.accounts, url))]
        return Fleet(*accounts, store=store, sink=sink, turn=TURN)

    def _with_export(self, account: Account, number: int) -> Account:
        if number >= self.exports:
            return account
        job = ExportJob(
            name="calls",
            selection=self.selection(app_id(number)),
            to=self.place.format(number),
            format="jsonl",
            shard_days=1,
        )
        return attrs.evolve(account, jobs=[*account.jobs, job])


# The processes: the service, and workers.


async def serve(count: int) -> None:
    """Serve accounts, and tell for each line of input what was refused, and what was asked twice."""
    accounts = Accounts(count)
    async with _listening(accounts, "127.0.0.1", 0) as url:  # type: ignore[arg-type] - it handles requests
        print(url, flush=True)
        async for _ in lines():
            print(json.dumps(_requests(accounts)), flush=True)


def _requests(accounts: Accounts) -> dict[str, Any]:
    """Return counts of requests, and when each poll that was answered before was sent again."""
    found: Counter[str] = Counter()
    again: list[float] = []
    for service in accounts.services:
        answered: set[object] = set()
        for entry in service.log:
            found["refused"] += entry.status == HTTPStatus.TOO_MANY_REQUESTS
            found["requests"] += 1
            if entry.status == HTTPStatus.OK:
                query = dict(parse_qsl(entry.query))
                # A poll asks for all windows that may change: it is the same as another if it can bring no newer one.
                span = query.get("endTs") if "realtime" in entry.path else json.dumps(query, sort_keys=True)
                key = (entry.path, span, entry.body)
                if key in answered and "realtime" in entry.path:
                    again.append(entry.at)
                found["asked twice, exports"] += key in answered and "realtime" not in entry.path
                answered.add(key)
    return {**found, "asked twice, watches": len(again), "again": sorted(again)}


async def work(shape: Shape, url: str, store: str, sink: str, name: str) -> None:
    """Work until SIGTERM; each window is a line of the worker's file: its job, its start and when it was delivered."""
    with (shape.folder / f"windows-{name}").open("a", buffering=1) as file:

        async def take(key: str, event: object) -> None:
            if isinstance(event, Window):
                file.write(f"{key} {event.ts} {time.time():.2f}\n")

        os.environ |= {f"FLEET_{kind}_{one}": f"{word}{one}" for one in range(shape.accounts) for kind, word in WORDS}
        measuring = asyncio.ensure_future(_measure_holds(name))
        working = asyncio.ensure_future(shape.fleet(url, store, sink).run_worker(take, worker=name))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
        with suppress(asyncio.CancelledError):
            await working
        measuring.cancel()


async def _measure_holds(name: str) -> None:
    """Tell whenever the event loop was held for long: a ledger waits one second for its store."""
    clock = asyncio.get_running_loop().time
    while True:
        before = clock()
        await asyncio.sleep(0.02)
        if (held := clock() - before) > _HELD:
            print(f"{name}: the event loop was held for {held:.1f} s", flush=True)
