"""Scripts in Redis or Valkey, by a few connections of our own or by a client of the caller's."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from functools import cache
from hashlib import sha1
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from agora_analytics._core.decoding.json import one_line
from agora_analytics._core.extras import MissingExtraError, install_command
from agora_analytics._core.futures import cancellations, raise_lost_cancellation, uncancellable
from agora_analytics._core.redaction import Hidden, Scrubber
from agora_analytics._core.shared_store import StoreFailedError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_CONNECTIONS: Final = 64
"""At most. Each account makes one change at a time; the many accounts of a fleet's worker make theirs side by side, and
the busier its event loop is, the longer each has a connection."""

_QUOTED: Final = 200
"""Characters that an error quotes of what the server said."""

_DATABASE: Final = re.compile(r"(/[0-9]*)?/?")
"""The path of a URL: the number of a database, or nothing for the first."""

_INHERITED: Final[list[object]] = []
"""What forked children have of their parents; to collect it would close the sockets of both."""

log = logging.getLogger("agora_analytics.quota")


class RedisConnections:
    """Runs scripts by a URL, or by a client of redis-py, which stays open; no error of it holds a credential.

    `user` is the class that needs it, for the error where redis-py is missing; `timeout` are the seconds for a
    connection or an answer. `name` says where the store is, without credentials.
    """

    def __init__(self, given: Hidden, user: str, timeout: float = 1.0) -> None:
        self._process = os.getpid()
        self._timeout = timeout
        self._url: str | None = None
        self._client: Any = None
        if isinstance(given.value, str):
            if find_spec("redis") is None:
                raise MissingExtraError(f"{user} needs redis: {install_command('redis')}")
            self.name, self._url = checked_url(given), given.value
        else:
            self._client, self.name = given.value, type(given.value).__name__
        self._secrets = _secrets(self._client or _connect(given.value, timeout))

    async def run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        """Return what a script returns; raises `StoreFailedError`. It may have run all the same."""
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - an extra

        if self._client is None:
            self._client = _connect(self._url or "", self._timeout)
        before = cancellations()
        try:
            try:
                found = await self._client.evalsha(_hash(script), len(keys), *keys, *arguments)
            except NoScriptError:
                # Which stores the script, too. redis-py's way takes two round trips, and one may take 0.1 s.
                found = await self._client.eval(script, len(keys), *keys, *arguments)
        except Exception as error:  # noqa: BLE001 - a client or credential provider of the user's raises what it likes
            reason, refused = self.reason(error), _is_refusal(error)
        else:
            raise_lost_cancellation(before)
            return found
        # Outside of `except`, or the error would have redis-py's as context, whose frames hold the password.
        raise StoreFailedError(reason, refused=refused)

    async def close(self) -> None:
        """Close the connections that it opened; it may be used again after it."""
        if self._url is not None and self._client is not None:
            client, self._client = self._client, None
            try:
                await uncancellable(client.aclose())
            except Exception as error:  # noqa: BLE001 - a connection that cannot be closed is closed
                log.debug("a connection of the store was not closed in order: %s", type(error).__name__)

    def forget_connections(self) -> None:
        """Leave the connections alone: they belong to another event loop, or to the parent of a forked process.

        Raises `RuntimeError` in a forked process if a client was passed.
        """
        forked = self._process != os.getpid()
        if self._url is not None:
            if forked:
                _INHERITED.append(self._client)
            self._client, self._process = None, os.getpid()
        elif forked:
            raise RuntimeError(f"this {self.name} belongs to another process (it was forked): make one for each")

    def reason(self, error: Exception) -> str:
        """Return what went wrong, as the server or the system said it; the text of any other error may be a secret."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - an extra

        said = str(error) if isinstance(error, (RedisError, OSError)) else ""
        clean = self._secrets.scrub(said.encode(errors="replace")).decode(errors="replace")
        # The class says what redis-py cuts off the text, such as that a key has moved.
        return f"{type(error).__name__}: {one_line(clean, _QUOTED)}".removesuffix(": ")


def _is_refusal(error: Exception) -> bool:
    """Whether it takes a person: a wrong user or password, or one who may not do this."""
    from redis import exceptions as found  # noqa: PLC0415 - an extra

    kinds = (found.AuthenticationError, found.AuthorizationError, found.AuthenticationWrongNumberOfArgsError)
    return isinstance(error, (*kinds, found.NoPermissionError))


def is_of_redis(error: Exception) -> bool:
    """Whether an error is one of redis-py, which has classes of its own for what the system reports."""
    from redis.exceptions import RedisError  # noqa: PLC0415 - an extra

    return isinstance(error, RedisError)


@cache
def _hash(script: str) -> str:
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


def _connect(url: str, timeout: float) -> Redis:
    from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415 - an extra
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    # All who use it share a few connections and wait for one; a full pool of the default kind raises. Nothing is
    # repeated blindly: a change whose answer was lost may have been made.
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
    )
    return Redis.from_pool(pool)


def checked_url(url: Hidden) -> str:
    """Return what errors may show of a URL: no user, password or query; raises `ValueError` if it is none of Redis."""
    # Errors quote what they cannot read, which may be half a password, and their frames hold the URL.
    with suppress(Exception):  # what redis-py raises, which differs between its versions
        return _shown(url.value)
    raise ValueError(
        "store: allowed is a URL of redis-py that begins with redis, rediss, unix: (value not shown);"
        " a path after the host must be the number of a database, like /0"
    )


def _shown(url: str) -> str:
    pool: Any = _connect(url, 1.0).connection_pool
    pool.make_connection()  # which opens nothing, and finds what is wrong with the query
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    # redis-py ignores a path that is no number, and takes database 0: a typo would divide a quota.
    if not _DATABASE.fullmatch(parts.path):
        raise ValueError
    return f"{parts.hostname or ''}:{parts.port or 6379}{parts.path}"


def _secrets(client: Any) -> Scrubber:
    """Return what redacts the user and the password of a client."""
    options = getattr(getattr(client, "connection_pool", client), "connection_kwargs", {})
    return Scrubber(*(str(options[name]) for name in ("username", "password") if options.get(name)))


def as_bytes(value: bytes | str) -> bytes:
    """Return what a client sent, which may be set to decode its answers."""
    return value.encode() if isinstance(value, str) else value


def as_text(value: bytes | str) -> str:
    """Return the same as text."""
    return as_bytes(value).decode()
