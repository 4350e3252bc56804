"""What a description would do on this host: secrets that are missing, and what the watches of each account cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import attrs

from agora_analytics._core import validation
from agora_analytics.fleet.description import Account, Secret, WatchJob
from agora_analytics.spans import WINDOW
from agora_analytics.streams.watch.schedule import Coverage, coverage
from agora_analytics.streams.watch.series import queries

__all__ = ["AccountCheck"]


@attrs.frozen(kw_only=True)
class AccountCheck:
    """What an account's description would do, without a request.

    Attributes:
        account: its name.
        jobs: how many it has of each kind.
        missing: why secrets cannot be read on this host, or cannot be credentials, without their values.
        coverage: what its plan can do for all its watches together; None without a watch, or if the plan has none.
        refused: why the plan cannot do the watches at all; empty if it can.
        ok: whether all secrets are there, and the plan carries its watches without gaps (or each accepts them).

    """

    account: str
    jobs: dict[str, int]
    missing: tuple[str, ...]
    coverage: Coverage | None
    refused: str
    ok: bool


def check(account: Account) -> AccountCheck:
    """Check an account."""
    missing = tuple(missing_secrets({"customer_id": account.customer_id, "customer_secret": account.customer_secret}))
    watches = [job for job in account.jobs if isinstance(job, WatchJob)]
    weights = [query.weight for job in watches for query in queries(job.series)]
    found, refused = None, ""
    if watches:
        try:
            found = coverage(account.plan, weights, -(-min(job.every for job in watches) // WINDOW))
        except ValueError as error:
            refused = str(error)
    covered = found is None or found.complete or all(job.gaps for job in watches)
    return AccountCheck(
        account=account.name,
        jobs=dict(Counter(job.kind for job in account.jobs)),
        missing=missing,
        coverage=found,
        refused=refused,
        ok=covered and not missing and not refused,
    )


def missing_secrets(secrets: Mapping[str, Secret]) -> Iterator[str]:
    """Yield why secrets, by what they are, cannot be read or used."""
    for name, secret in secrets.items():
        try:
            wrong = validation.secret_error(name, secret.read())
        except ValueError as error:
            yield str(error)
        else:
            if wrong is not None:
                yield f"the secret {secret}: {wrong}"
