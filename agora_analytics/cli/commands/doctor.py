"""`agora-analytics doctor`: find out whether the settings are right, and how the service behaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

from agora_analytics.cli.formatting import format_count
from agora_analytics.cli.options import CredentialOptions, OutputOptions, command, option
from agora_analytics.cli.runner import FAILED
from agora_analytics.cli.tables import Table

if TYPE_CHECKING:
    from agora_analytics import QuotaSnapshot
    from agora_analytics.ops.doctor import Check, DoctorReport
    from agora_analytics.plans import Plan


@command
async def doctor(
    output: OutputOptions,
    credentials: CredentialOptions,
    *,
    write: Annotated[
        Path | None, option("Write the profile to this JSON file: limits, hosts and how the service behaves.")
    ] = None,
    dry_run: Annotated[bool, option("Only list the checks and what they cost.", None, "--dry-run")] = False,
) -> None:
    """Check credentials, App ID, plan, hosts and clock, in a few requests.

    Exit code: 0 if no check failed, 1 if one did.

    Example: agora-analytics doctor --write profile.json
    """
    from agora_analytics.ops import doctor as checks  # noqa: PLC0415 - loads the client, which help does not need

    screen = output.screen
    async with credentials.client(screen) as client:
        planned = checks.checklist(client)
        screen.note(_price(planned, client.plan, await client.quota.snapshot()))
        if dry_run:
            screen.show(planned, _checks_table(planned))
            return
        report = await checks.examine(client)
        values = attrs.asdict(report, recurse=False) | {"profile": report.profile.document()}
        screen.show([values], _findings_table(report))
        if write:
            report.profile.save(write)
            screen.note(f"profile written to {write}")
    if not report.ok:
        raise typer.Exit(FAILED)


def _price(checks: Sequence[Check], plan: Plan, snapshot: QuotaSnapshot) -> str:
    """Return one line: the requests of an examination beside those that are left of the day."""
    costs = Counter[str]()
    for check in checks:
        if check.endpoint is not None:
            costs[plan.counter(check.endpoint)] += check.requests
    left = {state.counter: state.left for state in snapshot if state.unit == "day"}
    parts = [f"{cost} of {left[counter]:,} left today for {counter}" for counter, cost in costs.items()]
    return f"at most {format_count(costs.total(), 'request')}: {', '.join(parts)}"


def _checks_table(checks: Sequence[Check]) -> Table:
    rows = tuple((check.name, str(check.requests), check.question) for check in checks)
    return Table("checks", ("check", ">requests", "question"), rows)


def _findings_table(report: DoctorReport) -> Table:
    rows = tuple(
        (finding.check, finding.status, " ".join(filter(None, (f"{finding.answer}.", finding.hint))))
        for finding in report.findings
    )
    return Table(f"examination, {format_count(report.requests, 'request')}", ("check", "status", "finding"), rows)
