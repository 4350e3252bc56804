"""A fleet as metrics, from what a `FleetMonitor` has read; their number is bounded, however many jobs there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import nlargest
from statistics import median
from typing import Final

from agora_analytics.fleet.status import WORKER_STATES
from agora_analytics.ops.fleet.monitor import FleetMonitor
from agora_analytics.ops.fleet.snapshot import JOB_STATES, FleetSnapshot
from agora_analytics.ops.metrics.families import Family, Value, label

_MAX_WORKERS: Final = 100
_MAX_AGES: Final = 100
"""Workers whose jobs are shown, and pairs of account and kind whose age is: those with the oldest data."""

UP = Family("agora_fleet_up", "Whether the status of the fleet could be read the last time it was tried.")
STATUS_AGE = Family("agora_fleet_status_age_seconds", "Seconds since the status of the fleet was read.")
WORKERS = Family("agora_fleet_workers", "Workers by state; those that are lost for a day are left out.")
WORKER_JOBS = Family("agora_fleet_worker_jobs", "Jobs that a live worker has, by kind.")
JOBS = Family("agora_fleet_jobs", "Jobs by kind and state; between two turns nobody has a job for a moment.")
UNHELD = Family(
    "agora_fleet_unheld_seconds",
    "The longest time for which nobody has had a job, if that is over a minute; else 0.",
)
UNHELD_JOBS = Family("agora_fleet_unheld_jobs", "Jobs that nobody has had for longer than a minute.")
FAILING = Family("agora_fleet_failing_jobs", "Jobs whose last turn ended by an error.")
OLDEST = Family("agora_fleet_age_max_seconds", "By how much the data of the oldest job was behind when it was read.")
MEDIAN = Family("agora_fleet_age_median_seconds", "By how much the data of half of the jobs was behind, at least.")
TAKEOVERS = Family(
    "agora_fleet_takeovers",
    "Jobs that a worker lost to another without handing them over, since this process began to look.",
    "counter",
    "_total",
)

FAMILIES: Final = (
    UP,
    STATUS_AGE,
    WORKERS,
    WORKER_JOBS,
    JOBS,
    UNHELD,
    UNHELD_JOBS,
    FAILING,
    OLDEST,
    MEDIAN,
    TAKEOVERS,
)


def values(monitor: FleetMonitor) -> Iterator[Value]:
    """Yield the samples; before the first reading only that there was none."""
    fleet = {"fleet": label(monitor.name)}
    yield Value(UP, fleet, not monitor.error)
    found, age = monitor.snapshot, monitor.age
    if found is None or age is None:
        return
    yield Value(STATUS_AGE, fleet, age)
    yield Value(TAKEOVERS, fleet, monitor.takeovers)
    yield from _workers(found, fleet)
    yield from _jobs(found, fleet)
    yield from _ages(found, fleet)


def _workers(found: FleetSnapshot, fleet: dict[str, str]) -> Iterator[Value]:
    states = Counter(worker.state for worker in found.workers)
    for state in WORKER_STATES:
        yield Value(WORKERS, fleet | {"state": state}, states[state])
    alive = [worker for worker in found.workers if worker.state != "lost"]
    for worker in alive[:_MAX_WORKERS]:
        for kind, count in worker.jobs.items():
            yield Value(WORKER_JOBS, fleet | {"worker": label(worker.name), "kind": label(kind)}, count)


def _jobs(found: FleetSnapshot, fleet: dict[str, str]) -> Iterator[Value]:
    for kind, failing in found.failing.items():
        of_kind = fleet | {"kind": label(kind)}
        # Also those with 0: a rule about a series that is absent never fires.
        for state in JOB_STATES:
            yield Value(JOBS, of_kind | {"state": state}, found.counts.get((kind, state), 0))
        yield Value(FAILING, of_kind, failing)
    yield Value(UNHELD_JOBS, fleet, len(found.unheld))
    yield Value(UNHELD, fleet, (found.unheld[0].unheld or 0.0) if found.unheld else 0.0)


def _ages(found: FleetSnapshot, fleet: dict[str, str]) -> Iterator[Value]:
    oldest = nlargest(_MAX_AGES, ((max(ages), account, kind) for (account, kind), ages in found.ages.items()))
    for age, account, kind in oldest:
        labels = fleet | {"account": label(account), "kind": label(kind)}
        yield Value(OLDEST, labels, age)
        yield Value(MEDIAN, labels, median(found.ages[account, kind]))
