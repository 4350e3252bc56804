"""Settings of `serve` from flags, environment variables and the table `[serve]` of the settings file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from agora_analytics.cli.parsing import split_list
from agora_analytics.cli.settings import SERVE, check_keys, default_path, parse_secret, read_secret, read_table

PORT: Final = 8_766
_MAX_PORT: Final = 65_535

_PREFIX: Final = "AGORA_SERVE_"


@attrs.frozen(kw_only=True)
class ServeSettings:
    """Settings of one source, or of all of them merged; None for what is not set."""

    series: tuple[str, ...] | None = None
    host: str | None = None
    port: int | None = None
    hosts: tuple[str, ...] | None = None
    token: str | None = attrs.field(default=None, repr=False)
    title: str | None = None
    checkpoint: str | None = None
    sessions: bool | None = None
    gaps: bool | None = None
    alerts: tuple[str, ...] | None = None
    fleet: Path | None = None

    def over(self, other: ServeSettings) -> ServeSettings:
        """Return these settings, completed by those of a source of lower precedence."""
        own = attrs.asdict(self, recurse=False, filter=lambda _, value: value is not None)
        return attrs.evolve(other, **own)


_LISTS: Final = frozenset({"series", "hosts", "alerts"})
_FLAGS: Final = frozenset({"sessions", "gaps"})
_KEYS: Final = frozenset({*(field.name for field in attrs.fields(ServeSettings)), "token_file"})


def serve_settings(given: ServeSettings, config: Path | None) -> ServeSettings:
    """Return the settings: flags before environment variables before the file.

    Raises `ValueError` for unknown keys and for values of another type, without showing them.
    """
    # Read again beside the account's: `serve` has its own table, and `--simulate` needs no account at all.
    path = (config or default_path()).expanduser()
    table = read_table(path, required=config is not None).get(SERVE, {})
    where = f"config {str(path)!r}, [{SERVE}]"
    if not isinstance(table, dict):
        raise TypeError(f"{where}: must be a table")
    check_keys(table, _KEYS, where)
    environment = {name: os.environ[key] for name in _KEYS if os.environ.get(key := _PREFIX + name.upper())}
    return given.over(_from_texts(environment)).over(_from_values(table, where, path.parent))


def _from_texts(texts: Mapping[str, str]) -> ServeSettings:
    """Return the settings in environment variables: lists have commas, flags are `true` or `false`."""
    values: dict[str, Any] = {}
    for name, text in texts.items():
        values[name] = text
        if name in _LISTS:
            values[name] = list(split_list(text))
        # `isdigit` alone also accepts characters such as ², on which `int` fails.
        elif name == "port" and text.isascii() and text.isdigit():
            values[name] = int(text)
        elif name in _FLAGS and text.lower() in {"true", "false"}:
            values[name] = text.lower() == "true"
    return _from_values(values, "environment: AGORA_SERVE_…", Path())


def _from_values(values: Mapping[str, Any], where: str, folder: Path) -> ServeSettings:
    for name, value in values.items():
        if not _fits(name, value):
            kind = "a list of texts" if name in _LISTS else "true or false" if name in _FLAGS else "text"
            kind = f"a whole number from 0 to {_MAX_PORT}" if name == "port" else kind
            # It may be the token.
            raise ValueError(f"{where}: {name} must be {kind} (value not shown)")
    found: dict[str, Any] = {name: tuple(value) if name in _LISTS else value for name, value in values.items()}
    file = found.pop("token_file", None)
    if file is not None:
        if "token" in found:
            raise ValueError(f"{where}: has both token and token_file: one is enough")
        found["token"] = read_secret(folder / Path(file).expanduser())
    elif "token" in found:
        found["token"] = parse_secret(found["token"], where)
    if "fleet" in found:
        # Beside the settings, as the file with the token; a variable has a path of the working directory.
        found["fleet"] = folder / Path(found["fleet"]).expanduser()
    return ServeSettings(**found)


def _fits(name: str, value: object) -> bool:
    if name in _LISTS:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if name == "port":
        # `true` is a whole number for `isinstance`.
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_PORT
    return isinstance(value, bool if name in _FLAGS else str)
