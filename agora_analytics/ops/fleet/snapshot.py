"""A fleet as operations see it: what each worker and each job is doing, and for how long nobody has had a job."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final, Literal

import attrs

from agora_analytics._core.decoding.json import one_line
from agora_analytics._core.decoding.scanner import Steps
from agora_analytics.fleet.status import FleetStatus, JobStatus, WorkerState, WorkerStatus, worker_state
from agora_analytics.spans import DAY

JobState = Literal["held", "retrying", "queued", "nobody", "done"]

JOB_STATES: Final[tuple[JobState, ...]] = ("held", "retrying", "queued", "nobody", "done")

LIMIT: Final = 60.0
"""Seconds after which a job with nobody is a trouble: between two turns, and in a takeover, nobody has it either."""

_RETRIED_WITHIN: Final = 330.0
"""Seconds after an error in which a job is tried again: a worker pauses five minutes at most."""

_SLICE: Final = 100
"""Jobs between two breaks."""

_MAX_ERROR: Final = 300
"""Characters of an error."""


@attrs.frozen(kw_only=True)
class WorkerRow:
    """A worker as JSON: since when it runs, when it was last seen (UTC seconds of its host), and its jobs by kind."""

    name: str
    state: WorkerState
    since: float
    seen: float
    jobs: Mapping[str, int]


@attrs.frozen(kw_only=True)
class JobRow:
    """A job as JSON; the fields of `JobStatus`, with its state.

    `state` is `held` by a live worker; `retrying` after an error; `queued`, an export that waits for a free worker;
    `nobody`; or `done`. `age` are the seconds that its data was behind when the fleet was read; `unheld` the seconds
    for which nobody has been seen to have it, None unless the state is `nobody`.
    """

    key: str
    account: str
    kind: str
    state: JobState
    worker: str
    since: float | None
    read_to: float | None
    age: float | None
    unheld: float | None
    events: int
    takeovers: int
    failures: int
    error: str

    @property
    def urgency(self) -> tuple[bool, bool, float, str]:
        """What a table is sorted by: jobs with nobody first, then those that fail, then the oldest."""
        return self.state != "nobody", not self.failures, -(self.age or 0.0), self.key


@attrs.frozen(kw_only=True)
class FleetSnapshot:
    """A fleet when it was read, and its numbers: they are counted once, and not for each viewer and each scrape.

    Attributes:
        at: UTC seconds of this host.
        jobs: all, in the order of their keys.
        counts: jobs by kind and state.
        failing: jobs whose last turn ended by an error, by kind.
        ages: how old the data of each job is that is not done, by account and kind.
        takeovers: of all jobs.
        unheld: the jobs that nobody has had for longer than a minute, the longest first.

    """

    name: str
    at: float
    workers: tuple[WorkerRow, ...]
    jobs: tuple[JobRow, ...]
    counts: Mapping[tuple[str, JobState], int]
    failing: Mapping[str, int]
    ages: Mapping[tuple[str, str], list[float]]
    takeovers: int
    unheld: tuple[JobRow, ...]

    @property
    def alive(self) -> int:
        """How many workers are alive, draining ones included."""
        return sum(worker.state != "lost" for worker in self.workers)


Unheld = Mapping[str, tuple[float, float]]
"""Jobs with nobody: since when by the clock of this process, and their last sign of life then."""


def snapshot(status: FleetStatus, before: Unheld, now: float) -> Steps[tuple[FleetSnapshot, Unheld]]:
    """Return what a status says, and the jobs that nobody has; `now` is the clock of this process."""
    # Each job is looked at once: longer than 25 lines for that.
    held: dict[str, Counter[str]] = {one.name: Counter() for one in status.workers if not one.lost(status.at)}
    unheld: dict[str, tuple[float, float]] = {}
    jobs: list[JobRow] = []
    counts: Counter[tuple[str, JobState]] = Counter()
    failing: Counter[str] = Counter()
    ages: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for job in status.jobs:
        state = _state(job, held, status.at)
        if state == "nobody":
            known = before.get(job.key)
            # A sign of life since then: somebody had it in between.
            unheld[job.key] = known if known is not None and known[1] == job.seen else (now, job.seen)
        row = _job(job, state, status.at, now - unheld[job.key][0] if state == "nobody" else None)
        jobs.append(row)
        counts[row.kind, state] += 1
        failing[row.kind] += row.failures > 0
        if state == "held":
            held[row.worker][row.kind] += 1
        if state != "done" and row.age is not None:
            ages[row.account, row.kind].append(row.age)
        if not len(jobs) % _SLICE:
            yield None
    workers = tuple(
        _worker(worker, held.get(worker.name, {}), status.at)
        for worker in status.workers
        # Names have the number of a process: each worker that was killed leaves one for good.
        if status.at - worker.seen < DAY
    )
    long = [row for row in jobs if row.unheld is not None and row.unheld > LIMIT]
    found = FleetSnapshot(
        name=status.name,
        at=status.at,
        workers=workers,
        jobs=tuple(jobs),
        counts=counts,
        failing=failing,
        ages=ages,
        takeovers=sum(row.takeovers for row in jobs),
        unheld=tuple(sorted(long, key=lambda row: (-(row.unheld or 0.0), row.key))),
    )
    return found, unheld


def _state(job: JobStatus, held: Mapping[str, object], now: float) -> JobState:
    if job.done:
        return "done"
    if job.running and job.worker in held:
        return "held"
    if held and job.failures and now - job.seen < _RETRIED_WITHIN:
        return "retrying"
    return "queued" if held and _kind(job.key) == "export" else "nobody"


def _kind(key: str) -> str:
    """Return the kind in a key; empty in one of another version."""
    return [*key.split(".", 2), ""][1]


def _job(job: JobStatus, state: JobState, now: float, unheld: float | None) -> JobRow:
    return JobRow(
        key=job.key,
        account=job.key.partition(".")[0],
        kind=_kind(job.key),
        state=state,
        worker=job.worker,
        since=job.since or None,
        read_to=job.read_to,
        age=job.age(now),
        unheld=unheld,
        events=job.events,
        takeovers=job.takeovers,
        failures=job.failures,
        error=one_line(job.error, _MAX_ERROR),
    )


def _worker(worker: WorkerStatus, jobs: Mapping[str, int], now: float) -> WorkerRow:
    return WorkerRow(name=worker.name, state=worker_state(worker, now), since=worker.since, seen=worker.seen, jobs=jobs)
