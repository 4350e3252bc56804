"""What a description would do on this host: what is missing there, and what the watches of each account cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

import attrs

from agora_analytics._core import validation
from agora_analytics._core.validation.names import did_you_mean
from agora_analytics.catalogue import Product, QualityMetric, RealtimeUsageMetric
from agora_analytics.export import formats
from agora_analytics.export.sinks import check_place
from agora_analytics.fleet.description import Account, ExportJob, Secret, WatchJob
from agora_analytics.spans import WINDOW
from agora_analytics.streams.watch.schedule import Coverage, coverage
from agora_analytics.streams.watch.series import queries

__all__ = ["AccountCheck", "FleetCheck"]

_METRICS: Final = (*RealtimeUsageMetric, *QualityMetric)


@attrs.frozen(kw_only=True)
class AccountCheck:
    """What an account's description would do, without a request.

    Attributes:
        account: its name.
        jobs: how many it has of each kind.
        missing: what this host lacks: secrets, by where they should be, and libraries.
        unknown: metrics and products of its watches that the catalogue does not list, with the closest known ones.
        coverage: what its plan can do for all its watches together; None without a watch.
        ok: whether nothing is missing or unknown, and the plan carries its watches without gaps (or each accepts them).

    """

    account: str
    jobs: dict[str, int]
    missing: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    coverage: Coverage | None
    ok: bool


@attrs.frozen(kw_only=True)
class FleetCheck:
    """What a description would do on this host, without a request.

    Attributes:
        accounts: what each account would do.
        missing: what this host lacks for the store and the sink, which all accounts share.
        ok: whether a worker on this host could do all of it.

    """

    accounts: tuple[AccountCheck, ...]
    missing: tuple[str, ...]
    ok: bool


def check(accounts: Iterable[Account], shared: Iterable[Callable[[], object]]) -> FleetCheck:
    """Check accounts, and what they share, which raises `ValueError` where that is missing.

    Raises `ValueError` if one has watches and its plan has no real-time requests.
    """
    found, missing = tuple(map(_check_account, accounts)), tuple(_errors_of(shared))
    return FleetCheck(accounts=found, missing=missing, ok=not missing and all(one.ok for one in found))


def _check_account(account: Account) -> AccountCheck:
    needs = (*_credentials(account), *_places(account))
    missing, unknown = tuple(_errors_of(needs)), tuple(dict.fromkeys(_unknown(account)))
    watches = [job for job in account.jobs if isinstance(job, WatchJob)]
    found = _coverage(account, watches) if watches else None
    covered = found is None or found.complete or all(job.gaps for job in watches)
    return AccountCheck(
        account=account.name,
        jobs=dict(Counter(job.kind for job in account.jobs)),
        missing=missing,
        unknown=unknown,
        coverage=found,
        ok=covered and not missing and not unknown,
    )


def _coverage(account: Account, watches: Sequence[WatchJob]) -> Coverage:
    weights = [query.weight for job in watches for query in queries(job.series)]
    try:
        return coverage(account.plan, weights, -(-min(job.every for job in watches) // WINDOW))
    except ValueError as error:
        raise ValueError(f"account {account.name!r}: {error}") from None


def _errors_of(steps: Iterable[Callable[[], object]]) -> Iterator[str]:
    """Do steps, and yield what those say that raise `ValueError`, each once."""
    seen = set()
    for step in steps:
        try:
            step()
        except ValueError as error:
            if str(error) not in seen:
                yield str(error)
            seen.add(str(error))


def _credentials(account: Account) -> Iterator[Callable[[], object]]:
    yield partial(_read_credential, "customer_id", account.customer_id)
    yield partial(_read_credential, "customer_secret", account.customer_secret)


def _read_credential(name: str, secret: Secret) -> None:
    wrong = validation.secret_error(name, secret.read())
    if wrong is not None:
        raise ValueError(f"the secret {secret}: {wrong}")


def _places(account: Account) -> Iterator[Callable[[], object]]:
    for job in account.jobs:
        if isinstance(job, ExportJob):
            yield partial(formats.check, job.format)
            yield partial(check_place, job.to)


def _unknown(account: Account) -> Iterator[str]:
    """Yield names that the service probably does not know: each would be a refused request, again and again."""
    for key, job in account.keyed():
        for series in job.series if isinstance(job, WatchJob) else ():
            for name, known in ((series.metric, _METRICS), (series.product, tuple(Product))):
                if name not in known:
                    yield f"{key}: {name!r} is not in the catalogue: {did_you_mean(name, known)}".rstrip(": ")
