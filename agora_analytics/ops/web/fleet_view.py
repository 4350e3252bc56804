"""A fleet as the page shows it: what is wrong in words, its workers, and as many of its jobs as somebody asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from heapq import nsmallest
from typing import Any, Final

import attrs

from agora_analytics._core.decoding.scanner import Steps
from agora_analytics.ops.fleet.monitor import FleetMonitor
from agora_analytics.ops.fleet.snapshot import JOB_STATES, FleetSnapshot, JobRow, WorkerRow

ORDERS: Final[Mapping[str, Callable[[JobRow], Any]]] = {
    "urgent": lambda job: job.urgency,
    "oldest": lambda job: (-(job.age or 0.0), job.key),
    "key": lambda job: job.key,
    "worker": lambda job: (job.worker, job.key),
    "takeovers": lambda job: (-job.takeovers, job.key),
}

"""What jobs can be sorted by; the first is the default."""

MAX_JOBS: Final = 1_000
_MAX_WORKERS: Final = 500

_SLICE: Final = 500
"""Jobs between two breaks."""


@attrs.frozen(kw_only=True)
class FleetNews:
    """The event `fleet`: a summary of the newest reading.

    `at` is when the status was read (UTC seconds of this host), None before the first; `age` how long ago that is;
    `error` why it cannot be read now; `trouble` what is wrong in words. `jobs` are their numbers by state.
    """

    name: str
    at: float | None
    age: float | None
    error: str
    trouble: str
    workers: int
    jobs: Mapping[str, int]
    takeovers: int
    failing: int


@attrs.frozen(kw_only=True)
class FleetView:
    """`GET /api/v1/fleet`."""

    event: str
    fleet: FleetNews
    workers: tuple[WorkerRow, ...]
    matching: int
    jobs: list[JobRow]


def fleet_news(monitor: FleetMonitor) -> FleetNews:
    """Return a summary of what was read last."""
    found = monitor.snapshot
    states: Counter[str] = Counter()
    for (_, state), count in found.counts.items() if found is not None else ():
        states[state] += count
    return FleetNews(
        name=monitor.name,
        at=None if found is None else found.at,
        age=monitor.age,
        error=monitor.error,
        trouble=monitor.trouble,
        workers=0 if found is None else found.alive,
        jobs={state: states[state] for state in JOB_STATES},
        takeovers=0 if found is None else found.takeovers,
        failing=0 if found is None else sum(found.failing.values()),
    )


def chosen_jobs(
    found: FleetSnapshot | None, *, text: str, state: str, order: str, limit: int
) -> Steps[tuple[int, list[JobRow]]]:
    """Return how many jobs match, and the first of them; `text` is a part of the key, the worker or the error."""
    jobs, part = () if found is None else found.jobs, text.casefold()
    matching, first = 0, list[JobRow]()
    for start in range(0, len(jobs), _SLICE):
        slice_ = [job for job in jobs[start : start + _SLICE] if state in {"all", job.state} and _holds(job, part)]
        matching += len(slice_)
        # Of each slice: to sort ten thousand at once would hold the event loop for 15 ms.
        first = nsmallest(limit, [*first, *slice_], key=ORDERS[order])
        yield None
    return matching, first


def _holds(job: JobRow, part: str) -> bool:
    return not part or any(part in one.casefold() for one in (job.key, job.worker, job.error))


def shown_workers(found: FleetSnapshot | None) -> tuple[WorkerRow, ...]:
    """Return the workers, live ones first."""
    workers = found.workers if found is not None else ()
    return tuple(sorted(workers, key=lambda worker: (worker.state == "lost", worker.name))[:_MAX_WORKERS])
