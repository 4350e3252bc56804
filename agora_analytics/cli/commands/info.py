"""`plans`, `metrics` and `quota`: commands that send no request."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Annotated

import attrs
import typer

from agora_analytics.catalogue import Metric, MetricId
from agora_analytics.cli import tables
from agora_analytics.cli.formatting import format_duration, format_number
from agora_analytics.cli.options import CustomerOptions, OutputOptions, command
from agora_analytics.cli.parsing import CATALOGUE, check_choice, check_plan, completion_of
from agora_analytics.cli.tables import NO_ACCESS, Table
from agora_analytics.plans import ENDPOINTS, PLANS, Limits, Plan

_OTHER_PROGRAMS = (
    "used and left are counted by the programs that share this ledger: the service counts all programs of the account"
    " together, and has no endpoint for its counters"
)
_NO_CUSTOMER = "no usage is known without a customer ID: give --customer-id or AGORA_CUSTOMER_ID"


@attrs.frozen(kw_only=True)
class PlanRow:
    """JSON of `plans`: one counter of a plan, its endpoints and its limits."""

    plan: str
    table: str
    endpoints: tuple[str, ...]
    limits: Limits


@attrs.frozen(kw_only=True)
class CatalogueRow:
    """JSON of `metrics`: one entry of the catalogue; `id` is the number of a metric id."""

    kind: str
    name: str
    id: int | None = None
    unit: str = ""
    meaning: str = ""


@command
async def plans(
    output: OutputOptions,
    plan: Annotated[
        str | None,
        typer.Argument(
            metavar="PLAN", help=f"Only this plan: {', '.join(PLANS)}.", autocompletion=completion_of(PLANS)
        ),
    ] = None,
) -> None:
    """Show the limits of each pricing plan.

    Example: agora-analytics plans premium
    """
    if plan:
        check_plan("PLAN", plan)
    chosen = [Plan.of(plan)] if plan else list(PLANS.values())
    rows = [row for one in chosen for row in _plan_rows(one)]
    output.screen.show(rows, *(_plan_table(one, rows) for one in chosen))


@command
async def metrics(
    output: OutputOptions,
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND", help=f"Only this kind: {', '.join(CATALOGUE)}.", autocompletion=completion_of(CATALOGUE)
        ),
    ] = None,
) -> None:
    """Show the catalogue: metrics, metric ids, dimensions, products and granularities.

    Example: agora-analytics metrics quality
    """
    if kind is not None:
        check_choice("KIND", kind, CATALOGUE)
    rows = [row for row in _catalogue_rows() if kind in {None, row.kind}]
    output.screen.show(rows, *(_catalogue_table(one, rows) for one in CATALOGUE if kind in {None, one}))


@command
async def quota(customer: CustomerOptions, output: OutputOptions) -> None:
    """Show the request counters of a plan, and how much of each is used.

    Example: agora-analytics quota --plan premium
    """
    from agora_analytics.quota import fingerprint  # noqa: PLC0415 - loads the ledger, which help does not need
    from agora_analytics.quota.limiters import Limiters  # noqa: PLC0415

    settings = customer.settings()
    plan = settings.known_plan()
    async with settings.open_ledger() as ledger:
        # Without a client, which would need the secret: a ledger keeps its counts by the customer's fingerprint.
        account = fingerprint(settings.customer_id or "")
        snapshot = await Limiters(plan, ledger, account=account, clock=time.time).snapshot()
    rows = [*snapshot, *filter(None, [snapshot.clock])]
    output.screen.show(rows, tables.quota(snapshot.states, f"quota of the plan {plan.name}"))
    if snapshot.clock:
        output.screen.note(tables.service_clock(snapshot.clock))
    output.screen.note(_OTHER_PROGRAMS if settings.customer_id else _NO_CUSTOMER)


def _plan_rows(plan: Plan) -> Iterator[PlanRow]:
    for table, limits in plan.limits.items():
        paths = tuple(str(endpoint) for endpoint in ENDPOINTS if endpoint.table == table)
        yield PlanRow(plan=plan.name, table=table, endpoints=paths, limits=limits)


def _plan_table(plan: Plan, rows: Iterable[PlanRow]) -> Table:
    columns = (
        "counter",
        ">per second",
        ">per minute",
        ">per day",
        ">retention",
        ">max per query",
        ">delay",
        "granularities",
    )
    cells = tuple(_plan_cells(row) for row in rows if row.plan == plan.name)
    return Table(f"plan {plan.name}", columns, cells, empty=NO_ACCESS)


def _plan_cells(row: PlanRow) -> tuple[str, ...]:
    limits = row.limits
    return (
        row.table,
        format_number(limits.per_second),
        format_number(limits.per_minute),
        format_number(limits.per_day),
        format_duration(limits.retention),
        format_duration(limits.longest),
        format_duration(limits.delay),
        " ".join(limits.granularities),
    )


def _catalogue_rows() -> Iterator[CatalogueRow]:
    for kind, members in CATALOGUE.items():
        for one in members:
            if isinstance(one, MetricId):
                yield CatalogueRow(kind=kind, name=one.name.lower(), id=one.value, unit=one.unit, meaning=one.meaning)
            elif isinstance(one, Metric):
                yield CatalogueRow(kind=kind, name=one.value, unit=one.unit, meaning=one.meaning)
            else:
                yield CatalogueRow(kind=kind, name=one.value)


def _catalogue_table(kind: str, rows: Iterable[CatalogueRow]) -> Table:
    cells = tuple(
        ("" if row.id is None else str(row.id), row.name, row.unit, row.meaning) for row in rows if row.kind == kind
    )
    return Table(kind.replace("_", " "), (">id", "name", "unit", "meaning"), cells)
