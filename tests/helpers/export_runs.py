"""Selections, runs of an export against a simulation, and the requests that these cost."""

from __future__ import annotations

from pathlib import Path

from helpers.export_files import Rows, rows
from helpers.times import NOON

from agora_analytics import Selection
from agora_analytics.simulator import Fault, Faults, Simulation

HOUR = 3_600
DAY = 86_400
ALL = ("calls", "sessions", "metrics")
SOME_MIDS = frozenset({20001, 20003, 20004})


def last_hours(hours: int, *datasets: str, **filters) -> Selection:
    """Return a selection of the hours before noon; by default of calls, sessions and some metrics."""
    mids = {} if datasets else {"mids": SOME_MIDS}
    return Selection(NOON - hours * HOUR, NOON - 600, datasets=datasets or ALL, **mids, **filters)


async def export(simulation: Simulation, selection: Selection, folder: Path, *, quotas: bool = False, **options):
    """Run an export with a client of its own, which does not limit its requests unless `quotas` is true."""
    async with simulation.client(quotas=quotas) as client:
        return await client.export.run(selection, folder, format=options.pop("format", "jsonl"), **options)


def remove_rate_limits(simulation: Simulation) -> None:
    """Raise all rate limits of the service beyond reach."""
    plan = simulation.service.plan
    for table, limits in plan.limits.items():
        rates = {f"per_{unit}": 10**6 for unit in limits.rates}
        plan = plan.with_limits(table, **rates)
    simulation.service.plan = plan


def request_count(simulation: Simulation) -> int:
    """Return the number of requests that the service has answered so far."""
    return sum(simulation.service.counts.values())


def revoked_after(requests: int) -> Faults:
    """Return faults that refuse the credentials of every request after the first `requests` of the simulation."""
    return Faults.script([*[None] * requests, *[Fault("status", status=401)] * 500])


def all_rows(folder: Path, *datasets: str) -> dict[str, Rows]:
    return {dataset: rows(folder, dataset) for dataset in datasets or ALL}


def s3_options(url: str) -> dict[str, object]:
    """Return the sink options for the S3 server at a URL."""
    return {
        "key": "access",
        "secret": "not-to-be-seen",
        "client_kwargs": {"endpoint_url": url, "region_name": "eu-west-1"},
        "skip_instance_cache": True,
    }
