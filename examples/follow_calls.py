"""Follow calls as they begin and end, from half an hour ago on; a checkpoint makes the next run go on from there.

Run it twice: what the first run told is not told again.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from tempfile import TemporaryDirectory

from agora_analytics import AnalyticsClient, CallFinished, CallStarted, FileCheckpoints, Gap


async def main(folder: str, events: str = "20") -> None:
    """Tell so many events, and remember where that was."""
    left = int(events)
    async with (
        AnalyticsClient.from_env(checkpoints=FileCheckpoints(folder)) as client,
        client.calls.follow(start=timedelta(minutes=30), checkpoint="calls") as follow,
    ):
        async for event in follow:
            if isinstance(event, Gap):
                print("nothing is known of", event.span)
            elif isinstance(event, CallStarted):
                print(f"{event.call.started_at:%H:%M:%S}  {event.call.cname} began")
            elif isinstance(event, CallFinished):
                print(f"{event.call.ended_at:%H:%M:%S}  {event.call.cname} ended")
            left -= 1
            if not left:
                follow.stop()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(*sys.argv[1:]))
    else:
        with TemporaryDirectory() as passing:
            asyncio.run(main(passing))
