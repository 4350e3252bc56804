"""A process that exports: `python export_process.py URL FOLDER START END FORMAT [MOST]`; prints what it did.

`AGORA_TEST_SINK` has the options of a sink as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from simulator_process import plan

from agora_analytics import AnalyticsClient, ExportError, Selection
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET


async def main(url: str, folder: str, start: str, end: str, form: str, most: str = "") -> int:
    selection = Selection(int(start), int(end), datasets=("calls", "sessions", "metrics"), mids={20001})
    settings = {"app_id": APP_ID, "plan": plan(), "base_url": url, "quotas": False}
    async with AnalyticsClient(CUSTOMER_ID, CUSTOMER_SECRET, **settings) as client:
        try:
            given = {"max_requests": int(most)} if most else {}
            if "AGORA_TEST_SINK" in os.environ:
                given["sink_options"] = json.loads(os.environ["AGORA_TEST_SINK"])
            report = await client.export.run(selection, folder, format=form, concurrency=8, **given)
        except ExportError as error:
            print(f"{error.kind}: {error}", file=sys.stderr)
            return 1
    print(report.requests, dict(report.rows), flush=True)
    return 0 if report.complete else 3


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
