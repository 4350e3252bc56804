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
    from agora_analytics.ops.fleet.snapshot import FleetSnapshot
    from agora_analytics.streams import CallEvent, Event

app = typer.Typer(
    no_args_is_help=True,
    help="Share the watches, follows and exports of many accounts among workers on many hosts.\n\n"
    "Example: agora-analytics fleet check fleet.toml",
)

_SHOWN: Final = 50
"""Jobs that a table shows: those that nobody has first, then those that fail, then the oldest."""

Description = Annotated[Path, typer.Argument(metavar="FILE", help="The description: a TOML file.", show_default=False)]


@attrs.frozen
class JobEvent:
    """JSON of an event: the key of its job, and the event as `watch` and `follow` print it."""

    job: str
    value: object


@app.command()
@command
async def check(output: OutputOptions, *, file: Description) -> None:
    """Check a description on this host: secrets, libraries, names, and what each plan carries. Sends nothing.

    Exit code: 0 if a worker could do all of it, 1 if not.

    Example: agora-analytics fleet check fleet.toml
    """
    found = _fleet(file).check()
    output.screen.show([found], _check_table(found.accounts))
    for text in found.missing:
        output.screen.note(f"for all accounts: {text}")
    if not found.ok:
        raise typer.Exit(FAILED)


@app.command()
@command
async def worker(
    output: OutputOptions,
    *,
    file: Description,
    name: Annotated[str | None, option("Name of the worker (default: host and process).")] = None,
    concurrency: Annotated[int, option("Watches and follows at once, at most (default: 600).", min=1)] = 600,
    exports: Annotated[int, option("Shards of exports at once, at most (default: 2).", min=1)] = 2,
    metrics_port: Annotated[
        str | None,
        option("Serve Prometheus metrics on this port of 127.0.0.1, or of HOST:PORT.", metavar="[HOST:]PORT"),
    ] = None,
) -> None:
    """Do jobs until Ctrl-C or SIGTERM, then hand them over. Events go to the sink, or as JSON lines to standard output.

    Example: agora-analytics fleet worker fleet.toml --name host-1
    """
    from agora_analytics.fleet.worker import worker_name  # noqa: PLC0415 - as in `_fleet`

    name = worker_name(name or None)
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

    # The task, and what ends it from within, belong together: longer than 25 lines for that.
    closed: list[BrokenPipeError] = []

    async def show(key: str, event: Event | CallEvent) -> None:
        try:
            # In a thread: a reader that is slow, or a terminal that is paused, would cost the worker its leases.
            await asyncio.to_thread(output.screen.emit, JobEvent(key, event_row(event)))
        except BrokenPipeError as error:
            # Not an error of the job, which would be tried again: nobody reads any event of this worker.
            if not closed:  # a second cancellation would not let it hand over
                running.cancel()
            closed.append(error)
            raise

    running = asyncio.ensure_future(
        fleet.run_worker(None if fleet.has_sink else show, worker=name, concurrency=concurrency, exports=exports)
    )
    jobs = format_count(len(fleet.jobs), "job")
    output.screen.note(f"worker {name} of the fleet {fleet.name}, which has {jobs}; Ctrl-C hands them over")
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
    from agora_analytics._core.dispatcher import in_turns  # noqa: PLC0415 - as in `_fleet`
    from agora_analytics.ops.fleet.snapshot import snapshot  # noqa: PLC0415

    found = await _fleet(file).status()
    rows, _ = await in_turns(snapshot(found, {}, 0.0))
    output.screen.show([found], _workers_table(found), _jobs_table(rows))


@app.command()
@command
async def drain(
    output: OutputOptions,
    *,
    file: Description,
    name: Annotated[str | None, option("Only the worker of this name (default: all that are listed).")] = None,
) -> None:
    """Ask workers to hand over what they have and end; returns at once.

    Example: agora-analytics fleet drain fleet.toml
    """
    fleet = _fleet(file)
    status = await fleet.status()  # first, as nothing may fail once they are asked
    asked = await fleet.drain(name)
    if asked:
        lost = {worker.name for worker in status.workers if worker.lost(status.at)}
        names = ", ".join(f"{one} (lost)" if one in lost else one for one in asked)
        output.screen.note(f"asked to hand over and end, usually within 20 seconds: {names}")
    else:
        output.screen.note(f"no worker of the fleet {fleet.name} runs")


def _fleet(file: Path, **settings: Any) -> Fleet:
    from agora_analytics.fleet import Fleet  # noqa: PLC0415 - loads the client, which help does not need

    return Fleet.from_file(file, **settings)


def _check_table(found: Sequence[AccountCheck]) -> Table:
    rows = tuple(
        (
            one.account,
            "ok" if one.ok else "wrong",
            ", ".join(f"{count} {kind}" for kind, count in one.jobs.items()),
            str(one.coverage or ""),
            "; ".join((*one.missing, *one.unknown)),
        )
        for one in found
    )
    return Table("accounts", ("account", "status", "jobs", "watches", "problem"), rows)


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


def _jobs_table(found: FleetSnapshot) -> Table:
    rows = tuple(
        (
            job.key,
            job.state,
            job.worker,
            "" if job.age is None else format_duration(job.age),
            str(job.events),
            str(job.takeovers),
            job.error,
        )
        for job in sorted(found.jobs, key=lambda job: job.urgency)[:_SHOWN]
    )
    states = Counter(job.state for job in found.jobs)
    title = format_count(len(found.jobs), "job")
    if states:
        title += f": {', '.join(f'{count} {state}' for state, count in states.items())}"
    return Table(title, ("job", "state", "worker", ">age", ">events", ">takeovers", "error"), rows)
