"""Every call of the last eight hours, and the sessions of the one that froze most.

Needs AGORA_CUSTOMER_ID, AGORA_CUSTOMER_SECRET, AGORA_APP_ID and AGORA_PLAN; `agora-analytics simulate` prints ones that
work with AGORA_BASE_URL set to what it serves.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from agora_analytics import AnalyticsClient, Call


def freezing(call: Call) -> float:
    """Return how much a call froze; web calls have no audio rate."""
    return max(call.call_audio_freeze_rate or 0.0, call.call_video_freeze_rate or 0.0)


async def main() -> None:
    """Search, pick, drill in."""
    async with AnalyticsClient.from_env() as client:
        calls = [call async for call in client.calls.search(*client.calls.recent(timedelta(hours=8)))]
        print(f"{len(calls)} calls")
        over = [call for call in calls if call.span and call.span.end < client.calls.recent(60).start - 300]
        worst = max(over, key=freezing)
        print(f"worst: {worst.cname}, {worst.started_at:%H:%M} UTC, {freezing(worst):.1%} frozen")
        async for session in client.calls.sessions(worst):
            rates = {"audio": session.user_audio_freeze_rate, "video": session.user_video_freeze_rate}
            told = ", ".join(f"{kind} {rate:.1%}" for kind, rate in rates.items() if rate is not None)
            print(f"  {session.uid} on {session.platform}: {told or 'nothing measured'}")


if __name__ == "__main__":
    asyncio.run(main())
