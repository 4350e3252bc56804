"""What a description would do on this host: secrets that are missing, and what the watches of each account cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

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
        missing: why secrets cannot be read on this host, those of the fleet's store and sink included; without values.
        coverage: what its plan can do for all its watches together; None without a watch.
        ok: whether all secrets are there, and the plan carries its watches without gaps (or each accepts them).

    """

    account: str
    jobs: dict[str, int]
    missing: tuple[str, ...]
    coverage: Coverage | None
    ok: bool


def check(account: Account, shared: Iterable[Secret]) -> AccountCheck:
    """Check an account, and the secrets that it shares with others.

    Raises `ValueError` if it has watches and its plan has no real-time requests.
    """
    missing = tuple(missing_secrets((*shared, account.customer_id, account.customer_secret)))
    watches = [job for job in account.jobs if isinstance(job, WatchJob)]
    found = _coverage(account, watches) if watches else None
    covered = found is None or found.complete or all(job.gaps for job in watches)
    return AccountCheck(
        account=account.name,
        jobs=dict(Counter(job.kind for job in account.jobs)),
        missing=missing,
        coverage=found,
        ok=covered and not missing,
    )


def _coverage(account: Account, watches: Sequence[WatchJob]) -> Coverage:
    weights = [query.weight for job in watches for query in queries(job.series)]
    try:
        return coverage(account.plan, weights, min(job.every for job in watches) // WINDOW)
    except ValueError as error:
        raise ValueError(f"account {account.name!r}: {error}") from None


def missing_secrets(secrets: Iterable[Secret]) -> Iterable[str]:
    """Yield why secrets cannot be read."""
    for secret in secrets:
        try:
            secret.read()
        except ValueError as error:
            yield str(error)
