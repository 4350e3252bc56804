"""A PostgreSQL and a PgBouncer of the test's own, where Debian's packages of these names are installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import attrs
import psycopg
import pytest
from helpers.redis_server import free_port

PASSWORD = "secret-word"


def _program(name: str) -> str | None:
    """Return the path of a program; Debian keeps PostgreSQL's in a folder of their version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return shutil.which(name) or (str(found[-1]) if found else None)


def _owner() -> str | None:
    """Return the user that servers run as, since they refuse to run as root; None if there is none."""
    if os.name != "posix":
        return None
    import pwd

    if user := os.getuid():
        return pwd.getpwuid(user).pw_name
    return next((one.pw_name for one in pwd.getpwall() if one.pw_name == "postgres"), None)


OWNER = _owner()
POSTGRES = _program("postgres") if OWNER and _program("initdb") else None
PGBOUNCER = _program("pgbouncer") if OWNER else None
MISSING_POSTGRES = "PostgreSQL is not installed, or there is no user `postgres` to run it (Debian's package postgresql)"
MISSING_PGBOUNCER = "pgbouncer is not installed (Debian's package pgbouncer)"


def _folder() -> Path:
    """Return a new folder of the servers' user, who may not enter those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="agora-pg-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
    shutil.chown(folder, OWNER)
    return folder


def _start(*command: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        user=OWNER if os.getuid() == 0 else None,
        cwd="/",  # the user may not enter the folder of the tests
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.02)
        else:
            return


@attrs.define
class PostgresServer:
    """A server; it can be killed and started again, and keeps its data. `remove` also removes these.

    `with` starts and removes it, and skips the test where PostgreSQL is not installed.
    """

    port: int = attrs.field(factory=free_port)
    _folder: Path = attrs.field(factory=_folder)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if POSTGRES is None:
            pytest.skip(MISSING_POSTGRES)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, user: str, password: str = PASSWORD, query: str = "") -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/postgres{query}"

    def start(self) -> None:
        data = self._folder / "data"
        if not data.exists():
            secret = self._folder / "password"
            secret.write_text(PASSWORD)
            shutil.chown(secret, OWNER)
            options = ("--username=postgres", f"--pwfile={secret}", "--auth=scram-sha-256", "--no-sync", "--locale=C")
            assert _start(_program("initdb") or "initdb", f"--pgdata={data}", "--encoding=UTF8", *options).wait() == 0
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": 60,
            "autovacuum": "off",
        }
        options = tuple(f"--{name}={value}" for name, value in settings.items())
        self._process = _start(POSTGRES or "postgres", "-D", data, *options)
        _wait_until_it_answers(self.url)

    def kill(self) -> None:
        """Stop it at once, as a crash would: nothing is written any more."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def empty(self) -> None:
        """Remove what ledgers have stored."""
        self.run("truncate agora_quota")

    def freeze(self) -> None:
        """Stop the server and its processes for connections, with a signal."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self._processes():
            os.kill(process, signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement as the administrator, and return its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def _processes(self) -> list[int]:
        assert self._process is not None
        own = self._process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, children)]


@attrs.define
class PgBouncer:
    """A PgBouncer in transaction mode before a server: two connections for all who come.

    `with` starts and removes it, and skips the test where PgBouncer is not installed.
    """

    server: PostgresServer
    port: int = attrs.field(factory=free_port)
    _folder: Path = attrs.field(factory=_folder)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if PGBOUNCER is None:
            pytest.skip(MISSING_PGBOUNCER)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        users, settings = self._folder / "users", self._folder / "pgbouncer.ini"
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={self.server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = transaction\ndefault_pool_size = 2\n"
            "server_login_retry = 1\n"
        )
        self._process = _start(PGBOUNCER or "pgbouncer", "-q", settings)
        _wait_until_it_answers(self.url)

    def remove(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
