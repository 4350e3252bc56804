"""A process that asks for pages as often as its ledger allows: `quota_process.py URL LEDGER NAME TASKS SHIFT`.

`NAME` goes with each request as its channel, `SHIFT` is what the service's clock is ahead of the host's. It works until
its standard input ends, then prints how many answers came; anything else that happens goes to stderr.
"""

from __future__ import annotations

import asyncio
import sys
import time

from agora_analytics import AnalyticsClient, FileLedger
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET


class Enough(Exception):
    """Standard input has ended."""


async def wait_for_the_end() -> None:
    await asyncio.to_thread(sys.stdin.read)
    raise Enough


async def spend(url: str, path: str, name: str, tasks: int, shift: float) -> int:
    ledger = FileLedger(path)
    answers = 0

    async def ask(client: AnalyticsClient) -> None:
        nonlocal answers
        while True:
            await client.calls.page(*client.calls.recent(600), cname=name)
            answers += 1

    async with AnalyticsClient(
        CUSTOMER_ID,
        CUSTOMER_SECRET,
        app_id=APP_ID,
        plan="enterprise",
        base_url=url,
        ledger=ledger,
        max_wait=None,
        clock=lambda: time.time() + shift,
    ) as client:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(wait_for_the_end())
                for _ in range(tasks):
                    group.create_task(ask(client))
        except* Enough:
            pass
    await ledger.close()
    return answers


if __name__ == "__main__":
    where, ledger_path, own_name, count, ahead = sys.argv[1:]
    print(asyncio.run(spend(where, ledger_path, own_name, int(count), float(ahead))))
