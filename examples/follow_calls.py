"""Follow calls as they start and end, from half an hour ago; the next run resumes from the checkpoint.

Run it twice with the same folder, `python follow_calls.py FOLDER`: the second run does not repeat events of the first.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from tempfile import TemporaryDirectory

from agora_analytics import AnalyticsClient, CallFinished, CallStarted, FileCheckpoints, Gap


async def main(folder: str, events: str = "20") -> None:
    """Print this many events and save the checkpoint."""
    remaining = int(events)
    async with (
        AnalyticsClient.from_env(checkpoints=FileCheckpoints(folder)) as client,
        client.calls.follow(start=timedelta(minutes=30), checkpoint="calls") as follow,
    ):
        async for event in follow:
            if isinstance(event, Gap):
                print("no data for", event.span)
            elif isinstance(event, CallStarted):
                print(f"{event.call.started_at:%H:%M:%S}  {event.call.cname} began")
            elif isinstance(event, CallFinished):
                print(f"{event.call.ended_at:%H:%M:%S}  {event.call.cname} ended")
            remaining -= 1
            if not remaining:
                follow.stop()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(*sys.argv[1:]))
    else:
        with TemporaryDirectory() as folder:
            asyncio.run(main(folder))
