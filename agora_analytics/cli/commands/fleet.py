"""`agora-analytics fleet …`: check a fleet's description, run a worker, see who holds what, and hand over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
import typer

from agora_analytics.cli.formatting import format_count, format_duration
from agora_analytics.cli.options import OutputOptions, command, option
from agora_analytics.cli.runner import FAILED
from agora_analytics.cli.signals import stop_on_signal
from agora_analytics.cli.tables import Table

if TYPE_CHECKING:
    from agora_analytics.fleet import AccountCheck, Fleet, FleetStatus
    from agora_analytics.streams import CallEvent, Event

app = typer.Typer(
    no_args_is_help=True,
    help="Watches, follows and exports of many accounts, shared out among workers on any hosts.\n\n"
    "Example: agora-analytics fleet check fleet.toml",
)

_SHOWN: Final = 50
"""Jobs that a table shows."""

_ORDER: Final = ("nobody", "retrying", "held", "queued", "done")
"""Their order by state; of one state, the oldest come first."""

Description = Annotated[Path, typer.Argument(metavar="FILE", help="The description: a TOML file.", show_default=False)]


@attrs.frozen
class JobEvent:
    """JSON of an event: the key of its job, and the event as `watch` and `follow` print it."""

    job: str
    value: object


@app.command()
@command
async def check(output: OutputOptions, *, file: Description) -> None:
    """Check a description on this host: its secrets, and whether each plan carries its watches. Sends nothing.

    Exit code: 0 if a worker could do all of it, 1 if not.

    Example: agora-analytics fleet check fleet.toml
    """
    found = _fleet(file).check()
    output.screen.show(found, _check_table(found))
    if not all(one.ok for one in found):
        raise typer.Exit(FAILED)


@app.command()
@command
async def worker(
    output: OutputOptions,
    *,
    file: Description,
    name: Annotated[str | None, option("Name of the worker (default: host and process).")] = None,
    concurrency: Annotated[int, option("Watches and follows at once, at most (default: 1000).", min=1)] = 1_000,
    exports: Annotated[int, option("Parts of exports at once, at most (default: 2).", min=1)] = 2,
    metrics_port: Annotated[
        str | None,
        option("Serve Prometheus metrics on this port of 127.0.0.1, or of HOST:PORT.", metavar="[HOST:]PORT"),
    ] = None,
) -> None:
    """Do jobs until Ctrl-C or SIGTERM, then hand them over. Events go to the sink, or as JSON lines to standard output.

    Example: agora-analytics fleet worker fleet.toml --name host-1
    """
    from agora_analytics.fleet.worker import worker_name  # noqa: PLC0415 - as in `_fleet`

    name = worker_name(name)
    if metrics_port is None:
        await _work(output, _fleet(file), name, concurrency, exports)
        return
    from agora_analytics.cli.worker_metrics import exporting, parse_address  # noqa: PLC0415 - as in `_fleet`

    address = parse_address(metrics_port)
    async with exporting(lambda observers: _fleet(file, observers=observers), name, address) as (fleet, url):
        output.screen.note(f"metrics at {url}")
        await _work(output, fleet, name, concurrency, exports)


async def _work(output: OutputOptions, fleet: Fleet, name: str, concurrency: int, exports: int) -> None:
    import asyncio  # noqa: PLC0415 - help does not need it

    from agora_analytics.cli.events import event_row  # noqa: PLC0415 - loads the client

    closed: list[BrokenPipeError] = []

    async def show(key: str, event: Event | CallEvent) -> None:
        try:
            output.screen.emit(JobEvent(key, event_row(event)))
        except BrokenPipeError as error:
            # Nobody reads any more: the event counts as not delivered, and another worker has it.
            closed.append(error)
            running.cancel()
            raise

    running = asyncio.ensure_future(
        fleet.run_worker(None if fleet.has_sink else show, worker=name, concurrency=concurrency, exports=exports)
    )
    output.screen.note(f"worker of {fleet.name}: {format_count(len(fleet.jobs), 'job')}; Ctrl-C hands them over")
    with stop_on_signal(running.cancel), suppress(asyncio.CancelledError):
        await running
    if closed:
        raise closed[0]


@app.command()
@command
async def status(output: OutputOptions, *, file: Description) -> None:
    """Show who holds which job, since when, and how far each is. Costs no request.

    Example: agora-analytics fleet status fleet.toml
    """
    found = await _fleet(file).status()
    output.screen.show([found], _workers_table(found), _jobs_table(found))


@app.command()
@command
async def drain(
    output: OutputOptions,
    *,
    file: Description,
    name: Annotated[str | None, option("Only the worker of this name (default: all that run now).")] = None,
) -> None:
    """Let workers hand over what they have and end; returns before they have.

    Example: agora-analytics fleet drain fleet.toml
    """
    drained = await _fleet(file).drain(name)
    output.screen.note(f"{', '.join(drained)} will hand over and end" if drained else "no worker runs")


def _fleet(file: Path, **settings: Any) -> Fleet:
    from agora_analytics.fleet import Fleet  # noqa: PLC0415 - loads the client, which help does not need

    return Fleet.from_file(file, **settings)


def _check_table(found: Sequence[AccountCheck]) -> Table:
    rows = tuple(
        (
            one.account,
            "ok" if one.ok else "wrong",
            ", ".join(f"{count} {kind}" for kind, count in one.jobs.items()),
            "; ".join(filter(None, (*one.missing, one.refused, str(one.coverage or "")))),
        )
        for one in found
    )
    return Table("accounts", ("account", "status", "jobs", "finding"), rows)


def _workers_table(found: FleetStatus) -> Table:
    from agora_analytics.fleet.status import worker_state  # noqa: PLC0415 - as in `_fleet`

    held = found.held
    rows = tuple(
        (
            worker.name,
            worker_state(worker, found.at),
            str(held.get(worker.name, 0)),
            format_duration(found.at - worker.since),
        )
        for worker in found.workers
    )
    return Table(f"workers of {found.name}", ("worker", "state", ">jobs", ">since"), rows)


def _jobs_table(found: FleetStatus) -> Table:
    from agora_analytics.fleet.status import JOB_STATES, job_state  # noqa: PLC0415 - as in `_fleet`

    held = found.held
    states = {job.key: job_state(job, held, found.at) for job in found.jobs}
    counts = Counter(states.values())
    ordered = sorted(found.jobs, key=lambda job: (_ORDER.index(states[job.key]), -(job.age(found.at) or 0.0), job.key))
    rows = tuple(
        (
            job.key,
            states[job.key],
            job.worker,
            "" if (age := job.age(found.at)) is None else format_duration(age),
            str(job.events),
            str(job.takeovers),
            job.error,
        )
        for job in ordered[:_SHOWN]
    )
    counted = ", ".join(f"{counts[state]} {state}" for state in JOB_STATES if counts[state])
    title = format_count(len(found.jobs), "job") + (f": {counted}" if counted else "")
    return Table(title, ("job", "state", "worker", ">age", ">events", ">takeovers", "error"), rows)
