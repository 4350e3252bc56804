"""Calls as they begin, change and end, without end."""

from __future__ import annotations

from agora_analytics.quota.limiters import Limiters
from agora_analytics.streams.events import CallEvent
from agora_analytics.streams.follow.poller import FollowPoller, Settings
from agora_analytics.streams.position import Place
from agora_analytics.streams.sources import CallSource
from agora_analytics.streams.stream import Stream

__all__ = ["Follow"]


class Follow(Stream[CallEvent]):
    """What happens to calls, each fact once: iterate over it, or `async with` it; `aclose()` or `stop()` end it."""

    def __init__(self, source: CallSource, limiters: Limiters, settings: Settings, place: Place) -> None:
        super().__init__(FollowPoller(source, limiters, settings, place), limiters.time)
