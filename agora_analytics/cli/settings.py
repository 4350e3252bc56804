"""Account settings from options, environment variables and a TOML file, in this order of precedence.

The secret has no option, since every user of a machine can read the command lines of all processes. It comes from the
environment, from standard input, from a file of its own, or from the settings file; only the owner may read such files.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from shlex import quote
from typing import IO, Any

import attrs

from agora_analytics import HOSTS, AnalyticsClient, FileCheckpoints, FileLedger, MemoryLedger, Plan
from agora_analytics._core.transport import AiohttpTransport, Credentials, trusting
from agora_analytics._core.validation.names import did_you_mean
from agora_analytics.cli.parsing import check_plan
from agora_analytics.protocols import Ledger, Transport

_ENVIRONMENT = {
    "customer_id": "AGORA_CUSTOMER_ID",
    "customer_secret": "AGORA_CUSTOMER_SECRET",
    "app_id": "AGORA_APP_ID",
    "plan": "AGORA_PLAN",
    "base_url": "AGORA_BASE_URL",
    "ledger": "AGORA_LEDGER",
}
CREDENTIALS = ("customer_id", "customer_secret", "app_id")
"""What a client needs beside the plan to send a request."""

_SECRET_FILE = "customer_secret_file"  # noqa: S105 - the name of a key
SERVE = "serve"
"""The table of the settings file that `agora-analytics serve` reads."""

_KEYS = frozenset({*_ENVIRONMENT, _SECRET_FILE, SERVE})
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@attrs.frozen(kw_only=True)
class AccountSettings:
    """Settings of one source, or of all of them merged; None for what is not set."""

    customer_id: str | None = None
    customer_secret: str | None = attrs.field(default=None, repr=False)
    app_id: str | None = None
    plan: str | None = None
    base_url: tuple[str, ...] | None = None
    ledger: str | None = attrs.field(default=None, repr=False)
    ca_file: Path | None = None

    def over(self, other: AccountSettings) -> AccountSettings:
        """Return these settings, completed by those of a source of lower precedence."""
        own = attrs.asdict(self, recurse=False, filter=lambda _, value: value is not None)
        return attrs.evolve(other, **own)

    def with_placeholders(self) -> AccountSettings:
        """Return these settings with a text for each missing credential, for a client that sends nothing."""
        text = "missing"
        return self.over(AccountSettings(customer_id=text, customer_secret=text, app_id=text))

    def known_plan(self) -> Plan:
        """Return the plan; raises `ValueError` if it is missing or unknown."""
        if self.plan is None:
            # Not required here, but without a customer ID there is no usage to show: name both.
            self._need("customer_id", "plan")
        name = self.plan or ""
        check_plan("plan", name)
        return Plan.of(name)

    def complete(self) -> AccountSettings:
        """Return these settings; raises `ValueError` naming all that are missing, and where each can be set."""
        self._need(*CREDENTIALS, "plan")
        return self

    def client(self, ledger: Ledger, *, max_wait: float | None) -> AnalyticsClient:
        """Return a client with these settings; raises `ValueError` if any is missing."""
        self.complete()
        return AnalyticsClient(
            self.customer_id or "",
            self.customer_secret or "",
            plan=self.known_plan(),
            app_id=self.app_id,
            max_wait=max_wait,
            base_url=self.base_url or HOSTS,
            ledger=ledger,
            transport=self._transport(),
            # In one place for all commands, so that a lease keeps a second `watch` of the same name out.
            checkpoints=FileCheckpoints(_state_dir() / "checkpoints"),
        )

    def _transport(self) -> Transport | None:
        """Return a transport that trusts the certificate authorities of `ca_file`; None for the default transport."""
        if self.ca_file is None:
            return None
        credentials = Credentials(self.customer_id or "", self.customer_secret or "")
        return AiohttpTransport(credentials, hosts=self.base_url or HOSTS, trust=trusting(self.ca_file.expanduser()))

    @asynccontextmanager
    async def open_ledger(self) -> AsyncIterator[Ledger]:
        """Open the ledger: a file that all commands of a user share, a store that hosts share, or memory."""
        ledger = _ledger(self.ledger)
        try:
            yield ledger
        finally:
            await ledger.close()

    def missing(self, *names: str) -> tuple[str, ...]:
        """Return those of some settings that are not set, each with where it can be set."""
        return tuple(f"{name} ({_source(name)})" for name in names if getattr(self, name) is None)

    def _need(self, *names: str) -> None:
        if missing := self.missing(*names):
            raise ValueError(f"settings are missing: {', '.join(missing)}; each can also be set in {default_path()}")


def _ledger(place: str | None) -> Ledger:
    """Return the ledger in a file, at a URL or, by ":memory:", of this command alone; raises `ValueError`."""
    if place == ":memory:":
        return MemoryLedger()
    scheme, separator, _ = (place or "").partition("://")
    if not separator:
        # A file by default: each command is a process of its own, and the service counts them together.
        return FileLedger(place or default_ledger())
    from agora_analytics.quota import PostgresLedger, RedisLedger  # noqa: PLC0415 - of extras

    if scheme in {"redis", "rediss", "unix"}:
        # A fleet counts under its name.
        url, _, prefix = (place or "").partition("#")
        return RedisLedger(url, prefix=prefix or "agora")
    if scheme in {"postgres", "postgresql"}:
        return PostgresLedger(place or "")
    raise ValueError("ledger: allowed is a file, :memory:, or a URL of Redis or PostgreSQL (value not shown)")


def has_password(place: str | None) -> bool:
    """Whether a ledger is at a URL with a user or password."""
    return "://" in (place or "") and "@" in (place or "")


def from_environment(environ: Mapping[str, str]) -> AccountSettings:
    """Read the variables `AGORA_…`; an empty one is not set."""
    return _checked({name: environ[key] for name, key in _ENVIRONMENT.items() if environ.get(key)}, "environment")


def from_file(path: Path, *, required: bool) -> AccountSettings:
    """Read a TOML file; a missing one is an error only if it is `required`.

    Raises `ValueError` for a file that cannot be read, for unknown keys, and for a file that holds the secret and that
    other users can read.
    """
    return _from_table(read_table(path, required=required), path)


def read_table(path: Path, *, required: bool) -> Mapping[str, Any]:
    """Return the content of a settings file; raises `ValueError` as `from_file` does."""
    try:
        with path.open("rb") as file:
            # Of the open file and not of its path, which may be another file by then.
            exposure = _exposure(file)
            table = tomllib.load(file)
    except FileNotFoundError:
        if required:
            raise ValueError(f"config {str(path)!r} does not exist") from None
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"config {str(path)!r} cannot be read: {error}") from None
    serve = table.get(SERVE)
    secrets = (
        "customer_secret" in table
        or (isinstance(serve, dict) and "token" in serve)
        or has_password(str(table.get("ledger", "")))
    )
    # A file without a secret may be readable for all: only what it holds counts.
    if secrets and exposure:
        raise ValueError(f"config {str(path)!r} holds the secret and {exposure}: {_chmod_command(path)}")
    return table


def check_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raise `ValueError` for unknown keys, with the closest known one."""
    unknown = sorted(set(table) - set(known))
    if unknown:
        guess, allowed = did_you_mean(unknown[0], known), ", ".join(sorted(known))
        raise ValueError(f"{where}: unknown {', '.join(unknown)}: {guess}allowed are {allowed}")


def default_path() -> Path:
    """Return the path of the settings file if no other is given."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "agora-analytics" / "config.toml"


def default_ledger() -> Path:
    """Return the path of the ledger if no other is given."""
    return _state_dir() / "quota.db"


def read_secret(path: Path) -> str:
    """Read a file that holds only the secret; surrounding whitespace is ignored.

    Raises `ValueError` for a file that cannot be read, or that other users can read.
    """
    try:
        with path.expanduser().open(encoding="utf-8") as file:
            exposure, text = _exposure(file), file.read()
    except OSError as error:
        raise ValueError(f"secret file {str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"secret file {str(path)!r} cannot be read: it is not UTF-8") from None
    if exposure:
        fix = f"{_chmod_command(path)}, or --secret-stdin < {quote(str(path))}"
        raise ValueError(f"secret file {str(path)!r}: {exposure}: {fix}")
    return parse_secret(text, repr(str(path)))


def _exposure(file: IO[Any]) -> str:
    """Return why a file is not private; empty if only its owner can read it, or if it is a pipe."""
    mode = os.fstat(file.fileno()).st_mode
    # systemd gives a service its credentials by an access list, whose mask is in the bits of the group.
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    is_credential = bool(credentials) and Path(file.name).parent == Path(credentials or "")
    others = _OTHERS & ~stat.S_IRGRP if is_credential else _OTHERS
    if os.name == "nt" or not stat.S_ISREG(mode) or not mode & others:
        return ""
    return f"others can read it (mode {stat.S_IMODE(mode):04o})"


def _chmod_command(path: Path) -> str:
    """Return a shell command that makes a file private."""
    return f"chmod 600 {quote(str(path))}"


def parse_secret(text: str, source: str) -> str:
    """Return the secret in a text; raises `ValueError` if it is empty."""
    if not text.strip():
        raise ValueError(f"the secret from {source} is empty")
    return text.strip()


def _state_dir() -> Path:
    """Return the folder of the ledger and of checkpoints."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "agora-analytics"


def _from_table(table: Mapping[str, Any], path: Path) -> AccountSettings:
    check_keys(table, _KEYS, f"config {str(path)!r}")
    values = {name: value for name, value in table.items() if name not in {_SECRET_FILE, SERVE}}
    if _SECRET_FILE in table:
        if "customer_secret" in table:
            raise ValueError(f"config {str(path)!r} has both customer_secret and {_SECRET_FILE}: one is enough")
        # Relative to the settings file: commands run in any folder.
        values["customer_secret"] = read_secret(path.parent / Path(str(table[_SECRET_FILE])).expanduser())
    return _checked(values, f"config {str(path)!r}")


def _checked(values: Mapping[str, Any], source: str) -> AccountSettings:
    """Check that values are texts; an error names the key and never shows the value, which may be the secret."""
    urls = values.get("base_url")
    hosts = urls.split(",") if isinstance(urls, str) else urls
    texts = {name: value for name, value in values.items() if name != "base_url"}
    wrong = [name for name, value in texts.items() if not isinstance(value, str)]
    if wrong or not (hosts is None or (isinstance(hosts, list) and all(isinstance(host, str) for host in hosts))):
        raise ValueError(f"{source}: {', '.join(wrong) or 'base_url'} must be text (value not shown)")
    return AccountSettings(**texts, base_url=None if hosts is None else tuple(host.strip() for host in hosts))


def _source(name: str) -> str:
    special = {"customer_secret": "--secret-file, --secret-stdin"}
    options = special.get(name) or f"--{name.replace('_', '-')}"
    return f"{options} or {_ENVIRONMENT[name]}"
