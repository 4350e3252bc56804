"""Scripts in Redis or Valkey, by a few connections of our own or by a client of the caller's."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from agora_analytics._core.extras import MissingExtraError, install_command

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

_SCHEMES: Final = ("redis", "rediss", "unix")
_CONNECTIONS: Final = 8


class RedisFailedError(Exception):
    """The store did not answer, or refused; `refused` if a retry does not help."""

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


class RedisConnections:
    """Runs scripts in Redis or Valkey; `name` says where, without credentials.

    A client that was given is not closed. `user` is the class that needs it, for the error where redis-py is missing;
    `timeout` are the seconds for a connection or an answer.
    """

    def __init__(self, store: str | Redis | RedisCluster, user: str, timeout: float = 1.0) -> None:
        if isinstance(store, str) and find_spec("redis") is None:
            raise MissingExtraError(f"{user} needs redis: {install_command('redis')}")
        self._timeout = timeout
        self._url = store if isinstance(store, str) else None
        self._client: Any = None if isinstance(store, str) else store
        self.name = _shown(store) if isinstance(store, str) else type(store).__name__

    async def run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        """Return what a script returns; raises `RedisFailedError`."""
        from redis.exceptions import AuthenticationError, AuthorizationError, RedisError  # noqa: PLC0415 - an extra

        if self._client is None:
            self._client = _connect(self._url or "", self._timeout)
        try:
            return await self._client.register_script(script)(keys=keys, args=arguments)
        except (RedisError, OSError) as error:
            refused = isinstance(error, AuthenticationError | AuthorizationError)
            raise RedisFailedError(str(error) or type(error).__name__, refused=refused) from error

    async def close(self) -> None:
        """Close the connections of an own client; may be called twice, and it may be used again after it."""
        if self._url is not None and self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    def forget_connections(self) -> None:
        """Drop connections of another event loop, or of the parent of a forked process."""
        if self._url is not None:
            self._client = None


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


def _shown(url: str) -> str:
    """Return what errors may show of a URL: no user, password or query."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:  # its text may quote a password with a slash in it
        parts, port = urlsplit(""), 0
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"store: allowed is a URL that begins with {', '.join(_SCHEMES)}: (value not shown)")
    return f"{parts.hostname or ''}:{port}{parts.path}" if parts.scheme != "unix" else parts.path


def as_bytes(value: bytes | str) -> bytes:
    """Return what a client sent, which may be set to decode its answers."""
    return value.encode() if isinstance(value, str) else value


def as_text(value: bytes | str) -> str:
    """Return the same as text."""
    return as_bytes(value).decode()
