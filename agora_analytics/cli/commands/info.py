"""`plans`, `metrics` and `quota`: what can be told without asking the service."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Annotated

import attrs
import typer

from agora_analytics.catalogue import Dimension, Granularity, MetricId, Product
from agora_analytics.cli import tables
from agora_analytics.cli.formatting import lasting, number
from agora_analytics.cli.options import Customer, Shown, command
from agora_analytics.cli.parsing import METRICS
from agora_analytics.cli.tables import NO_ACCESS, Table
from agora_analytics.plans import ENDPOINTS, PLANS, Limits, Plan

_HONEST = (
    "used and left are what the programs have counted that share this ledger: the service counts all programs of the"
    " account together and cannot be asked"
)
_NOBODY = "nothing is counted without a customer ID: give --customer-id or AGORA_CUSTOMER_ID"


@attrs.frozen(kw_only=True)
class Allowance:
    """One table of a plan: what its endpoints may be asked, how often, how far back."""

    plan: str
    table: str
    endpoints: tuple[str, ...]
    limits: Limits


@attrs.frozen(kw_only=True)
class Word:
    """One entry of the catalogue; `id` is a metric id's number."""

    kind: str
    name: str
    id: int | None = None
    unit: str = ""
    meaning: str = ""


@command
async def plans(
    shown: Shown,
    plan: Annotated[str | None, typer.Argument(help="Only this one.", autocompletion=lambda: list(PLANS))] = None,
) -> None:
    """Show what each pricing plan allows. Example: agora-analytics plans premium."""
    chosen = [Plan.of(plan)] if plan else list(PLANS.values())
    found = [allowance for one in chosen for allowance in _allowances(one)]
    shown.screen.show(found, *(_plan_table(one, found) for one in chosen))


@command
async def metrics(
    shown: Shown,
    kind: Annotated[
        str | None, typer.Argument(help="Only this: metric_id, usage, quality, realtime_usage, freeze, timeline, …")
    ] = None,
) -> None:
    """Show the catalogue: metric ids, metrics, dimensions, products. Example: agora-analytics metrics metric_id."""
    words = tuple(_words())
    kinds = dict.fromkeys(word.kind for word in words)
    if kind is not None and kind not in kinds:
        raise ValueError(f"kind={kind!r}: allowed are {', '.join(kinds)}")
    found = [word for word in words if kind in {None, word.kind}]
    shown.screen.show(found, *(_word_table(one, found) for one in kinds if kind in {None, one}))


@command
async def quota(chosen: Customer, shown: Shown) -> None:
    """Show a plan's counters, and what is used of them. Example: agora-analytics quota --plan premium."""
    from agora_analytics.quota import fingerprint  # noqa: PLC0415 - with what counts
    from agora_analytics.quota.limiters import Limiters  # noqa: PLC0415

    settings = chosen.settings()
    plan = settings.known_plan()
    async with settings.counting() as ledger:
        account = fingerprint(settings.customer_id or "")
        snapshot = await Limiters(plan, ledger, account=account, clock=time.time).snapshot()
    found = [*snapshot, *filter(None, [snapshot.clock])]
    shown.screen.show(found, tables.quota(snapshot.states, f"quota of the plan {plan.name}"))
    if snapshot.clock:
        shown.screen.note(tables.service_clock(snapshot.clock))
    shown.screen.note(_HONEST if settings.customer_id else _NOBODY)


def _allowances(plan: Plan) -> Iterator[Allowance]:
    for table, limits in plan.limits.items():
        paths = tuple(str(endpoint) for endpoint in ENDPOINTS if endpoint.table == table)
        yield Allowance(plan=plan.name, table=table, endpoints=paths, limits=limits)


def _plan_table(plan: Plan, allowances: Iterable[Allowance]) -> Table:
    columns = (
        "counter",
        ">per second",
        ">per minute",
        ">per day",
        ">kept",
        ">one query",
        ">delay",
        "steps",
    )
    mine = [one for one in allowances if one.plan == plan.name]
    return Table(f"plan {plan.name}", columns, tuple(map(_allowed_lateness, mine)), empty=NO_ACCESS)


def _allowed_lateness(one: Allowance) -> tuple[str, ...]:
    limits = one.limits
    return (
        one.table,
        number(limits.per_second),
        number(limits.per_minute),
        number(limits.per_day),
        lasting(limits.available),
        lasting(limits.longest),
        lasting(limits.delay),
        " ".join(limits.granularities),
    )


def _words() -> Iterator[Word]:
    for mid in MetricId:
        yield Word(kind="metric_id", name=mid.name.lower(), id=mid.value, unit=mid.unit, meaning=mid.meaning)
    for kind, group in METRICS.items():
        for metric in group:
            yield Word(kind=kind, name=metric.value, unit=metric.unit, meaning=metric.meaning)
    for kind, values in {"dimension": Dimension, "product": Product, "granularity": Granularity}.items():
        for value in values:
            yield Word(kind=kind, name=value.value)


def _word_table(kind: str, words: Iterable[Word]) -> Table:
    rows = tuple(
        ("" if one.id is None else str(one.id), one.name, one.unit, one.meaning) for one in words if one.kind == kind
    )
    return Table(kind.replace("_", " "), (">id", "name", "unit", "meaning"), rows)
