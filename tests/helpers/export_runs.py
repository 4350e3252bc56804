"""Exports of a simulation: which selection, how it is run, and what it cost."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.export_files import Rows, rows
from helpers.times import NOON

from agora_analytics import Selection
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator import Simulation

HOUR = 3_600
DAY = 86_400
ALL = ("calls", "sessions", "metrics")
FEW = frozenset({20001, 20003, 20004})


def last(hours: int, *datasets: str, **filters) -> Selection:
    few = {} if datasets else {"mids": FEW}
    return Selection(NOON - hours * HOUR, NOON - 600, datasets=datasets or ALL, **few, **filters)


async def export(simulation: Simulation, selection: Selection, folder: Path, **options):
    settings = {"quotas": False} if options.pop("free", True) else {}
    async with simulation.client(**settings) as client:
        return await client.export.run(selection, folder, format=options.pop("format", "jsonl"), **options)


def free(simulation: Simulation) -> None:
    """Let the service count no requests."""
    plan = simulation.service.plan
    for table, limits in plan.limits.items():
        rates = {f"per_{unit}": 10**6 for unit in limits.rates}
        plan = plan.with_limits(table, **rates)
    simulation.service.plan = plan


def asked(simulation: Simulation) -> int:
    return sum(simulation.service.counts.values())


def all_rows(folder: Path, *datasets: str) -> dict[str, Rows]:
    return {dataset: rows(folder, dataset) for dataset in datasets or ALL}


class Tampering:
    """A transport that changes each document that is answered."""

    def __init__(self, inner, change) -> None:
        self._inner, self._change = inner, change

    @property
    def hosts(self) -> int:
        return self._inner.hosts

    def scrub(self, body: bytes) -> bytes:
        return self._inner.scrub(body)

    async def close(self) -> None:
        await self._inner.close()

    async def send(self, request: Request, host: int) -> Response:
        response = await self._inner.send(request, host)
        document = json.loads(response.body)
        self._change(document)
        return Response(response.status, response.headers, json.dumps(document).encode())


def options_of(url: str) -> dict[str, object]:
    return {
        "key": "access",
        "secret": "not-to-be-seen",
        "client_kwargs": {"endpoint_url": url, "region_name": "eu-west-1"},
        "skip_instance_cache": True,
    }
