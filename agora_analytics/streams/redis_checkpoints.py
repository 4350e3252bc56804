"""Checkpoints in Redis or Valkey: a hash for each name, changed by scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agora_analytics._core import validation
from agora_analytics._core.redaction import Hidden
from agora_analytics._core.redis import RedisConnections, as_bytes
from agora_analytics.streams.checkpoint_contract import MAX_BYTES
from agora_analytics.streams.shared_checkpoints import SharedCheckpoints, StoredCheckpoint

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

__all__ = ["RedisCheckpoints"]

_TIMEOUT: Final = 4.0
"""Seconds for a connection or an answer, which may have megabytes; shorter than an attempt, so that it says why."""

# Of a text that is too long, the length alone is sent.
_FOUND: Final = """
local function found(epoch)
  local size = redis.call('HSTRLEN', KEYS[1], 'checkpoint')
  return {epoch, size <= tonumber(ARGV[1]) and redis.call('HGET', KEYS[1], 'checkpoint') or '', size, false}
end
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
"""

_LOAD: Final = _FOUND + "return found(epoch)"

# An epoch is the time in milliseconds, so that it grows even if the hash was removed. The text of such a number has an
# exponent unless it is formatted.
_ACQUIRE: Final = (
    _FOUND
    + """
local time, lease = redis.call('TIME'), tonumber(ARGV[2])
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = tonumber(redis.call('HGET', KEYS[1], 'until') or 0)
if lease > 0 and held > 0 and (held > now or ARGV[3] == '0') then return {epoch, '', 0, held - now} end
epoch = math.max(epoch + 1, now)
redis.call('HSET', KEYS[1], 'epoch', string.format('%.0f', epoch), 'number', 0,
  'until', string.format('%.0f', lease > 0 and now + lease * 1000 or 0))
return found(epoch)
"""
)

_MINE: Final = """
local stored, epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0), tonumber(ARGV[1])
local function renew(lease)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('HSET', KEYS[1], 'until', string.format('%.0f', lease > 0 and now + lease * 1000 or 0))
end
if stored > epoch then return 0 end
"""

_SAVE: Final = (
    _MINE
    + """
if stored < epoch or tonumber(redis.call('HGET', KEYS[1], 'number') or 0) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'number', ARGV[2], 'checkpoint', ARGV[3])
  renew(tonumber(ARGV[4]))
end
return 1
"""
)

_RENEW: Final = _MINE + "if stored == epoch then renew(tonumber(ARGV[2])) end return 1"


class RedisCheckpoints(SharedCheckpoints):
    """Keeps checkpoints in Redis 6 or later, Valkey, a cluster, or behind Sentinel, for processes on many hosts.

    ```python
    async with (
        RedisCheckpoints("redis://state.internal/0") as checkpoints,
        AnalyticsClient.from_env(checkpoints=checkpoints) as client,
        client.calls.follow(checkpoint="calls") as calls,  # resumes where the last process stopped, on any host
    ):
        async for event in calls:
            print(event)
            break
    ```

    A stream takes its name over at once, also from one that runs: that is refused with its next save, and ends. With
    `lease` a name is held for so many seconds, renewed while its process runs, and refused to others meanwhile: for a
    second process that stands by.

    `store` is a URL (`redis://`, `rediss://`, `unix://`) or a client of redis-py's asyncio API, which is not closed
    with the store. Keys begin with `prefix`. Streams save under a name at most once in `every` seconds. While the store
    cannot be used, calls are repeated for 30 seconds and then raise `CheckpointError`. What the store forgets in a
    power cut is delivered again. Needs `redis` (extra `redis`). Belongs to the event loop that first uses it.
    """

    def __init__(
        self, store: str | Redis | RedisCluster, *, prefix: str = "agora", every: float = 0.0, lease: float = 0.0
    ) -> None:
        given = Hidden(store)
        # Tracebacks of the errors below show the variables of this frame.
        del store
        super().__init__(_RedisRows(given, validation.non_empty_str("prefix", prefix)), every, lease)


class _RedisRows:
    """The scripts, and the connections that run them."""

    def __init__(self, given: Hidden, prefix: str) -> None:
        self._prefix = prefix
        self._redis = RedisConnections(given, "RedisCheckpoints", _TIMEOUT)
        self.name = self._redis.name

    async def load(self, name: str) -> StoredCheckpoint:
        return _stored(await self._run(_LOAD, name, MAX_BYTES))

    async def acquire(self, name: str, lease: float, *, watched: bool) -> StoredCheckpoint:
        return _stored(await self._run(_ACQUIRE, name, MAX_BYTES, lease, int(watched)))

    async def save(self, name: str, text: str, epoch: int, number: int, lease: float) -> bool:
        return bool(await self._run(_SAVE, name, epoch, number, text, lease))

    async def renew(self, name: str, epoch: int, lease: float) -> bool:
        return bool(await self._run(_RENEW, name, epoch, lease))

    async def release(self, name: str, epoch: int) -> None:
        await self._run(_RENEW, name, epoch, 0)

    async def close(self) -> None:
        await self._redis.close()

    def forget_connections(self) -> None:
        self._redis.forget_connections()

    async def _run(self, script: str, name: str, *arguments: Any) -> Any:
        return await self._redis.run(script, [f"{self._prefix}:checkpoint:{name}"], list(arguments))


def _stored(answer: list[Any]) -> StoredCheckpoint:
    epoch, text, size, left = answer
    return StoredCheckpoint(int(epoch), as_bytes(text), int(size), None if left is None else int(left) / 1_000)
