"""The stream that `watch` returns; `watch_poller.py` has its loop."""

from __future__ import annotations

from collections.abc import Sequence

from agora_analytics._core import validation
from agora_analytics.quota.limiters import Limiters
from agora_analytics.streams.events import Event
from agora_analytics.streams.position import Position
from agora_analytics.streams.sources import WindowSource
from agora_analytics.streams.stream import Stream
from agora_analytics.streams.watch.series import Series
from agora_analytics.streams.watch.watch_poller import WatchPoller, WatchSettings

__all__ = ["Watch"]


class Watch(Stream[Event]):
    """A stream of real-time windows, each delivered once and in order; made by `client.realtime.watch(…)`.

    Iterate over it, and end it with `aclose()`, `async with` or `stop()`. A `Window` has the values, a `Revision` late
    data for a delivered window, and a `Gap` is a span that was lost:

    ```python
    users = Series("userCount", product="Native")
    async with AnalyticsClient.from_env() as client, client.realtime.watch(users) as watch:
        async for event in watch:
            match event:
                case Window():
                    print(event.ts, event.value(users))
                    break
                case Revision() | Gap():
                    print(event)
    ```
    """

    def __init__(
        self,
        source: WindowSource,
        limiters: Limiters,
        series: Sequence[Series],
        settings: WatchSettings,
        position: Position,
    ) -> None:
        self.series = tuple(series)
        self._windows = WatchPoller(source, limiters, self.series, settings, position)
        super().__init__(self._windows, limiters.time, source.app_id)

    def final_before(self, series: Series) -> int | None:
        """Return the start of the first window in which a series may still change; None before the first poll.

        Every window before it that was delivered is final, also one that came with `final=False`: no event reports
        that a window did not change any more. Raises `ValueError` for a series that is not watched.
        """
        if validation.instance("series", series, Series) not in self.series:
            raise ValueError(f"series={str(series)!r}: this watch has {', '.join(map(str, self.series))}")
        return self._windows.final_before(self.series.index(series))
