"""A process that requests pages as fast as its ledger allows: `quota_process.py URL LEDGER NAME TASKS SHIFT`.

`NAME` is the channel of each request, `SHIFT` the seconds by which the service's clock is ahead of the host's. The
process runs until its standard input is closed, then prints the number of responses; errors go to stderr.
"""

from __future__ import annotations

import asyncio
import sys
import time

from agora_analytics import AnalyticsClient, FileLedger
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET


class InputClosed(Exception):
    """Raised when standard input is closed."""


async def wait_until_input_closes() -> None:
    await asyncio.to_thread(sys.stdin.read)
    raise InputClosed


async def spend(url: str, path: str, name: str, tasks: int, shift: float) -> int:
    ledger = FileLedger(path)
    responses = 0

    async def request_pages(client: AnalyticsClient) -> None:
        nonlocal responses
        while True:
            await client.calls.page(*client.calls.recent(600), cname=name)
            responses += 1

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
                group.create_task(wait_until_input_closes())
                for _ in range(tasks):
                    group.create_task(request_pages(client))
        except* InputClosed:
            pass
    await ledger.close()
    return responses


if __name__ == "__main__":
    server, ledger_path, channel, task_count, clock_shift = sys.argv[1:]
    print(asyncio.run(spend(server, ledger_path, channel, int(task_count), float(clock_shift))))
