"""What a fleet does: accounts, where their credentials are, and the jobs of each.

A description holds no secret, only where a worker finds it. Two descriptions with the same jobs have the same keys, so
that every worker can add the jobs, and each is there once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import attrs

from agora_analytics._core import addresses, validation
from agora_analytics._core.redaction import fingerprint
from agora_analytics._core.transport import HOSTS
from agora_analytics.export import formats
from agora_analytics.export.selection import Selection, Shard
from agora_analytics.plans import Plan
from agora_analytics.spans import DAY, WINDOW
from agora_analytics.streams.watch.series import Series

__all__ = ["Account", "ExportJob", "FollowJob", "Job", "Secret", "WatchJob"]

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,39}")

_SHORTEST_INTERVAL: Final = 60

_MOST_SHARDS: Final = 10_000
"""Each is a job in the store and a folder; a start of 1970 by mistake makes hundreds of thousands."""


def key_part(argument: str, value: object) -> str:
    """Return a name that is a part of keys in the store: short, and without the dot that separates the parts."""
    text = validation.non_empty_str(argument, value)
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{argument}={validation.short_repr(text)}: allowed are 1 to 40 of the letters a to z and A to Z, digits, _"
            " and -, beginning with a letter, a digit or _"
        )
    return text


def _path(value: str | Path | None) -> Path | None:
    return validation.none_or(validation.path, "file", value)


@attrs.frozen
class Secret:
    """Where a worker finds a secret: in an environment variable (`env`) or in a file.

    Only this reference is kept. The secret is read when a client is made with it, so a rotated one is used from then.
    Raises `ValueError` unless exactly one of both is given.
    """

    env: str | None = None
    file: Path | None = attrs.field(default=None, converter=_path)

    def __attrs_post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret is either in an environment variable (env) or in a file (file)")
        validation.none_or(validation.non_empty_str, "env", self.env)

    def __str__(self) -> str:
        return f"${self.env}" if self.env is not None else str(self.file)

    def read(self) -> str:
        """Return the secret, without surrounding space; raises `ValueError` that names the reference."""
        if self.env is not None:
            text = os.environ.get(self.env, "")
        else:
            try:
                # Editors of Windows put a mark before the text, which no strip removes.
                text = Path(self.file or "").read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not UTF-8"
                raise ValueError(f"the secret {self} cannot be read: {reason}") from None
        if not text.strip():
            raise ValueError(f"the secret {self} is not set" if self.env else f"the secret {self} is empty")
        return text.strip()


def _series(series: Iterable[Series]) -> tuple[Series, ...]:
    return tuple(validation.as_list("series", series, "series"))


@attrs.frozen(kw_only=True)
class WatchJob:
    """Real-time windows of an App ID, without end; the arguments are those of `client.realtime.watch`.

    `name` is unique among the watches of its account; by default it is a fingerprint of the App ID. Without a
    checkpoint it begins `back` seconds before the newest window.
    """

    kind = "watch"

    app_id: str = attrs.field(repr=False)
    series: tuple[Series, ...] = attrs.field(converter=_series)
    name: str = ""
    back: int = 0
    gaps: bool = False
    only_final: bool = False
    allowed_lateness: int = 120
    final_after: int = 300
    every: int = WINDOW

    def __attrs_post_init__(self) -> None:
        _set_name(self)
        if not validation.instances("series", self.series, Series):
            raise ValueError("series=(): a watch needs at least one")
        if (twice := validation.repeated(self.series)) is not None:
            raise ValueError(f"series: {twice} is there twice")
        validation.apply_rules(self, gaps=validation.boolean, only_final=validation.boolean)
        validation.apply_rules(self, back=_seconds, allowed_lateness=_seconds, final_after=_seconds)
        validation.int_in_range("every", self.every, WINDOW)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `watch`."""
        return {
            "start": _start(self.back),
            "gaps": self.gaps,
            "only_final": self.only_final,
            "allowed_lateness": self.allowed_lateness,
            "final_after": self.final_after,
            "every": self.every,
        }


@attrs.frozen(kw_only=True)
class FollowJob:
    """What happens to the calls of an App ID, without end; the arguments are those of `client.calls.follow`.

    `name` is unique among the follows of its account; by default it is a fingerprint of the App ID. Without a
    checkpoint it begins with the calls of the last `back` seconds.
    """

    kind = "follow"

    app_id: str = attrs.field(repr=False)
    name: str = ""
    back: int = 0
    with_sessions: bool = False
    allowed_lateness: int = 300
    every: int = 60

    def __attrs_post_init__(self) -> None:
        _set_name(self)
        validation.apply_rules(self, with_sessions=validation.boolean, back=_seconds, allowed_lateness=_seconds)
        validation.int_in_range("every", self.every, 1)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `follow`."""
        return {
            "start": _start(self.back),
            "with_sessions": self.with_sessions,
            "allowed_lateness": self.allowed_lateness,
            "every": self.every,
        }


@attrs.frozen(kw_only=True)
class ExportJob:
    """An export, divided into shards that any worker can take; the arguments are those of `client.export.run`.

    `to` is a folder on a disk that all workers share, or a URL; each shard is a folder below it, and the manifest of
    all is written after each. A shard has `shard_apps` App IDs and `shard_days` days (see `Selection.shards`). With
    `every` (seconds) it is run again that long after it was complete, for calls that were late or open.
    """

    kind = "export"

    name: str
    selection: Selection
    to: str
    format: str = "parquet"
    every: float | None = None
    shard_apps: int = 20
    shard_days: int = 7

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(self, name=key_part, selection=_selection, to=_place, format=_format)
        validation.apply_rules(self, shard_apps=_count, shard_days=_count)
        if self.every is not None:
            _interval("every", self.every)
        if not self.selection.apps:
            raise ValueError("selection: has no App ID: a fleet's account has none of its own, so give apps=(...)")
        if (count := self._count_shards()) > _MOST_SHARDS:
            wide = f"from {self.selection.span}: {count} shards"
            raise ValueError(f"{wide} are more than {_MOST_SHARDS}: check start and end, or give larger shards")

    def shards(self) -> tuple[Shard, ...]:
        """Return the shards, each of which is a job of its own."""
        return self.selection.shards(apps=self.shard_apps, days=self.shard_days)

    def _count_shards(self) -> int:
        # Calculated: to make a million shards takes a minute.
        length, span = self.shard_days * DAY, self.selection.span
        return -(-len(self.selection.apps) // self.shard_apps) * (-(-span.end // length) - span.start // length)


def _place(name: str, value: object) -> str:
    place = validation.non_empty_str(name, value)
    return place if "://" in place else str(validation.path(name, place))


def _seconds(name: str, value: object) -> int:
    return validation.int_in_range(name, value, 0)


def _interval(name: str, value: object) -> float:
    found = validation.number_in_range(name, value)
    if found < _SHORTEST_INTERVAL:
        raise ValueError(f"{name}={validation.short_repr(found)}: allowed are {_SHORTEST_INTERVAL} seconds or more")
    return found


def _count(name: str, value: object) -> int:
    return validation.int_in_range(name, value, 1)


def _format(name: str, value: object) -> str:
    return validation.one_of(name, value, formats.NAMES)


def _start(back: int) -> timedelta | None:
    return timedelta(seconds=back) if back else None


def _selection(name: str, value: object) -> Selection:
    return validation.instance(name, value, Selection)


def _set_name(job: WatchJob | FollowJob) -> None:
    validation.app_id("app_id", job.app_id)
    object.__setattr__(job, "name", key_part("name", fingerprint(job.app_id) if job.name == "" else job.name))


Job = WatchJob | FollowJob | ExportJob
"""What a worker does."""


def _jobs(jobs: Iterable[Job]) -> tuple[Job, ...]:
    return tuple(validation.as_list("jobs", jobs, "jobs"))


def _secret(name: str, value: object) -> Secret:
    return validation.instance(name, value, Secret)


def _plan(value: Plan | str) -> Plan:
    return Plan.of(value)


def _urls(value: str | Iterable[str]) -> tuple[str, ...]:
    urls = validation.non_empty_strs("base_url", (value,) if isinstance(value, str) else value)
    if not urls:
        raise ValueError("base_url=(): at least one is needed")
    return tuple(map(addresses.checked, urls))


@attrs.frozen(kw_only=True)
class Account:
    """One Agora account: its plan, where its credentials are, and its jobs.

    ```python
    from agora_analytics import Series
    from agora_analytics.fleet import Account, Secret, WatchJob

    acme = Account(
        name="acme",
        plan="premium",
        customer_id=Secret(env="ACME_ID"),
        customer_secret=Secret(env="ACME_SECRET"),
        jobs=[WatchJob(app_id="0123456789abcdef", series=[Series("userCount", product="Native")])],
    )
    assert [key for key, _ in acme.keyed()] == ["acme.watch.9f9f5111f7b27a78"]
    ```

    Its jobs share one quota, whichever workers run them. Raises `ValueError` or `TypeError` for values that cannot
    work, and for two jobs of one kind and name.
    """

    name: str
    plan: Plan = attrs.field(converter=_plan)
    customer_id: Secret
    customer_secret: Secret
    base_url: tuple[str, ...] = attrs.field(default=HOSTS, converter=_urls)
    jobs: tuple[Job, ...] = attrs.field(default=(), converter=_jobs)

    def __attrs_post_init__(self) -> None:
        key_part("name", self.name)
        validation.apply_rules(self, customer_id=_secret, customer_secret=_secret)
        for place, job in enumerate(self.jobs):
            if not isinstance(job, Job):
                raise validation.type_error(f"jobs[{place}]", job, "a WatchJob, a FollowJob or an ExportJob")
        if twice := validation.repeated(key for key, _ in self.keyed()):
            raise ValueError(f"jobs: {twice} is there twice: give one of them another name")

    def keyed(self) -> list[tuple[str, Job]]:
        """Return the jobs with their keys: account, kind and name, such as `acme.watch.web`."""
        return [(f"{self.name}.{job.kind}.{job.name}", job) for job in self.jobs]
