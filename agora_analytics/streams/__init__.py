"""Streams: real-time windows without end, and the checkpoints that they go on from."""

from __future__ import annotations

from agora_analytics.streams._cadence import Coverage
from agora_analytics.streams._checkpoints import Checkpoint, FileCheckpoints, MemoryCheckpoints
from agora_analytics.streams._realtime import Realtime
from agora_analytics.streams._series import Series
from agora_analytics.streams._watch import Health, Watch
from agora_analytics.streams._windows import Event, Gap, Revision, Window

__all__ = [
    "Checkpoint",
    "Coverage",
    "Event",
    "FileCheckpoints",
    "Gap",
    "Health",
    "MemoryCheckpoints",
    "Realtime",
    "Revision",
    "Series",
    "Watch",
    "Window",
]
