"""A process that requests pages as fast as its ledger allows: `quota_process.py URL LEDGER NAME TASKS SHIFT`.

`LEDGER` is a path, or the URL of a Redis or a PostgreSQL. `NAME` is the channel of each request, `SHIFT` the seconds by
which the service's clock is ahead of the host's. The process runs until its standard input is closed, then prints the
number of responses; errors go to stderr. A request whose ledger fails is made again.

Of the environment, `MONOTONIC_AHEAD` are seconds by which the clocks that are never set are ahead, as on another host;
with `STOP_AFTER`, the process prints a line and stops itself after so many requests, when the next has its permit.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable

from agora_analytics import AnalyticsClient, FileLedger, LedgerError
from agora_analytics.quota import PostgresLedger, RedisLedger
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET


class InputClosed(Exception):
    """Raised when standard input is closed."""


async def wait_until_input_closes() -> None:
    await asyncio.to_thread(sys.stdin.read)
    raise InputClosed


def shift_monotonic_clocks(seconds: float) -> None:
    """Move the clocks that are never set, as they begin at another time on each host."""
    monotonic, read = time.monotonic, time.clock_gettime
    time.monotonic = lambda: monotonic() + seconds
    time.clock_gettime = lambda clock: read(clock) + (seconds if clock != time.CLOCK_REALTIME else 0)


def stop_with_permit(client: AnalyticsClient, after: int, responses: Callable[[], int]) -> None:
    """Stop the process once, after so many responses, between the permit of a request and its sending."""
    check, stops = client._dispatcher._ensure_open, [after] if after else []

    def check_and_stop() -> None:
        check()
        if stops and responses() >= stops[0] and sys._getframe(1).f_code.co_name == "_attempt":
            stops.clear()
            print("stopping", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)

    client._dispatcher._ensure_open = check_and_stop


async def spend(url: str, path: str, name: str, tasks: int, shift: float) -> int:
    ledger = {"redis": RedisLedger, "postgresql": PostgresLedger}.get(path.partition("://")[0], FileLedger)(path)
    responses = 0

    async def request_pages(client: AnalyticsClient) -> None:
        nonlocal responses
        while True:
            try:
                await client.calls.page(*client.calls.recent(600), cname=name)
                responses += 1
            except LedgerError:
                await asyncio.sleep(0.05)

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
        stop_with_permit(client, int(os.environ.get("STOP_AFTER", "0")), lambda: responses)
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
    shift_monotonic_clocks(float(os.environ.get("MONOTONIC_AHEAD", "0")))
    server, ledger_path, channel, task_count, clock_shift = sys.argv[1:]
    print(asyncio.run(spend(server, ledger_path, channel, int(task_count), float(clock_shift))))
