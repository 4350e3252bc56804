"""Every call of the last eight hours, and the sessions of the one with the highest freeze rate.

Needs AGORA_CUSTOMER_ID, AGORA_CUSTOMER_SECRET, AGORA_APP_ID and AGORA_PLAN. `agora-analytics simulate` prints values
for these and AGORA_BASE_URL that need no account.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from agora_analytics import AnalyticsClient, Call


def freeze_rate(call: Call) -> float:
    """Return the higher freeze rate of a call; web calls have no audio rate."""
    return max(call.call_audio_freeze_rate or 0.0, call.call_video_freeze_rate or 0.0)


async def main() -> None:
    """Search calls, pick the worst one, read its sessions."""
    async with AnalyticsClient.from_env() as client:
        calls = [call async for call in client.calls.search(*client.calls.recent(timedelta(hours=8)))]
        print(f"{len(calls)} calls")
        finished = [call for call in calls if call.finished and client.calls.is_queryable(call)]
        worst = max(finished, key=freeze_rate)
        print(f"worst: {worst.cname}, {worst.started_at:%H:%M} UTC, {freeze_rate(worst):.1%} frozen")
        async for session in client.calls.sessions(worst):
            rates = {"audio": session.user_audio_freeze_rate, "video": session.user_video_freeze_rate}
            measured = ", ".join(f"{kind} {rate:.1%}" for kind, rate in rates.items() if rate is not None)
            print(f"  {session.uid} on {session.platform}: {measured or 'nothing measured'}")


if __name__ == "__main__":
    asyncio.run(main())
