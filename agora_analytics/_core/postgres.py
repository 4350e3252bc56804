"""Statements to PostgreSQL, by a few connections of our own or by a pool of the caller's.

No state is kept in a session, so all of it works through PgBouncer in transaction mode. Each call is one message of the
simple protocol: settings that end with its transaction, then its statements. They are committed together, without an
explicit transaction, in one round trip.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agora_analytics._core import validation
from agora_analytics._core.extras import MissingExtraError, install_command
from agora_analytics._core.futures import cancel_and_wait, retrieve_error, uncancellable, wait_until_done
from agora_analytics._core.redaction import Hidden
from agora_analytics._core.shared_store import StoreFailedError

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Error

    Connection = AsyncConnection[Any]

_CONNECTIONS: Final = 4
"""Connections at most; a server has a process for each, and one is enough for one call at a time."""

_CONNECT_TIMEOUT: Final = 2
"""Seconds for one host of several, the least that libpq can do, unless the caller says otherwise."""

_NAME: Final = r"[a-z_][a-z0-9_]{0,62}"
_TABLE: Final = re.compile(rf"{_NAME}(\.{_NAME})?")

_SETTINGS: Final = """
select extract(epoch from clock_timestamp())::float8,
  set_config('statement_timeout', '{timeout:.0f}', true){durability};
"""
"""The time, and the setting that ends a statement whose client has given up."""

_ASYNCHRONOUS: Final = ", set_config('synchronous_commit', 'off', true)"

_REFUSED: Final = ("22", "23", "28", "3D", "3F", "42")
"""Classes of SQLSTATE: wrong values, wrong user, no such database, and what is missing or not allowed in it."""


# libpq has no SQLSTATE for a connection that was refused. A server that says it in another language is tried again.
_LOGIN_REFUSED: Final = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|not permitted to log in|(role|database) .* does not exist"
)


class PostgresResult(NamedTuple):
    """The server's UTC seconds as a call began, and the rows of its last statement."""

    now: float
    rows: list[tuple[Any, ...]]


class PostgresDatabase:
    """One database, by its connection string, its URL, or a pool of psycopg, which stays open.

    `user` is the class that needs it, for the error where psycopg is missing. `create` are statements that run when a
    table is missing. Without `synchronous_commit` a call does not wait until the disk has it; with it the server's own
    setting counts. `statement_timeout` is in seconds. Raises `ValueError` or `TypeError` for what is none of these.
    """

    def __init__(
        self,
        given: Hidden,
        user: str,
        create: str,
        *,
        synchronous_commit: bool = True,
        statement_timeout: float = 1.0,
    ) -> None:
        if find_spec("psycopg") is None:
            raise MissingExtraError(f"{user} needs psycopg: {install_command('postgres')}")
        is_text = isinstance(given.value, str)
        # A class of pools has a method of that name, too.
        if not is_text and (isinstance(given.value, type) or not hasattr(given.value, "connection")):
            raise TypeError("store: allowed is a URL, a connection string, or an AsyncConnectionPool (value not shown)")
        self._pool: Any = None if is_text else given.value
        parsed = _parse(given) if is_text else ("", type(given.value).__name__)
        if parsed is None:
            allowed = "a connection string or URL of PostgreSQL, with %40 for @ and %2F for / in a password"
            raise ValueError(f"store: allowed is {allowed}: (value not shown)")
        self._conninfo, self.name = parsed
        self._create = create
        durability = "" if synchronous_commit else _ASYNCHRONOUS
        self._settings = _SETTINGS.format(timeout=1_000 * statement_timeout, durability=durability)
        self._process = os.getpid()
        self._idle: list[asyncio.Task[Connection]] = []
        self._limit = asyncio.Semaphore(_CONNECTIONS)

    async def run(self, statements: str, values: Mapping[str, Any]) -> PostgresResult:
        """Make one call, and return the result of its last statement; raises `StoreFailedError`.

        A cancellation is raised at once. The call may have been made all the same.
        """
        from psycopg import Error  # noqa: PLC0415 - an extra

        try:
            async with self._connection() as connection:
                return await _interruptible(connection, self._execute(connection, statements, values))
        except Error as error:
            failure = _failure(error)
        # Not inside `except`: psycopg's frames hold the connection string.
        raise failure

    async def close(self) -> None:
        """Close the connections; may be called twice, and the database may be used again after it."""
        idle, self._idle = self._idle, []
        await uncancellable(_close_all(idle))

    def forget_connections(self) -> None:
        """Drop connections of another event loop, or of the parent of a forked process.

        Raises `RuntimeError` in a forked process if a pool was passed.
        """
        if os.getpid() != self._process and self._pool is not None:
            raise RuntimeError(f"this {self.name} belongs to another process (it was forked): make one for each")
        for connection in filter(None, map(_opened, self._idle)):
            if os.getpid() != self._process and not connection.closed:
                # Closing says goodbye to the server, which is not ours to say.
                with Path(os.devnull).open("wb") as nothing:
                    os.dup2(nothing.fileno(), connection.fileno())
            connection.pgconn.finish()
        self._process, self._idle, self._limit = os.getpid(), [], asyncio.Semaphore(_CONNECTIONS)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        if self._pool is not None:
            async with self._pool.connection() as connection:
                yield connection
            return
        async with self._limit:
            opening = self._idle.pop() if self._idle else self._open()
            try:
                await asyncio.wait([opening])
            except asyncio.CancelledError:
                # It goes on for the next caller: the first of several hosts may be down, and take all the time of one.
                self._idle.insert(0, opening)
                raise
            connection = opening.result()
            try:
                yield connection
            except BaseException:
                await connection.close()
                raise
            # The one that was used last is used next, so that the others are opened only when needed.
            self._idle.append(opening)

    async def _execute(self, connection: Connection, statements: str, values: Mapping[str, Any]) -> PostgresResult:
        """Run statements, and create the tables if one is missing."""
        from psycopg import Error  # noqa: PLC0415 - an extra
        from psycopg.errors import UndefinedTable  # noqa: PLC0415

        try:
            return await _execute(connection, self._settings + statements, values)
        except UndefinedTable as error:
            missing = _reason(error)
        try:
            await connection.rollback()  # of the transaction that a caller's pool may have begun
            await _execute(connection, self._settings + self._create, {})
        except Error as error:
            failure = _failure(error, f"{missing}, and could not be created: ")
        else:
            return await _execute(connection, self._settings + statements, values)
        raise failure

    def _open(self) -> asyncio.Task[Connection]:
        from psycopg import AsyncConnection  # noqa: PLC0415 - an extra

        opening = asyncio.ensure_future(AsyncConnection.connect(self._conninfo, autocommit=True))
        opening.add_done_callback(retrieve_error)
        return opening


async def _close_all(openings: list[asyncio.Task[Connection]]) -> None:
    for opening in openings:
        await cancel_and_wait(opening)
        if (connection := _opened(opening)) is not None:
            await connection.close()


async def _execute(connection: Connection, statements: str, values: Mapping[str, Any]) -> PostgresResult:
    from psycopg import AsyncClientCursor  # noqa: PLC0415 - an extra
    from psycopg.rows import tuple_row  # noqa: PLC0415

    # A client cursor puts the values into the text. It prepares nothing, and can send several statements at once.
    cursor = AsyncClientCursor(connection, row_factory=tuple_row)
    await cursor.execute(statements.encode(), values)
    settings = await cursor.fetchall()
    while cursor.nextset():
        pass
    result = PostgresResult(settings[0][0], await cursor.fetchall() if cursor.description else [])
    if not connection.autocommit:
        await connection.commit()
    return result


async def _interruptible(connection: Connection, work: Coroutine[Any, Any, PostgresResult]) -> PostgresResult:
    """Return the result of work on a connection; a cancellation cuts the connection."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(retrieve_error)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        # psycopg would ask the server to cancel the statement, and wait for ten seconds if it is not well. So the
        # statement ends as if the network had failed; the server ends it by its time limit.
        if not connection.closed:
            with suppress(OSError), socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as link:
                link.shutdown(socket.SHUT_RDWR)
        await wait_until_done(asyncio.gather(task, return_exceptions=True))
        raise
    return task.result()


def quoted_name(argument: str, name: str) -> str:
    """Return a table's name, quoted, so that a reserved word can be one; raises `ValueError` or `TypeError`."""
    name = validation.non_empty_str(argument, name)
    if not _TABLE.fullmatch(name):
        allowed = "lower-case letters, digits and _, also after a schema: schema.table"
        raise ValueError(f"{argument}={validation.short_repr(name)}: allowed are {allowed}")
    return ".".join(f'"{part}"' for part in name.split("."))


def _opened(opening: asyncio.Task[Connection]) -> Connection | None:
    return None if not opening.done() or opening.cancelled() or opening.exception() else opening.result()


def _parse(database: Hidden) -> tuple[str, str] | None:
    """Return a connection string with a time limit, and what errors may show of it: no user, password or option.

    Return None if it is none.
    """
    from psycopg import ProgrammingError  # noqa: PLC0415 - an extra
    from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415

    with suppress(ProgrammingError, UnicodeError):  # they quote the string
        given = conninfo_to_dict(database.value)
        host = given.get("host") or given.get("hostaddr") or "localhost"
        shown = f"{host}:{given.get('port', 5432)}/{given.get('dbname', '')}"
        # A password that holds an unescaped "/" or "@" is taken for a host or a database.
        if database.value.strip() and "@" not in shown:
            return make_conninfo("", **{"connect_timeout": _CONNECT_TIMEOUT, **given}), validation.printable(shown)
    return None


def _reason(error: Error) -> str:
    # The other lines quote the statement, or repeat the first for each host.
    return error.diag.message_primary or str(error).partition("\n")[0] or type(error).__name__


def _failure(error: Error, context: str = "") -> StoreFailedError:
    # In all of the text: it has a line for each of several hosts.
    refused = error.sqlstate.startswith(_REFUSED) if error.sqlstate else bool(_LOGIN_REFUSED.search(str(error)))
    return StoreFailedError(context + _reason(error), refused=refused)
