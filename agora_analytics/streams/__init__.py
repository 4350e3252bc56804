"""Streams: real-time windows and call events without end, delivered at least once, with checkpoints to resume from.

| Question | Where to look |
| --- | --- |
| How often is a series polled, and how is an outage backfilled? | `watch/schedule.py`, `watch/watch_poller.py` |
| When is a window delivered, revised, final, or lost? | `watch/assembler.py` |
| How are calls followed? | `follow/follow.py`, `follow/open_calls.py`, `follow/sessions.py` |
| Which errors end a stream, and what does `health` say? | `error_policy.py`, `health.py`; the loop is in `poller.py` |
| How far back is data queryable, and why is there a gap? | `retention.py`, `downtime.py` |
| Where does a stream resume, and when is that saved? | `position.py`, `checkpoints.py`, `saver.py` |
| Who may save, and what does a takeover do? | `checkpoint_contract.py`, and the stores: `checkpoint_stores.py` |
| What do stores have in common that hosts share? | `shared_checkpoints.py` |
| How is an event written exactly once? | `postgres_sink.py`, `postgres_tables.py` |
| How do several consumers share a stream? | `fan_out.py` |

docs/concepts/streams.md explains the theory: watermark, late data, and what a crash repeats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door

if TYPE_CHECKING:
    from agora_analytics.streams.checkpoint_stores import *
    from agora_analytics.streams.checkpoints import *
    from agora_analytics.streams.events import *
    from agora_analytics.streams.fan_out import *
    from agora_analytics.streams.follow.follow import *
    from agora_analytics.streams.health import *
    from agora_analytics.streams.object_checkpoints import *
    from agora_analytics.streams.postgres_checkpoints import *
    from agora_analytics.streams.postgres_sink import *
    from agora_analytics.streams.redis_checkpoints import *
    from agora_analytics.streams.watch.schedule import *
    from agora_analytics.streams.watch.series import *
    from agora_analytics.streams.watch.watch import *

__all__ = [
    "Broadcast",
    "CallChanged",
    "CallEvent",
    "CallFinished",
    "CallLost",
    "CallSessions",
    "CallStarted",
    "Checkpoint",
    "Coverage",
    "Event",
    "FileCheckpoints",
    "Follow",
    "Gap",
    "Health",
    "MemoryCheckpoints",
    "ObjectCheckpoints",
    "PostgresCheckpoints",
    "PostgresSink",
    "RedisCheckpoints",
    "Revision",
    "Series",
    "Subscription",
    "Watch",
    "Window",
    "broadcast",
]

__getattr__, __dir__ = door(
    globals(),
    "checkpoints",
    "watch.series",
    "watch.schedule",
    "events",
    "health",
    "checkpoint_stores",
    "redis_checkpoints",
    "postgres_checkpoints",
    "object_checkpoints",
    "postgres_sink",
    "fan_out",
    "watch.watch",
    "follow.follow",
)
