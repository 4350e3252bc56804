"""Streams: real-time windows and calls without end, and the checkpoints that they go on from."""

from __future__ import annotations

from agora_analytics.streams._broadcast import Broadcast, Subscription, broadcast
from agora_analytics.streams._cadence import Coverage
from agora_analytics.streams._checkpoints import Checkpoint
from agora_analytics.streams._events import (
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
from agora_analytics.streams._follow import Follow
from agora_analytics.streams._health import Health
from agora_analytics.streams._series import Series
from agora_analytics.streams._stores import FileCheckpoints, MemoryCheckpoints
from agora_analytics.streams._watch import Watch

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
