"""Streams: real-time windows and calls without end, and the checkpoints that they go on from."""

from __future__ import annotations

from agora_analytics.streams.checkpoint_stores import FileCheckpoints, MemoryCheckpoints
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.events import (
    CallChanged,
    CallEvent,
    CallFinished,
    CallLost,
    CallSessions,
    CallStarted,
    Event,
    Gap,
    Revision,
    Window,
)
from agora_analytics.streams.fan_out import Broadcast, Subscription, broadcast
from agora_analytics.streams.follow.follow import Follow
from agora_analytics.streams.health import Health
from agora_analytics.streams.watch.schedule import Coverage
from agora_analytics.streams.watch.series import Series
from agora_analytics.streams.watch.watch import Watch

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
    "Revision",
    "Series",
    "Subscription",
    "Watch",
    "Window",
    "broadcast",
]
