"""Who asks and where: settings from flags, environment and a TOML file, in this order.

The secret has no flag, since everybody on a machine can read the flags of every process. It comes from the environment,
from standard input, from a file of its own, or from the settings file, which then must be its owner's alone.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from shlex import quote
from typing import IO, Any

import attrs

from agora_analytics import HOSTS, AnalyticsClient, FileCheckpoints, FileLedger, MemoryLedger, Plan
from agora_analytics._core.transport import AiohttpTransport, Credentials, trusting
from agora_analytics.protocols import Ledger, Transport

_ENVIRONMENT = {
    "customer_id": "AGORA_CUSTOMER_ID",
    "customer_secret": "AGORA_CUSTOMER_SECRET",
    "app_id": "AGORA_APP_ID",
    "plan": "AGORA_PLAN",
    "base_url": "AGORA_BASE_URL",
    "ledger": "AGORA_LEDGER",
}
_SECRET_FILE = "customer_secret_file"  # noqa: S105 - the name of a key
_KEYS = frozenset({*_ENVIRONMENT, _SECRET_FILE})
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@attrs.frozen(kw_only=True)
class Settings:
    """What one source, or all of them together, say; None where they do not."""

    customer_id: str | None = None
    customer_secret: str | None = attrs.field(default=None, repr=False)
    app_id: str | None = None
    plan: str | None = None
    base_url: tuple[str, ...] | None = None
    ledger: str | None = None
    ca_file: Path | None = None

    def over(self, other: Settings) -> Settings:
        """Return these settings, and the other's where these say nothing."""
        mine = attrs.asdict(self, recurse=False, filter=lambda _, value: value is not None)
        return attrs.evolve(other, **mine)

    def known_plan(self) -> Plan:
        """Return the plan; raises `ValueError` where none or an unknown one is set."""
        if self.plan is None:
            # The customer is not needed, but without one there is nothing to tell of what is used.
            self._need("customer_id", "plan")
        return Plan.of(self.plan or "")

    def complete(self) -> Settings:
        """Return these settings; raises `ValueError` naming all that a client lacks, and from where it can come."""
        self._need("customer_id", "customer_secret", "plan", "app_id")
        return self

    def client(self, ledger: Ledger, *, max_wait: float | None) -> AnalyticsClient:
        """Return a client of these settings; raises `ValueError` where they are not complete."""
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
            checkpoints=FileCheckpoints(_state() / "checkpoints"),
        )

    def _transport(self) -> Transport | None:
        """Return what trusts the authorities of a file of the user's, None for the usual transport."""
        if self.ca_file is None:
            return None
        credentials = Credentials(self.customer_id or "", self.customer_secret or "")
        return AiohttpTransport(credentials, hosts=self.base_url or HOSTS, trust=trusting(self.ca_file.expanduser()))

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[Ledger]:
        """Open the ledger that all commands of a user share, or one of this command's own for ":memory:"."""
        ledger = MemoryLedger() if self.ledger == ":memory:" else FileLedger(self.ledger or default_ledger())
        try:
            yield ledger
        finally:
            await ledger.close()

    def _need(self, *names: str) -> None:
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            where = ", ".join(f"{name} ({_source(name)})" for name in missing)
            raise ValueError(f"settings are missing: {where}; each can also stand in {default_path()}")


def from_environment(environ: Mapping[str, str]) -> Settings:
    """Read the variables `AGORA_…`; empty ones count as not set."""
    return _settings({name: environ[key] for name, key in _ENVIRONMENT.items() if environ.get(key)}, "environment")


def from_file(path: Path, *, required: bool) -> Settings:
    """Read a TOML file; one that is not there is an error only where it was asked for.

    Raises `ValueError` for what cannot be read, for keys it does not know, and where it holds the secret but others
    than its owner may read it.
    """
    try:
        with path.open("rb") as file:
            open_to_others = _open_to_others(file)
            table = tomllib.load(file)
    except FileNotFoundError:
        if required:
            raise ValueError(f"config {str(path)!r} does not exist") from None
        return Settings()
    except (OSError, ValueError) as error:
        raise ValueError(f"config {str(path)!r} cannot be read: {error}") from None
    if "customer_secret" in table and open_to_others:
        raise ValueError(f"config {str(path)!r} holds the secret and {open_to_others}: {_closed(path)}")
    return _of_table(table, path)


def default_path() -> Path:
    """Where the settings file is looked for when none is named."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "agora-analytics" / "config.toml"


def default_ledger() -> Path:
    """Where requests are counted when no other place is named."""
    return _state() / "quota.db"


def secret_of(path: Path) -> str:
    """Read a file that holds the secret and nothing else but white space around it.

    Raises `ValueError` for what cannot be read, or where others than its owner may read it.
    """
    try:
        with path.expanduser().open(encoding="utf-8") as file:
            open_to_others, text = _open_to_others(file), file.read()
    except OSError as error:
        raise ValueError(f"secret file {str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"secret file {str(path)!r} cannot be read: it is not UTF-8") from None
    if open_to_others:
        instead = f"{_closed(path)}, or --secret-stdin < {quote(str(path))}"
        raise ValueError(f"secret file {str(path)!r}: {open_to_others}: {instead}")
    return secret_text(text, repr(str(path)))


def _open_to_others(file: IO[Any]) -> str:
    """Say that others than its owner can read a file, or nothing; a pipe is nobody else's."""
    mode = os.fstat(file.fileno()).st_mode
    if os.name == "nt" or not stat.S_ISREG(mode) or not mode & _OTHERS:
        return ""
    return f"others can read it (mode {stat.S_IMODE(mode):04o})"


def _closed(path: Path) -> str:
    """Return the command that takes a file from others, to be pasted as it is."""
    return f"chmod 600 {quote(str(path))}"


def secret_text(text: str, source: str) -> str:
    """Return the secret in a text; raises `ValueError` where there is none."""
    if not text.strip():
        raise ValueError(f"the secret from {source} is empty")
    return text.strip()


def _state() -> Path:
    """Where is kept what commands remember."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "agora-analytics"


def _of_table(table: Mapping[str, Any], path: Path) -> Settings:
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise ValueError(f"config {str(path)!r}: unknown {', '.join(unknown)}; allowed are {', '.join(sorted(_KEYS))}")
    values = {name: value for name, value in table.items() if name != _SECRET_FILE}
    if _SECRET_FILE in table:
        if "customer_secret" in table:
            raise ValueError(f"config {str(path)!r} has both customer_secret and {_SECRET_FILE}: one is enough")
        values["customer_secret"] = secret_of(path.parent / Path(str(table[_SECRET_FILE])).expanduser())
    return _settings(values, f"config {str(path)!r}")


def _settings(values: Mapping[str, Any], source: str) -> Settings:
    """Check that values are texts; what is wrong is named, never shown."""
    urls = values.get("base_url")
    hosts = urls.split(",") if isinstance(urls, str) else urls
    texts = {name: value for name, value in values.items() if name != "base_url"}
    wrong = [name for name, value in texts.items() if not isinstance(value, str)]
    if wrong or not (hosts is None or (isinstance(hosts, list) and all(isinstance(host, str) for host in hosts))):
        raise ValueError(f"{source}: {', '.join(wrong) or 'base_url'} must be text (value not shown)")
    return Settings(**texts, base_url=None if hosts is None else tuple(host.strip() for host in hosts))


def _source(name: str) -> str:
    others = {"customer_secret": "--secret-file, --secret-stdin"}
    flags = others.get(name) or f"--{name.replace('_', '-')}"
    return f"{flags} or {_ENVIRONMENT[name]}"
