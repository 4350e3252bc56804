"""A ledger in Redis or Valkey, shared by the processes of many hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agora_analytics._core import validation
from agora_analytics._core.redaction import Hidden
from agora_analytics._core.redis import RedisConnections, as_bytes, as_text
from agora_analytics.quota.ledger_state import MAX_PROCESSES
from agora_analytics.quota.ledger_store import KEPT, LEASE, Exchange, StoreAnswer
from agora_analytics.quota.shared_ledger import SharedLedger

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

__all__ = ["RedisLedger"]

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
    within a second; then nothing is sent, while streams and exports wait. For two seconds after an outage no permit is
    issued, so that each process can first make those changes again that the store has forgotten.

    In a crash the store may forget its last second, for example in a power cut with `appendfsync everysec`. If no
    process lives on that knows of it, as many requests of the day may be refused as it forgot; `appendfsync always`
    prevents that. Needs `redis` (extra `redis`). Belongs to the event loop that first uses it; a forked child
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
        self._redis = RedisConnections(given, "RedisLedger")
        self.name = self._redis.name

    async def join(self, account: str, name: str) -> str:
        return as_text(await self._redis.run(_JOIN, [self._key(account, "members")], [name, MAX_PROCESSES, LEASE]))

    async def exchange(self, account: str, member: str, exchange: Exchange) -> StoreAnswer:
        keys = [self._key(account, "state"), self._key(account, "members")]
        tag, body = (exchange.tag, exchange.body) if exchange.body is not None else ("", b"")
        arguments = [member, LEASE, exchange.expected, tag, body, KEPT, *exchange.buried]
        answer = await self._redis.run(_EXCHANGE, keys, arguments)
        is_member, replaced, stored, found, seconds, micros, members, lost = answer
        return StoreAnswer(
            member=bool(is_member),
            replaced=bool(replaced),
            tag=as_text(stored),
            body=as_bytes(found) or None,
            now=int(seconds) + int(micros) / 1e6,
            members=members,
            lost=tuple(as_text(one) for one in lost),
        )

    async def leave(self, account: str, member: str) -> None:
        await self._redis.run("return redis.call('ZREM', KEYS[1], ARGV[1])", [self._key(account, "members")], [member])

    async def close(self) -> None:
        await self._redis.close()

    def forget_connections(self) -> None:
        self._redis.forget_connections()

    def _key(self, account: str, part: str) -> str:
        # The braces keep an account's keys in one slot of a cluster.
        return f"{self._prefix}:{{{account}}}:{part}"
