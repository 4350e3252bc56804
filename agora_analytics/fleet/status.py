"""Who holds which job, since when, and how far it is: what workers write down, and what `Fleet.status()` returns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Self

import attrs

from agora_analytics._core.decoding.scanner import Steps

__all__ = ["FleetStatus", "JobStatus", "WorkerStatus"]

WorkerState = Literal["working", "draining", "lost"]
WORKER_STATES: Final[tuple[WorkerState, ...]] = ("working", "draining", "lost")

STALE_AFTER: Final = 10.0
"""Seconds without a sign of life after which a worker counts as lost."""

_MOST: Final = 1e15

_SLICE: Final = 100
"""Jobs that are read between two breaks."""


@attrs.frozen(kw_only=True)
class JobStatus:
    """A job, as the worker that has it wrote it down at most a few seconds ago.

    Attributes:
        key: account, kind and name, such as `acme.watch.web`; of an export, with the shard and what that exports.
        worker: the worker that has it, or had it last; empty before the first.
        running: whether that worker is at work on it now.
        since: UTC seconds since when this worker has it.
        seen: UTC seconds of the last sign of life.
        read_to: UTC seconds up to which its events were delivered; None before the first.
        events: events delivered by all workers.
        takeovers: how often a worker has lost it to another without handing it over.
        failures: turns in a row that ended with an error.
        error: that of the last turn, empty for none; it holds no credential.
        done: whether an export is complete.

    """

    key: str
    worker: str = ""
    running: bool = False
    since: float = 0.0
    seen: float = 0.0
    read_to: float | None = None
    events: int = 0
    takeovers: int = 0
    failures: int = 0
    error: str = ""
    done: bool = False

    def age(self, now: float) -> float | None:
        """Return by how many seconds the job is behind `now` (UTC seconds); None before its first event."""
        return None if self.read_to is None else max(0.0, now - self.read_to)

    def taken_by(self, worker: str, now: float) -> Self:
        """Return the status once a worker begins a turn; a job that another still had counts as taken over."""
        if worker == self.worker:
            return attrs.evolve(self, running=True, seen=now)
        lost = self.running and bool(self.worker)
        return attrs.evolve(self, worker=worker, running=True, since=now, seen=now, takeovers=self.takeovers + lost)


@attrs.frozen(kw_only=True)
class WorkerStatus:
    """A worker: since when it runs, when it was last seen (UTC seconds), how many jobs it has, and if it drains."""

    name: str
    since: float
    seen: float
    jobs: int = 0
    draining: bool = False

    def lost(self, now: float) -> bool:
        """Return whether it gave no sign of life for ten seconds."""
        return now - self.seen > STALE_AFTER


@attrs.frozen(kw_only=True)
class FleetStatus:
    """A fleet at a moment (UTC seconds of the store): its workers, and its jobs in the order of their keys."""

    name: str
    at: float
    workers: tuple[WorkerStatus, ...]
    jobs: tuple[JobStatus, ...]

    @property
    def held(self) -> Mapping[str, int]:
        """How many jobs each worker that is alive has."""
        held = {worker.name: 0 for worker in self.workers if not worker.lost(self.at)}
        for job in self.jobs:
            if job.running and job.worker in held:
                held[job.worker] += 1
        return held

    @property
    def unheld(self) -> tuple[JobStatus, ...]:
        """The jobs that no live worker is at work on, without exports that are done."""
        held = self.held
        return tuple(job for job in self.jobs if not job.done and not (job.running and job.worker in held))


def worker_state(worker: WorkerStatus, now: float) -> WorkerState:
    """Return what a worker does at a moment (UTC seconds)."""
    return "lost" if worker.lost(now) else "draining" if worker.draining else "working"


def named_workers(workers: Mapping[str, str], now: float) -> tuple[str, ...]:
    """Return the names of workers, from what was written down of them; each that does not work with its state."""
    states = {name: worker_state(worker_status(name, text), now) for name, text in sorted(workers.items())}
    return tuple(name if state == "working" else f"{name} ({state})" for name, state in states.items())


def encoded(status: JobStatus | WorkerStatus) -> str:
    """Return a status as JSON, without its name and what has its default."""
    name = "key" if isinstance(status, JobStatus) else "name"
    fields = attrs.fields_dict(type(status))
    kept = {key: value for key, value in attrs.asdict(status).items() if key != name and value != fields[key].default}
    return json.dumps(kept, separators=(",", ":"))


def job_status(key: str, text: str | bytes | None) -> JobStatus:
    """Return what was written down of a job; what cannot be read, or is of another version, counts as nothing."""
    return JobStatus(key=key, **_known(JobStatus, text))


def worker_status(name: str, text: str | bytes | None) -> WorkerStatus:
    """Return what was written down of a worker."""
    return WorkerStatus(name=name, **{"since": 0.0, "seen": 0.0, **_known(WorkerStatus, text)})


def fleet_status(
    name: str, at: float, jobs: Mapping[str, str], workers: Mapping[str, str], keys: Iterable[str]
) -> Steps[FleetStatus]:
    """Return the status of a fleet from what was written down; `keys` are the jobs that are described."""
    found: list[JobStatus] = []
    # In steps: ten thousand jobs at once would hold the event loop for 50 ms.
    for key in sorted({*jobs, *keys}):
        found.append(job_status(key, jobs.get(key)))
        if not len(found) % _SLICE:
            yield None
    known = tuple(worker_status(worker, text) for worker, text in sorted(workers.items()))
    return FleetStatus(name=name, at=at, workers=known, jobs=tuple(found))


def _known(kind: type, text: str | bytes | None) -> dict[str, Any]:
    try:
        values = json.loads(text or "{}")
    except ValueError:
        return {}
    # A worker of another version may write other fields during a rolling update, or others than numbers and texts.
    fields = (field for field in attrs.fields(kind) if field.name not in {"key", "name"} and isinstance(values, dict))
    return {field.name: values[field.name] for field in fields if _fits(field, values.get(field.name))}


def _fits(field: attrs.Attribute[Any], value: object) -> bool:
    if isinstance(field.default, bool | str):
        return isinstance(value, type(field.default))
    if isinstance(value, bool) or not isinstance(value, int if isinstance(field.default, int) else int | float):
        return False
    # Not a number, and numbers that no clock and no count can be.
    return abs(value) < _MOST
