"""A ledger in Redis or Valkey, shared by the processes of many hosts."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from functools import cache
from hashlib import sha1
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from agora_analytics._core import validation
from agora_analytics._core.decoding.json import one_line
from agora_analytics._core.extras import MissingExtraError, install_command
from agora_analytics._core.redaction import Hidden, Scrubber
from agora_analytics.quota.ledger_state import MAX_PROCESSES
from agora_analytics.quota.shared_account import KEPT, LEASE, Exchange, StoreAnswer, StoreUnavailableError
from agora_analytics.quota.shared_ledger import INHERITED, SharedLedger

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

__all__ = ["RedisLedger"]

_CONNECTIONS: Final = 8
_TIMEOUT: Final = 1.0
"""Seconds for a connection or an answer; the ledger gives up after a second in any case."""

_QUOTED: Final = 200
"""Characters that an error quotes of what the server said."""

log = logging.getLogger("agora_analytics.quota")

_TIME: Final = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
"""

_JOIN: Final = (
    _TIME
    + """
local taken = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do taken[string.match(member, '^%d+')] = true end
for slot = 0, ARGV[2] - 1 do
  if not taken[tostring(slot)] then
    redis.call('ZADD', KEYS[1], now + ARGV[3], slot .. ':' .. ARGV[1])
    return slot .. ':' .. ARGV[1]
  end
end
return redis.error_reply('too many processes share the ledger')
"""
)

_EXCHANGE: Final = (
    _TIME
    + """
local member = redis.call('ZSCORE', KEYS[2], ARGV[1])
local tag = redis.call('HGET', KEYS[1], 'tag') or ''
local replaced, body = 0, false
if member then
  redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
  if tag ~= ARGV[3] then
    body = redis.call('HGET', KEYS[1], 'body')
  elseif ARGV[4] ~= '' then
    replaced = 1
    for place = 7, #ARGV do
      if tonumber(redis.call('ZSCORE', KEYS[2], ARGV[place]) or 0) >= now then replaced = 0 end
    end
  end
  if replaced == 1 then
    tag = ARGV[4]
    redis.call('HSET', KEYS[1], 'tag', tag, 'body', ARGV[5])
    redis.call('EXPIRE', KEYS[1], ARGV[6])
    redis.call('EXPIRE', KEYS[2], ARGV[6])
    for place = 7, #ARGV do redis.call('ZREM', KEYS[2], ARGV[place]) end
  end
end
local lost = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. time[1])
return {member and 1 or 0, replaced, tag, body or '', time[1], time[2], redis.call('ZCARD', KEYS[2]), lost}
"""
)


class RedisLedger(SharedLedger):
    """A ledger that processes on many hosts share: in Redis 6 or later, Valkey, a cluster, or behind Sentinel.

    ```python
    async with RedisLedger("redis://quota.internal/0") as ledger, AnalyticsClient.from_env(ledger=ledger) as client:
        print(await client.quota.snapshot())
    ```

    `store` is a URL (`redis://`, `rediss://`, `unix://`) or a client of redis-py's asyncio API, which is not closed
    with the ledger. Keys begin with `prefix`; an account is stored under a fingerprint, without credentials.

    Its time is that of the store, so the clocks of the hosts do not matter. A process that does not come by for three
    seconds loses its lease, and its requests count as sent. Methods raise `LedgerError` where the store does not answer
    within a second; then nothing is sent, while streams and exports wait.

    What the store forgets of its last second, for example in a power cut with `appendfsync everysec`, is restored by
    the processes that live on. If none does, as many requests of the day may be refused as it forgot; `appendfsync
    always` prevents that. Needs `redis` (extra `redis`). Belongs to the event loop that first uses it; a forked child
    opens its own connections, unless a client was passed: then it needs a ledger of its own.
    """

    def __init__(self, store: str | Redis | RedisCluster, *, prefix: str = "agora") -> None:
        given = Hidden(store)
        # Tracebacks of the errors below show the variables of this frame.
        del store
        super().__init__(_RedisStore(given, validation.non_empty_str("prefix", prefix)))


class _RedisStore:
    """The two scripts, and the connections that run them; no error of it holds a credential."""

    def __init__(self, given: Hidden, prefix: str) -> None:
        self._prefix = prefix
        self._process = os.getpid()
        self._url: str | None = None
        self._client: Any = None
        if isinstance(given.value, str):
            if find_spec("redis") is None:
                raise MissingExtraError(f"RedisLedger needs redis: {install_command('redis')}")
            self.name, self._url = _checked(given), given.value
        else:
            self._client, self.name = given.value, type(given.value).__name__
        self._secrets = _secrets(self._client or _connect(given.value))

    async def join(self, account: str, name: str) -> str:
        return _text(await self._run(_JOIN, [self._key(account, "members")], [name, MAX_PROCESSES, LEASE]))

    async def exchange(self, account: str, member: str, exchange: Exchange) -> StoreAnswer:
        keys = [self._key(account, "state"), self._key(account, "members")]
        tag, body = (exchange.tag, exchange.body) if exchange.body is not None else ("", b"")
        arguments = [member, LEASE, exchange.expected, tag, body, KEPT, *exchange.buried]
        is_member, replaced, stored, found, seconds, micros, members, lost = await self._run(_EXCHANGE, keys, arguments)
        return StoreAnswer(
            member=bool(is_member),
            replaced=bool(replaced),
            tag=_text(stored),
            body=_bytes(found) or None,
            now=int(seconds) + int(micros) / 1e6,
            members=members,
            lost=tuple(_text(one) for one in lost),
        )

    async def leave(self, account: str, member: str) -> None:
        await self._run("return redis.call('ZREM', KEYS[1], ARGV[1])", [self._key(account, "members")], [member])

    async def close(self) -> None:
        if self._url is not None and self._client is not None:
            client, self._client = self._client, None
            try:
                await client.aclose()
            except Exception as error:  # noqa: BLE001 - a connection that cannot be closed is closed
                log.debug("a connection of the ledger was not closed in order: %s", type(error).__name__)

    def forget_connections(self) -> None:
        forked = self._process != os.getpid()
        if self._url is not None:
            if forked:
                INHERITED.append(self._client)
            self._client, self._process = None, os.getpid()
        elif forked:
            raise RuntimeError(f"this ledger has a {self.name} of another process (it was forked): make one for each")

    def _key(self, account: str, part: str) -> str:
        # The braces keep an account's keys in one slot of a cluster.
        return f"{self._prefix}:{{{account}}}:{part}"

    async def _run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - an extra

        if self._client is None:
            self._client = _connect(self._url or "")
        try:
            try:
                return await self._client.evalsha(_hash(script), len(keys), *keys, *arguments)
            except NoScriptError:
                # Which stores the script, too. redis-py's way takes two round trips, and one may take 0.1 s.
                return await self._client.eval(script, len(keys), *keys, *arguments)
        except Exception as error:  # noqa: BLE001 - a client or credential provider of the user's raises what it likes
            reason = self._reason(error)
        # Outside of `except`, or the error would have redis-py's as context, whose frames hold the password.
        raise StoreUnavailableError(reason)

    def _reason(self, error: Exception) -> str:
        """Return what went wrong, as the server or the system said it; the text of any other error may be a secret."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - an extra

        said = str(error) if isinstance(error, (RedisError, OSError)) else ""
        clean = self._secrets.scrub(said.encode(errors="replace")).decode(errors="replace")
        # The class says what redis-py cuts off the text, such as that a key has moved.
        return f"{type(error).__name__}: {one_line(clean, _QUOTED)}".removesuffix(": ")


@cache
def _hash(script: str) -> str:
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


def _connect(url: str) -> Redis:
    from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415 - an extra
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    # Accounts share a few connections and wait for one; a full pool of the default kind raises. Nothing is repeated
    # blindly: an exchange whose answer was lost may have been made.
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_TIMEOUT,
        socket_timeout=_TIMEOUT,
        socket_connect_timeout=_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
    )
    return Redis.from_pool(pool)


def _checked(url: Hidden) -> str:
    """Return what errors may show of a URL: no user, password or query; raises `ValueError` if it is none of Redis."""
    # Errors quote what they cannot read, which may be half a password, and their frames hold the URL.
    with suppress(ValueError, TypeError):
        return _shown(url.value)
    raise ValueError("store: allowed is a URL of redis-py that begins with redis, rediss, unix: (value not shown)")


def _shown(url: str) -> str:
    pool: Any = _connect(url).connection_pool
    pool.make_connection()  # which opens nothing, and finds what is wrong with the query
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname or ''}:{parts.port or 6379}{parts.path}"


def _secrets(client: Any) -> Scrubber:
    """Return what redacts the user and the password of a client."""
    options = getattr(getattr(client, "connection_pool", client), "connection_kwargs", {})
    return Scrubber(*(str(options[name]) for name in ("username", "password") if options.get(name)))


def _bytes(value: bytes | str) -> bytes:
    """Return what a client sent, which may be set to decode its answers."""
    return value.encode() if isinstance(value, str) else value


def _text(value: bytes | str) -> str:
    return _bytes(value).decode()
