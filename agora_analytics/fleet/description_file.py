"""A fleet's description in a TOML file: accounts by name, the jobs of each, and where their secrets are.

The file holds no secret. For each it has the name of an environment variable (`customer_secret_env`) or the path of a
file (`customer_secret_file`); of a relative path, from the folder of the description.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import attrs

from agora_analytics._core.validation import durations, non_empty_str, number_in_range, path, short_repr
from agora_analytics._core.validation.names import did_you_mean
from agora_analytics.export.selection import Selection
from agora_analytics.fleet.description import Account, ExportJob, FollowJob, Job, Secret, WatchJob
from agora_analytics.streams.watch.series import Series

T = TypeVar("T")

_SECRETS: Final = ("customer_id", "customer_secret")
_JOBS: Final = ("watch", "follow", "export")
_OF_SERIES: Final = ("metric", "product", "cname", "dimension", "dimension_values", "uids", "weight")
_KEYS: Final = {
    "fleet": ("name", "turn", "store_env", "store_file", "sink_env", "sink_file", "accounts"),
    "account": (*(f"{name}_{kind}" for name in _SECRETS for kind in ("env", "file")), "plan", "base_url", *_JOBS),
    "watch": ("app_id", "series", "name", "back", "gaps", "only_final", "allowed_lateness", "final_after", "every"),
    "follow": ("app_id", "name", "back", "with_sessions", "allowed_lateness", "every"),
    "export": ("name", "app_ids", "start", "end", "datasets", "to", "format", "every", "shard_apps", "shard_days"),
}
_DURATIONS: Final = ("back", "allowed_lateness", "final_after", "every", "turn")


class Described(NamedTuple):
    """What a file describes."""

    accounts: tuple[Account, ...]
    store: Secret
    sink: Secret | None
    name: str
    turn: float


def read(place: str | Path) -> Described:
    """Read a description; raises `ValueError` that names the file, the table and the key of what cannot work."""
    file = path("path", place)
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"the description {str(file)!r} cannot be read: {reason}") from None
    return _Reader(file).fleet(table)


class _Reader:
    def __init__(self, file: Path) -> None:
        self._file = file

    def fleet(self, table: Mapping[str, Any]) -> Described:
        where = f"{str(self._file)!r}"
        _check_keys(table, _KEYS["fleet"], where)
        accounts = _table(table.get("accounts", {}), f"{where}, accounts")
        store, sink = self._secret(table, "store", where), self._secret(table, "sink", where)
        if store is None:
            raise ValueError(f"{where}: store_env or store_file is missing: where the URL of Redis is")
        turn = _with_durations(table, where).get("turn", 60.0)
        return Described(
            tuple(self._account(name, found, f"{where}, accounts.{name}") for name, found in accounts.items()),
            store=store,
            sink=sink,
            name=_made(partial(non_empty_str, "name"), {"value": table.get("name", "agora")}, where),
            turn=_made(partial(number_in_range, "turn", above=True), {"value": turn}, where),
        )

    def _account(self, name: str, value: object, where: str) -> Account:
        table = _table(value, where)
        if shown := [key for key in _SECRETS if key in table]:
            raise ValueError(f"{where}: {shown[0]} (value not shown) does not belong here: use {shown[0]}_env or _file")
        _check_keys(table, _KEYS["account"], where)
        secrets = {key: self._secret(table, key, where) for key in _SECRETS}
        if missing := [key for key, secret in secrets.items() if secret is None]:
            raise ValueError(f"{where}: {missing[0]}_env or {missing[0]}_file is missing")
        given = {key: table[key] for key in ("plan", "base_url") if key in table}
        jobs = [job for kind in _JOBS for job in self._jobs(table.get(kind, []), kind, where)]
        return _made(Account, {"name": name, "jobs": jobs, **secrets, **given}, where)

    def _jobs(self, tables: object, kind: str, where: str) -> list[Job]:
        if not isinstance(tables, list):
            raise ValueError(f"{where}.{kind}: must be an array of tables: [[accounts.NAME.{kind}]]")  # noqa: TRY004
        return [self._job(_table(one, where), kind, f"{where}.{kind}[{place}]") for place, one in enumerate(tables)]

    def _job(self, table: Mapping[str, Any], kind: str, where: str) -> Job:
        _check_keys(table, _KEYS[kind], where)
        values = _with_durations(table, where)
        if kind == "follow":
            return _made(FollowJob, values, where)
        if kind == "watch":
            return _made(WatchJob, {**values, "series": _series(values.get("series", []), where)}, where)
        if not values.get("app_ids"):
            raise ValueError(f"{where}: app_ids is missing: a list of App IDs")
        given = {"apps": values.pop("app_ids")}
        if "datasets" in values:
            given["datasets"] = values.pop("datasets")
        given |= {key: _instant(values.pop(key, None), f"{where}, {key}") for key in ("start", "end")}
        to = values.get("to")
        if isinstance(to, str) and to.strip() and "://" not in to:
            values["to"] = str(self._file.absolute().parent / _made(partial(path, "to"), {"value": to}, where))
        return _made(ExportJob, {**values, "selection": _made(Selection, given, where)}, where)

    def _secret(self, table: Mapping[str, Any], key: str, where: str) -> Secret | None:
        env, file = table.get(f"{key}_env"), table.get(f"{key}_file")
        if env is None and file is None:
            return None
        return _made(self._secret_in, {"env": env, "file": file}, f"{where}, {key}")

    def _secret_in(self, env: Any, file: Any) -> Secret:
        return Secret(env=env, file=None if file is None else self._file.parent / path("file", file))


def _series(values: object, where: str) -> list[Series]:
    if not isinstance(values, list):
        raise ValueError(f"{where}, series: must be a list such as ['userCount:Native']")  # noqa: TRY004
    return [_one_series(value, f"{where}, series[{place}]") for place, value in enumerate(values)]


def _one_series(value: object, where: str) -> Series:
    if isinstance(value, str):
        metric, _, product = value.partition(":")
        return _made(Series, {"metric": metric, "product": product or "Native"}, where)
    table = _table(value, where)
    _check_keys(table, _OF_SERIES, where)
    return _made(Series, {"product": "Native", **table}, where)


def _made(kind: Callable[..., T], values: Mapping[str, Any], where: str) -> T:
    """Make a value; its error gets the place."""
    fields = attrs.fields(kind) if isinstance(kind, type) and attrs.has(kind) else ()
    if missing := [one.name for one in fields if one.init and one.default is attrs.NOTHING and one.name not in values]:
        raise ValueError(f"{where}: {missing[0]} is missing")
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from None


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: must be a table")  # noqa: TRY004 - the file is wrong, not a call
    return value


def _check_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    if unknown := sorted(set(table) - set(known)):
        guess = did_you_mean(unknown[0], known)
        raise ValueError(f"{where}: unknown {', '.join(unknown)}: {guess}allowed are {', '.join(sorted(known))}")


def _with_durations(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values, of which durations may be seconds or texts such as `90s` and `1h30m`."""
    values = dict(table)
    for key in _DURATIONS:
        text = values.get(key)
        if isinstance(text, str):
            seconds = durations.seconds_of(text) if durations.DURATION.fullmatch(text) else None
            if seconds is None:
                raise ValueError(f"{where}, {key}={short_repr(text)}: allowed are durations like {durations.EXAMPLES}")
            values[key] = seconds
    return values


def _instant(value: object, where: str) -> datetime | int:
    """Return a moment of TOML: an offset date-time, or seconds."""
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError(f"{where}={value} has no time zone: write {value.isoformat()}Z")
    if not isinstance(value, datetime | int) or isinstance(value, bool):
        raise ValueError(f"{where}: must be a date-time with a zone, such as 2026-11-24T00:00:00Z")  # noqa: TRY004
    return value
